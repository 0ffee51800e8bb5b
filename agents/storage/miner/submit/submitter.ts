import type { TransactionReceipt } from 'viem'
import { ContractRevertError, type TransactionSender, TransactionTimeoutError } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { poraMineAbi } from '#protocol/abi/pora-mine.ts'
import type { Hash } from '#protocol/hex.ts'
import { gasCostWei, type MineContracts } from '../chain/mine-contracts.ts'
import { MinerError, reasonOf } from '../error.ts'
import type { FlowSource } from '../fetch/flow-source.ts'
import type { Hit } from '../mine/mining-task.ts'
import { type RecallRange, type SubtaskWindow, windowOpen } from '../puzzle.ts'
import { chunkOf } from '../store/layout.ts'
import type { MinerStore } from '../store/miner-store.ts'
import { buildAnswer, type PoraAnswer } from './answer.ts'
import type { AnswerLog, AnswerResult } from './answer-log.ts'
import { settledAnswer } from './settled-answer.ts'

/** What is mined now, as hits are checked against it. */
export interface Puzzle {
  taskId: number
  epoch: number
  contextDigest: Hash
  flowRoot: Hash
  subtaskDigest: Hash
  range: RecallRange
  target: bigint
  window: SubtaskWindow
  /** Aborted when another puzzle, or none, took its place. */
  over: AbortSignal
}

export interface SubmitterParameters {
  store: MinerStore
  contracts: MineContracts
  source: Pick<FlowSource, 'one'>
  sender: TransactionSender
  answers: AnswerLog
  minerId: Hash
  maxQueued: number
  maxInFlight: number
  marginBlocks: number
  confirmations: number
  log: Logger
  signal: AbortSignal
  /** The last block seen. */
  head: () => number
  puzzle: () => Puzzle | undefined
  /** The queue got shorter, or something was settled. */
  onChange: () => void
}

const SEND_TIMEOUT_MS = 600_000
/** How long a transaction that was sent is still looked for once its window is over. */
const GRACE_MS = 15_000
const RECOVER_TIMEOUT_MS = 60_000

/**
 * Turns hits into answers on the chain: each is checked again in full, tried without paying, and sent only while its
 * window is open and its context is the one that is mined.
 */
export class Submitter {
  readonly #parameters: SubmitterParameters
  readonly #queue: Hit[] = []
  readonly #running = new Set<Promise<void>>()
  #dropped = 0
  #lastRefusal: { reason: string; atMs: number } | undefined

  constructor(parameters: SubmitterParameters) {
    this.#parameters = parameters
  }

  /** Hits that wait. */
  get queued(): number {
    return this.#queue.length
  }

  /** Answers being checked or sent. */
  get inFlight(): number {
    return this.#running.size
  }

  /** Hits dropped because too many waited. */
  get dropped(): number {
    return this.#dropped
  }

  get full(): boolean {
    return this.#queue.length >= this.#parameters.maxQueued
  }

  get lastRefusal(): { reason: string; atMs: number } | undefined {
    return this.#lastRefusal
  }

  add(hit: Hit): void {
    if (this.#parameters.signal.aborted) return
    if (this.full) this.#dropped += 1
    else this.#queue.push(hit)
    this.#pump()
  }

  /** Finds out what became of answers that an earlier run sent. */
  async recover(): Promise<void> {
    const { answers, sender, signal, log, confirmations } = this.#parameters
    for (const { id, hashes } of answers.unsettled()) {
      let result: AnswerResult = { outcome: 'unknown', reason: 'not found on the chain after a restart' }
      try {
        const receipt = await sender.waitFor(hashes, { signal, confirmations, timeoutMs: RECOVER_TIMEOUT_MS })
        result = this.#settled(receipt)
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof TransactionTimeoutError)) log.warn({ err: error }, 'an earlier answer cannot be found')
      }
      answers.update(id, result)
      log.info({ ...result, rewardWei: String(result.rewardWei ?? 0n) }, 'an answer of the last run was looked up')
    }
  }

  /** Waits until nothing is under way; what waits is dropped. */
  async stopped(): Promise<void> {
    this.#queue.length = 0
    await Promise.allSettled(this.#running)
  }

  #pump(): void {
    const { maxInFlight, onChange, log } = this.#parameters
    while (this.#running.size < maxInFlight) {
      const hit = this.#queue.shift()
      if (!hit) return
      const work = this.#handle(hit)
        .catch((error: unknown) => log.error({ err: error }, 'an answer could not be handled'))
        .finally(() => {
          this.#running.delete(work)
          this.#pump()
          onChange()
        })
      this.#running.add(work)
    }
  }

  async #handle(hit: Hit): Promise<void> {
    const { answers, log, signal, store } = this.#parameters
    const position = hit.segment * 1024 + hit.seal * 16
    const puzzle = this.#parameters.puzzle()
    if (puzzle?.taskId !== hit.taskId) {
      log.debug({ position }, 'a hit came too late: its context has passed')
      return
    }
    const entry = { epoch: puzzle.epoch, contextDigest: puzzle.contextDigest, position }
    let id: number | undefined
    const note = (result: AnswerResult): void => {
      if (id === undefined) id = answers.add(entry, result)
      else answers.update(id, result)
    }
    try {
      const answer = await this.#prepare(hit, puzzle)
      const receipt = await this.#send(answer, puzzle, (hash) => {
        if (id === undefined) note({ outcome: 'sent' })
        if (id !== undefined) answers.addHash(id, hash)
      })
      const result = this.#settled(receipt)
      note(result)
      const { rewardWei = 0n, gasWei = 0n } = result
      log.info(
        { ...entry, block: result.block, rewardWei: String(rewardWei), gasWei: String(gasWei) },
        'answer accepted',
      )
    } catch (error) {
      // Left as sent: the next run finds out.
      if (signal.aborted) return
      const result = outcomeOf(error, { over: puzzle.over.aborted, sent: id !== undefined })
      note(result)
      if (result.outcome === 'refused') this.#lastRefusal = { reason: result.reason ?? '', atMs: Date.now() }
      if (error instanceof MinerError && error.code === 'MINER_SEALED') store.unmark(chunkOf(hit.segment, store.shard))
      log.warn({ ...entry, outcome: result.outcome, reason: result.reason, err: error }, 'an answer earned nothing')
    }
  }

  /** The answer, checked as the contract will check it, and tried without paying. */
  async #prepare(hit: Hit, puzzle: Puzzle): Promise<PoraAnswer> {
    const { source, store, contracts, sender, minerId, signal } = this.#parameters
    this.#checkOpen(puzzle)
    const sealedContextDigest = store.digestAt(hit.segment * 1024 + hit.seal * 16 + 15)
    const limit = AbortSignal.any([signal, puzzle.over])
    const segment = await source.one(hit.segment, { flowRoot: puzzle.flowRoot, signal: limit })
    if (!segment || !sealedContextDigest) {
      throw new MinerError({
        code: 'MINER_SOURCE',
        message: `no storage node proves segment ${hit.segment} now`,
        fix: 'check that the nodes still hold the shard',
        details: { segment: hit.segment },
      })
    }
    const answer = buildAnswer({ ...puzzle, hit, minerId, sealedContextDigest, segment })
    this.#checkOpen(puzzle)
    await contracts.simulateSubmit(answer, sender.address)
    this.#checkOpen(puzzle)
    return answer
  }

  async #send(answer: PoraAnswer, puzzle: Puzzle, onHash: (hash: Hash) => void): Promise<TransactionReceipt> {
    const { contracts, sender, confirmations, signal } = this.#parameters
    const request = { to: contracts.mine, data: contracts.submitData(answer), abi: poraMineAbi }
    const given = new AbortController()
    let sent = false
    let grace: NodeJS.Timeout | undefined
    // Not sent yet: too late. Sent: it may be mined already, so its receipt is waited for a little longer, but a
    // transaction that is not mined is no longer pushed, because it would only cost gas.
    const over = (): void => {
      if (sent) grace = setTimeout(() => given.abort(late(puzzle)), GRACE_MS)
      else given.abort(late(puzzle))
    }
    puzzle.over.addEventListener('abort', over)
    try {
      return await sender.send(request, {
        signal: AbortSignal.any([signal, given.signal]),
        confirmations,
        timeoutMs: SEND_TIMEOUT_MS,
        onHash: (hash) => {
          // The last moment at which sending can be refused.
          this.#checkOpen(puzzle)
          sent = true
          onHash(hash)
        },
      })
    } finally {
      clearTimeout(grace)
      puzzle.over.removeEventListener('abort', over)
    }
  }

  /** @throws MinerError `MINER_STALE` */
  #checkOpen(puzzle: Puzzle): void {
    const { head, marginBlocks, puzzle: current } = this.#parameters
    const open = windowOpen(puzzle.window, head() + marginBlocks)
    if (current()?.taskId !== puzzle.taskId || puzzle.over.aborted || !open) throw late(puzzle)
  }

  #settled(receipt: TransactionReceipt): AnswerResult {
    return settledAnswer({ receipt, ...this.#parameters })
  }
}

/** Failed checks here, as opposed to parts that could not be had. */
const INVALID = ['MINER_SEALED', 'MINER_SEGMENT']

function outcomeOf(error: unknown, { over, sent }: { over: boolean; sent: boolean }): AnswerResult {
  if (error instanceof ContractRevertError) {
    const gasWei = error.receipt === undefined ? 0n : gasCostWei(error.receipt)
    return { outcome: 'refused', reason: refusalReason(error), gasWei }
  }
  const stale = error instanceof MinerError && error.code === 'MINER_STALE'
  if (sent && (stale || error instanceof TransactionTimeoutError)) {
    return { outcome: 'unknown', reason: 'it was sent and not mined in time' }
  }
  if (over || stale) return { outcome: 'late', reason: 'its window or context passed' }
  const invalid = error instanceof MinerError && INVALID.includes(error.code)
  return { outcome: invalid ? 'invalid' : 'failed', reason: reasonOf(error) }
}

function late({ epoch, window }: Puzzle): MinerError {
  return new MinerError({
    code: 'MINER_STALE',
    message: `too late for epoch ${epoch}, whose window ends with block ${window.endBlock}`,
    details: { epoch, endBlock: window.endBlock },
  })
}

/** The contract's reason: the custom error with its arguments, or the revert string. */
function refusalReason({ errorName, args, message }: ContractRevertError): string {
  if (errorName === undefined) return message
  return errorName === 'Error' ? String(args[0]) : `${errorName}(${args.map(String).join(', ')})`
}
