import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { BlockHeader, BlockRef } from './block.ts'
import { type BloomTest, createBloomTest } from './bloom.ts'
import { ChainReader } from './chain-reader.ts'
import type { Chain } from './client.ts'
import { type FollowerMetrics, followerMetrics } from './follower-metrics.ts'
import { findForkPoint } from './fork-point.ts'
import { createLogFilter, type LogFilter, type LogFilterParameters } from './log-filter.ts'
import { fetchPage } from './log-page.ts'
import { type LogBatch, LogGapError, type LogSink, LogSinkError } from './log-sink.ts'
import { PageSize } from './page-size.ts'
import { ChainRpcError } from './rpc-error.ts'

export type { BlockRef, Hash, RawLog } from './block.ts'
export { thinCheckpoints } from './checkpoints.ts'
export type { TopicFilter } from './log-filter.ts'
export { type LogBatch, LogGapError, type LogSink, LogSinkError } from './log-sink.ts'

export interface FollowLogsParameters extends LogFilterParameters {
  chain: Chain
  /** Where to begin when the sink has no checkpoint: the contract's deployment block. */
  startBlock: number
  /** A block counts when so many are on top of it. 0 follows the head itself. */
  confirmations: number
  /** Largest stretch asked for at once; shrinks by itself where an endpoint says so. Default 999. */
  pageSizeBlocks?: number | undefined
  /** Default 500. */
  pollIntervalMs?: number | undefined
  /** Blocks below the head in which every block is checked. Must exceed the reorgs to expect. Default 64. */
  exactDepthBlocks?: number | undefined
  /** First pause after an error, doubling from there to 15 s. Default 200. */
  retryDelayMs?: number | undefined
  /** Without a new block for so long, the other endpoints are asked for theirs. Default 5 000. */
  probeAfterMs?: number | undefined
  /** Tries of a failing sink, with growing pauses, before the follower gives up. Default 8. */
  sinkAttempts?: number | undefined
  sink: LogSink
  log: Logger
  metrics?: Metrics | undefined
  signal: AbortSignal
}

/** A running follower. */
export interface LogFollower {
  status(): FollowerStatus
  /** Looks for new blocks now rather than at the next poll. */
  wake(): void
  /** Resolves after an abort, when the last batch is applied; rejects with {@link LogSinkError} when the sink fails. */
  readonly done: Promise<void>
}

export interface FollowerStatus {
  /** Whether everything up to head − confirmations was applied when last looked, and that was not long ago. */
  readonly synced: boolean
  /** The chain's head as last seen. */
  readonly head: number | undefined
  /** The last block applied. */
  readonly applied: number | undefined
  readonly lastError: string | undefined
  /** Errors since the last success; 0 when all is well. */
  readonly consecutiveErrors: number
  readonly endpoint: string | undefined
  readonly pageSizeBlocks: number
  readonly reorgs: number
}

/** Blocks of an exact page: each costs a header. */
const MAX_EXACT_BLOCKS = 16
const BACKOFF_MAX_MS = 15_000
const MAX_CHECKPOINTS = 100_000
/** Reads of a page with a gap before earlier batches are doubted. */
const GAP_READS = 3
/** A wrong branch must be seen twice, this far apart, before anything is reverted. */
const CONFIRM_FORK_MS = 100
const PROBE_AFTER_MS = 5_000
/** How long an endpoint that misled a round is passed over. */
const AVOID_MS = 5_000
/** A look older than this says nothing about being in sync. */
const FRESH_MS = 30_000
/** So many blocks behind still counts as in sync: they are being read. */
const SYNCED_LAG_BLOCKS = 2
/** Blocks before a gap that are read one by one. */
const GAP_EXACT_BLOCKS = 2_000

/**
 * Feeds the logs of some contracts to a sink, for ever: catches up page by page, then polls; takes back what a reorg
 * removed, also one that happened while nobody was running; outlives failing, lagging and lying endpoints. Memory is
 * bounded by one page.
 *
 * @example
 * const follower = followLogs({
 *   chain, address: flow, events: [submitEvent], startBlock: 100, confirmations: 3, sink, log, signal,
 * })
 * await follower.done
 */
export function followLogs(parameters: FollowLogsParameters): LogFollower {
  const filter = createLogFilter(parameters)
  for (const field of ['startBlock', 'confirmations'] as const) {
    if (Number.isSafeInteger(parameters[field]) && parameters[field] >= 0) continue
    throw new WeightlessError({
      code: 'LOG_FOLLOWER',
      message: `${field} is ${parameters[field]}`,
      fix: 'give a whole number, 0 or more',
      details: { field, value: parameters[field] },
    })
  }
  return new Follower(parameters, filter)
}

class Follower implements LogFollower {
  readonly done: Promise<void>
  readonly #options: FollowLogsParameters
  readonly #filter: LogFilter
  readonly #bloomTest: BloomTest
  readonly #metrics: FollowerMetrics
  readonly #page: PageSize
  readonly #pollMs: number
  /** The newest checkpoint; not known before the first look and after a sink error. */
  #tip: { known: false } | { known: true; block: BlockRef | undefined } = { known: false }
  #head: number | undefined
  #headChangedAt = 0
  #checkedHead: string | undefined
  #lookedAt = 0
  #lastError: string | undefined
  #errors = 0
  #sinkErrors = 0
  #gaps = 0
  /** The end of the furthest page with a gap. */
  #gapAt = 0
  #reorgs = 0
  #endpoint: string | undefined
  /** Endpoints to pass over, and until when. */
  readonly #avoid = new Map<string, number>()
  #wakeUp: (() => void) | undefined
  #woken = false

  constructor(options: FollowLogsParameters, filter: LogFilter) {
    this.#options = options
    this.#filter = filter
    this.#bloomTest = createBloomTest(filter)
    this.#metrics = followerMetrics(options.metrics)
    this.#page = new PageSize(options.pageSizeBlocks ?? 999)
    this.#pollMs = options.pollIntervalMs ?? 500
    this.done = this.#run()
    // The owner may look at `done` late; until then the failure shows in the log and in status().
    this.done.catch(() => undefined)
  }

  wake(): void {
    this.#woken = true
    this.#wakeUp?.()
  }

  status(): FollowerStatus {
    const applied = this.#tip.known ? this.#tip.block?.number : undefined
    const fresh = Date.now() - this.#lookedAt < FRESH_MS + 4 * this.#pollMs
    const wanted = (this.#head ?? 0) - this.#options.confirmations
    return {
      synced: fresh && this.#tip.known && wanted - (applied ?? this.#options.startBlock - 1) <= SYNCED_LAG_BLOCKS,
      head: this.#head,
      applied,
      lastError: this.#lastError,
      consecutiveErrors: this.#errors,
      endpoint: this.#endpoint,
      pageSizeBlocks: this.#page.blocks,
      reorgs: this.#reorgs,
    }
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#options
    while (!signal.aborted) {
      try {
        const advanced = await this.#round()
        this.#errors = 0
        this.#lastError = undefined
        this.#lookedAt = Date.now()
        if (!advanced) await this.#sleep(this.#pollMs)
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof LogSinkError) {
          this.#lastError = error.message
          log.error({ err: error }, 'log follower stopped: its sink keeps failing')
          throw error
        }
        await this.#recover(error)
      }
    }
  }

  /** Turns an error into a pause, another endpoint, or a smaller page. */
  async #recover(error: unknown): Promise<void> {
    const { chain, log } = this.#options
    this.#errors++
    this.#lastError = error instanceof Error ? error.message : String(error)
    this.#metrics.errors.inc()
    log[this.#errors === 5 ? 'warn' : 'debug']({ err: error, errors: this.#errors }, 'log follower: a read failed')
    const failed = this.#endpoint
    if (failed !== undefined) this.#avoid.set(failed, Date.now() + AVOID_MS)
    // Another endpoint is asked at once; when each has had its turn, or it was the sink, a pause is due.
    const untried = failed !== undefined && this.#errors % chain.endpoints.length !== 0
    if (untried && chain.pick({ avoid: this.#avoided() }).name !== failed) return
    const retryAfterMs = error instanceof ChainRpcError ? (error.retryAfterMs ?? 0) : 0
    const backoffMs = (this.#options.retryDelayMs ?? 200) * 2 ** Math.min(this.#errors - 1, 10)
    await this.#sleep(Math.max(Math.min(BACKOFF_MAX_MS, backoffMs), retryAfterMs))
  }

  #avoided(): ReadonlySet<string> {
    const now = Date.now()
    for (const [name, until] of this.#avoid) if (until <= now) this.#avoid.delete(name)
    if (this.#avoid.size >= this.#options.chain.endpoints.length) this.#avoid.clear()
    return new Set(this.#avoid.keys())
  }

  /** One look at one endpoint. True when something was applied or taken back, so that the next look follows at once. */
  async #round(): Promise<boolean> {
    const { chain, signal, confirmations, startBlock } = this.#options
    this.#woken = false
    const reader = new ChainReader({ endpoint: chain.pick({ avoid: this.#avoided() }), signal })
    this.#endpoint = reader.endpoint.name
    const tip = await this.#loadTip()
    const head = await reader.head()
    await this.#noteHead(head)
    const target = head.number - confirmations
    const from = tip === undefined ? startBlock : Math.max(startBlock, tip.number + 1)
    if (target < from) {
      if (tip !== undefined && head.hash !== this.#checkedHead) {
        if (await this.#leftBehind(reader, head)) return await this.#takeBack(reader, head)
        this.#checkedHead = head.hash
      }
      return false
    }
    return await this.#advance({ reader, head, tip, from, target })
  }

  async #advance(parameters: {
    reader: ChainReader
    head: BlockHeader
    tip: BlockRef | undefined
    from: number
    target: number
  }): Promise<boolean> {
    const { reader, head, tip, from, target } = parameters
    const { chain, signal, exactDepthBlocks = 64 } = this.#options
    const exactFrom = head.number - Math.max(exactDepthBlocks, this.#options.confirmations + 1)
    const exact = from >= exactFrom || (this.#gaps > 0 && from > this.#gapAt - GAP_EXACT_BLOCKS)
    const limit = exact ? Math.min(this.#page.blocks, MAX_EXACT_BLOCKS) : this.#page.blocks
    const to = Math.min(target, from + limit - 1, exact ? target : exactFrom - 1)
    const asked = to - from + 1
    const second =
      chain.endpoints.length > 1
        ? new ChainReader({ endpoint: chain.pick({ avoid: new Set([reader.endpoint.name]) }), signal })
        : undefined
    const startedAt = performance.now()
    try {
      const page = await fetchPage({
        reader,
        filter: this.#filter,
        bloomTest: this.#bloomTest,
        parent: tip,
        from,
        to,
        exact,
        second,
      })
      if (page === undefined) return await this.#takeBack(reader, head)
      this.#page.worked(asked)
      this.#metrics.pageSeconds.observe((performance.now() - startedAt) / 1000)
      await this.#apply({ from, to: page.to, logs: page.logs, headBlock: head.number })
      this.#checkedHead = head.hash
      return true
    } catch (error) {
      const slow = error instanceof ChainRpcError && error.code === 'RPC_TIMEOUT' && error.method === 'eth_getLogs'
      if (slow || (error instanceof ChainRpcError && error.kind === 'too-large')) {
        if (this.#page.tooLarge(asked) && !slow) return true
      }
      throw error
    }
  }

  /** Whether the newest checkpoint the endpoint can know is not on its chain. */
  async #leftBehind(reader: ChainReader, head: BlockHeader): Promise<boolean> {
    const tip = await this.#loadTip()
    if (tip === undefined) return false
    // A head below our tip is a lagging endpoint, unless an older checkpoint shows that it is another branch.
    const reachable =
      tip.number <= head.number ? tip : (await this.#checkpoints()).find((block) => block.number <= head.number)
    if (reachable === undefined) return false
    if (reachable.number === head.number) return reachable.hash !== head.hash
    return (await reader.requireHeader(reachable.number)).hash !== reachable.hash
  }

  /** Reverts the sink to the last common block, once the other branch has been seen a second time. */
  async #takeBack(reader: ChainReader, seenHead: BlockHeader): Promise<boolean> {
    const { chain, signal, log } = this.#options
    await delay(CONFIRM_FORK_MS, undefined, { signal })
    const again = new ChainReader({ endpoint: chain.pick({ avoid: new Set([reader.endpoint.name]) }), signal })
    const head = await again.head()
    if (!(await this.#leftBehind(again, head))) {
      throw reader.inconsistent(`another branch at block ${seenHead.number} that a second look did not find`)
    }
    const checkpoints = await this.#checkpoints()
    const forkPoint = await findForkPoint({
      checkpoints,
      isCanonical: async (block) =>
        block.number <= head.number && (await again.requireHeader(block.number)).hash === block.hash,
    })
    const tip = checkpoints[0]
    log.warn(
      { from: tip, to: forkPoint, head: head.number, blocks: tip ? tip.number - (forkPoint?.number ?? 0) : 0 },
      'chain reorganised: taking blocks back',
    )
    await this.#revert(forkPoint)
    this.#reorgs++
    this.#metrics.reorgs.inc()
    return true
  }

  async #apply(batch: LogBatch): Promise<void> {
    try {
      await this.#withSink(() => this.#options.sink.apply(batch))
    } catch (error) {
      if (error instanceof LogGapError) await this.#closeGap(error, batch)
      throw error
    }
    this.#sinkErrors = 0
    if (batch.to.number >= this.#gapAt) this.#gaps = 0
    this.#tip = { known: true, block: batch.to }
    this.#metrics.logs.inc(batch.logs.length)
    this.#metrics.applied.set(batch.to.number)
  }

  /** A log was missing: after some reads of this page, go back over 1, 2, 4 … checkpoints and read those again too. */
  async #closeGap(error: LogGapError, batch: LogBatch): Promise<void> {
    this.#gaps++
    this.#gapAt = Math.max(this.#gapAt, batch.to.number)
    if (this.#gaps % GAP_READS !== 0) return
    const checkpoints = await this.#checkpoints()
    if (checkpoints.length === 0) return
    const back = checkpoints[2 ** Math.min(this.#gaps / GAP_READS - 1, 30)]
    this.#options.log.warn({ err: error, to: back }, 'logs are missing: reading earlier blocks again')
    await this.#revert(back)
  }

  async #revert(to: BlockRef | undefined): Promise<void> {
    await this.#withSink(() => this.#options.sink.revert(to))
    this.#sinkErrors = 0
    this.#tip = { known: true, block: to }
    this.#checkedHead = undefined
    this.#metrics.applied.set(to?.number ?? 0)
  }

  async #loadTip(): Promise<BlockRef | undefined> {
    if (!this.#tip.known) this.#tip = { known: true, block: (await this.#checkpoints())[0] }
    return this.#tip.block
  }

  async #checkpoints(): Promise<readonly BlockRef[]> {
    const checkpoints = await this.#withSink(() => this.#options.sink.checkpoints())
    return checkpoints.length > MAX_CHECKPOINTS ? checkpoints.slice(0, MAX_CHECKPOINTS) : checkpoints
  }

  /** Runs a call of the sink; what it holds after a failure is asked again. */
  async #withSink<T>(task: () => T | Promise<T>): Promise<T> {
    try {
      return await task()
    } catch (cause) {
      this.#tip = { known: false }
      if (cause instanceof LogGapError) throw cause
      const attempts = this.#options.sinkAttempts ?? 8
      // A sink failure is nobody's endpoint's fault.
      this.#endpoint = undefined
      if (++this.#sinkErrors < attempts) throw cause
      throw new LogSinkError({
        code: 'LOG_SINK',
        message: `the sink failed ${attempts} times in a row: ${cause instanceof Error ? cause.message : String(cause)}`,
        fix: 'read the cause: a full disk and a damaged database are the usual ones',
        cause,
      })
    }
  }

  async #noteHead(head: BlockHeader): Promise<void> {
    const { chain, signal } = this.#options
    const now = Date.now()
    if (head.number > (this.#head ?? -1)) this.#headChangedAt = now
    else if (chain.endpoints.length > 1 && now - this.#headChangedAt > (this.#options.probeAfterMs ?? PROBE_AFTER_MS)) {
      // No news for a while: perhaps this endpoint is stuck and another is not.
      this.#headChangedAt = now
      await chain.probe(signal)
    }
    this.#head = Math.max(head.number, chain.health().head ?? 0)
    this.#metrics.head.set(this.#head)
  }

  async #sleep(ms: number): Promise<void> {
    if (this.#woken) return
    const { signal } = this.#options
    const waker = new AbortController()
    this.#wakeUp = () => waker.abort()
    await delay(ms, undefined, { signal: AbortSignal.any([signal, waker.signal]) }).catch(() => undefined)
    this.#wakeUp = undefined
  }
}
