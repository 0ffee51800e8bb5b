import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { type BlobState, encodeSubline, parseDataRoot } from '#client/da/signer-wire.ts'
import { TOTAL_ROWS } from '#protocol/da/constants.ts'
import { toHex } from '#protocol/hex.ts'
import { retryAfterSeconds, SignerError, toHttpError } from '../error.ts'
import { type Intake, MAX_UPLOAD_BYTES } from '../intake/intake.ts'
import type { Slots } from '../intake/slots.ts'
import { drain, UploadBody, type UploadPace } from '../intake/upload-body.ts'
import type { RowServer } from '../serve/row-server.ts'
import type { BlobKey } from '../store/blob-key.ts'

export interface RoutesParameters {
  app: FastifyInstance
  intake: Intake
  rows: RowServer
  uploads: Slots
  downloads: Slots
  pace: UploadPace
  /** What is known of a blob; waits up to `waitMs` for the chain before it says `unknown`. */
  state: (key: BlobKey, options: { waitMs: number; signal: AbortSignal }) => Promise<BlobState>
  status: () => object
  /** Called for each upload that ends: `stored`, or the error's code. */
  onUpload: (outcome: string, bytes: number) => void
}

const epoch = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const keyQuery = z.object({ epoch, quorum: z.coerce.number().int().min(0).max(0xffff_ffff).default(0) })
const stateQuery = keyQuery.extend({ waitMs: z.coerce.number().int().min(0).max(10_000).default(0) })
const rowNumber = z.coerce.number().int().min(0).max(TOTAL_ROWS)
const rangeQuery = keyQuery.extend({ from: rowNumber.default(0), to: rowNumber.default(TOTAL_ROWS) })
const sublineQuery = keyQuery.extend({
  row: rowNumber.max(TOTAL_ROWS - 1),
  subline: z.coerce.number().int().min(0).max(65_535),
})

/** The routes of rows: uploads, and everything a reader asks for. */
export function registerRoutes(parameters: RoutesParameters): void {
  const { app, rows, downloads } = parameters
  // Uploads are read as they come; nothing of them is buffered by the HTTP library.
  app.addContentTypeParser('application/octet-stream', (_request, _payload, done) => done(null))

  app.get('/v1/status', async () => parameters.status())

  app.get('/v1/blobs/:root', (request, reply) =>
    answering(reply, async () => {
      const { waitMs, ...query } = parse(stateQuery, request.query)
      return parameters.state(keyOf(request, query), { waitMs, signal: closed(request) })
    }),
  )

  app.post('/v1/blobs/:root/rows', { bodyLimit: MAX_UPLOAD_BYTES }, (request, reply) =>
    answering(reply, () => takeUpload(parameters, request)),
  )

  app.get('/v1/blobs/:root/rows', (request, reply) =>
    answering(reply, async () => {
      const { from, to, ...query } = parse(rangeQuery, request.query)
      const leave = downloads.take()
      try {
        const parts = await rows.rows(keyOf(request, query), { from, to })
        const stream = Readable.from(parts, { objectMode: false, highWaterMark: 256 * 1024 })
        stream.once('close', leave)
        reply.type('application/octet-stream')
        return stream
      } catch (error) {
        leave()
        throw error
      }
    }),
  )

  app.get('/v1/blobs/:root/rlc', (request, reply) =>
    answering(reply, async () => {
      const bytes = await rows.rlc(keyOf(request, parse(keyQuery, request.query)))
      reply.type('application/octet-stream')
      return Buffer.from(bytes)
    }),
  )

  app.get('/v1/blobs/:root/subline', (request, reply) =>
    answering(reply, async () => {
      const { row, subline, ...query } = parse(sublineQuery, request.query)
      const leave = downloads.take()
      try {
        const bytes = encodeSubline(await rows.subline(keyOf(request, query), row, subline))
        reply.type('application/octet-stream')
        return bytes
      } finally {
        leave()
      }
    }),
  )
}

async function takeUpload(parameters: RoutesParameters, request: FastifyRequest): Promise<{ signature: string }> {
  const { intake, uploads, pace, onUpload } = parameters
  let body: UploadBody | undefined
  let leave: (() => void) | undefined
  try {
    const key = keyOf(request, parse(keyQuery, request.query))
    leave = uploads.take()
    body = new UploadBody({ request: request.raw, maxBytes: MAX_UPLOAD_BYTES, pace })
    const signature = await intake.take(key, body)
    onUpload('stored', body.lengthBytes)
    return { signature: toHex(signature) }
  } catch (error) {
    onUpload(String(Reflect.get(Object(error), 'code') ?? 'UNEXPECTED'), 0)
    throw error
  } finally {
    body?.release()
    leave?.()
    await drain(request.raw)
  }
}

/** Sends what `work` gives; errors take the status of their code, and say when to come again. */
async function answering(reply: FastifyReply, work: () => Promise<unknown>): Promise<FastifyReply> {
  try {
    return reply.send(await work())
  } catch (error) {
    const seconds = retryAfterSeconds(error)
    if (seconds !== undefined) reply.header('retry-after', String(seconds))
    throw toHttpError(error)
  }
}

function keyOf(request: FastifyRequest, { epoch: at, quorum }: z.output<typeof keyQuery>): BlobKey {
  return { dataRoot: parseDataRoot(String(Reflect.get(Object(request.params), 'root'))), epoch: at, quorumId: quorum }
}

function parse<S extends z.ZodType>(schema: S, query: unknown): z.output<S> {
  const parsed = schema.safeParse(query)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const field = String(issue?.path[0] ?? 'query')
  throw new SignerError({
    code: 'REQUEST_INVALID',
    message: `${field}: ${issue?.message ?? 'is not valid'}`,
    fix: `correct ${field}`,
    details: { field },
  })
}

function closed(request: FastifyRequest): AbortSignal {
  const gone = new AbortController()
  request.raw.once('close', () => gone.abort())
  return gone.signal
}
