import { ContractRevertError } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import type { Hash } from '#protocol/hex.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import { reasonOf } from '../error.ts'
import {
  EMPTY_HASH,
  type MineContext,
  type RecallRange,
  recallRange,
  type SubtaskWindow,
  shardTarget,
  subtaskWindow,
  type WorkerContext,
  windowOpen,
} from '../puzzle.ts'
import type { EpochMirror } from './epoch-mirror.ts'
import type { MineContracts } from './mine-contracts.ts'

/** What the chain lets this miner do at a block. */
export interface Situation {
  head: number
  /** The context that is mined or will be, made or not. */
  context: MineContext
  /** The context last made in a transaction: what it covers can be verified and, where recorded, sealed. */
  made: MineContext
  window: SubtaskWindow | undefined
  work: MiningWork | undefined
  /** Why there is no work. */
  waiting: string | undefined
}

/** Something to mine. */
export interface MiningWork {
  epoch: number
  contextDigest: Hash
  flowRoot: Hash
  subtaskDigest: Hash
  range: RecallRange
  /** For hashes of this shard. */
  target: bigint
  window: SubtaskWindow
}

export interface WatcherParameters {
  contracts: MineContracts
  mirror: EpochMirror
  minerId: Hash
  shard: ShardConfig
  pollIntervalMs: number
  log: Logger
  signal: AbortSignal
  onLook: (situation: Situation, epochsChanged: boolean) => Promise<void> | void
  /** The chain could not be asked: `reason` says why. */
  onBlind: (reason: string) => void
}

/** Looks at the chain again and again, and tells what is to be mined. */
export class Watcher {
  readonly #parameters: WatcherParameters
  #failures = 0

  constructor(parameters: WatcherParameters) {
    this.#parameters = parameters
  }

  /** Looks until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { pollIntervalMs, signal } = this.#parameters
    while (!signal.aborted) {
      await this.look()
      await pause(pollIntervalMs, signal)
    }
  }

  /** Looks once. Never rejects. */
  async look(): Promise<void> {
    const { mirror, contracts, log, signal, onLook, onBlind } = this.#parameters
    try {
      const head = await contracts.head(signal)
      // Everything at one block, so that endpoints that lag behind cannot mix two states.
      const changed = await mirror.update(head)
      const situation = await this.#situation(head)
      this.#failures = 0
      if (!signal.aborted) await onLook(situation, changed)
    } catch (error) {
      if (signal.aborted) return
      this.#failures += 1
      if (this.#failures === 1 || this.#failures % 30 === 0) {
        log.warn({ err: error, failures: this.#failures }, 'the chain cannot be asked')
      }
      onBlind(`the chain cannot be asked: ${reasonOf(error)}`)
    }
  }

  async #situation(head: number): Promise<Situation> {
    const { contracts, minerId, shard } = this.#parameters
    const made = await contracts.context(head)
    let worker: WorkerContext
    try {
      worker = await contracts.workerContext(minerId, head)
    } catch (error) {
      if (!(error instanceof ContractRevertError)) throw error
      const waiting = `the mining contract says ${error.errorName ?? error.message}`
      return { head, context: made, made, window: undefined, work: undefined, waiting }
    }
    const { context } = worker
    const epochEnd = await contracts.epochEnd(context.epoch)
    if (context.digest === EMPTY_HASH) {
      const what = context.epoch === 0 ? 'the first epoch' : 'an epoch without a context to mine'
      const waiting = `${what} ends with block ${epochEnd}, the chain is at ${head}`
      return { head, context, made, window: undefined, work: undefined, waiting }
    }
    const settings = await contracts.subtaskSettings(context.epoch, head)
    const window = subtaskWindow({ ...context, minerId, settings })
    const range = recallRange({ flowLength: context.flowLength, shard })
    const waiting = whyNot({ worker, window, range, head, epochEnd, numShard: shard.numShard })
    if (waiting !== undefined || !range) return { head, context, made, window, work: undefined, waiting }
    const { poraTarget, subtaskDigest } = worker
    const { epoch, digest, flowRoot, flowLength } = context
    const target = shardTarget({ poraTarget, flowLength, numShard: shard.numShard })
    const work = { epoch, contextDigest: digest, flowRoot, subtaskDigest, range, target, window }
    return { head, context, made, window, work, waiting: undefined }
  }
}

/** What keeps a miner from mining a context, in words; undefined when nothing does. */
export function whyNot({
  worker: { poraTarget, subtaskDigest, maxShards, context },
  window,
  range,
  head,
  epochEnd,
  numShard,
}: {
  worker: WorkerContext
  window: SubtaskWindow
  range: RecallRange | undefined
  head: number
  /** Last block of the context's epoch. */
  epochEnd: number
  numShard: number
}): string | undefined {
  const next = `waiting for the next epoch, from block ${epochEnd + 1}; the chain is at ${head}`
  if (!range) return `the flow has ${context.flowLength} sectors, mining begins with 1024`
  if (numShard > maxShards) return `the contract allows ${maxShards} shards, this miner is one of ${numShard}`
  if (head < window.startBlock + 1 || BigInt(subtaskDigest) === 0n) {
    if (head > window.endBlock) return `the window ended with block ${window.endBlock}: ${next}`
    return `the window of this epoch opens after block ${window.startBlock}, the chain is at ${head}`
  }
  if (!windowOpen(window, head)) return `the window ends with block ${window.endBlock}: ${next}`
  if (poraTarget === 0n) return `this epoch has all the answers it takes: ${next}`
  return undefined
}

/** Resolves after a while, or at once when aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
