import { fetchReceipt, isCanonical } from '#kit/chain/receipts.ts'
import type { Logger } from '#kit/log.ts'
import type { Hash } from '#protocol/hex.ts'
import type { MineContracts } from '../chain/mine-contracts.ts'
import { pause } from '../chain/watcher.ts'
import { MinerError } from '../error.ts'
import type { AnswerLog, AnswerResult, MinedAnswer } from './answer-log.ts'
import { settledAnswer } from './settled-answer.ts'

export interface AnswerAuditParameters {
  answers: AnswerLog
  contracts: MineContracts
  minerId: Hash
  /** Pause between two looks. */
  recheckIntervalMs: number
  log: Logger
  signal: AbortSignal
}

/** Blocks behind the head in which answers are still looked at: deeper reorganisations are not followed. */
const DEPTH_BLOCKS = 2_048
/** Answers looked at in one go, the newest first. */
const MAX_ANSWERS = 1_000

/** What is told of an answer whose block is gone. */
const TAKEN_BACK: AnswerResult = { outcome: 'unknown', reason: 'a reorganisation took its block away' }

/**
 * Keeps the record of answers true to the chain however deep it reorganises: an answer whose block is no longer part of
 * the chain is taken back, with what it earned and cost, and counted again where its transaction is mined anew.
 */
export class AnswerAudit {
  readonly #parameters: AnswerAuditParameters

  constructor(parameters: AnswerAuditParameters) {
    this.#parameters = parameters
  }

  /** Looks until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { recheckIntervalMs, signal, log } = this.#parameters
    while (!signal.aborted) {
      await pause(recheckIntervalMs, signal)
      if (signal.aborted) return
      try {
        await this.look()
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, 'the answers could not be looked up again')
      }
    }
  }

  /** Looks once. Nothing is changed unless everything could be looked up: an endpoint that fails takes nothing back. */
  async look(): Promise<void> {
    const { answers, contracts, signal, log } = this.#parameters
    const head = await contracts.head(signal)
    const mined = answers.minedSince({ block: head - DEPTH_BLOCKS, limit: MAX_ANSWERS })
    const changes: { answer: MinedAnswer; result: AnswerResult }[] = []
    let isSettled = false
    for (const answer of mined) {
      // A chain that is shorter now will grow: then it can be told.
      if (answer.block > head) continue
      const isGone = answer.outcome === 'unknown'
      // What lies below a block of the chain is part of the chain as well.
      if (!isGone && isSettled) continue
      if (!isGone && (await this.#holds(answer))) {
        isSettled = true
        continue
      }
      const result = await this.#lookUp(answer)
      if (result !== undefined) changes.push({ answer, result })
      else if (!isGone) changes.push({ answer, result: { ...TAKEN_BACK, block: answer.block } })
    }
    for (const { answer, result } of changes) {
      answers.update(answer.id, result)
      log.warn(
        { id: answer.id, was: answer.outcome, is: result.outcome, block: result.block },
        'a reorganisation changed what became of an answer',
      )
    }
  }

  async #holds({ block, blockHash }: MinedAnswer): Promise<boolean> {
    const { contracts, signal } = this.#parameters
    if (blockHash === undefined) return false
    const found = await contracts.chain.request('eth_getBlockByNumber', [`0x${block.toString(16)}`, false], { signal })
    if (typeof found === 'object' && found !== null && 'hash' in found) return found.hash === blockHash
    throw new MinerError({
      code: 'MINER_CHAIN',
      message: `an endpoint does not know block ${block}, though the chain is past it`,
      fix: 'this passes when the endpoint has caught up',
      details: { block },
    })
  }

  /** What the chain says of the answer now; undefined where none of its transactions is mined. */
  async #lookUp({ hashes }: MinedAnswer): Promise<AnswerResult | undefined> {
    const { contracts, minerId, signal } = this.#parameters
    const { chain } = contracts
    for (const hash of hashes) {
      const receipt = await fetchReceipt({ chain, hash, signal })
      if (receipt === undefined || !(await isCanonical({ chain, receipt, signal }))) continue
      return settledAnswer({ receipt, contracts, minerId })
    }
    return undefined
  }
}
