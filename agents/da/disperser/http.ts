import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { HttpError } from '#kit/http/http-error.ts'
import { MAX_BLOB_BYTES } from '#protocol/da/constants.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import type { Disperser } from './disperser.ts'
import type { StoredRequest } from './request-store.ts'

/** HTTP status by error code. */
const STATUS: Record<string, number> = {
  BLOB_SIZE: 413,
  REQUEST_INVALID: 400,
  REQUEST_UNKNOWN: 404,
  BLOB_UNKNOWN: 404,
  BLOB_EXPIRED: 410,
  BLOB_UNAVAILABLE: 503,
  CHAIN_UNREACHABLE: 503,
  BLOB_STORE_FULL: 507,
  DISPERSER_BUSY: 503,
}

const rootParams = z.object({
  root: z
    .string()
    .regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes as 0x and 64 hex digits')
    .transform((text) => text.toLowerCase() as Hash),
})
const count = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const retrieveQuery = z.object({ epoch: count.optional(), quorum: count.optional() })
const quoteQuery = z.object({ sizeBytes: count })

/**
 * What gRPC offers, over plain HTTP:
 *
 * - `POST /v1/blobs` (application/octet-stream) → 202 with the request; `GET /v1/blobs/{id}` tells how it stands
 * - `GET /v1/data/{dataRoot}?epoch&quorum` gives the bytes, verified
 * - `GET /v1/quote?sizeBytes` tells the fee, wei
 */
export function registerDisperserRoutes({
  app,
  disperser,
  maxUploads,
}: {
  app: FastifyInstance
  disperser: Disperser
  maxUploads: number
}): void {
  let uploads = 0
  const counted = new WeakSet<object>()
  app.register(async (scope) => {
    scope.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
    scope.post(
      '/v1/blobs',
      {
        bodyLimit: MAX_BLOB_BYTES,
        // Before the body is read: each may take 32 MiB of memory.
        onRequest: async (request) => {
          if (uploads >= maxUploads) throw busy(maxUploads)
          uploads += 1
          counted.add(request)
        },
        onResponse: async (request) => {
          if (counted.delete(request)) uploads -= 1
        },
      },
      async (request, reply) => {
        const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
        return reply.status(202).send(requestJson(await asHttp(disperser.accept(body))))
      },
    )
  })
  app.get('/v1/blobs/:id', async (request) => {
    const { id } = z.object({ id: z.string().max(200) }).parse(request.params)
    return requestJson(await asHttp(Promise.resolve().then(() => disperser.request(id))))
  })
  app.get('/v1/data/:root', async (request, reply) => {
    const { root } = parse(rootParams, request.params)
    const { epoch, quorum } = parse(retrieveQuery, request.query)
    const data = await asHttp(disperser.retrieve({ dataRoot: root, epoch, quorumId: quorum }))
    return reply.type('application/octet-stream').send(Buffer.from(data.buffer, data.byteOffset, data.length))
  })
  app.get('/v1/quote', async (request) => {
    const { sizeBytes } = parse(quoteQuery, request.query)
    const { feeWei, retentionEpochs } = await asHttp(disperser.quote(sizeBytes))
    return { sizeBytes, feeWei: feeWei.toString(), retentionEpochs: retentionEpochs ?? null }
  })
}

/** A request as it is told: no bytes, no paths. */
function requestJson(request: StoredRequest): object {
  const { id, state, sizeBytes, acceptedAtMs, dataRoot, epoch, quorumId, expiryEpoch, block, feeWei, error } = request
  const { submitTx, confirmTx } = request
  const facts = { dataRoot, epoch, quorumId, expiryEpoch, submitTx, confirmTx, block, feeWei, error }
  return { requestId: id, state, sizeBytes, acceptedAtMs, ...facts }
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const read = schema.safeParse(value)
  if (read.success) return read.data
  const [issue] = read.error.issues
  const field = issue?.path.join('.') ?? ''
  throw new HttpError({
    statusCode: 400,
    code: 'REQUEST_INVALID',
    message: `${field}: ${issue?.message ?? 'is wrong'}`,
    fix: `correct ${field}`,
    details: { field },
  })
}

async function asHttp<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof WeightlessError) || error instanceof HttpError) throw error
    const { code, message, fix, details, cause } = error
    const statusCode = STATUS[code] ?? 502
    throw new HttpError({ statusCode, code, message, fix, details, cause })
  }
}

function busy(maxUploads: number): HttpError {
  return new HttpError({
    statusCode: 503,
    code: 'DISPERSER_BUSY',
    message: `${maxUploads} blobs are being received already`,
    fix: 'try again in a moment',
    details: { maxUploads },
  })
}
