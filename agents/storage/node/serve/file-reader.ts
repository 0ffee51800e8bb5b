import { SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { sectorCount, segmentCount } from '#protocol/storage/padding.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import { NodeError } from '../error.ts'
import type { SegmentBuffers } from '../ingest/segment-buffers.ts'
import type { NodeStore } from '../store/node-store.ts'
import { ownsSegment } from '../store/own-segments.ts'
import type { FileTransaction } from '../store/transaction-record.ts'
import { segmentProof } from './proof-path.ts'

/** A segment with its proof. */
export interface ProvenSegment {
  index: number
  data: Buffer
  proof: SegmentProof
}

/** A segment in a borrowed buffer. */
export interface BorrowedSegment extends ProvenSegment {
  /** Gives the buffer back. To be called once, when nobody looks at `data` any more. */
  release(): void
}

/** Segments `[from, to)` of a file, perhaps only those of one shard. */
export interface SegmentRange {
  from: number
  to: number
  shard?: ShardConfig | undefined
}

const EVERYTHING: ShardConfig = { shardId: 0, numShard: 1 }

/** Sectors one read may ask for. */
export const MAX_READ_SECTORS = SEGMENT_SECTORS

/** Reads stored files. What is not here, or no longer as it was stored, is undefined, never wrong. */
export class FileReader {
  readonly #store: NodeStore
  readonly #buffers: SegmentBuffers

  constructor({ store, buffers }: { store: NodeStore; buffers: SegmentBuffers }) {
    this.#store = store
    this.#buffers = buffers
  }

  /**
   * Sectors `[start, end)` of a file, `(end − start) × 256` bytes; undefined when not all of it is here.
   *
   * @throws NodeError `RANGE_INVALID` past the end of the file
   */
  async sectors(tx: FileTransaction, { start, end }: { start: number; end: number }): Promise<Buffer | undefined> {
    if (tx.objectId === undefined) return undefined
    if (end > sectorCount(tx.sizeBytes)) {
      throw new NodeError({
        code: 'RANGE_INVALID',
        message: 'end entry index exceeds tx size',
        fix: `the file has ${sectorCount(tx.sizeBytes)} sectors`,
        details: { seq: tx.seq, end, limit: sectorCount(tx.sizeBytes) },
      })
    }
    if (tx.status === 'pruned') return undefined
    const first = Math.floor(start / SEGMENT_SECTORS)
    const last = Math.floor((end - 1) / SEGMENT_SECTORS)
    const parts: Buffer[] = []
    for (let index = first; index <= last; index++) {
      const piece = await this.#store.objects.readPiece(tx.objectId, index)
      if (!piece) return undefined
      const offset = index * SEGMENT_SECTORS
      const from = Math.max(start - offset, 0) * SECTOR_BYTES
      parts.push(piece.data.subarray(from, Math.min(end - offset, SEGMENT_SECTORS) * SECTOR_BYTES))
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts)
  }

  /** Segment `index` and its proof against the file root; undefined when it is not here. */
  async segment(tx: FileTransaction, index: number, buffer?: Buffer): Promise<ProvenSegment | undefined> {
    if (tx.objectId === undefined || tx.status === 'pruned') return undefined
    const piece = await this.#store.objects.readPiece(tx.objectId, index, buffer)
    if (!piece) return undefined
    const { root, sizeBytes } = tx
    const proof = segmentProof({ root, sizeBytes, index, segmentRoot: piece.root, siblings: piece.siblings })
    return { index, data: piece.data, proof }
  }

  /**
   * Segments of `[from, to)` that are here, in order, a few read ahead, in borrowed buffers; with `shard` only those it
   * keeps. Stops between segments when the file is taken away meanwhile.
   */
  async *segments(
    tx: FileTransaction,
    { from, to, shard = EVERYTHING, readAhead = 4 }: SegmentRange & { readAhead?: number },
  ): AsyncGenerator<BorrowedSegment, void, undefined> {
    if (tx.objectId === undefined || tx.status === 'pruned') return
    const end = Math.min(to, segmentCount(tx.sizeBytes))
    const presence = this.#store.objects.presence(tx.objectId, tx.sizeBytes)
    const reads: Promise<BorrowedSegment | undefined>[] = []
    let next = from
    try {
      for (;;) {
        for (; next < end && reads.length < readAhead; next++) {
          if (presence.has(next) && ownsSegment(shard, tx, next)) reads.push(settleLater(this.#borrow(tx, next)))
        }
        const first = reads.shift()
        if (!first) return
        const segment = await first
        if (segment) yield segment
      }
    } finally {
      for (const read of reads) (await read.catch(() => undefined))?.release()
    }
  }

  /** Whether all segments of `[from, to)` are here. */
  holds(tx: FileTransaction, { from, to }: { from: number; to: number }): boolean {
    if (tx.objectId === undefined || tx.status === 'pruned') return false
    const presence = this.#store.objects.presence(tx.objectId, tx.sizeBytes)
    for (let index = from; index < to; index++) if (!presence.has(index)) return false
    return true
  }

  /**
   * Segments `[from, to)`, all of them, cut to the file's size, for callers that verify the whole.
   *
   * @throws NodeError `SECTOR_UNAVAILABLE` in mid-stream when a segment turns out to be damaged
   */
  async *bytes(
    tx: FileTransaction,
    range: { from: number; to: number },
  ): AsyncGenerator<BorrowedSegment, void, undefined> {
    let expected = range.from
    for await (const segment of this.segments(tx, range)) {
      if (segment.index !== expected) {
        segment.release()
        throw unavailable(tx, expected)
      }
      expected += 1
      const bytes = Math.min(segment.data.length, tx.sizeBytes - segment.index * SEGMENT_BYTES)
      yield { ...segment, data: segment.data.subarray(0, bytes) }
    }
    if (expected !== range.to) throw unavailable(tx, expected)
  }

  async #borrow(tx: FileTransaction, index: number): Promise<BorrowedSegment | undefined> {
    const buffer = this.#buffers.take()
    const release = (): void => this.#buffers.give(buffer)
    try {
      const segment = await this.segment(tx, index, buffer)
      if (segment) return { ...segment, release }
      release()
      return undefined
    } catch (error) {
      release()
      throw error
    }
  }
}

/** A read ahead may fail before anybody waits for it. */
function settleLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

function unavailable(tx: FileTransaction, index: number): NodeError {
  return new NodeError({
    code: 'SECTOR_UNAVAILABLE',
    message: `segment ${index} of file ${tx.seq} is not here`,
    fix: 'ask another node, or again later: it is being fetched from peers',
    details: { seq: tx.seq, segment: index },
  })
}
