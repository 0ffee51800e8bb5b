import type { Logger } from '#kit/log.ts'
import { bytesEqual } from '#protocol/hex.ts'
import { segmentPaddedSectors } from '#protocol/storage/padding.ts'
import type { SegmentHasher } from '../ingest/segment-check.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { PieceRow } from '../store/object-store.ts'

/** How often a share of the pieces is looked at. */
export const SCRUB_TICK_MS = 5_000

const MAX_PER_TICK = 512

/**
 * Reads every stored piece again in the course of an interval and hashes it against the root it was verified with.
 * What does not match is quarantined, and so fetched again.
 */
export class Scrubber {
  readonly #store: NodeStore
  readonly #hasher: SegmentHasher
  readonly #log: Logger
  readonly #intervalMs: number
  #at = { objectId: 0, index: -1 }
  #checked = 0
  #rounds = 0
  /** Fractions of a piece owed by earlier ticks. */
  #debt = 0

  constructor(parts: { store: NodeStore; hasher: SegmentHasher; log: Logger; intervalMs: number }) {
    this.#store = parts.store
    this.#hasher = parts.hasher
    this.#log = parts.log
    this.#intervalMs = parts.intervalMs
  }

  get checked(): number {
    return this.#checked
  }

  get rounds(): number {
    return this.#rounds
  }

  /** Looks at as many pieces as are due after so much time. */
  async tick(elapsedMs: number, signal: AbortSignal): Promise<void> {
    const pieces = this.#store.objects.storedPieces
    this.#debt = Math.min(this.#debt + (pieces * elapsedMs) / this.#intervalMs, MAX_PER_TICK)
    for (; this.#debt >= 1 && !signal.aborted; this.#debt -= 1) {
      if (!(await this.step())) return
    }
  }

  /** Looks at the next piece; false at the end of a round. */
  async step(): Promise<boolean> {
    const [row] = this.#store.objects.piecesAfter({ ...this.#at, limit: 1 })
    if (!row) {
      this.#at = { objectId: 0, index: -1 }
      this.#rounds += 1
      return false
    }
    this.#at = { objectId: row.objectId, index: row.index }
    await this.#check(row)
    this.#checked += 1
    return true
  }

  async #check(row: PieceRow): Promise<void> {
    const { objects, contents } = this.#store
    const sizeBytes = contents.sizeOf(row.objectId)
    // The checksum is looked at by the read; it quarantines by itself.
    const piece = await objects.readPiece(row.objectId, row.index)
    if (!piece || sizeBytes === undefined) return
    const root = await this.#hasher.segmentRoot(piece.data, segmentPaddedSectors(sizeBytes, row.index))
    if (bytesEqual(root, piece.root)) return
    const now = objects.pieceRow(row.objectId, row.index)
    if (!now || now.slot !== row.slot || now.slotClass !== row.slotClass) return
    this.#log.error({ objectId: row.objectId, segment: row.index }, 'a stored segment no longer has its root')
    objects.quarantine(now, 'root does not match')
  }
}
