import { HttpError } from '#kit/http/http-error.ts'
import type { SegmentFrame } from '#protocol/storage/segment-frame.ts'
import { shardOwns } from '#protocol/storage/shard.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import { UploadRefusedError } from '../node-client.ts'
import type { KnownNode } from '../node-registry.ts'
import { type FileReference, globalSegment } from '../segment-reader.ts'

/** Limit of one request to a shard, in milliseconds. */
export const UPLOAD_TIMEOUT_MS = 60_000

/** Segments sent to one shard in one request: 2 MiB. */
const BATCH = 8

/** Segments waiting over all shards: 6 MiB. */
const MAX_WAITING = 24

/** Sorts the segments of one upload by the shard that owns them and sends them on in batches. */
export class ShardBatches {
  readonly #cover: readonly KnownNode[]
  readonly #file: FileReference
  readonly #metrics: IndexerMetrics
  readonly #waiting = new Map<KnownNode, SegmentFrame[]>()
  #count = 0
  #stored = 0

  constructor({ cover, file, metrics }: { cover: readonly KnownNode[]; file: FileReference; metrics: IndexerMetrics }) {
    this.#cover = cover
    this.#file = file
    this.#metrics = metrics
  }

  /** Segments the shards have stored so far. */
  get stored(): number {
    return this.#stored
  }

  /** Takes a segment; sends the fullest batch when it is full, or when too much waits. @throws HttpError */
  async add(frame: SegmentFrame): Promise<void> {
    const global = globalSegment(this.#file, frame.index)
    const node = this.#cover.find(({ shard }) => shardOwns(shard, global))
    if (node === undefined) return
    const frames = this.#waiting.get(node) ?? []
    frames.push(frame)
    this.#waiting.set(node, frames)
    this.#count += 1
    if (frames.length >= BATCH) await this.#send(node)
    else if (this.#count >= MAX_WAITING) await this.#send(this.#fullest())
  }

  /** Sends what is left. @throws HttpError */
  async flush(): Promise<void> {
    await Promise.all([...this.#waiting.keys()].map((node) => this.#send(node)))
  }

  async #send(node: KnownNode | undefined): Promise<void> {
    const frames = node === undefined ? undefined : this.#waiting.get(node)
    if (node === undefined || frames === undefined) return
    this.#waiting.delete(node)
    this.#count -= frames.length
    const { txSeq } = this.#file
    const answer = await node.client.uploadFrames({ txSeq, frames, timeoutMs: UPLOAD_TIMEOUT_MS }).catch(refuse)
    this.#stored += answer.stored
    this.#metrics.frontSegments.inc({ direction: 'upload' }, frames.length)
  }

  #fullest(): KnownNode | undefined {
    return [...this.#waiting].sort(([, a], [, b]) => b.length - a.length)[0]?.[0]
  }
}

/** A shard's refusal keeps its code and status; a node out of reach is a bad gateway. */
export function refuse(error: unknown): never {
  if (error instanceof UploadRefusedError) {
    const statusCode = error.status >= 400 && error.status < 600 ? error.status : 502
    throw new HttpError({ code: error.code, statusCode, message: error.message, details: error.details, cause: error })
  }
  const message = error instanceof Error ? error.message : String(error)
  throw new HttpError({ code: 'SHARD_UNREACHABLE', statusCode: 502, message, fix: 'try again shortly', cause: error })
}
