import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { HttpError } from '#kit/http/http-error.ts'
import { RpcError } from '#kit/http/rpc-error.ts'
import { rpcHash, rpcUint } from '#kit/http/rpc-method.ts'
import { WeightlessError } from '#protocol/error.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { encodeSegmentFrame, SegmentFrameDecoder, SegmentFrameError } from '#protocol/storage/segment-frame.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import { fileReference, type SegmentReader } from '../segment-reader.ts'
import { bodyStream, startPieces, streamSegments } from '../segment-stream.ts'
import type { FileInfo } from '../wire.ts'
import type { WorkLimit } from '../work-limit.ts'
import type { FrontNode } from './front-node.ts'
import { refuse, ShardBatches, UPLOAD_TIMEOUT_MS } from './shard-batches.ts'
import { liveStatus } from './status.ts'

const UPLOAD_BODY_BYTES = 64 * 2 ** 20
const MAX_MISSING_RANGES = 10_000

const seqParams = z.object({ txSeq: rpcUint() })
const rangeQuery = z.object({ from: rpcUint().default(0), to: rpcUint().optional() })

/** The binary segment path of a storage node, answered for a cover of shards; data read through it is verified. */
export function registerFrontBinary(parameters: FrontBinaryParameters): void {
  const { app, prefix } = parameters
  app.register(
    async (scope) => {
      scope.setErrorHandler((error) => {
        throw toHttpError(error)
      })
      // Frames are taken as they arrive, so the body is left to the handler.
      scope.addContentTypeParser('application/octet-stream', (_, payload, done) => done(null, payload))
      scope.get('/v1/status', () => status(parameters))
      scope.get('/v1/files', (request) => fileByRoot(parameters, request))
      scope.get('/v1/files/:txSeq', (request) => fileByTxSeq(parameters, request))
      scope.get('/v1/files/:txSeq/segments', (request, reply) => sendSegments(parameters, request, reply, 'frames'))
      scope.get('/v1/files/:txSeq/data', (request, reply) => sendSegments(parameters, request, reply, 'data'))
      scope.get('/v1/files/:txSeq/missing', (request) => missing(parameters, request))
      scope.post('/v1/files/:txSeq/segments', { bodyLimit: UPLOAD_BODY_BYTES }, (request) =>
        takeSegments(parameters, request),
      )
    },
    { prefix },
  )
}

export interface FrontBinaryParameters {
  app: FastifyInstance
  /** Where it is mounted: `/node`. */
  prefix: string
  front: FrontNode
  reader: SegmentReader
  metrics: IndexerMetrics
  /** Downloads at once, shared with the file gateway. */
  downloads: WorkLimit
  /** Uploads at once, shared by all fronts. */
  uploads: WorkLimit
  readAhead: number
  stallMs: number
}

async function fileByRoot({ front }: FrontBinaryParameters, request: FastifyRequest): Promise<FileInfo> {
  const { root } = parse(z.object({ root: rpcHash() }), request.query)
  return known(await front.fileByRoot({ root, needAvailable: true }), { root })
}

async function fileByTxSeq({ front }: FrontBinaryParameters, request: FastifyRequest): Promise<FileInfo> {
  const { txSeq } = parse(seqParams, request.params)
  return known(await front.fileByTxSeq({ txSeq }), { txSeq })
}

async function status({ front }: FrontBinaryParameters) {
  const merged = await liveStatus({ nodes: await front.cover() })
  const { chainId, flowAddress } = merged?.networkIdentity ?? {}
  return { chainId, flow: flowAddress, shard: { shardId: 0, numShard: 1 }, nextTxSeq: merged?.nextTxSeq, front: true }
}

async function sendSegments(
  { front, reader, metrics, downloads, readAhead, stallMs }: FrontBinaryParameters,
  request: FastifyRequest,
  reply: FastifyReply,
  form: 'frames' | 'data',
): Promise<FastifyReply> {
  const { txSeq } = parse(seqParams, request.params)
  const { from, to: asked } = parse(rangeQuery, request.query)
  const info = known(await front.readable({ id: txSeq }), { txSeq })
  const to = Math.min(asked ?? segmentCount(info.tx.size), segmentCount(info.tx.size))
  if (from >= to) {
    throw new HttpError({
      code: 'RANGE_INVALID',
      statusCode: 416,
      message: `no segments from ${from} to ${to}`,
      fix: `ask for segments 0 to ${segmentCount(info.tx.size)}`,
      details: { from, to, segments: segmentCount(info.tx.size) },
    })
  }
  const release = await downloads.acquire()
  const controller = new AbortController()
  controller.signal.addEventListener('abort', release, { once: true })
  const file = fileReference(info)
  const nodes = front.readers()
  const { signal } = controller
  async function* pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    const skipAbsent = form === 'frames'
    for await (const segment of streamSegments({ reader, file, nodes, from, to, readAhead, skipAbsent, signal })) {
      metrics.frontSegments.inc({ direction: 'download' }, 1)
      if (form === 'frames') yield* encodeSegmentFrame(segment)
      // The last segment is filled up to whole sectors; the file ends before that.
      else yield segment.data.subarray(0, file.sizeBytes - segment.index * SEGMENT_BYTES)
    }
  }
  try {
    const started = await startPieces(pieces())
    if (form === 'data') {
      reply.header('content-length', Math.min(to * SEGMENT_BYTES, file.sizeBytes) - from * SEGMENT_BYTES)
    }
    return reply.type('application/octet-stream').send(bodyStream({ pieces: started, controller, stallMs }))
  } catch (error) {
    controller.abort(error)
    throw error
  }
}

async function takeSegments(parameters: FrontBinaryParameters, request: FastifyRequest) {
  const { front, metrics, uploads, stallMs } = parameters
  const { txSeq } = parse(seqParams, request.params)
  const release = await uploads.acquire()
  // A client that sends nothing more must not keep its place; passing segments on is no stall of the client.
  request.raw.setTimeout(stallMs + UPLOAD_TIMEOUT_MS, () => request.raw.destroy())
  try {
    const cover = await front.cover()
    const file = fileReference(known(await front.fileByTxSeq({ txSeq }), { txSeq }))
    const batches = new ShardBatches({ cover, file, metrics })
    const decoder = new SegmentFrameDecoder()
    let bytes = 0
    for await (const piece of request.raw) {
      bytes += piece.byteLength
      if (bytes > UPLOAD_BODY_BYTES) throw tooLarge()
      // Waiting here holds the client back, so that only a few batches are in memory.
      for (const frame of decoder.push(piece)) await batches.add(frame)
    }
    decoder.end()
    await batches.flush()
    const after = await front.fileByTxSeq({ txSeq })
    return { stored: batches.stored, finalized: after?.finalized === true }
  } finally {
    release()
  }
}

async function missing({ front }: FrontBinaryParameters, request: FastifyRequest) {
  const { txSeq } = parse(seqParams, request.params)
  known(await front.fileByTxSeq({ txSeq }), { txSeq })
  const answers = await Promise.all((await front.cover()).map((node) => node.client.missing({ txSeq }).catch(refuse)))
  return {
    segments: mergeRanges(answers.flatMap(({ segments }) => segments)).slice(0, MAX_MISSING_RANGES),
    total: answers.reduce((sum, { total }) => sum + total, 0),
  }
}

/** Ranges `[from, to)` in order, those that touch joined. */
export function mergeRanges(ranges: readonly (readonly [number, number])[]): [number, number][] {
  const merged: [number, number][] = []
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = merged.at(-1)
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to)
    else merged.push([from, to])
  }
  return merged
}

function parse<S extends z.ZodType>(schema: S, given: unknown): z.output<S> {
  const checked = schema.safeParse(given)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  throw new HttpError({
    code: 'REQUEST_INVALID',
    statusCode: 400,
    message: `${issue?.path.join('.') ?? 'request'}: ${issue?.message ?? 'not valid'}`,
    fix: 'correct the value named',
    details: { field: issue?.path.join('.') },
  })
}

function known(info: FileInfo | null, details: Record<string, unknown>): FileInfo {
  if (info !== null) return info
  throw new HttpError({
    code: 'TX_UNKNOWN',
    statusCode: 404,
    message: 'the storage nodes do not know this file, or not all of them do yet',
    fix: 'check the root or sequence number; a new submission is known after a few blocks',
    details,
  })
}

/** What went wrong here, with the status that tells the caller whether to try again. */
function toHttpError(error: unknown): unknown {
  if (!(error instanceof WeightlessError) || error instanceof HttpError) return error
  const { code, message, fix, details } = error
  const common = { message, fix, details, cause: error }
  if (error instanceof SegmentFrameError) return new HttpError({ ...common, code, statusCode: 400 })
  if (UNAVAILABLE.has(code)) return new HttpError({ ...common, code, statusCode: 503 })
  if (!(error instanceof RpcError)) return error
  const text = error.data === undefined ? message : `${message}: ${error.data}`
  return new HttpError({ ...common, code: 'SHARDS_UNAVAILABLE', statusCode: 503, message: text })
}

const UNAVAILABLE = new Set(['SEGMENT_UNAVAILABLE', 'INDEXER_BUSY', 'NODE_ANSWER'])

function tooLarge(): HttpError {
  return new HttpError({
    code: 'REQUEST_TOO_LARGE',
    statusCode: 413,
    message: `the request has more than ${UPLOAD_BODY_BYTES} bytes`,
    fix: 'send fewer segments at once',
    details: { limit: UPLOAD_BODY_BYTES },
  })
}
