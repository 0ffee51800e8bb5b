import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '#kit/log.ts'
import { NodeError } from '../error.ts'
import type { Intake } from '../ingest/intake.ts'
import type { Semaphore } from '../ingest/semaphore.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { FileTransaction } from '../store/transaction-record.ts'
import { FileSync, type FileSyncStatus } from './file-sync.ts'
import type { PeerBook } from './peer-book.ts'

export interface SyncServiceParameters {
  store: NodeStore
  intake: Intake
  peers: PeerBook
  memory: Semaphore
  /** Fetch without being asked. */
  auto: boolean
  /** Fetch when asked over RPC. */
  byRpc: boolean
  /** Files being uploaded are left alone for so long after the last sign of life. */
  graceMs: number
  maxFiles: number
  maxRequestsPerFile: number
  segmentsPerRequest: number
  retryMinMs: number
  retryMaxMs: number
  /** Whether the log has been read to the end: before, files may still turn out reverted. */
  logSynced: () => boolean
  log: Logger
  signal: AbortSignal
  now?: (() => number) | undefined
  onStored?: ((segments: number) => void) | undefined
}

interface Backoff {
  attempts: number
  nextAtMs: number
}

/** Pending files looked at in one step. */
const PAGE = 256
const TICK_MS = 200
const MAX_REMEMBERED = 100_000
const MAX_ENDED = 256

/** Completes files from peers: those asked for, and by itself all that stay incomplete. */
export class SyncService {
  readonly #parameters: SyncServiceParameters
  readonly #running = new Map<number, FileSync>()
  readonly #ended = new Map<number, FileSyncStatus>()
  readonly #backoff = new Map<number, Backoff>()
  readonly #now: () => number
  #cursor = 0
  #loop: Promise<void> | undefined

  constructor(parameters: SyncServiceParameters) {
    this.#parameters = parameters
    this.#now = parameters.now ?? Date.now
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  /** Waits for everything under way after an abort. */
  async stopped(): Promise<void> {
    for (const sync of this.#running.values()) sync.terminate()
    await Promise.all([...this.#running.values()].map(({ done }) => done))
    await this.#loop
  }

  get running(): number {
    return this.#running.size
  }

  /** Files that are left until a later time. */
  get waiting(): number {
    return this.#backoff.size
  }

  /** The next submission the search for incomplete files looks at. */
  get cursor(): number {
    return this.#cursor
  }

  /**
   * Fetches a file now, or segments `[from, to)` of it.
   *
   * @throws NodeError `SYNC_DISABLED`, `TX_UNKNOWN`
   */
  startFile(seq: number, range?: { from: number; to: number }): void {
    const { byRpc, store } = this.#parameters
    if (!byRpc) {
      throw new NodeError({
        code: 'SYNC_DISABLED',
        message: 'file sync by RPC is disabled',
        fix: 'set sync.byRpc = true',
      })
    }
    const tx = store.transactions.get(seq)
    if (!tx || tx.objectId === undefined) {
      throw new NodeError({
        code: 'TX_UNKNOWN',
        message: `no file has the submission index ${seq}`,
        fix: 'wait until the node has read the block of its submission',
        details: { seq },
      })
    }
    this.#backoff.delete(seq)
    if (tx.status === 'pending' && !this.#running.has(seq)) this.#begin(tx, range)
  }

  /** Whether something was under way to be stopped. */
  terminate(seq: number): boolean {
    const sync = this.#running.get(seq)
    sync?.terminate()
    return sync !== undefined
  }

  /** What is under way, and what ended lately. */
  statuses(seq?: number): FileSyncStatus[] {
    const running = [...this.#running.values()].map((sync) => sync.status())
    const all = [...[...this.#ended.values()].filter((ended) => !this.#running.has(ended.seq)), ...running]
    return seq === undefined ? all : all.filter((status) => status.seq === seq)
  }

  async #run(): Promise<void> {
    const { signal, auto, log } = this.#parameters
    while (!signal.aborted) {
      try {
        if (auto && this.#parameters.logSynced() && this.#parameters.peers.connected > 0) this.#fill()
      } catch (error) {
        log.error({ err: error }, 'looking for incomplete files failed')
      }
      await delay(TICK_MS, undefined, { signal }).catch(() => {})
    }
  }

  /** Starts as many files as there is room for. */
  #fill(): void {
    const { store, maxFiles } = this.#parameters
    const page = store.transactions.pending({ fromSeq: this.#cursor, limit: PAGE })
    for (const tx of page) {
      if (this.#running.size >= maxFiles) return
      this.#cursor = tx.seq + 1
      if (this.#due(tx)) this.#begin(tx)
    }
    // The end of the log: begin again at the front.
    if (page.length < PAGE) this.#cursor = 0
  }

  #due(tx: FileTransaction): boolean {
    const { store, graceMs } = this.#parameters
    const now = this.#now()
    if (this.#running.has(tx.seq) || (this.#backoff.get(tx.seq)?.nextAtMs ?? 0) > now) return false
    const touched = tx.objectId === undefined ? undefined : store.lastPieceAtMs(tx.objectId)
    return Math.max(tx.loggedAtMs, touched ?? 0) + graceMs <= now
  }

  #begin(tx: FileTransaction, range?: { from: number; to: number }): void {
    const { store, intake, peers, memory, maxRequestsPerFile, segmentsPerRequest, onStored } = this.#parameters
    const sync = new FileSync({
      tx,
      store,
      intake,
      peers,
      memory,
      range,
      maxRequests: maxRequestsPerFile,
      segmentsPerRequest,
      now: this.#now,
      onStored,
    })
    this.#running.set(tx.seq, sync)
    void sync.done.then((status) => this.#end(status))
  }

  #end(status: FileSyncStatus): void {
    const { log } = this.#parameters
    const { seq, state, reason, stored } = status
    this.#running.delete(seq)
    this.#ended.delete(seq)
    this.#ended.set(seq, status)
    forgetOldest(this.#ended, MAX_ENDED)
    if (state === 'completed') {
      this.#backoff.delete(seq)
      log.info({ seq, segments: stored }, 'file fetched from peers')
      return
    }
    const { retryMinMs, retryMaxMs } = this.#parameters
    // Progress starts the pauses over.
    const attempts = stored > 0 ? 1 : (this.#backoff.get(seq)?.attempts ?? 0) + 1
    const pauseMs = Math.min(retryMinMs * 2 ** Math.min(attempts - 1, 20), retryMaxMs)
    this.#backoff.delete(seq)
    this.#backoff.set(seq, { attempts, nextAtMs: this.#now() + pauseMs })
    forgetOldest(this.#backoff, MAX_REMEMBERED)
    if (state === 'failed') log.info({ seq, reason, attempts, pauseMs }, 'file not complete yet')
  }
}

function forgetOldest<K, V>(map: Map<K, V>, limit: number): void {
  const [oldest] = map.size > limit ? map.keys() : []
  if (oldest !== undefined) map.delete(oldest)
}
