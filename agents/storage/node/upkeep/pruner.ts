import { setTimeout as delay } from 'node:timers/promises'
import { BaseError, ContractFunctionRevertedError, ContractFunctionZeroDataError } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import type { Logger } from '#kit/log.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import type { Hex } from '#protocol/hex.ts'
import { SECTOR_BYTES, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { formatShard, MAX_SHARDS } from '#protocol/storage/shard.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { FileTransaction } from '../store/transaction-record.ts'

/** Sectors of a pricing chunk, 8 GiB: the unit in which the reward contract pays. */
const PRICING_SECTORS = 2 ** 25

/** The contract was reached and does not know the call, unlike an endpoint that does not answer. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof BaseError)) return false
  const isAnswer = (cause: unknown): boolean =>
    cause instanceof ContractFunctionRevertedError || cause instanceof ContractFunctionZeroDataError
  return error.walk(isAnswer) !== null
}

/** Share of the capacity at which the shard is halved. */
const FULL_AT = 0.9

const PAGE = 500
const SHARD_CURSOR = 'prune.shard'
const REWARD_CURSOR = 'prune.reward'

export interface PrunerParameters {
  store: NodeStore
  log: Logger
  /** Capacity in sectors; undefined: no limit. */
  maxSectors: number | undefined
  batchSectors: number
  batchPauseMs: number
  chain: Chain
  reward: Hex | undefined
  signal: AbortSignal
  /** Which half stays, in [0, 1). */
  random?: (() => number) | undefined
  onShard?: (() => void) | undefined
}

/** Gives up data: half of the shard when the disk fills up, and what the reward contract no longer pays for. */
export class Pruner {
  readonly #parameters: PrunerParameters

  constructor(parameters: PrunerParameters) {
    this.#parameters = parameters
  }

  /** One round. Goes on with what a stop interrupted. */
  async run(): Promise<void> {
    await this.#dropOtherShards()
    await this.#halveWhenFull()
    await this.#dropUnrewarded()
  }

  async #halveWhenFull(): Promise<void> {
    const { store, maxSectors, log, random = Math.random, onShard } = this.#parameters
    if (maxSectors === undefined) return
    const used = store.objects.storedBytes / SECTOR_BYTES
    const { shardId, numShard } = store.shard
    if (used < FULL_AT * maxSectors || numShard >= MAX_SHARDS) return
    const shard = { shardId: random() < 0.5 ? shardId : shardId + numShard, numShard: numShard * 2 }
    await store.setShard(shard, { key: SHARD_CURSOR, value: '0' })
    log.warn({ usedSectors: used, maxSectors, shard: formatShard(shard) }, 'capacity reached: the shard is halved')
    onShard?.()
    await this.#dropOtherShards()
  }

  /** Removes what a smaller shard no longer keeps, file by file. */
  async #dropOtherShards(): Promise<void> {
    const { store } = this.#parameters
    const kept = store.meta(SHARD_CURSOR)
    if (kept === undefined || kept === 'done') return
    await this.#eachFile(Number(kept), SHARD_CURSOR, (tx) => this.#dropUnwanted(tx))
    if (!this.#parameters.signal.aborted) store.setMeta(SHARD_CURSOR, 'done')
  }

  async #dropUnrewarded(): Promise<void> {
    const { store, log } = this.#parameters
    const firstSector = await this.#firstRewardedSector()
    if (firstSector === undefined) return
    let pruned = 0
    await this.#eachFile(Number(store.meta(REWARD_CURSOR) ?? 0), REWARD_CURSOR, async (tx) => {
      if (tx.startSector + tx.sectors > firstSector) return false
      if (tx.status !== 'pruned') {
        store.prune(tx.seq)
        pruned += 1
      }
      return this.#dropUnwanted(tx)
    })
    if (pruned > 0) log.info({ files: pruned, belowSector: firstSector }, 'files no longer rewarded are pruned')
  }

  /** The first sector still paid for; undefined when the contract does not say. */
  async #firstRewardedSector(): Promise<number | undefined> {
    const { chain, reward, log } = this.#parameters
    if (reward === undefined) return undefined
    try {
      const answer = await chain.client.readContract({
        address: reward,
        abi: storageRewardAbi,
        functionName: 'firstRewardableChunk',
      })
      return Number(answer[0]) * (await this.#poolSectors(reward))
    } catch (error) {
      log.warn({ err: error, reward }, 'the reward contract does not tell its first rewardable chunk')
      return undefined
    }
  }

  /** Sectors of a reward pool; contracts that do not tell have those of the public networks. */
  async #poolSectors(reward: Hex): Promise<number> {
    const { chain } = this.#parameters
    try {
      const sectors = await chain.client.readContract({
        address: reward,
        abi: storageRewardAbi,
        functionName: 'poolSectors',
      })
      return Number(sectors)
    } catch (error) {
      if (isRefusal(error)) return PRICING_SECTORS
      throw error
    }
  }

  /** Runs over the log from a place on, remembering how far it came; stops where `visit` gives false. */
  async #eachFile(
    fromSeq: number,
    cursor: string,
    visit: (tx: FileTransaction) => boolean | Promise<boolean>,
  ): Promise<void> {
    const { store, signal } = this.#parameters
    for (let from = fromSeq; ; ) {
      const page = store.transactions.list({ fromSeq: from, limit: PAGE })
      for (const tx of page) {
        if (signal.aborted || !(await visit(tx))) {
          store.setMeta(cursor, String(from))
          return
        }
        from = tx.seq + 1
      }
      store.setMeta(cursor, String(from))
      if (page.length < PAGE) return
    }
  }

  /** Removes the pieces of a file that nobody wants here, in batches. */
  async #dropUnwanted(tx: FileTransaction): Promise<boolean> {
    const { store, batchSectors, batchPauseMs, signal } = this.#parameters
    if (tx.objectId === undefined) return true
    const limit = Math.max(1, Math.floor(batchSectors / SEGMENT_SECTORS))
    for (;;) {
      const { pieces } = store.dropForeign(tx.objectId, limit)
      if (pieces < limit) return true
      await delay(batchPauseMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) return false
    }
  }
}
