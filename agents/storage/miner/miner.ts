import type { Address } from 'viem'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { formatShard } from '#protocol/storage/shard.ts'
import type { MineContracts } from './chain/mine-contracts.ts'
import type { MiningWork, Situation } from './chain/watcher.ts'
import type { MinerConfig } from './config.ts'
import type { FlowSource } from './fetch/flow-source.ts'
import { MiningPool } from './mine/mining-pool.ts'
import { taskKey } from './mine/mining-task.ts'
import { rangeDigest } from './puzzle.ts'
import { Rate } from './rate.ts'
import type { RewardKeeper } from './rewards.ts'
import { Sealer } from './seal/sealer.ts'
import { describeStatus, type MinerStatus } from './status.ts'
import type { MinerStore } from './store/miner-store.ts'
import type { AnswerLog } from './submit/answer-log.ts'
import { type Puzzle, Submitter } from './submit/submitter.ts'

export interface MinerParameters {
  config: MinerConfig
  store: MinerStore
  contracts: MineContracts
  sender: TransactionSender
  source: FlowSource
  answers: AnswerLog
  rewards: RewardKeeper
  minerId: Hash
  beneficiary: Address
  log: Logger
  signal: AbortSignal
}

/** How long mining goes on without seeing the chain. */
const BLIND_MS = 60_000

/**
 * Decides what is done: hands the chain's work to the mining threads while there is sealed data and room for answers,
 * takes hits back, and wakes the sealer.
 */
export class Miner {
  readonly #parameters: MinerParameters
  readonly #sealer: Sealer
  readonly #pool: MiningPool
  readonly #submitter: Submitter
  readonly #attempts = new Rate()
  readonly #hashes = new Rate()
  readonly #sealedBytes = new Rate()
  #situation: Situation | undefined
  #problem: string | undefined
  #blindSince: number | undefined
  #puzzle: { key: string; puzzle: Puzzle; over: AbortController } | undefined
  #nextTask = 1

  constructor(parameters: MinerParameters) {
    const { config, store, source, minerId, log, signal } = parameters
    this.#parameters = parameters
    this.#sealer = new Sealer({
      ...{ store, source, minerId, log, signal },
      threads: config.sealing.threads,
      maxSealedBytes: config.data.maxSealedBytes,
      minFreeBytes: config.data.minFreeBytes,
      retryIntervalMs: config.nodes.retryIntervalMs,
      refreshIntervalMs: config.nodes.refreshIntervalMs,
      context: () => this.#situation?.made,
      onSealed: () => this.#decide(),
    })
    this.#pool = new MiningPool({
      threads: config.mining.enabled ? config.mining.threads : 0,
      sealedDir: store.sealedDir,
      map: store.map,
      cpuPercent: config.mining.cpuPercent,
      log,
      onHit: (hit) => {
        this.#submitter.add(hit)
        if (this.#submitter.full) this.#decide()
      },
      onUnreadable: (chunk, reason) => {
        log.error({ chunk, reason }, 'a sealed chunk cannot be read: it is sealed again')
        store.unmark(chunk)
        this.#sealer.wake()
      },
    })
    this.#submitter = new Submitter({
      ...parameters,
      ...config.submission,
      head: () => this.#situation?.head ?? 0,
      puzzle: () => this.#puzzle?.puzzle,
      onChange: () => this.#decide(),
    })
  }

  /** Seals, and settles what an earlier run sent. Never rejects. */
  async run(): Promise<void> {
    await Promise.all([this.#sealer.run(), this.#recover()])
  }

  /** The chain as it is now. */
  see(situation: Situation, epochsChanged: boolean): void {
    const grown = situation.made.flowLength !== this.#situation?.made.flowLength
    this.#situation = situation
    this.#problem = undefined
    this.#blindSince = undefined
    if (epochsChanged || grown) this.#sealer.wake()
    this.#decide()
  }

  /** The chain cannot be seen. After a while what was mined before is taken to be over. */
  blind(reason: string): void {
    this.#problem = reason
    this.#blindSince ??= Date.now()
    if (!this.#situation || Date.now() - this.#blindSince < BLIND_MS) return
    this.#situation = { ...this.#situation, work: undefined, waiting: reason }
    this.#decide()
  }

  /** Takes a sample of the counters for the rates. */
  tick(): void {
    const { attempts, hashes } = this.#pool.counts()
    this.#attempts.add(attempts)
    this.#hashes.add(hashes)
    this.#sealedBytes.add(this.#sealer.status().bytes)
  }

  status(): MinerStatus {
    const { config, store, minerId, beneficiary, sender, answers, rewards, source } = this.#parameters
    const { context, window, head = 0 } = this.#situation ?? {}
    const active = this.#pool.task !== undefined
    return describeStatus({
      identity: { minerId, account: sender.address, beneficiary, shard: formatShard(store.shard) },
      chain: { head, problem: this.#problem },
      epoch: context && {
        number: context.epoch,
        digest: context.digest,
        flowSectors: context.flowLength,
        windowFrom: window?.startBlock,
        windowTo: window?.endBlock,
      },
      sealing: { ...this.#sealer.status(), bytesPerSecond: this.#sealedBytes.perSecond },
      counts: this.#pool.counts(),
      rates: { attemptsPerSecond: this.#attempts.perSecond, hashesPerSecond: this.#hashes.perSecond },
      mining: { active, target: this.#situation?.work?.target, threads: config.mining.threads },
      waiting: active ? undefined : this.#waiting(),
      totals: answers.totals(),
      queue: {
        queued: this.#submitter.queued,
        dropped: this.#submitter.dropped,
        lastRefusal: this.#submitter.lastRefusal,
      },
      money: rewards,
      nodes: source.problems(),
    })
  }

  /** Ends the threads and what is under way. The signal must have aborted. */
  async stopped(): Promise<void> {
    this.#puzzle?.over.abort()
    await this.#pool.close()
    await this.#submitter.stopped()
  }

  #decide(): void {
    const { config, store, signal } = this.#parameters
    if (signal.aborted) return
    const work = config.mining.enabled ? this.#situation?.work : undefined
    this.#changePuzzle(work)
    const mine = work !== undefined && store.map.sealed > 0 && !this.#submitter.full
    const id = this.#puzzle?.puzzle.taskId
    if (!mine || id === undefined) this.#pool.setTask(undefined)
    else if (this.#pool.task?.id !== id) this.#pool.setTask(this.#task(work, id))
  }

  #changePuzzle(work: MiningWork | undefined): void {
    const key = work && taskKey(work)
    if (key === this.#puzzle?.key) {
      // The same work, perhaps with another end: settings may have changed.
      if (work && this.#puzzle) this.#puzzle.puzzle.window = work.window
      return
    }
    this.#puzzle?.over.abort()
    this.#puzzle = undefined
    if (!work || key === undefined) return
    const over = new AbortController()
    this.#puzzle = { key, puzzle: { ...work, taskId: this.#nextTask++, over: over.signal }, over }
  }

  #task(work: MiningWork, id: number) {
    const { minerId, store } = this.#parameters
    const target = Buffer.from(work.target.toString(16).padStart(64, '0'), 'hex')
    return {
      id,
      minerId: fromHex(minerId),
      subtaskDigest: fromHex(work.subtaskDigest),
      rangeDigest: rangeDigest(work.range),
      target: Uint8Array.from(target),
      mineLength: work.range.mineLength,
      shardId: work.range.shardId,
      shardMask: work.range.shardMask,
      numShard: store.shard.numShard,
    }
  }

  #waiting(): string | undefined {
    const { config, store } = this.#parameters
    if (!config.mining.enabled) return 'mining is switched off (mining.enabled)'
    if (this.#problem !== undefined) return this.#problem
    if (!this.#situation) return 'the chain has not been looked at yet'
    if (this.#situation.waiting !== undefined) return this.#situation.waiting
    if (store.map.sealed === 0) return this.#nothingSealed()
    if (this.#submitter.full) return 'answers are being sent'
    return undefined
  }

  #nothingSealed(): string {
    const { sealable, missing, problem } = this.#sealer.status()
    if (problem !== undefined) return problem
    if (sealable === 0) return 'no whole segment of the shard is in a recorded epoch yet'
    return missing > 0 ? `the storage nodes hold nothing of the ${missing} chunks to seal` : 'no data is sealed yet'
  }

  async #recover(): Promise<void> {
    try {
      await this.#submitter.recover()
    } catch (error) {
      this.#parameters.log.warn({ err: error }, 'the answers of the last run could not be looked up')
    }
  }
}
