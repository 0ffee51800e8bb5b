import { z } from 'zod'
import { createJsonRpcClient, type JsonRpcClient } from '#kit/http/json-rpc-client.ts'
import type { SignedPeerRecord } from '#protocol/storage/peer-record.ts'
import { MAX_FRAME_BYTES } from '#protocol/storage/segment-frame.ts'
import { formatShard, isShard, type ShardConfig } from '#protocol/storage/shard.ts'
import { NodeError, reasonOf } from '../error.ts'
import { type BorrowedFrame, FrameReader } from '../ingest/frame-reader.ts'
import type { SegmentBuffers } from '../ingest/segment-buffers.ts'
import { signedRecordSchema } from './record-schema.ts'

/** What a peer says about itself. */
export interface PeerStatus {
  /** Differs for each run of a node: how a node knows itself among its peers. Undefined for nodes of another make. */
  instance: string | undefined
  /** Its key, as its records name it; undefined for nodes of another make. */
  nodeId: string | undefined
  chainId: number
  flow: string
  shard: ShardConfig
  nextTxSeq: number
}

export interface PeerClientParameters {
  url: string
  /** Limit of short questions. */
  timeoutMs: number
  /** A stream that moves no byte for so long is given up. */
  stallTimeoutMs: number
  buffers: SegmentBuffers
}

/** Segments `[from, to)` of a file, of which only those of a shard are wanted. */
export interface SegmentsRequest {
  seq: number
  from: number
  to: number
  shard: ShardConfig
  /** Whether a segment is of the shard, and not here yet. */
  wanted: (index: number) => boolean
}

/** Records taken from one answer. */
const MAX_RECORDS = 256

const shardSchema = z.object({ shardId: z.number(), numShard: z.number() }).refine(isShard, 'not a shard')
const statusSchema = z.object({
  instance: z.string().max(100).optional(),
  nodeId: z.string().max(66).optional(),
  chainId: z.number().int(),
  flow: z.string().max(42),
  shard: shardSchema,
  nextTxSeq: z.number().int().min(0),
})
const zgsStatusSchema = z.object({
  nextTxSeq: z.number().int().min(0),
  networkIdentity: z.object({ chainId: z.number().int(), flowAddress: z.string().max(42) }),
})
const infoSchema = z.object({ finalized: z.boolean(), tx: z.object({ seq: z.number().int().min(0) }) })
const recordsSchema = z.object({ records: z.array(signedRecordSchema).max(MAX_RECORDS) })
const provenSchema = z.object({
  data: z.string().max(400_000),
  index: z.number().int().min(0),
  proof: z.object({ lemma: z.array(z.string().max(66)).max(64), path: z.array(z.boolean()).max(64) }),
})

const STATUS_BYTES = 65_536
const RECORDS_BYTES = 524_288

/** Asks one peer, over the binary path or, for nodes that lack it, JSON-RPC. What comes back is not verified here. */
export class PeerClient {
  readonly url: string
  readonly #parameters: PeerClientParameters
  readonly #rpc: JsonRpcClient
  #binary: boolean | undefined

  constructor(parameters: PeerClientParameters) {
    this.url = parameters.url.replace(/\/+$/, '')
    this.#parameters = parameters
    this.#rpc = createJsonRpcClient({
      url: parameters.url,
      timeoutMs: parameters.timeoutMs,
      retries: 0,
      maxResponseBytes: 2 * 2 ** 20,
    })
  }

  /** @throws NodeError `PEER_FAILED` */
  async status(signal: AbortSignal): Promise<PeerStatus> {
    try {
      const answer = await this.#getJson('/v1/status', signal)
      if (answer !== undefined) {
        this.#binary = true
        return { instance: undefined, nodeId: undefined, ...statusSchema.parse(answer) }
      }
      const [status, shard] = await Promise.all([
        this.#rpc.call('zgs_getStatus', [], { signal }),
        this.#rpc.call('zgs_getShardConfig', [], { signal }),
      ])
      this.#binary = false
      const { nextTxSeq, networkIdentity } = zgsStatusSchema.parse(status)
      const { chainId, flowAddress } = networkIdentity
      return {
        instance: undefined,
        nodeId: undefined,
        chainId,
        flow: flowAddress.toLowerCase(),
        shard: shardSchema.parse(shard),
        nextTxSeq,
      }
    } catch (error) {
      throw this.#failed('status', error)
    }
  }

  /** Whether it is a node of this make, as far as it has been asked. */
  get isBinary(): boolean {
    return this.#binary === true
  }

  /**
   * The records of other nodes that the peer tells, unverified.
   *
   * @throws NodeError `PEER_FAILED`
   */
  async records(signal: AbortSignal): Promise<SignedPeerRecord[]> {
    try {
      const response = await this.#fetch('/v1/peers', { signal })
      if (!response.ok) throw new Error(await errorText(response))
      return recordsSchema.parse(JSON.parse(await readText(response, RECORDS_BYTES))).records
    } catch (error) {
      throw this.#failed('peer records', error)
    }
  }

  /**
   * Makes a record known to the peer.
   *
   * @throws NodeError `PEER_FAILED`
   */
  async announce(record: SignedPeerRecord, signal: AbortSignal): Promise<void> {
    try {
      const headers = { 'content-type': 'application/json' }
      const response = await this.#fetch('/v1/peers', { method: 'POST', headers, body: JSON.stringify(record), signal })
      const text = await errorText(response)
      if (!response.ok) throw new Error(text)
    } catch (error) {
      throw this.#failed('announcing', error)
    }
  }

  /** Whether the peer says it holds all of a file that its shard keeps. */
  async holds(seq: number, signal: AbortSignal): Promise<boolean> {
    try {
      const answer = await this.#rpc.call('zgs_getFileInfoByTxSeq', [seq], { signal })
      return answer !== null && infoSchema.parse(answer).finalized
    } catch (error) {
      throw this.#failed('file info', error)
    }
  }

  /**
   * Segments of `[from, to)` as the peer gives them, unverified; those it lacks are missing. Each must be released.
   *
   * @throws NodeError `PEER_FAILED`, `PEER_STALLED`, `PEER_LIED` (more than was asked for, or no frames)
   */
  async *segments(request: SegmentsRequest, signal: AbortSignal): AsyncGenerator<BorrowedFrame, void, undefined> {
    if (this.#binary === false) yield* this.#segmentsByRpc(request, signal)
    else yield* this.#frames(request, signal)
  }

  close(): void {
    this.#rpc.close()
  }

  async *#frames(request: SegmentsRequest, signal: AbortSignal): AsyncGenerator<BorrowedFrame, void, undefined> {
    const { seq, from, to, shard } = request
    const watch = new StallWatch(this.#parameters.stallTimeoutMs)
    const limitBytes = (to - from) * MAX_FRAME_BYTES
    const reader = new FrameReader(this.#parameters.buffers)
    let received = 0
    try {
      const path = `/v1/files/${seq}/segments?from=${from}&to=${to}&shard=${formatShard(shard)}`
      const response = await fetch(`${this.url}${path}`, {
        signal: AbortSignal.any([signal, watch.signal]),
        redirect: 'error',
      })
      if (!response.ok) throw this.#failed(`segments ${from} to ${to}`, new Error(await errorText(response)))
      for await (const piece of bodyOf(response)) {
        received += piece.length
        if (received > limitBytes) throw this.#lied(`more than ${limitBytes} bytes for ${to - from} segments`)
        watch.pause()
        for (const frame of framesIn(reader, piece, (reason) => this.#lied(reason))) yield frame
        watch.restart()
      }
      reader.end()
    } catch (error) {
      signal.throwIfAborted()
      if (watch.signal.aborted) throw this.#stalled()
      throw this.#failed(`segments ${from} to ${to}`, error)
    } finally {
      watch.pause()
      reader.dispose()
    }
  }

  async *#segmentsByRpc(request: SegmentsRequest, signal: AbortSignal): AsyncGenerator<BorrowedFrame, void, undefined> {
    const { seq, from, to, wanted } = request
    for (let index = from; index < to; index++) {
      if (!wanted(index)) continue
      let answer: unknown
      try {
        answer = await this.#rpc.call('zgs_downloadSegmentWithProofByTxSeq', [seq, index], { signal })
      } catch (error) {
        throw this.#failed(`segment ${index}`, error)
      }
      if (answer === null) continue
      const read = provenSchema.safeParse(answer)
      if (!read.success || read.data.index !== index) throw this.#lied(`segment ${index} is not a segment with proof`)
      const { data, proof } = read.data
      yield {
        index,
        data: Buffer.from(data, 'base64'),
        proof: { path: proof.path, lemma: proof.lemma.map((hash) => hash.toLowerCase() as `0x${string}`) },
        release: () => {},
      }
    }
  }

  /** The answer, or undefined where the peer has no such path. */
  async #getJson(path: string, signal: AbortSignal): Promise<unknown> {
    const response = await this.#fetch(path, { signal })
    const text = await readText(response)
    if (response.status >= 500) throw new Error(`HTTP ${response.status}`)
    if (!response.ok || response.headers.get('content-type')?.includes('json') !== true) return undefined
    const answer: unknown = JSON.parse(text)
    return statusSchema.safeParse(answer).success ? answer : undefined
  }

  #fetch(path: string, request: RequestInit & { signal: AbortSignal }): Promise<Response> {
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(this.#parameters.timeoutMs)])
    return fetch(`${this.url}${path}`, { ...request, signal, redirect: 'error' })
  }

  #failed(what: string, cause: unknown): NodeError {
    if (cause instanceof NodeError) return cause
    return new NodeError({
      code: 'PEER_FAILED',
      message: `${this.url} failed at ${what}: ${innermost(cause)}`,
      fix: 'another peer is asked; check the peer if it lasts',
      details: { peer: this.url },
      cause,
    })
  }

  #stalled(): NodeError {
    const { stallTimeoutMs } = this.#parameters
    return new NodeError({
      code: 'PEER_STALLED',
      message: `${this.url} sent no byte for ${stallTimeoutMs} ms`,
      fix: 'another peer is asked',
      details: { peer: this.url, stallTimeoutMs },
    })
  }

  #lied(reason: string): NodeError {
    return new NodeError({
      code: 'PEER_LIED',
      message: `${this.url} sent what it was not asked for: ${reason}`,
      fix: 'the peer is left out for a while',
      details: { peer: this.url },
    })
  }
}

/** Runs out when nothing moves; paused while the own disk is the slow one. */
class StallWatch {
  readonly #controller = new AbortController()
  readonly #limitMs: number
  #timer: NodeJS.Timeout | undefined

  constructor(limitMs: number) {
    this.#limitMs = limitMs
    this.restart()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  restart(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#controller.abort(), this.#limitMs)
  }

  pause(): void {
    clearTimeout(this.#timer)
  }
}

function* framesIn(
  reader: FrameReader,
  piece: Uint8Array,
  lied: (reason: string) => NodeError,
): Generator<BorrowedFrame> {
  try {
    yield* reader.push(piece)
  } catch (cause) {
    throw lied(reasonOf(cause))
  }
}

async function errorText(response: Response): Promise<string> {
  const text = await readText(response)
  try {
    const { code, message } = z.object({ code: z.string(), message: z.string() }).parse(JSON.parse(text))
    return `${code}: ${message}`.slice(0, 300)
  } catch {
    return `HTTP ${response.status}`
  }
}

/** The types of the DOM do not know that a body can be iterated. */
function bodyOf({ body }: Response): AsyncIterable<Uint8Array> {
  return (body ?? new Blob([]).stream()) as unknown as AsyncIterable<Uint8Array>
}

async function readText(response: Response, maxBytes = STATUS_BYTES): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of bodyOf(response)) {
    length += chunk.length
    if (length > maxBytes) break
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The innermost reason: fetch wraps the system's error in "fetch failed". */
function innermost(error: unknown): string {
  let inner = error
  for (let depth = 0; depth < 5 && inner instanceof Error && inner.cause instanceof Error; depth++) inner = inner.cause
  return reasonOf(inner)
}
