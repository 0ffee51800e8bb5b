import type { Logger } from '#kit/log.ts'
import type { MinerStore, RecordedEpoch } from '../store/miner-store.ts'
import type { MineContracts } from './mine-contracts.ts'

/** Epochs asked for side by side. */
const PAGE = 16

export interface EpochMirrorParameters {
  store: MinerStore
  contracts: Pick<MineContracts, 'recordedEpoch'>
  log: Logger
}

/**
 * Keeps the store's recorded epochs those of the chain. The digest of an epoch holds the hash of the block at its
 * start and the flow root, so that an epoch that is still recorded under its number and digest proves that nothing
 * before it changed. When a reorganisation took epochs away, chunks sealed with them are forgotten and sealed again.
 */
export class EpochMirror {
  readonly #parameters: EpochMirrorParameters

  constructor(parameters: EpochMirrorParameters) {
    this.#parameters = parameters
  }

  /** Brings the store up to the chain's state at a block. Returns whether anything changed. */
  async update(block: number): Promise<boolean> {
    const { store, contracts, log } = this.#parameters
    const last = store.lastEpoch()
    let changed = false
    if (last && !(await this.#stillRecorded(last, block))) {
      const fork = await this.#forkPoint(last.index, block)
      const { chunks } = store.truncateEpochs(fork)
      log.warn({ fromEpoch: fork, chunks }, 'the chain was reorganised: chunks are to be sealed again')
      changed = true
    }
    for (let next = (store.lastEpoch()?.index ?? -1) + 1; ; next += PAGE) {
      // One look is enough nearly always; a page once there is something.
      const first = await contracts.recordedEpoch(next, block)
      if (!first) return changed
      const rest = Array.from({ length: PAGE - 1 }, (_, i) => contracts.recordedEpoch(next + 1 + i, block))
      const page = [first, ...(await Promise.all(rest))]
      const found = page.slice(0, page.includes(undefined) ? page.indexOf(undefined) : PAGE) as RecordedEpoch[]
      store.addEpochs(found)
      changed = true
      if (found.length < PAGE) return changed
    }
  }

  async #stillRecorded({ index, start, end, digest }: RecordedEpoch, block: number): Promise<boolean> {
    const now = await this.#parameters.contracts.recordedEpoch(index, block)
    return now?.digest === digest && now.start === start && now.end === end
  }

  /** The first epoch known that is no longer recorded; the one at `bad` is not. */
  async #forkPoint(bad: number, block: number): Promise<number> {
    let [low, high] = [0, bad]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const epoch = this.#parameters.store.epochAt(middle)
      if (epoch && (await this.#stillRecorded(epoch, block))) low = middle + 1
      else high = middle
    }
    return low
  }
}
