import { setTimeout as sleep } from 'node:timers/promises'
import { sharedMerklePool } from '#kernels/merkle-pool.ts'
import type { Hash } from '#protocol/hex.ts'
import { SEGMENT_BYTES, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount, segmentDataBytes, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import type { SegmentFrame } from '#protocol/storage/segment-frame.ts'
import { InvalidSegmentError, verifySegmentRoot } from '#protocol/storage/segment-proof.ts'
import { nextOwnedSegment, shardOwns } from '#protocol/storage/shard.ts'
import type { StorageLimits } from './connection.ts'
import { type NodeAttempt, NodeLacksSegmentError, reasonOf, SegmentCorruptError } from './errors.ts'
import type { TransferListener } from './events.ts'
import { fetchSegments } from './fetch-segments.ts'
import type { Holder } from './file-info.ts'
import { SegmentLedger } from './segment-ledger.ts'

/** Segments of one request: 8 MiB. */
const RUN_SEGMENTS = 32
/** The same where a reader takes segments in order: several requests must fit its window. */
const WINDOW_RUN_SEGMENTS = 6
/** Requests in flight over all nodes. */
const LANES = 6
/** Segments being hashed or written at once, for each request. */
const VERIFY_AHEAD = 4
/** A request without progress for so long is repeated at another node that has nothing else to do. */
const HEDGE_AFTER_MS = 2_000

export interface SegmentDownloadParameters {
  root: Hash
  sizeBytes: number
  /** Nodes that have the file and together cover it. */
  holders: readonly Holder[]
  /** Local indexes wanted, ascending. */
  indexes: readonly number[]
  limits: StorageLimits
  /** Bounds how far ahead segments are fetched. Default: no bound. */
  window?: DownloadWindow | undefined
  /**
   * Takes a verified segment. `data` is as on the wire and only lent: it is used again when the promise is settled,
   * unless `keepsData`. `segmentRoot` is what it hashed to. May be called side by side.
   */
  deliver: (segment: { index: number; data: Uint8Array; segmentRoot: Uint8Array }) => Promise<void> | void
  /** `deliver` holds on to the data it is given. Default false. */
  keepsData?: boolean | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

/** How far ahead a download may run. */
export interface DownloadWindow {
  /** Whether this segment may be fetched now. Must allow the lowest one not delivered yet. */
  allows(index: number): boolean
  /** Set by the download; to be called when `allows` has come to allow more. */
  onAdvance?: (() => void) | undefined
}

/**
 * Fetch segments from several nodes at once, verify each against the root, deliver it. Nodes that fail are retried and
 * then left; nodes that lie are left at once; every segment goes to another node that has it. Fast nodes take more.
 *
 * @throws NodeLacksSegmentError, SegmentCorruptError, the signal's reason, whatever `deliver` throws
 */
export async function downloadSegments(parameters: SegmentDownloadParameters): Promise<void> {
  if (parameters.indexes.length === 0) return
  const run = new Run(parameters)
  await run.finish()
}

/** One holder in this download. */
interface Source extends Holder {
  failures: number
  /** Why it is asked no more. */
  left: string | undefined
  lied: boolean
}

class Run {
  readonly #parameters: SegmentDownloadParameters
  readonly #ledger: SegmentLedger
  readonly #sources: Source[]
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  #failure: { reason: unknown } | undefined
  readonly #totalBytes: number
  readonly #requests = new Set<{ left: Set<number>; cancel: AbortController }>()
  #doneBytes = 0
  #wake: () => void = () => {}
  #changed: Promise<void>

  constructor(parameters: SegmentDownloadParameters) {
    this.#parameters = parameters
    this.#ledger = new SegmentLedger(parameters.indexes)
    this.#sources = parameters.holders.map((holder) => ({ ...holder, failures: 0, left: undefined, lied: false }))
    this.#signal =
      parameters.signal === undefined ? this.#stop.signal : AbortSignal.any([parameters.signal, this.#stop.signal])
    this.#changed = this.#nextChange()
    const { sizeBytes, indexes } = parameters
    this.#totalBytes = indexes.length * SEGMENT_BYTES
    if (indexes.at(-1) === segmentCount(sizeBytes) - 1) {
      this.#totalBytes -= SEGMENT_BYTES - segmentDataBytes(sizeBytes, segmentCount(sizeBytes) - 1)
    }
  }

  async finish(): Promise<void> {
    const perSource = Math.max(1, Math.min(3, Math.floor(LANES / this.#sources.length)))
    if (this.#parameters.window !== undefined) this.#parameters.window.onAdvance = () => this.#notify()
    const lanes = this.#sources.flatMap((source) => Array.from({ length: perSource }, () => this.#lane(source)))
    const onAbort = () => this.#notify()
    this.#signal.addEventListener('abort', onAbort, { once: true })
    await Promise.all(lanes)
    this.#signal.removeEventListener('abort', onAbort)
    this.#parameters.signal?.throwIfAborted()
    if (this.#failure !== undefined) throw this.#failure.reason
    if (!this.#ledger.complete) throw this.#stuckError()
  }

  async #lane(source: Source): Promise<void> {
    while (!this.#signal.aborted && !this.#ledger.complete && source.left === undefined) {
      const indexes = this.#take(source)
      if (indexes.length > 0) await this.#fetchRun(source, indexes)
      else if (this.#isStuck()) break
      else await Promise.race([this.#changed, sleep(HEDGE_AFTER_MS / 4, undefined, { ref: false })])
    }
    this.#notify()
  }

  /** The next segments for a node: wanted ones its shard keeps, else some that another node is slow with. */
  #take(source: Source): number[] {
    const { window } = this.#parameters
    const first = Math.floor(source.info.startSector / SEGMENT_SECTORS)
    const most = window === undefined ? RUN_SEGMENTS : WINDOW_RUN_SEGMENTS
    const room = Math.max(1, Math.min(most, Math.ceil(this.#ledger.wanted / (2 * LANES))))
    return this.#ledger.take({
      url: source.node.url,
      limit: room,
      hedgeAfterMs: HEDGE_AFTER_MS,
      mayStart: (index) => window?.allows(index) ?? true,
      owns: (index) => shardOwns(source.config, first + index),
      nextOwned: (index) => nextOwnedSegment(source.config, first + index) - first,
    })
  }

  async #fetchRun(source: Source, indexes: number[]): Promise<void> {
    const { url } = source.node
    const left = new Set(indexes)
    const tasks = new Set<Promise<void>>()
    const cancel = new AbortController()
    const request = { left, cancel }
    this.#requests.add(request)
    let bad: unknown
    try {
      const frames = fetchSegments({
        node: source.node,
        txSeq: source.info.txSeq,
        indexes,
        signal: AbortSignal.any([this.#signal, cancel.signal]),
      })
      for await (const frame of frames) {
        left.delete(frame.index)
        const task = this.#accept(frame)
          .catch((error: unknown) => {
            bad ??= error
            cancel.abort(error)
          })
          .finally(() => this.#parameters.keepsData === true || frame.release())
        tasks.add(task)
        task.finally(() => tasks.delete(task))
        this.#ledger.progress(url, indexes)
        if (tasks.size >= VERIFY_AHEAD) await Promise.race(tasks)
        if (bad !== undefined || this.#isTakenOver(left)) break
      }
      await Promise.all(tasks)
      if (bad !== undefined) throw bad
      source.failures = 0
      for (const index of left) this.#ledger.giveBack({ url, index, reason: 'does not have it', final: true })
    } catch (error) {
      await Promise.all(tasks)
      // A node that breaks off after giving something brings the download on: only tries without progress count.
      if (left.size < indexes.length) source.failures = 0
      await this.#afterFailure(source, indexes, bad ?? error)
    } finally {
      this.#requests.delete(request)
      this.#notify()
    }
  }

  /** Everything this request still owes has come from another node. */
  #isTakenOver(left: ReadonlySet<number>): boolean {
    return left.size > 0 && [...left].every((index) => this.#ledger.isDone(index))
  }

  /** Verify and hand on one segment. */
  async #accept({ index, data, proof }: SegmentFrame): Promise<void> {
    const { root, sizeBytes, deliver, onEvent } = this.#parameters
    if (this.#ledger.isDone(index)) return
    const wantedBytes = segmentDataBytes(sizeBytes, index)
    if (data.length !== wantedBytes) {
      throw new InvalidSegmentError({
        code: 'SEGMENT_LENGTH',
        message: `segment ${index} must be ${wantedBytes} bytes, got ${data.length}`,
      })
    }
    const pool = await sharedMerklePool()
    const segmentRoot = await pool.segmentRoot(data, segmentPaddedSectors(sizeBytes, index))
    verifySegmentRoot({ root, sizeBytes, index, segmentRoot, proof })
    if (this.#signal.aborted || !this.#ledger.finish(index)) return
    try {
      await deliver({ index, data, segmentRoot })
    } catch (reason) {
      this.#failure ??= { reason }
      this.#stop.abort(reason)
      return
    }
    this.#doneBytes += wantedBytes
    onEvent?.({ type: 'receiving', doneBytes: this.#doneBytes, totalBytes: this.#totalBytes })
    // What has not come by now was fetched a second time from elsewhere.
    if (this.#ledger.complete) for (const { left, cancel } of this.#requests) if (left.size > 0) cancel.abort()
  }

  async #afterFailure(source: Source, indexes: readonly number[], error: unknown): Promise<void> {
    const { url } = source.node
    const { limits, onEvent } = this.#parameters
    source.lied ||= error instanceof InvalidSegmentError
    const reason = source.lied ? `sent bytes that do not match the root (${reasonOf(error)})` : reasonOf(error)
    for (const index of indexes) this.#ledger.giveBack({ url, index, reason, final: source.lied })
    if (this.#signal.aborted || this.#ledger.complete || source.left !== undefined) return
    source.failures += 1
    if (source.lied || source.failures >= limits.attempts) {
      source.left = reason
      onEvent?.({ type: 'node-dropped', url, reason })
      return
    }
    onEvent?.({ type: 'retry', url, reason })
    this.#notify()
    await sleep(Math.min(5_000, 100 * 3 ** source.failures), undefined, { signal: this.#signal }).catch(() => {})
  }

  /** Nothing is in flight and no node is left for what is wanted. */
  #isStuck(): boolean {
    if (this.#ledger.inFlight > 0) return false
    return this.#sources.every((source) => source.left !== undefined || this.#peek(source))
  }

  #peek(source: Source): boolean {
    const first = Math.floor(source.info.startSector / SEGMENT_SECTORS)
    return !this.#ledger.canTake({ url: source.node.url, owns: (index) => shardOwns(source.config, first + index) })
  }

  #stuckError(): Error {
    const { root: file } = this.#parameters
    const segment = this.#ledger.firstWanted()
    const told = this.#ledger.attempts(segment)
    const attempts: NodeAttempt[] = this.#sources
      .filter((source) => shardOwns(source.config, Math.floor(source.info.startSector / SEGMENT_SECTORS) + segment))
      .map(({ node, left }) => ({ url: node.url, reason: told.get(node.url) ?? left ?? 'was not asked' }))
    const liars = this.#sources.filter((source) => source.lied).map(({ node }) => node.url)
    return attempts.some(({ url }) => liars.includes(url))
      ? new SegmentCorruptError({ file, segment, attempts })
      : new NodeLacksSegmentError({ file, segment, attempts })
  }

  #notify(): void {
    const wake = this.#wake
    this.#changed = this.#nextChange()
    wake()
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}
