import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { HttpError } from '#kit/http/http-error.ts'
import { rpcHash, rpcUint } from '#kit/http/rpc-method.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { encodeSegmentFrame, type SegmentFrame, SegmentFrameDecoder } from '#protocol/storage/segment-frame.ts'
import { shardOwns } from '#protocol/storage/shard.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import { UploadRefusedError } from '../node-client.ts'
import type { KnownNode } from '../node-registry.ts'
import { fileReference, globalSegment, type SegmentReader } from '../segment-reader.ts'
import { bodyStream, startPieces, streamSegments } from '../segment-stream.ts'
import type { FileInfo } from '../wire.ts'
import type { WorkLimit } from '../work-limit.ts'
import type { FrontNode } from './front-node.ts'
import { liveStatus } from './status.ts'

const UPLOAD_BODY_BYTES = 64 * 2 ** 20
const UPLOAD_TIMEOUT_MS = 60_000
/** Segments sent to one shard in one request: 2 MiB. */
const BATCH = 8
const MAX_MISSING_RANGES = 10_000

const seqParams = z.object({ txSeq: rpcUint() })
const rangeQuery = z.object({ from: rpcUint().default(0), to: rpcUint().optional() })

/** The binary segment path of a storage node, answered for a cover of shards; data read through it is verified. */
export function registerFrontBinary(parameters: FrontBinaryParameters): void {
  const { app, prefix } = parameters
  app.register(
    async (scope) => {
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

async function takeSegments({ front, metrics }: FrontBinaryParameters, request: FastifyRequest) {
  const { txSeq } = parse(seqParams, request.params)
  const cover = await front.cover()
  const info = known(await front.fileByTxSeq({ txSeq }), { txSeq })
  const file = fileReference(info)
  const waiting = new Map<KnownNode, SegmentFrame[]>()
  let stored = 0

  async function flush(node: KnownNode): Promise<void> {
    const frames = waiting.get(node) ?? []
    waiting.delete(node)
    if (frames.length === 0) return
    const answer = await node.client.uploadFrames({ txSeq, frames, timeoutMs: UPLOAD_TIMEOUT_MS }).catch(refuse)
    stored += answer.stored
    metrics.frontSegments.inc({ direction: 'upload' }, frames.length)
  }

  const decoder = new SegmentFrameDecoder()
  let bytes = 0
  for await (const piece of request.raw) {
    bytes += piece.byteLength
    if (bytes > UPLOAD_BODY_BYTES) throw tooLarge()
    for (const frame of decoder.push(piece)) {
      const global = globalSegment(file, frame.index)
      const node = cover.find(({ shard }) => shardOwns(shard, global))
      if (node === undefined) continue
      const frames = waiting.get(node) ?? []
      frames.push(frame)
      waiting.set(node, frames)
      // Waiting here holds the client back, so that at most one batch per shard is in memory.
      if (frames.length >= BATCH) await flush(node)
    }
  }
  decoder.end()
  await Promise.all([...waiting.keys()].map(flush))
  const after = await front.fileByTxSeq({ txSeq })
  return { stored, finalized: after?.finalized === true }
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

/** A shard's refusal keeps its code and status; a node out of reach is a bad gateway. */
function refuse(error: unknown): never {
  if (error instanceof UploadRefusedError) {
    const statusCode = error.status >= 400 && error.status < 600 ? error.status : 502
    throw new HttpError({ code: error.code, statusCode, message: error.message, details: error.details, cause: error })
  }
  const message = error instanceof Error ? error.message : String(error)
  throw new HttpError({ code: 'SHARD_UNREACHABLE', statusCode: 502, message, fix: 'try again shortly', cause: error })
}

function tooLarge(): HttpError {
  return new HttpError({
    code: 'REQUEST_TOO_LARGE',
    statusCode: 413,
    message: `the request has more than ${UPLOAD_BODY_BYTES} bytes`,
    fix: 'send fewer segments at once',
    details: { limit: UPLOAD_BODY_BYTES },
  })
}
