import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { HttpError } from '#kit/http/http-error.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { encodeSegmentFrame } from '#protocol/storage/segment-frame.ts'
import { parseShard } from '#protocol/storage/shard.ts'
import { NodeError, reasonOf } from '../error.ts'
import type { Intake } from '../ingest/intake.ts'
import type { SegmentBuffers } from '../ingest/segment-buffers.ts'
import { Semaphore } from '../ingest/semaphore.ts'
import { describeFile, missingSegments } from '../serve/file-info.ts'
import type { FileReader, SegmentRange } from '../serve/file-reader.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { FileTransaction } from '../store/transaction-record.ts'
import { toHttpError } from './http-errors.ts'
import { drain, MAX_UPLOAD_BYTES, receiveSegments, tooLarge } from './receive-segments.ts'
import { sendSegments } from './send-segments.ts'

export interface SegmentRoutesParameters {
  app: FastifyInstance
  store: NodeStore
  intake: Intake
  reader: FileReader
  buffers: SegmentBuffers
  /** Uploads read at a time. */
  maxUploads: number
  /** Bytes of segments that may be on their way to the disk. */
  memory: Semaphore
  stallTimeoutMs: number
  /** What `/v1/status` answers. */
  status: () => Record<string, unknown>
}

/** Ranges told by one answer of `missing`. */
const MAX_RANGES = 10_000

const count = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const seqParams = z.object({ seq: count })
const shard = z.string().transform((text, context) => {
  try {
    return parseShard(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: reasonOf(error) })
    return z.NEVER
  }
})
const rangeQuery = z.object({ from: count.optional(), to: count.optional(), shard: shard.optional() })
const rootQuery = z.object({
  root: z.string().regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes as 0x and 64 hex digits'),
})

/**
 * The binary segment path: frames of `#protocol/storage/segment-frame.ts` over plain HTTP, streamed both ways.
 *
 * - `POST /v1/files/{txSeq}/segments` stores frames; `{ stored, finalized }`
 * - `GET /v1/files/{txSeq}/segments?from&to&shard` gives those of the segments that are here, with proofs
 * - `GET /v1/files/{txSeq}/data?from&to` gives their bytes alone
 * - `GET /v1/files/{txSeq}/missing?from` tells which segments of the own shard are not here
 * - `GET /v1/files/{txSeq}` and `GET /v1/files?root=` describe a file; `GET /v1/status` the node
 */
export function registerSegmentRoutes(parameters: SegmentRoutesParameters): void {
  const { app, store, intake, reader, buffers, memory, stallTimeoutMs, status } = parameters
  const uploads = new Semaphore(parameters.maxUploads)

  app.register(async (scope) => {
    // The handler reads the stream itself.
    scope.addContentTypeParser('application/octet-stream', (_, payload, done) => done(null, payload))

    scope.post('/v1/files/:seq/segments', async (request) => {
      const tx = findFile(store, request)
      const announced = Number(request.headers['content-length'] ?? 0)
      if (announced > MAX_UPLOAD_BYTES) throw toHttpError(tooLarge(announced))
      if (request.headers['content-type']?.startsWith('application/octet-stream') !== true) throw wrongType()
      let stored = 0
      let refused: unknown
      const release = await uploads.acquire(1)
      try {
        await receiveSegments({
          request: request.raw,
          tx,
          intake,
          memory,
          buffers,
          stallTimeoutMs,
          onStored: () => {
            stored += 1
          },
        })
      } catch (error) {
        refused = error
      } finally {
        release()
      }
      if (refused !== undefined) {
        // After a stall nothing more comes.
        if (!(refused instanceof NodeError && refused.code === 'REQUEST_STALLED')) await drain(request.raw)
        throw toHttpError(refused, { stored })
      }
      return { stored, finalized: store.transactions.get(tx.seq)?.status === 'finalized' }
    })

    scope.get('/v1/files/:seq/segments', async (request, reply) => {
      const tx = findFile(store, request)
      return sendSegments({
        reply,
        segments: reader.segments(tx, readRange(request, tx)),
        parts: encodeSegmentFrame,
        stallTimeoutMs,
      })
    })

    scope.get('/v1/files/:seq/data', async (request, reply) => {
      const tx = findFile(store, request)
      const { from, to } = readRange(request, tx)
      if (!reader.holds(tx, { from, to })) throw toHttpError(notHere(tx, from, to))
      reply.header('content-length', Math.min(to * SEGMENT_BYTES, tx.sizeBytes) - from * SEGMENT_BYTES)
      const segments = reader.bytes(tx, { from, to })
      return sendSegments({ reply, segments, parts: ({ data }) => [data], stallTimeoutMs })
    })

    scope.get('/v1/files/:seq/missing', async (request) => {
      const tx = findFile(store, request)
      const { from = 0 } = parse(rangeQuery, request.query)
      return missingSegments(store, tx, { from, limit: MAX_RANGES })
    })

    scope.get('/v1/files/:seq', async (request) => describeFile(store, findFile(store, request)))

    scope.get('/v1/files', async (request) => {
      const { root } = parse(rootQuery, request.query)
      const tx = store.transactions.choose(`0x${root.slice(2).toLowerCase()}`, true)
      if (tx) return describeFile(store, tx)
      throw unknownFile(`no file with root ${root} is in the log`, { root })
    })

    scope.get('/v1/status', async () => status())
  })
}

function findFile(store: NodeStore, request: FastifyRequest): FileTransaction {
  const { seq } = parse(seqParams, request.params)
  const tx = store.transactions.get(seq)
  if (tx) return tx
  const next = store.transactions.nextSeq
  throw unknownFile(`submission ${seq} is not in the log of this node, which has ${next}`, { seq, nextTxSeq: next })
}

function readRange(request: FastifyRequest, tx: FileTransaction): SegmentRange {
  const segments = segmentCount(tx.sizeBytes)
  const { from = 0, to = segments, shard } = parse(rangeQuery, request.query)
  if (from < to && to <= segments) return { from, to, shard }
  throw toHttpError(
    new NodeError({
      code: 'RANGE_INVALID',
      message: `segments ${from} to ${to} are no range of the file`,
      fix: `give from < to <= ${segments}`,
      details: { seq: tx.seq, from, to, limit: segments },
    }),
  )
}

function parse<S extends z.ZodType>(schema: S, given: unknown): z.output<S> {
  const read = schema.safeParse(given)
  if (read.success) return read.data
  const [issue] = read.error.issues
  const field = issue?.path.join('.') ?? ''
  throw new HttpError({
    statusCode: 400,
    code: 'REQUEST_INVALID',
    message: `${field}: ${issue?.message ?? 'not valid'}`,
    fix: 'correct the address of the request',
    details: { field },
  })
}

function unknownFile(message: string, details: Record<string, unknown>): unknown {
  return toHttpError(
    new NodeError({
      code: 'TX_UNKNOWN',
      message,
      fix: 'wait until the node has read the block of its submission',
      details,
    }),
  )
}

function notHere(tx: FileTransaction, from: number, to: number): NodeError {
  return new NodeError({
    code: 'SECTOR_UNAVAILABLE',
    message: `not all of segments ${from} to ${to} of file ${tx.seq} are here`,
    fix: 'ask a node whose shard holds them, or ask for segments with proofs',
    details: { seq: tx.seq, from, to },
  })
}

function wrongType(): HttpError {
  return new HttpError({
    statusCode: 415,
    code: 'REQUEST_INVALID',
    message: 'segments come as frames',
    fix: 'set Content-Type: application/octet-stream',
  })
}
