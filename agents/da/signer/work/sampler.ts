import { setImmediate as breathe } from 'node:timers/promises'
import { type Address, encodeFunctionData } from 'viem'
import { entranceAbi } from '#client/da/abi.ts'
import type { Chain } from '#kit/chain/client.ts'
import { ContractRevertError, type TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { SUBLINE_BYTES } from '#protocol/da/constants.ts'
import { sublineProof } from '#protocol/da/row-proof.ts'
import type { Hash } from '#protocol/hex.ts'
import { SignerError } from '../error.ts'
import type { RowServer } from '../serve/row-server.ts'
import type { HeldRows } from '../store/held-table.ts'
import type { SignerStore } from '../store/signer-store.ts'
import { splitPath } from './custody-worker.ts'
import { lineQualities, pieceQuality } from './lottery.ts'

export interface SamplerParameters {
  chain: Chain
  entrance: Address
  sender: TransactionSender
  store: SignerStore
  rows: RowServer
  currentEpoch: () => number
  maxRows: number
  minRewardWei: bigint
  log: Logger
  signal: AbortSignal
}

/** Counts of the sampling lottery since the start. */
export interface SamplingCounts {
  /** Rounds looked through. */
  rounds: number
  tickets: number
  wins: number
  paid: number
  refused: number
}

/** Refusals that only say that somebody was faster or the round is over. */
const LATE = new Set(['SampleTaken', 'RoundFull', 'SeedNotCurrent', 'QualityTooHigh'])

/** Looks through the rows for pieces that win, round after round, and answers with them. */
export class Sampler {
  readonly #parameters: SamplerParameters
  readonly counts: SamplingCounts = { rounds: 0, tickets: 0, wins: 0, paid: 0, refused: 0 }
  #seed: Hash | undefined

  constructor(parameters: SamplerParameters) {
    this.#parameters = parameters
  }

  /** Looks at the current round, once per round. */
  async round(): Promise<void> {
    const task = await this.#task()
    if (task === undefined || task.seed === this.#seed) return
    this.#seed = task.seed
    let looked = 0
    let left = task.rest
    for (const held of this.#parameters.store.held.sampled({ epoch: this.#parameters.currentEpoch() })) {
      if (left <= 0 || looked >= this.#parameters.maxRows || this.#parameters.signal.aborted) break
      looked += held.rowCount
      left -= await this.#blob(held, task, left)
      await breathe()
    }
    this.counts.rounds += 1
  }

  async #task(): Promise<{ seed: Hash; target: bigint; rest: number } | undefined> {
    const { chain, entrance: address, minRewardWei } = this.#parameters
    const read = { address, abi: entranceAbi } as const
    const [[seed, target, rest], [active], ratio] = await Promise.all([
      chain.client.readContract({ ...read, functionName: 'sampleTask' }),
      chain.client.readContract({ ...read, functionName: 'rewardPools' }),
      chain.client.readContract({ ...read, functionName: 'rewardRatio' }),
    ])
    if (BigInt(seed) === 0n || rest === 0n || active / ratio < minRewardWei) return undefined
    return { seed, target, rest: Number(rest) }
  }

  /** Answers with the winning pieces of one blob; gives how many were paid. */
  async #blob(held: HeldRows, { seed, target }: { seed: Hash; target: bigint }, left: number): Promise<number> {
    const lineOf = lineQualities({ seed, ...held })
    let paid = 0
    for (let row = held.firstRow; row < held.firstRow + held.rowCount && paid < left; row++) {
      const line = lineOf(row)
      if (line > target) continue
      const slice = await this.#parameters.rows.row(held, row).catch((error: unknown) => {
        if (error instanceof SignerError) return undefined
        throw error
      })
      if (slice === undefined) continue
      const sublines = Math.ceil(slice.data.length / SUBLINE_BYTES)
      this.counts.tickets += sublines
      for (let subline = 0; subline < sublines && paid < left; subline++) {
        const data = slice.data.subarray(subline * SUBLINE_BYTES, (subline + 1) * SUBLINE_BYTES)
        const quality = pieceQuality({ line, subline, data })
        if (quality === undefined || quality > target) continue
        this.counts.wins += 1
        const { path } = sublineProof({ row: slice.data, subline })
        const proof = splitPath(Buffer.concat([path, slice.path]))
        if (await this.#answer(held, { seed, row, subline, quality, data, proof })) paid += 1
      }
    }
    return paid
  }

  async #answer(
    held: HeldRows,
    piece: { seed: Hash; row: number; subline: number; quality: bigint; data: Uint8Array; proof: Hash[] },
  ): Promise<boolean> {
    const { sender, entrance: to, log, signal } = this.#parameters
    const { dataRoot, epoch, quorumId } = held
    const response = {
      sampleSeed: piece.seed,
      epoch: BigInt(epoch),
      quorumId: BigInt(quorumId),
      lineIndex: piece.row,
      sublineIndex: piece.subline,
      quality: piece.quality,
      dataRoot,
      proof: piece.proof,
      data: `0x${Buffer.from(piece.data).toString('hex')}`,
    } as const
    const data = encodeFunctionData({ abi: entranceAbi, functionName: 'submitSamplingResponse', args: [response] })
    try {
      await sender.send({ to, data, abi: entranceAbi }, { signal })
      this.counts.paid += 1
      log.info({ dataRoot, epoch, row: piece.row, subline: piece.subline }, 'a sample was paid for')
      return true
    } catch (error) {
      if (!(error instanceof ContractRevertError)) throw error
      this.counts.refused += 1
      const level = LATE.has(error.errorName ?? '') ? 'debug' : 'warn'
      log[level]({ err: error, dataRoot, row: piece.row }, 'a sample was refused')
      return false
    }
  }
}
