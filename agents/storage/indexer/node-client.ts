import type { z } from 'zod'
import { createJsonRpcClient, type JsonRpcClient } from '#kit/http/json-rpc-client.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import {
  decodeSegmentFrames,
  encodeSegmentFrame,
  MAX_FRAME_BYTES,
  type SegmentFrame,
} from '#protocol/storage/segment-frame.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import { NodeAnswerError } from './errors.ts'
import {
  type FileInfo,
  fileInfoSchema,
  type NodeStatus,
  nodeStatusSchema,
  segmentWithProofSchema,
  shardConfigSchema,
} from './wire.ts'

/** A segment as a node gave it; not verified yet. */
export interface FetchedSegment {
  data: Uint8Array
  proof: SegmentProof
}

interface CallOptions {
  signal?: AbortSignal | undefined
  /** Limit of this call in milliseconds. */
  timeoutMs?: number | undefined
}

// A segment in base64 with its proof is some 350 KB.
const MAX_ANSWER_BYTES = 8 * 1024 * 1024
const BINARY_RETRY_MS = 600_000

/**
 * One storage node over the wire. Every answer is checked for its shape and bounded in size and time; what it says is
 * still only a claim. Segments travel on the binary path where the node has one, else by JSON-RPC.
 */
export class StorageNodeClient {
  readonly url: string
  readonly #rpc: JsonRpcClient
  readonly #fetch: typeof fetch
  readonly #timeoutMs: number
  #binaryRefusedUntilMs = 0

  constructor({ url, timeoutMs, fetch: fetchImplementation = fetch }: StorageNodeClientParameters) {
    this.url = url
    this.#timeoutMs = timeoutMs
    this.#fetch = fetchImplementation
    this.#rpc = createJsonRpcClient({ url, timeoutMs, retries: 0, maxResponseBytes: MAX_ANSWER_BYTES })
  }

  status(options: CallOptions = {}): Promise<NodeStatus> {
    return this.#ask({ method: 'zgs_getStatus', params: [], schema: nodeStatusSchema, options })
  }

  shardConfig(options: CallOptions = {}): Promise<ShardConfig> {
    return this.#ask({ method: 'zgs_getShardConfig', params: [], schema: shardConfigSchema, options })
  }

  /** Null where the node does not know the root. */
  async fileInfo({ root, needAvailable, ...options }: { root: Hash; needAvailable: boolean } & CallOptions) {
    const params = [root, needAvailable]
    const info = await this.#ask({ method: 'zgs_getFileInfo', params, schema: fileInfoSchema.nullable(), options })
    if (info !== null && info.tx.dataMerkleRoot !== root) throw this.#wrong('zgs_getFileInfo', 'told of another root')
    return info
  }

  /** Null where the node does not know the transaction. */
  async fileInfoByTxSeq({ txSeq, ...options }: { txSeq: number } & CallOptions): Promise<FileInfo | null> {
    const method = 'zgs_getFileInfoByTxSeq'
    const info = await this.#ask({ method, params: [txSeq], schema: fileInfoSchema.nullable(), options })
    if (info !== null && info.tx.seq !== txSeq) throw this.#wrong(method, 'told of another transaction')
    return info
  }

  /** Any method, its answer unchecked: for a front that passes answers on. */
  async call({ method, params, ...options }: { method: string; params: unknown[] } & CallOptions): Promise<unknown> {
    return await this.#rpc.call(method, params, { signal: this.#limit(options) })
  }

  /** Segment `index` of the file; null where the node does not hold it. The caller verifies it. */
  async segment({ txSeq, index, ...options }: { txSeq: number; index: number } & CallOptions) {
    if (Date.now() >= this.#binaryRefusedUntilMs) {
      const answer = await this.#segmentFrame({ txSeq, index, options })
      if (answer !== 'unsupported') return answer
      this.#binaryRefusedUntilMs = Date.now() + BINARY_RETRY_MS
    }
    const method = 'zgs_downloadSegmentWithProofByTxSeq'
    const schema = segmentWithProofSchema.nullable()
    const segment = await this.#ask({ method, params: [txSeq, index], schema, options })
    if (segment === null) return null
    return { data: decodeBase64(segment.data), proof: segment.proof } satisfies FetchedSegment
  }

  /** Sends segments on the binary path. Returns how many were stored; a refusal is an `UploadRefusedError`. */
  async uploadFrames({ txSeq, frames, ...options }: { txSeq: number; frames: SegmentFrame[] } & CallOptions) {
    const path = `/v1/files/${txSeq}/segments`
    const response = await this.#request({
      path,
      options,
      init: {
        method: 'POST',
        headers: { 'content-type': 'application/octet-stream' },
        body: Buffer.concat(frames.flatMap((frame) => encodeSegmentFrame(frame))),
      },
    })
    const answer = parseJson(await this.#body({ response, path, limitBytes: 65_536 }))
    if (response.status === 200 && isRecord(answer) && typeof answer.stored === 'number') {
      return { stored: answer.stored, finalized: answer.finalized === true }
    }
    throw new UploadRefusedError({ url: this.url, status: response.status, answer })
  }

  /** Ranges of segments that the node's shard still lacks, or undefined where it cannot say. */
  async missing({ txSeq, ...options }: { txSeq: number } & CallOptions) {
    const path = `/v1/files/${txSeq}/missing`
    const response = await this.#request({ path, options, init: {} })
    const answer = parseJson(await this.#body({ response, path, limitBytes: 4 * 1024 * 1024 }))
    if (response.status !== 200 || !isRecord(answer) || !Array.isArray(answer.segments)) {
      throw new UploadRefusedError({ url: this.url, status: response.status, answer })
    }
    const segments = answer.segments.filter(isRange)
    return { segments, total: typeof answer.total === 'number' ? answer.total : 0 }
  }

  /** Aborts calls under way. */
  close(): void {
    this.#rpc.close()
  }

  async #segmentFrame({ txSeq, index, options }: { txSeq: number; index: number; options: CallOptions }) {
    const path = `/v1/files/${txSeq}/segments?from=${index}&to=${index + 1}`
    const response = await this.#request({ path, options, init: {} })
    const binary = response.headers.get('content-type')?.startsWith('application/octet-stream') === true
    const limitBytes = binary ? MAX_FRAME_BYTES : 65_536
    const body = await this.#body({ response, path, limitBytes })
    if (response.status === 200 && binary) {
      const frame = decodeSegmentFrames(body).find((candidate) => candidate.index === index)
      return frame === undefined ? null : ({ data: frame.data, proof: frame.proof } satisfies FetchedSegment)
    }
    const answer = parseJson(body)
    const ours = isRecord(answer) && typeof answer.code === 'string' && answer.error === undefined
    if (!ours || response.status === 405) return 'unsupported'
    if (response.status >= 500) throw this.#wrong(path, `HTTP ${response.status} ${String(answer.code)}`)
    return null
  }

  async #request({ path, options, init }: { path: string; options: CallOptions; init: RequestInit }) {
    try {
      return await this.#fetch(`${this.url.replace(/\/+$/, '')}${path}`, {
        ...init,
        signal: this.#limit(options),
        redirect: 'error',
      })
    } catch (cause) {
      options.signal?.throwIfAborted()
      throw new NodeAnswerError({ url: this.url, method: path, message: describe(cause), cause })
    }
  }

  async #body({ response, path, limitBytes }: { response: Response; path: string; limitBytes: number }) {
    const parts: Uint8Array[] = []
    let total = 0
    try {
      const reader = response.body?.getReader()
      for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
        total += part.value.byteLength
        if (total > limitBytes) break
        parts.push(part.value)
      }
      if (total > limitBytes) await reader?.cancel()
    } catch (cause) {
      throw new NodeAnswerError({ url: this.url, method: path, message: describe(cause), cause })
    }
    if (total > limitBytes) throw this.#wrong(path, `answered with more than ${limitBytes} bytes`)
    return Buffer.concat(parts, total)
  }

  async #ask<S extends z.ZodType>({ method, params, schema, options }: AskParameters<S>): Promise<z.output<S>> {
    const answer = await this.#rpc.call(method, params, { signal: this.#limit(options) })
    const parsed = schema.safeParse(answer)
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    throw this.#wrong(method, `unexpected answer at ${issue?.path.join('.') || 'its top'}: ${issue?.message ?? ''}`)
  }

  #limit({ signal, timeoutMs = this.#timeoutMs }: CallOptions): AbortSignal {
    const limit = AbortSignal.timeout(timeoutMs)
    return signal === undefined ? limit : AbortSignal.any([signal, limit])
  }

  #wrong(method: string, message: string): NodeAnswerError {
    return new NodeAnswerError({ url: this.url, method, message })
  }
}

export interface StorageNodeClientParameters {
  url: string
  /** Default limit of a call, in milliseconds. */
  timeoutMs: number
  fetch?: typeof fetch | undefined
}

/** A node did not take segments. `details.answer` is its own error object, when it sent one. */
export class UploadRefusedError extends WeightlessError {
  readonly status: number
  readonly answer: unknown

  constructor({ url, status, answer }: { url: string; status: number; answer: unknown }) {
    const said =
      isRecord(answer) && typeof answer.message === 'string' ? answer.message.slice(0, 500) : 'no reason given'
    super({
      code: isRecord(answer) && typeof answer.code === 'string' ? answer.code.slice(0, 64) : 'NODE_REFUSED',
      message: `${url} answered HTTP ${status}: ${said}`,
      details: { url, status },
    })
    this.status = status
    this.answer = answer
  }
}

interface AskParameters<S extends z.ZodType> {
  method: string
  params: unknown[]
  schema: S
  options: CallOptions
}

function decodeBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64')
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body))
  } catch {
    return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isRange(value: unknown): value is [number, number] {
  return Array.isArray(value) && value.length === 2 && value.every((end) => Number.isSafeInteger(end) && end >= 0)
}

/** fetch wraps what happened ("fetch failed"): the cause says more. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const inner = error.cause instanceof Error ? error.cause.message : ''
  return inner === '' ? error.message : `${error.message}: ${inner}`
}
