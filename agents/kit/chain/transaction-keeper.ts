import { setTimeout as delay } from 'node:timers/promises'
import type { TransactionReceipt } from 'viem'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { Hash } from './block.ts'
import { broadcast } from './broadcast.ts'
import type { Chain } from './client.ts'
import { bumpFees, type Fees, type GasPolicy, quoteFees } from './fees.ts'
import { findNonceUser } from './nonce-search.ts'
import { newPending, type PendingTransaction } from './pending-transaction.ts'
import { explainFailure, fetchReceipt, isCanonical } from './receipts.ts'
import { TransactionRejectedError } from './transaction-error.ts'

/** What the keeper needs of its sender. */
export interface TransactionKeeperParameters {
  chain: Chain
  address: Hash
  policy: GasPolicy
  log: Logger | undefined
  metrics: Metrics | undefined
  pollIntervalMs: number
  /** Ends the watch; its reason settles what is pending. */
  signal: AbortSignal
  sign(pending: PendingTransaction, fees: Fees): Promise<{ hash: Hash; raw: Hash }>
  /** Gives a transaction whose nonce was taken a new one, and adds it again. */
  resubmit(pending: PendingTransaction): Promise<void>
}

const FIRST_LOOK_MS = 25
/** The same bytes again, in case a node has dropped them. */
const REBROADCAST_MS = 10_000
const REBROADCAST_AT_ONCE = 4
/** A used nonce without a receipt: so long and so often, and it was somebody else's transaction. */
const LOST_AFTER_MS = 4_000
const LOST_LOOKS = 5
const MAX_RESENDS = 3
/** A hole in the nonces of this many is not a dropped transaction but another chain. */
const MAX_GAP = 16
const GAP_PATIENCE_MS = 5_000
/** Transactions of an earlier process get this many times longer before they are replaced. */
const FOREIGN_PATIENCE = 3
/** Nobody waits any more and nothing is behind it: watched no longer than this. */
const ABANDONED_MS = 3_600_000
const FILLER_GAS = 21_000n

/**
 * Watches the transactions of one account until each is mined and confirmed: sends them again, replaces the one whose
 * turn it is when it is stuck, fills holes in the nonces, and gives a transaction whose nonce somebody else has used a
 * new one. Runs while there is something to watch.
 */
export class TransactionKeeper {
  readonly #options: TransactionKeeperParameters
  readonly #pending = new Map<number, PendingTransaction>()
  readonly #replaced: { inc(): void } | undefined
  readonly #settledCount: { inc(labels: { outcome: string }): void } | undefined
  #loop: Promise<void> | undefined
  #newestAt = 0

  constructor(options: TransactionKeeperParameters) {
    this.#options = options
    const { metrics } = options
    this.#replaced = metrics?.counter({ name: 'tx_replaced_total', help: 'Transactions replaced with a higher fee' })
    this.#settledCount = metrics?.counter({
      name: 'tx_settled_total',
      help: 'Transactions settled',
      labels: ['outcome'],
    })
  }

  get size(): number {
    return this.#pending.size
  }

  /** −1 when nothing is pending. */
  get highestNonce(): number {
    return Math.max(-1, ...this.#pending.keys())
  }

  /** Resolves when nothing is watched (any more). */
  get done(): Promise<void> {
    return this.#loop ?? Promise.resolve()
  }

  /** Takes a transaction that was sent into its care. */
  add(pending: PendingTransaction): void {
    this.#pending.set(pending.nonce, pending)
    this.#newestAt = Date.now()
    this.#loop ??= this.#start()
  }

  async #start(): Promise<void> {
    // What is added while the last round ends is watched too.
    do await this.#run()
    while (this.#pending.size > 0)
    this.#loop = undefined
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#options
    while (this.#pending.size > 0 && !signal.aborted) {
      await this.#pause()
      if (signal.aborted) break
      try {
        await this.#tick()
      } catch (error) {
        if (signal.aborted) break
        const message = error instanceof Error ? error.message : String(error)
        for (const pending of this.#pending.values()) pending.lastError = message
        log?.debug({ err: error }, 'a look at pending transactions failed')
      }
    }
    if (!signal.aborted) return
    for (const pending of this.#pending.values()) {
      pending.settled.reject(
        new TransactionRejectedError({
          code: 'SENDER_CLOSED',
          message: 'the sender was closed before the transaction was settled',
          fix: 'look for the hashes in details before sending again: it may still be mined',
          details: { hashes: pending.attempts.map(({ hash }) => hash), nonce: pending.nonce },
        }),
      )
    }
    this.#pending.clear()
  }

  /** Soon after something was sent looks come quickly: a chain that mines at once should feel so. */
  async #pause(): Promise<void> {
    const { pollIntervalMs, signal } = this.#options
    const ms = Math.min(pollIntervalMs, Math.max(FIRST_LOOK_MS, (Date.now() - this.#newestAt) / 2))
    const ref = [...this.#pending.values()].some((pending) => pending.abandonedAt === undefined)
    await delay(ms, undefined, { signal, ref }).catch(() => undefined)
  }

  async #tick(): Promise<void> {
    const mined = await this.#count('latest')
    const now = Date.now()
    const pending = [...this.#pending.values()].sort((a, b) => a.nonce - b.nonce)
    const used = pending.filter(({ nonce }) => nonce < mined)
    if (used.length > 0) {
      const needsHead = used.some(({ confirmations }) => confirmations > 1)
      const head = needsHead ? BigInt(String(await this.#request('eth_blockNumber', []))) : undefined
      for (const transaction of used) await this.#look(transaction, head)
    }
    const waiting = pending.filter(({ nonce }) => nonce >= mined)
    for (const transaction of waiting) {
      transaction.missingSince = undefined
      transaction.missingLooks = 0
      // A reorg took it out of its block, and perhaps the pool has it no more.
      if (transaction.mined) transaction.broadcastAt = 0
      transaction.mined = false
    }
    const quiet = waiting.filter(({ broadcastAt }) => now - broadcastAt > REBROADCAST_MS)
    for (const transaction of quiet.slice(0, REBROADCAST_AT_ONCE)) await this.#rebroadcast(transaction)
    const [first] = waiting
    if (first === undefined) return
    if (first.nonce === mined) await this.#push(first, { last: waiting.length === 1 })
    else await this.#fillGap(first, mined)
  }

  /** A transaction whose nonce is used: by one of its versions, one hopes. */
  async #look(transaction: PendingTransaction, head: bigint | undefined): Promise<void> {
    const { chain, signal } = this.#options
    for (const { hash } of transaction.attempts.toReversed()) {
      const receipt = await fetchReceipt({ chain, hash, signal })
      if (receipt === undefined) continue
      transaction.mined = true
      transaction.missingSince = undefined
      transaction.missingLooks = 0
      const depth = head === undefined ? 1n : head - receipt.blockNumber + 1n
      if (depth < BigInt(transaction.confirmations)) return
      if (await isCanonical({ chain, receipt, signal })) await this.#settle(transaction, receipt)
      return
    }
    transaction.missingSince ??= Date.now()
    transaction.missingLooks++
    if (transaction.missingLooks < LOST_LOOKS || Date.now() - transaction.missingSince < LOST_AFTER_MS) return
    await this.#lost(transaction)
  }

  async #settle(transaction: PendingTransaction, receipt: TransactionReceipt): Promise<void> {
    const { chain, address, signal } = this.#options
    const { request, gas, abi } = transaction
    if (receipt.status === 'success') {
      transaction.settled.resolve(receipt)
    } else {
      transaction.settled.reject(await explainFailure({ chain, request, from: address, gas, receipt, abi, signal }))
    }
    this.#pending.delete(transaction.nonce)
    this.#settledCount?.inc({ outcome: receipt.status })
  }

  /**
   * Its nonce seems to have gone to somebody else's transaction. It gets a new one only when that other transaction is
   * found: an endpoint that cannot show a receipt must not make us pay twice.
   */
  async #lost(transaction: PendingTransaction): Promise<void> {
    const { chain, address, log, resubmit, signal } = this.#options
    const { nonce } = transaction
    const user = await findNonceUser({ chain, address, nonce, signal })
    transaction.missingSince = undefined
    transaction.missingLooks = 0
    // It is ours: the receipt will come.
    if (transaction.attempts.some(({ hash }) => hash === user)) return
    this.#pending.delete(nonce)
    log?.warn({ nonce, user }, 'another transaction took the nonce: is the key used elsewhere?')
    const wanted = !transaction.filler && transaction.abandonedAt === undefined
    if (wanted && user !== undefined && transaction.resends < MAX_RESENDS) {
      transaction.resends++
      transaction.turnSince = undefined
      transaction.gapSince = undefined
      await resubmit(transaction).catch(transaction.settled.reject)
      return
    }
    this.#settledCount?.inc({ outcome: 'replaced' })
    transaction.settled.reject(
      new TransactionRejectedError({
        code: 'TRANSACTION_REPLACED',
        message: `nonce ${nonce} was used by ${user ?? 'a transaction that no endpoint shows'}`,
        fix: 'make sure that no other process sends with the same key; look for the hashes before sending again',
        details: { nonce, user, hashes: transaction.attempts.map(({ hash }) => hash) },
      }),
    )
  }

  /** The transaction whose turn it is. When it has been for too long, it is offered again for more. */
  async #push(transaction: PendingTransaction, { last }: { last: boolean }): Promise<void> {
    const { policy } = this.#options
    const now = Date.now()
    transaction.turnSince ??= now
    transaction.gapSince = undefined
    const abandonedForMs = transaction.abandonedAt === undefined ? 0 : now - transaction.abandonedAt
    if (last && !transaction.filler && transaction.abandonedAt !== undefined) {
      // Nobody waits for it and nothing is behind it: it may take its time, but not ours for ever.
      if (abandonedForMs > ABANDONED_MS) this.#pending.delete(transaction.nonce)
      return
    }
    if (now - transaction.turnSince < (policy.stuckAfterMs ?? 30_000)) return
    transaction.turnSince = now
    if (transaction.attempts.length > (policy.maxReplacements ?? 10)) return await this.#rebroadcast(transaction)
    await this.#replace(transaction)
  }

  async #replace(transaction: PendingTransaction): Promise<void> {
    const { chain, policy, signal, log, sign } = this.#options
    const fees = await this.#replacementFees(transaction)
    if (fees === undefined) {
      transaction.lastError = 'it is stuck, and the fee cap allows no higher offer'
      return await this.#rebroadcast(transaction)
    }
    const attempt = await sign(transaction, fees)
    await transaction.onHash?.(attempt.hash)
    transaction.attempts.push(attempt)
    transaction.fees = fees
    transaction.broadcastAt = Date.now()
    const outcome = await broadcast({ chain, raw: attempt.raw, signal })
    this.#replaced?.inc()
    log?.info(
      { nonce: transaction.nonce, hash: attempt.hash, attempt: transaction.attempts.length, outcome: outcome.kind },
      'replaced a stuck transaction with a higher fee',
    )
    if ('error' in outcome) transaction.lastError = outcome.error.message
    // Not enough yet to displace the old one: the next look offers more.
    if (outcome.kind === 'underpriced') transaction.turnSince = Date.now() - (policy.stuckAfterMs ?? 30_000)
  }

  async #replacementFees(transaction: PendingTransaction): Promise<Fees | undefined> {
    const { chain, policy, signal } = this.#options
    try {
      const market = await quoteFees({ chain, policy, signal })
      return bumpFees({ old: transaction.fees, market, policy })
    } catch (error) {
      if (error instanceof TransactionRejectedError) return undefined
      throw error
    }
  }

  async #rebroadcast(transaction: PendingTransaction): Promise<void> {
    const { chain, signal } = this.#options
    const raw = transaction.attempts.at(-1)?.raw
    if (raw === undefined) return
    transaction.broadcastAt = Date.now()
    const outcome = await broadcast({ chain, raw, signal })
    if ('error' in outcome) transaction.lastError = outcome.error.message
  }

  /**
   * A nonce before `first` is missing on the chain and nothing of ours holds it: a node dropped a transaction, or one
   * of an earlier process hangs. An empty transfer to ourselves takes its place: the lost one's content is unknown, and
   * sending `first` again under a lower nonce could execute it twice.
   */
  async #fillGap(first: PendingTransaction, mined: number): Promise<void> {
    const { address, chain, policy, signal, log, sign } = this.#options
    const now = Date.now()
    first.gapSince ??= now
    const stuckAfterMs = policy.stuckAfterMs ?? 30_000
    const foreign = (await this.#count('pending')) > mined
    const patienceMs = foreign ? FOREIGN_PATIENCE * stuckAfterMs : Math.min(GAP_PATIENCE_MS, stuckAfterMs)
    if (now - first.gapSince < patienceMs) return
    if (first.nonce - mined > MAX_GAP) return this.#refuseGap(mined)
    log?.warn({ from: mined, to: first.nonce - 1 }, 'filling a hole in the nonces with empty transfers')
    for (let nonce = mined; nonce < first.nonce; nonce++) {
      const fees = await quoteFees({ chain, policy, signal })
      const request = { to: address, valueWei: 0n }
      const filler = newPending({ request, gas: FILLER_GAS, fees, nonce, filler: true })
      const attempt = await sign(filler, fees)
      filler.attempts.push(attempt)
      filler.broadcastAt = Date.now()
      const outcome = await broadcast({ chain, raw: attempt.raw, signal })
      if (outcome.kind === 'nonce-too-low') continue
      if (outcome.kind === 'underpriced') filler.turnSince = now - stuckAfterMs
      this.#pending.set(nonce, filler)
    }
    first.gapSince = undefined
  }

  /** The chain is far behind our nonces: it was reset. Nothing here can be mined soon. */
  #refuseGap(mined: number): void {
    for (const [nonce, transaction] of this.#pending) {
      if (nonce < mined) continue
      this.#pending.delete(nonce)
      transaction.settled.reject(
        new TransactionRejectedError({
          code: 'TRANSACTION_NONCE_GAP',
          message: `the transaction has nonce ${nonce}, the chain expects ${mined}`,
          fix: 'the chain was reset or an endpoint is far behind: check it, then send again',
          details: { nonce, expected: mined, hashes: transaction.attempts.map(({ hash }) => hash) },
        }),
      )
    }
  }

  async #count(tag: 'latest' | 'pending'): Promise<number> {
    const count = Number(await this.#request('eth_getTransactionCount', [this.#options.address, tag]))
    if (Number.isSafeInteger(count)) return count
    throw new TypeError('eth_getTransactionCount did not answer with a number')
  }

  #request(method: string, params: readonly unknown[]): Promise<unknown> {
    return this.#options.chain.request(method, params, { signal: this.#options.signal })
  }
}
