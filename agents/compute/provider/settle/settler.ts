import { setTimeout as delay } from 'node:timers/promises'
import type { LocalAccount } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import type { Logger } from '#kit/log.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { AccountView } from '../chain/account-view.ts'
import type { VoucherBook } from '../money/voucher-book.ts'
import type { ProviderMetrics } from '../provider-metrics.ts'
import { readOutcomes } from './outcomes.ts'
import { type GasCosts, isWorthIt, type PlannedItem, planSettlement } from './plan.ts'
import {
  packedItem,
  type SettlementJob,
  type SettlementSent,
  settlementCall,
  settlementJob,
  settlementStatuses,
  teeItems,
} from './settlement-job.ts'
import type { SettlementBatch, SettlementLog, SettlementMode } from './settlement-log.ts'

/** Sends settlements: from this process, or through a queue. */
export interface SettlementTransport {
  /** `name` is the same whenever the same batch is sent again. */
  send(name: string, job: SettlementJob, signal: AbortSignal): Promise<SettlementSent>
  close(): Promise<void>
}

export interface SettlerParameters {
  chain: Chain
  contract: Hex
  provider: Hex
  signer: LocalAccount
  settlements: SettlementLog
  vouchers: VoucherBook
  view: AccountView
  transport: SettlementTransport
  metrics: ProviderMetrics
  log: Logger
  now: () => number
  intervalMs: number
  earnOverGas: number
  maxItems: number
  maxUnsettledMs: number
  retryMs: number
  signal: AbortSignal
}

/** What one look did. */
export interface SettlementRound {
  batches: number
  users: number
  earnedWei: bigint
  gasWei: bigint
}

/** Users left out remembered. */
const MAX_HELD = 10_000
/** A batch that the chain never saw is given up after so many sendings, and its charges are planned anew. */
const MAX_SENDINGS = 5
/** Batches of one round. */
const MAX_BATCHES = 100

/**
 * Turns charges into money: looks at intervals, settles what is worth its gas, and finds out from the chain what became
 * of everything it began, also before a crash. While the chain cannot be reached, charges simply wait.
 */
export class Settler {
  readonly #parameters: SettlerParameters
  readonly #held = new Map<Hex, number>()
  readonly #sendings = new Map<number, number>()
  readonly #gas: Record<SettlementMode, GasCosts> = {
    token: { baseGas: 45_000n, itemGas: 60_000n },
    voucher: { baseGas: 33_000n, itemGas: 11_500n },
  }
  #running: Promise<SettlementRound> | undefined
  #lastError: string | undefined
  readonly done: Promise<void>

  constructor(parameters: SettlerParameters, { loop = true } = {}) {
    this.#parameters = parameters
    this.done = loop ? this.#loop() : Promise.resolve()
  }

  /** What went wrong last, if the last round did not end well. */
  get lastError(): string | undefined {
    return this.#lastError
  }

  /** Settles what is worth it now. One round runs at a time; who asks meanwhile gets the running one. */
  settle(): Promise<SettlementRound> {
    this.#running ??= this.#round().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #loop(): Promise<void> {
    const { signal, intervalMs, log } = this.#parameters
    while (!signal.aborted) {
      try {
        await this.settle()
        this.#lastError = undefined
      } catch (error) {
        if (signal.aborted) return
        this.#lastError = error instanceof Error ? error.message : String(error)
        log.warn({ err: error }, 'fees could not be settled; they are tried again')
      }
      await delay(intervalMs, undefined, { signal }).catch(() => undefined)
    }
  }

  async #round(): Promise<SettlementRound> {
    const { settlements, signal, view } = this.#parameters
    const service = await view.look()
    const round: SettlementRound = { batches: 0, users: 0, earnedWei: 0n, gasWei: 0n }
    for (const batch of settlements.open()) add(round, await this.#complete(batch))
    for (const mode of ['voucher', 'token'] as const) {
      // Before the signer is approved its word settles nothing.
      if (mode === 'token' && service?.signerAcknowledged !== true) continue
      for (let count = 0; count < MAX_BATCHES && !signal.aborted; count += 1) {
        const batch = await this.#prepare(mode)
        if (batch === undefined) break
        add(round, await this.#complete(batch))
      }
    }
    return round
  }

  async #prepare(mode: SettlementMode): Promise<SettlementBatch | undefined> {
    const { chain, contract, provider, signer, settlements, vouchers, view, now } = this.#parameters
    const { earnOverGas, maxItems, maxUnsettledMs } = this.#parameters
    const [gasPriceWei, head] = await Promise.all([chain.client.getGasPrice(), chain.client.getBlockNumber()])
    const nowMs = now()
    const costs = { gas: this.#gas[mode], gasPriceWei, earnOverGas }
    const planned = await planSettlement({
      ...{ mode, settlements, vouchers, view, contract, provider, signer, nowMs, ...costs },
      ...{ chainId: chain.id, maxItems, maxUnsettledMs },
      isHeld: (user) => (this.#held.get(user) ?? 0) > nowMs,
      isUrgent: (user) => view.isLeaving(user),
    })
    // One that cannot be packed would make all the others dearer: it goes with the next batch.
    const packed = mode === 'voucher' ? this.#packable(planned) : planned
    const sound = await this.#preview(mode, isWorthIt(packed, costs) ? packed : planned)
    if (sound.length === 0) return undefined
    return settlements.prepare({ mode, fromBlock: Number(head), items: sound })
  }

  #packable(planned: readonly PlannedItem[]): PlannedItem[] {
    const job = this.#planJob('voucher', planned)
    return planned.filter((_, index) => {
      const item = job.items[index]
      return item !== undefined && packedItem(job, item) !== undefined
    })
  }

  /** Asks the contract what it would say; who would be refused is left out for a while. */
  async #preview(mode: SettlementMode, planned: readonly PlannedItem[]): Promise<PlannedItem[]> {
    const { chain, contract, provider, log } = this.#parameters
    if (planned.length === 0) return []
    const job = this.#planJob(mode, planned)
    const refused = new Map<Hex, number>()
    if (mode === 'token') {
      const [users, reasons] = await chain.client.readContract({
        ...{ address: contract, abi: inferenceServingAbi, functionName: 'previewSettlementResults' },
        ...{ args: [teeItems(job)], account: provider },
      })
      for (const [index, user] of users.entries()) refused.set(user.toLowerCase() as Hex, Number(reasons[index] ?? 0))
    } else {
      const call = settlementCall(job)
      const { data: answer } = await chain.client.call({ account: provider, to: contract, data: call.data })
      for (const [index, status] of settlementStatuses({ call, answer, count: job.items.length }).entries()) {
        const user = job.items[index]?.user
        if (status > 1 && user !== undefined) refused.set(user, status)
      }
    }
    for (const [user, status] of refused) {
      this.#hold(user)
      log.warn({ user, mode, status }, 'the contract would refuse to settle this user; trying again later')
    }
    return planned.filter(({ item }) => !refused.has(item.user))
  }

  /** Sends a batch unless the chain has it already, and enters what came of it. */
  async #complete(batch: SettlementBatch): Promise<SettlementRound> {
    const { chain, contract, provider, settlements, transport, view, metrics, log, signal } = this.#parameters
    const before = await readOutcomes({ chain, contract, provider, batch })
    let sent: SettlementSent = { hash: null, gasCostWei: '0' }
    if (before.length < batch.items.length) {
      const sendings = (this.#sendings.get(batch.id) ?? 0) + 1
      this.#sendings.set(batch.id, sendings)
      try {
        sent = await transport.send(
          `batch-${batch.createdMs}-${batch.id}-${batch.tag.slice(2, 10)}`,
          this.#job(batch),
          signal,
        )
      } catch (error) {
        if (sendings < MAX_SENDINGS || signal.aborted) throw error
        log.warn({ batch: batch.id, err: error }, 'a settlement was given up; its fees are planned anew')
      }
    }
    const outcomes = await readOutcomes({ chain, contract, provider, batch, hash: sent.hash ?? undefined })
    const gasWei = BigInt(sent.gasCostWei)
    const { earnedWei } = settlements.finish({ batch, outcomes, hash: sent.hash ?? undefined, gasCostWei: gasWei })
    this.#sendings.delete(batch.id)
    if (sent.hash !== null) await this.#learnGas(batch, sent.hash)
    for (const item of batch.items) {
      const outcome = outcomes.find(({ itemId }) => itemId === item.id)
      view.forget(item.user)
      metrics.settled(outcome?.status ?? 'unknown', 1)
      if (outcome === undefined || outcome.paidWei === 0n) this.#hold(item.user)
    }
    log.info(
      { batch: batch.id, mode: batch.mode, users: batch.items.length, earnedWei, gasWei, hash: sent.hash },
      'fees settled',
    )
    return { batches: 1, users: batch.items.length, earnedWei, gasWei }
  }

  /** The next batch is weighed by what the last one took. */
  async #learnGas(batch: SettlementBatch, hash: Hash): Promise<void> {
    const receipt = await this.#parameters.chain.client.getTransactionReceipt({ hash }).catch(() => undefined)
    if (receipt === undefined) return
    const { baseGas, itemGas } = this.#gas[batch.mode]
    const measured = receipt.gasUsed > baseGas ? (receipt.gasUsed - baseGas) / BigInt(batch.items.length) : 0n
    if (measured > 0n) this.#gas[batch.mode] = { baseGas, itemGas: (3n * itemGas + measured) / 4n }
  }

  #planJob(mode: SettlementMode, planned: readonly PlannedItem[]): SettlementJob {
    return this.#job({
      ...{ id: 0, tag: '0x' as const, mode },
      fromBlock: 0,
      createdMs: 0,
      items: planned.map(({ item }, id) => ({ ...item, id })),
    })
  }

  #job(batch: SettlementBatch): SettlementJob {
    const { chain, contract, provider } = this.#parameters
    return settlementJob({ batch, chainId: chain.id, contract, provider })
  }

  #hold(user: Hex): void {
    const { now, retryMs } = this.#parameters
    if (this.#held.size >= MAX_HELD) this.#held.clear()
    this.#held.set(user, now() + retryMs)
  }
}

function add(round: SettlementRound, more: SettlementRound): void {
  round.batches += more.batches
  round.users += more.users
  round.earnedWei += more.earnedWei
  round.gasWei += more.gasWei
}
