import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { EMPTY_HASH } from '../puzzle.ts'
import { chunksWithin } from '../store/layout.ts'
import type { MinerStore } from '../store/miner-store.ts'
import type { MineContracts } from './mine-contracts.ts'
import { recordGas } from './miner-id.ts'
import type { Situation } from './watcher.ts'

export interface ContextRecorderParameters {
  store: MinerStore
  contracts: MineContracts
  sender: TransactionSender
  log: Logger
  signal: AbortSignal
  /** In [0, 1). */
  random?: (() => number) | undefined
}

/** Several miners wait different times for each other, up to so many looks. */
const MAX_PATIENCE = 4
const SEND_TIMEOUT_MS = 60_000

/**
 * Data can be sealed only when its epoch was recorded, which every submission and every accepted answer does on the
 * way. While nobody does, and data of the own shard waits for it, this calls `makeContext` itself.
 */
export class ContextRecorder {
  readonly #parameters: ContextRecorderParameters
  #sending = false
  #waited: { epoch: number; looks: number; patience: number } = { epoch: -1, looks: 0, patience: 0 }

  constructor(parameters: ContextRecorderParameters) {
    this.#parameters = parameters
  }

  /** Looks whether the context should be recorded now, and does it in the background. */
  consider({ context, made }: Situation): void {
    const { store, random = Math.random } = this.#parameters
    if (this.#sending || context.epoch <= made.epoch || context.digest === EMPTY_HASH) return
    const recorded = store.lastEpoch()?.end ?? 0
    const waits = chunksWithin(context.flowLength, store.shard) > chunksWithin(recorded, store.shard)
    if (!waits) return
    if (this.#waited.epoch !== context.epoch) {
      this.#waited = { epoch: context.epoch, looks: 0, patience: Math.floor(random() * MAX_PATIENCE) }
    }
    this.#waited.looks += 1
    if (this.#waited.looks > this.#waited.patience) void this.#record(context.epoch)
  }

  async #record(epoch: number): Promise<void> {
    const { contracts, sender, log, signal, store } = this.#parameters
    this.#sending = true
    try {
      const request = { to: contracts.flow, data: contracts.makeContextData(), abi: flowAbi }
      const receipt = await sender.send(request, { signal, timeoutMs: SEND_TIMEOUT_MS })
      recordGas(store, 'context', receipt)
      log.info({ epoch, block: Number(receipt.blockNumber) }, 'recorded the epoch, so that its data can be sealed')
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, epoch }, 'the epoch could not be recorded')
      // Not before some looks have passed.
      this.#waited = { epoch, looks: -10, patience: 0 }
    } finally {
      this.#sending = false
    }
  }
}
