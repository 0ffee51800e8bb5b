import { setTimeout as delay } from 'node:timers/promises'
import type { Chain } from '#kit/chain/client.ts'
import {
  type FollowerStatus,
  followLogs,
  type LogBatch,
  type LogFollower,
  LogGapError,
  type LogSink,
} from '#kit/chain/log-follower.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { Hex } from '#protocol/hex.ts'
import { NodeError, reasonOf } from '../error.ts'
import type { NodeStore, StoredBlock } from '../store/node-store.ts'
import { readSubmitLog, submitEvent } from './submit-log.ts'

export interface LogSyncParameters {
  store: NodeStore
  chain: Chain
  flow: Hex
  startBlock: number
  confirmations: number
  pageSizeBlocks: number
  pollIntervalMs: number
  log: Logger
  metrics?: Metrics | undefined
  signal: AbortSignal
  /** After each batch that brought submissions. */
  onSubmissions?: ((seqs: readonly number[]) => void) | undefined
  /** The log contradicts the own flow: nothing more may be trusted. */
  onMismatch: (error: NodeError) => void
}

/** How far the node has read the chain. */
export interface LogSyncStatus {
  /** Everything up to head − confirmations is in the store. */
  synced: boolean
  head: number | undefined
  block: StoredBlock | undefined
  lastError: string | undefined
  reorgs: number
  /** The follower gave up and waits to be started again. */
  stopped: boolean
}

/** How often a submission may contradict the own flow before the node believes it; each time it is read anew. */
const MISMATCH_READS = 6
/** Further behind the head than this, blocks are history. */
const CATCH_UP_BLOCKS = 20
const RESTART_MS = 5_000

/** Follows the flow contract's log into the store. Outlives the follower: a full disk stops it only for a while. */
export class LogSync {
  readonly #parameters: LogSyncParameters
  #follower: LogFollower | undefined
  #stopped: string | undefined
  #mismatches = { seq: -1, reads: 0 }
  readonly done: Promise<void>

  constructor(parameters: LogSyncParameters) {
    this.#parameters = parameters
    this.done = this.#run()
  }

  status(): LogSyncStatus {
    const status: FollowerStatus | undefined = this.#follower?.status()
    return {
      synced: this.#stopped === undefined && status?.synced === true,
      head: status?.head,
      block: this.#parameters.store.tip(),
      lastError: this.#stopped ?? status?.lastError,
      reorgs: status?.reorgs ?? 0,
      stopped: this.#stopped !== undefined,
    }
  }

  /** Looks at the chain now. */
  wake(): void {
    this.#follower?.wake()
  }

  async #run(): Promise<void> {
    const { chain, flow, startBlock, confirmations, pageSizeBlocks, pollIntervalMs, log, metrics, signal } =
      this.#parameters
    while (!signal.aborted) {
      this.#stopped = undefined
      this.#follower = followLogs({
        chain,
        address: flow,
        events: [submitEvent],
        startBlock,
        confirmations,
        pageSizeBlocks,
        pollIntervalMs,
        sink: this.#sink(),
        log,
        ...(metrics ? { metrics } : {}),
        signal,
      })
      try {
        await this.#follower.done
      } catch (error) {
        const reason = error instanceof Error && error.cause !== undefined ? error.cause : error
        this.#stopped = reasonOf(reason)
        log.error({ err: error }, 'log sync stopped; it starts again shortly')
        if (reason instanceof NodeError && reason.code === 'FLOW_MISMATCH') {
          this.#parameters.onMismatch(reason)
          return
        }
      }
      await delay(RESTART_MS, undefined, { signal }).catch(() => {})
    }
  }

  #sink(): LogSink {
    const { store, log } = this.#parameters
    return {
      checkpoints: () => store.blocks(),
      apply: (batch) => this.#apply(batch),
      revert: (to) => {
        const { removed, removedFrom } = store.revertTo(to?.number)
        if (removed > 0) log.warn({ removed, fromSeq: removedFrom, block: to?.number }, 'submissions taken back')
      },
    }
  }

  #apply({ to, logs, headBlock }: LogBatch): void {
    const { store, log, confirmations, onSubmissions } = this.#parameters
    const submissions = logs.map(readSubmitLog)
    try {
      const { added, completed } = store.applyLogs({
        to,
        submissions,
        catchingUp: headBlock - to.number > confirmations + CATCH_UP_BLOCKS,
      })
      if (added.length === 0) return
      log.debug(
        { block: to.number, fromSeq: added[0], count: added.length, complete: completed.length },
        'submissions logged',
      )
      onSubmissions?.(added)
    } catch (error) {
      throw this.#doubt(error)
    }
  }

  /** A contradiction is read again, earlier blocks included, before it is believed. */
  #doubt(error: unknown): unknown {
    if (!(error instanceof NodeError) || error.code !== 'FLOW_MISMATCH') return error
    const seq = Number(error.details.seq ?? -1)
    this.#mismatches = { seq, reads: this.#mismatches.seq === seq ? this.#mismatches.reads + 1 : 1 }
    if (this.#mismatches.reads > MISMATCH_READS) {
      this.#parameters.onMismatch(error)
      return error
    }
    return new LogGapError({ code: 'FLOW_MISMATCH', message: error.message, details: error.details, cause: error })
  }
}
