import { segmentCount } from '#protocol/storage/padding.ts'
import { InvalidSegmentError } from '#protocol/storage/segment-proof.ts'
import { NodeError, reasonOf } from '../error.ts'
import type { BorrowedFrame } from '../ingest/frame-reader.ts'
import type { Intake } from '../ingest/intake.ts'
import type { Semaphore } from '../ingest/semaphore.ts'
import type { NodeStore } from '../store/node-store.ts'
import { firstOwned, firstSegment, ownsSegment } from '../store/own-segments.ts'
import type { FileTransaction } from '../store/transaction-record.ts'
import type { Peer, PeerBook } from './peer-book.ts'

/** Where the fetching of a file stands. */
export type FileSyncState = 'finding-peers' | 'downloading' | 'completed' | 'failed' | 'terminated'

/** A failure at one segment and one peer. */
export interface SegmentFailure {
  segment: number
  peer: string
  reason: string
  atMs: number
}

/** The fetching of a file, for people. */
export interface FileSyncStatus {
  seq: number
  state: FileSyncState
  startedAtMs: number
  endedAtMs: number | undefined
  /** Segments wanted by this run. */
  from: number
  to: number
  /** Stored by this run. */
  stored: number
  /** Still missing. */
  missing: number
  /** The first segment still missing. */
  next: number | undefined
  active: readonly { peer: string; from: number; to: number }[]
  /** The last failures, newest last. */
  failures: readonly SegmentFailure[]
  /** Why it failed. */
  reason: string | undefined
}

export interface FileSyncParameters {
  tx: FileTransaction
  store: NodeStore
  intake: Intake
  peers: PeerBook
  /** Bytes of segments that may be on their way to the disk. */
  memory: Semaphore
  /** Local segments `[from, to)`; the whole file without. Only those of the own shard count. */
  range?: { from: number; to: number } | undefined
  maxRequests: number
  segmentsPerRequest: number
  now?: (() => number) | undefined
  onStored?: ((segments: number) => void) | undefined
}

/** A run of missing segments and who has failed to give them. */
interface Job {
  from: number
  to: number
  failed: Set<string>
}

const MAX_FAILURES = 32

/** Own pieces in one run of segments may lie far apart: so many segments may be spanned by one request. */
const MAX_SPAN = 4_096

/** Fetches what one file lacks from the peers that keep it. Every segment is verified as any upload is. */
export class FileSync {
  readonly #parameters: FileSyncParameters
  readonly #abort = new AbortController()
  readonly #now: () => number
  readonly #jobs: Job[] = []
  readonly #active = new Map<Job, Peer>()
  readonly #failures: SegmentFailure[] = []
  readonly #range: { from: number; to: number }
  readonly #startedAtMs: number
  #endedAtMs: number | undefined
  #state: FileSyncState = 'finding-peers'
  #reason: string | undefined
  #stored = 0
  readonly done: Promise<FileSyncStatus>

  constructor(parameters: FileSyncParameters) {
    this.#parameters = parameters
    this.#now = parameters.now ?? Date.now
    this.#startedAtMs = this.#now()
    this.#range = parameters.range ?? { from: 0, to: segmentCount(parameters.tx.sizeBytes) }
    this.done = this.#run()
  }

  /** Stops it; what was stored stays. */
  terminate(): void {
    this.#abort.abort(new Error('terminated'))
  }

  status(): FileSyncStatus {
    const missing = this.#missing()
    return {
      seq: this.#parameters.tx.seq,
      state: this.#state,
      startedAtMs: this.#startedAtMs,
      endedAtMs: this.#endedAtMs,
      ...this.#range,
      stored: this.#stored,
      missing: missing.count,
      next: missing.first,
      active: [...this.#active].map(([{ from, to }, peer]) => ({ peer: peer.url, from, to })),
      failures: [...this.#failures],
      reason: this.#reason,
    }
  }

  async #run(): Promise<FileSyncStatus> {
    try {
      this.#plan()
      const { maxRequests } = this.#parameters
      const workers = Math.min(maxRequests, this.#jobs.length)
      await Promise.all(Array.from({ length: workers }, () => this.#work()))
      const { count, first } = this.#missing()
      this.#state = this.#abort.signal.aborted ? 'terminated' : count === 0 ? 'completed' : 'failed'
      if (this.#state === 'failed') this.#reason ??= this.#describeFailure(first)
    } catch (error) {
      this.#abort.abort(error)
      this.#state = 'failed'
      this.#reason = reasonOf(error)
    }
    this.#endedAtMs = this.#now()
    return this.status()
  }

  /** Cuts what is missing into jobs, each of at most so many segments of the own shard. */
  #plan(): void {
    const { segmentsPerRequest } = this.#parameters
    let job: (Job & { count: number }) | undefined
    for (const index of this.#missingIndexes()) {
      if (!job || job.count >= segmentsPerRequest || index - job.from >= MAX_SPAN) {
        job = { from: index, to: index + 1, failed: new Set(), count: 1 }
        this.#jobs.push(job)
      } else {
        job.to = index + 1
        job.count += 1
      }
    }
  }

  async #work(): Promise<void> {
    for (let job = this.#jobs.shift(); job && !this.#abort.signal.aborted; job = this.#jobs.shift()) {
      await this.#fetch(job)
    }
  }

  /** Asks one peer after the other until the job's segments are here, or nobody is left to ask. */
  async #fetch(job: Job): Promise<void> {
    for (;;) {
      const next = this.#firstMissing(job)
      if (next === undefined || this.#abort.signal.aborted) return
      const peer = this.#choose(next, job)
      if (!peer) return
      this.#state = 'downloading'
      this.#active.set(job, peer)
      try {
        const got = await this.#fetchFrom(peer, { from: next, to: job.to })
        this.#parameters.peers.report(peer, undefined)
        if (got === 0) this.#fail(job, peer, next, 'the peer does not hold it')
      } catch (error) {
        if (this.#abort.signal.aborted) return
        if (isOwnFault(error)) throw error
        this.#parameters.peers.report(peer, error)
        this.#fail(job, peer, this.#firstMissing(job) ?? next, reasonOf(error))
      } finally {
        this.#active.delete(job)
      }
    }
  }

  /** Takes what a peer gives, several segments on their way to the disk at a time, so that they share its syncs. */
  async #fetchFrom(peer: Peer, range: { from: number; to: number }): Promise<number> {
    const { tx, store, memory } = this.#parameters
    const request = new AbortController()
    const signal = AbortSignal.any([this.#abort.signal, request.signal])
    const wanted = (index: number): boolean => this.#isMissing(index)
    const takes = new Set<Promise<void>>()
    let stored = 0
    let failure: { error: unknown } | undefined
    const fail = (error: unknown): void => {
      failure ??= { error }
      request.abort()
    }
    try {
      for await (const frame of peer.client.segments({ seq: tx.seq, ...range, shard: store.shard, wanted }, signal)) {
        const done = await memory.acquire(frame.data.length)
        const take = this.#take(frame, peer, range)
          .then((isNew) => {
            if (isNew) stored += 1
          }, fail)
          .finally(() => {
            frame.release()
            done()
            takes.delete(take)
          })
        takes.add(take)
      }
    } catch (error) {
      fail(error)
    } finally {
      request.abort()
    }
    await Promise.all(takes)
    if (failure) throw failure.error
    return stored
  }

  /** Verifies and stores one segment; returns whether it is new. */
  async #take(frame: BorrowedFrame, peer: Peer, { from, to }: { from: number; to: number }): Promise<boolean> {
    const { tx, intake, onStored } = this.#parameters
    const { index, proof, data } = frame
    if (index < from || index >= to) throw lied(peer, index, 'was not asked for')
    try {
      const segment = { root: tx.root, sizeBytes: tx.sizeBytes, index, proof, data }
      if ((await intake.take(segment, tx)) !== 'stored') return false
    } catch (error) {
      if (error instanceof InvalidSegmentError) throw lied(peer, index, error.message, error)
      throw error
    }
    this.#stored += 1
    onStored?.(1)
    return true
  }

  /** The peer with the least to do among those that keep the segment and have not failed at it. */
  #choose(index: number, job: Job): Peer | undefined {
    const { peers, tx } = this.#parameters
    const busy = (peer: Peer): number => [...this.#active.values()].filter((other) => other === peer).length
    const left = peers.holders(firstSegment(tx) + index).filter(({ url }) => !job.failed.has(url))
    return left.reduce<Peer | undefined>((best, peer) => (best && busy(best) <= busy(peer) ? best : peer), undefined)
  }

  #fail(job: Job, peer: Peer, segment: number, reason: string): void {
    job.failed.add(peer.url)
    this.#failures.push({ segment, peer: peer.url, reason, atMs: this.#now() })
    if (this.#failures.length > MAX_FAILURES) this.#failures.shift()
  }

  #describeFailure(segment: number | undefined): string {
    const { peers, tx } = this.#parameters
    const of = this.#failures.filter((failure) => failure.segment === segment)
    if (of.length > 0) return `segment ${segment}: ${of.map(({ peer, reason }) => `${peer}: ${reason}`).join('; ')}`
    const known = peers.list().length
    const reachable = segment === undefined ? 0 : peers.holders(firstSegment(tx) + segment).length
    return `segment ${segment}: none of ${known} known peers keeps it and can be asked now (${reachable} reachable)`
  }

  *#missingIndexes(): Generator<number> {
    const { tx, store } = this.#parameters
    if (tx.objectId === undefined) return
    const presence = store.objects.presence(tx.objectId, tx.sizeBytes)
    const end = Math.min(this.#range.to, segmentCount(tx.sizeBytes))
    let index = firstOwned(store.shard, tx, this.#range.from)
    for (; index < end; index = firstOwned(store.shard, tx, index + 1)) if (!presence.has(index)) yield index
  }

  #missing(): { count: number; first: number | undefined } {
    let count = 0
    let first: number | undefined
    for (const index of this.#missingIndexes()) {
      first ??= index
      count += 1
    }
    return { count, first }
  }

  #isMissing(index: number): boolean {
    const { tx, store } = this.#parameters
    if (tx.objectId === undefined || !ownsSegment(store.shard, tx, index)) return false
    return !store.objects.presence(tx.objectId, tx.sizeBytes).has(index)
  }

  #firstMissing({ from, to }: Job): number | undefined {
    const { tx, store } = this.#parameters
    if (tx.objectId === undefined) return undefined
    const presence = store.objects.presence(tx.objectId, tx.sizeBytes)
    let index = firstOwned(store.shard, tx, from)
    for (; index < to; index = firstOwned(store.shard, tx, index + 1)) if (!presence.has(index)) return index
    return undefined
  }
}

/** Failures of this node or of the file, which no other peer can mend. */
function isOwnFault(error: unknown): boolean {
  if (!(error instanceof NodeError)) return false
  return !['PEER_FAILED', 'PEER_STALLED', 'PEER_LIED'].includes(error.code)
}

function lied(peer: Peer, segment: number, reason: string, cause?: unknown): NodeError {
  return new NodeError({
    code: 'PEER_LIED',
    message: `${peer.url} sent false data for segment ${segment}: ${reason}`,
    fix: 'the peer is left out for a while',
    details: { peer: peer.url, segment },
    cause,
  })
}
