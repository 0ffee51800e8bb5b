import { type Abi, keccak256, type LocalAccount, type TransactionReceipt } from 'viem'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import { WeightlessError } from '#protocol/error.ts'
import { raceAbort, sleep } from './abortable.ts'
import type { Hash } from './block.ts'
import { broadcast, saysInsufficientFunds } from './broadcast.ts'
import type { Chain } from './client.ts'
import { bumpFees, type Fees, feeCeiling, type GasPolicy, quoteFees } from './fees.ts'
import { newPending, type PendingTransaction } from './pending-transaction.ts'
import { fetchReceipt, isCanonical, type TransactionRequest } from './receipts.ts'
import { decodeRevert } from './revert.ts'
import { ChainRpcError, ChainUnavailableError } from './rpc-error.ts'
import { SendQueue } from './send-queue.ts'
import {
  InsufficientFundsError,
  TransactionError,
  TransactionRejectedError,
  TransactionTimeoutError,
} from './transaction-error.ts'
import { TransactionKeeper } from './transaction-keeper.ts'

export type { GasPolicy } from './fees.ts'
export type { TransactionRequest } from './receipts.ts'
export {
  ContractRevertError,
  InsufficientFundsError,
  TransactionError,
  TransactionRejectedError,
  TransactionTimeoutError,
} from './transaction-error.ts'

/** Sends transactions of one account. One per account and process; two processes sharing a key get along, slower. */
export interface TransactionSender {
  readonly address: Hash
  /**
   * Signs, sends, and waits until the transaction is mined `confirmations` deep. Calls may overlap: nonces are given
   * out in the order in which gas estimates come back.
   *
   * @throws {@link ContractRevertError}, {@link InsufficientFundsError}, {@link TransactionTimeoutError} (it may still
   * be mined: see its hashes), {@link TransactionRejectedError}, ChainUnavailableError; the signal's reason.
   */
  send(request: SendRequest, options?: SendOptions): Promise<TransactionReceipt>
  /** Waits for a transaction sent earlier, perhaps by a process that has ended since: any of its versions. */
  waitFor(hashes: readonly Hash[], options?: Omit<SendOptions, 'onHash'>): Promise<TransactionReceipt>
  /** Transactions sent and not settled. */
  readonly pendingCount: number
  /** Stops watching. What was sent may still be mined; callers that wait get `SENDER_CLOSED`. */
  close(): Promise<void>
}

export interface SendRequest extends TransactionRequest {
  /** Gas limit; left out, estimated (which also finds reverts before they cost anything). */
  gas?: bigint | undefined
  /** To decode this contract's custom errors; added to the sender's own. */
  abi?: Abi | undefined
}

export interface SendOptions {
  signal?: AbortSignal | undefined
  /** Blocks from the transaction's own to the head, both counted. Default 1: mined. */
  confirmations?: number | undefined
  /** From the call to the last confirmation. Default 180 000. */
  timeoutMs?: number | undefined
  /**
   * Told each version's hash before it is sent: store it, and a restart can find it with `waitFor` instead of paying
   * twice. A version may be dropped unsent. If it throws, nothing is sent.
   */
  onHash?: ((hash: Hash) => void | Promise<void>) | undefined
}

export interface CreateSenderParameters {
  chain: Chain
  account: LocalAccount
  gasPolicy?: GasPolicy | undefined
  abi?: Abi | undefined
  log?: Logger | undefined
  metrics?: Metrics | undefined
  /** Transactions under way at once; more wait for their turn. Default 16. */
  maxInFlight?: number | undefined
  /** How often the chain is looked at while something is under way. Default: the chain's polling interval. */
  pollIntervalMs?: number | undefined
}

/** Bounded tries of finding a nonce and a fee that the chain takes. */
const MAX_SUBMIT_TRIES = 8
/** A nonce used this recently counts even where a lagging endpoint has not heard of it. */
const RECENT_NONCE_MS = 10_000

/**
 * A transaction sender with serial nonces, EIP-1559 fees (legacy where the chain has no base fee), replacement of
 * stuck transactions, and errors that say what happened.
 *
 * @example
 * const sender = createSender({ chain, account: privateKeyToAccount(key), abi: flowAbi })
 * const receipt = await sender.send({ to: flow, data, valueWei: feeWei }, { onHash: (hash) => store(hash) })
 */
export function createSender(parameters: CreateSenderParameters): TransactionSender {
  return new Sender(parameters)
}

class Sender implements TransactionSender {
  readonly address: Hash
  readonly #options: CreateSenderParameters
  readonly #policy: GasPolicy
  readonly #keeper: TransactionKeeper
  readonly #closed = new AbortController()
  readonly #queue: SendQueue
  #lastNonce = -1
  #lastNonceAt = 0

  constructor(options: CreateSenderParameters) {
    this.#options = options
    this.#policy = options.gasPolicy ?? {}
    this.address = options.account.address.toLowerCase() as Hash
    this.#queue = new SendQueue(options.maxInFlight ?? 16)
    this.#keeper = new TransactionKeeper({
      chain: options.chain,
      address: this.address,
      policy: this.#policy,
      log: options.log,
      metrics: options.metrics,
      pollIntervalMs: options.pollIntervalMs ?? options.chain.client.pollingInterval,
      signal: this.#closed.signal,
      sign: (pending, fees) => this.#sign(pending, fees),
      resubmit: (pending) => this.#queue.locked(() => this.#submit(pending, this.#closed.signal), this.#closed.signal),
    })
  }

  get pendingCount(): number {
    return this.#keeper.size
  }

  async send(request: SendRequest, options: SendOptions = {}): Promise<TransactionReceipt> {
    const { timeoutMs = 180_000, signal } = options
    const limit = this.#limit(timeoutMs, signal)
    let pending: PendingTransaction | undefined
    try {
      await this.#queue.enter(limit)
      try {
        const prepared = await this.#prepare(request, options, limit)
        pending = prepared
        await this.#queue.locked(() => this.#submit(prepared, limit), limit)
        return await raceAbort(pending.settled.promise, limit)
      } finally {
        this.#queue.leave()
      }
    } catch (error) {
      const final = error instanceof TransactionError && error.code !== 'TRANSACTION_FEE_CAP'
      if (!limit.aborted || final) throw error
      if (pending !== undefined) pending.abandonedAt ??= Date.now()
      signal?.throwIfAborted()
      throw this.#limitError({ timeoutMs, pending, error })
    }
  }

  async waitFor(hashes: readonly Hash[], options: Omit<SendOptions, 'onHash'> = {}): Promise<TransactionReceipt> {
    const { chain, pollIntervalMs = chain.client.pollingInterval } = this.#options
    const { timeoutMs = 180_000, signal, confirmations = 1 } = options
    const limit = this.#limit(timeoutMs, signal)
    let lastError: unknown
    while (!limit.aborted) {
      try {
        const head = BigInt(String(await chain.request('eth_blockNumber', [], { signal: limit })))
        for (const hash of hashes.slice(-64)) {
          const receipt = await fetchReceipt({ chain, hash: hash.toLowerCase() as Hash, signal: limit })
          if (receipt === undefined || head - receipt.blockNumber + 1n < BigInt(confirmations)) continue
          if (await isCanonical({ chain, receipt, signal: limit })) return receipt
        }
      } catch (error) {
        if (!limit.aborted) lastError = error
      }
      await sleep(pollIntervalMs, limit)
    }
    signal?.throwIfAborted()
    if (this.#closed.signal.aborted) throw closedError([])
    const reason = lastError instanceof Error ? lastError.message : 'no version of it is on the chain'
    throw new TransactionTimeoutError({ hashes, nonce: undefined, timeoutMs, reason, cause: lastError })
  }

  async close(): Promise<void> {
    if (!this.#closed.signal.aborted) this.#closed.abort(closedError([]))
    await this.#keeper.done
  }

  /** Gas and fees, and with them the first reasons to refuse. */
  async #prepare(request: SendRequest, options: SendOptions, limit: AbortSignal): Promise<PendingTransaction> {
    const { to, data, valueWei, abi = [] } = request
    const merged = [...abi, ...(this.#options.abi ?? [])]
    const transaction: TransactionRequest = { to, data, valueWei }
    const gas = request.gas ?? (await this.#estimateGas(transaction, merged, limit))
    const { maxGas } = this.#policy
    if (maxGas !== undefined && gas > maxGas) {
      throw new TransactionRejectedError({
        code: 'TRANSACTION_GAS_CAP',
        message: `the transaction needs ${gas} gas, the policy allows ${maxGas}`,
        fix: 'raise the gas cap, or do less in one transaction',
        details: { gas: String(gas), maxGas: String(maxGas) },
      })
    }
    const fees = await this.#quote(limit)
    const { confirmations, onHash } = options
    return newPending({ request: transaction, gas, fees, nonce: -1, abi: merged, confirmations, onHash })
  }

  async #estimateGas(request: TransactionRequest, abi: Abi, signal: AbortSignal): Promise<bigint> {
    const { to, data, valueWei = 0n } = request
    const call = { from: this.address, to, data, value: `0x${valueWei.toString(16)}` }
    try {
      const gas = BigInt(String(await this.#options.chain.request('eth_estimateGas', [call], { signal })))
      return (gas * BigInt(Math.round((this.#policy.gasMargin ?? 1.2) * 1000))) / 1000n
    } catch (error) {
      if (saysInsufficientFunds(error)) throw await this.#insufficientFunds(valueWei, error)
      throw decodeRevert({ error, abi, to }) ?? error
    }
  }

  /** Today's fees; while the chain is dearer than the policy allows, waits for it to get cheaper. */
  async #quote(limit: AbortSignal): Promise<Fees> {
    const { chain } = this.#options
    for (;;) {
      try {
        return await quoteFees({ chain, policy: this.#policy, signal: limit })
      } catch (error) {
        if (!(error instanceof TransactionRejectedError)) throw error
        await sleep(Math.max(1_000, chain.client.pollingInterval), limit)
        if (limit.aborted) throw error
      }
    }
  }

  /** Finds a nonce, signs, sends; on return the keeper watches over it. Runs one at a time. */
  async #submit(pending: PendingTransaction, limit: AbortSignal): Promise<void> {
    const { chain } = this.#options
    let floor = 0
    let last: Error | undefined
    for (let tries = 0; tries < MAX_SUBMIT_TRIES; tries++) {
      pending.nonce = Math.max(floor, await this.#nextNonce(limit))
      const attempt = await this.#sign(pending, pending.fees)
      await pending.onHash?.(attempt.hash)
      limit.throwIfAborted()
      pending.attempts = [attempt]
      pending.broadcastAt = Date.now()
      // From here on it may be on the chain: the caller's time limit no longer stops the sending.
      const outcome = await broadcast({ chain, raw: attempt.raw, signal: this.#closed.signal })
      if (outcome.kind === 'rejected') throw rejected(outcome.error)
      if (outcome.kind === 'insufficient-funds') {
        last = outcome.error
        pending.fees = await this.#affordableFees(pending, outcome.error)
      } else if (outcome.kind === 'underpriced') {
        last = outcome.error
        pending.fees = await this.#higherFees(pending, outcome.error)
      } else if (outcome.kind === 'nonce-too-low' && !(await this.#isKnown(attempt.hash))) {
        floor = pending.nonce + 1
      } else {
        pending.lastError = outcome.kind === 'unknown' ? outcome.error.message : undefined
        this.#lastNonce = pending.nonce
        this.#lastNonceAt = Date.now()
        this.#keeper.add(pending)
        return
      }
    }
    throw rejected(last)
  }

  /** The lowest nonce that neither the chain nor we have used. */
  async #nextNonce(signal: AbortSignal): Promise<number> {
    const answer = await this.#options.chain.request('eth_getTransactionCount', [this.address, 'pending'], { signal })
    const counted = Number(answer)
    const recent = Date.now() - this.#lastNonceAt < RECENT_NONCE_MS ? this.#lastNonce + 1 : 0
    return Math.max(Number.isSafeInteger(counted) ? counted : 0, this.#keeper.highestNonce + 1, recent)
  }

  async #sign(pending: PendingTransaction, fees: Fees): Promise<{ hash: Hash; raw: Hash }> {
    const { chain, account } = this.#options
    const { to, data, valueWei } = pending.request
    const fields = { chainId: chain.id, nonce: pending.nonce, to, data, value: valueWei, gas: pending.gas }
    const raw =
      fees.type === 'legacy'
        ? await account.signTransaction({ ...fields, type: 'legacy', gasPrice: fees.gasPrice })
        : await account.signTransaction({
            ...fields,
            type: 'eip1559',
            maxFeePerGas: fees.maxFeePerGas,
            maxPriorityFeePerGas: fees.maxPriorityFeePerGas,
          })
    return { hash: keccak256(raw), raw }
  }

  /** Whether the chain knows a transaction after all. In doubt yes: the keeper finds out, and nothing is paid twice. */
  async #isKnown(hash: Hash): Promise<boolean> {
    try {
      for (let looks = 0; looks < 3; looks++) {
        if ((await this.#options.chain.request('eth_getTransactionByHash', [hash])) !== null) return true
        await sleep(100, this.#closed.signal)
      }
      return false
    } catch (error) {
      if (error instanceof ChainRpcError || error instanceof ChainUnavailableError) return true
      throw error
    }
  }

  /** The room for a rising base fee is given up before a transaction is called too dear for the account. */
  async #affordableFees(pending: PendingTransaction, cause: ChainRpcError): Promise<Fees> {
    const { chain } = this.#options
    const { fees, gas } = pending
    const valueWei = pending.request.valueWei ?? 0n
    const balanceWei = await this.#balance()
    const ceiling = gas > 0n ? (balanceWei - valueWei) / gas : 0n
    const least = await quoteFees({ chain, policy: { ...this.#policy, baseFeeMultiplier: 1.1 } })
    if (ceiling < feeCeiling(least) || ceiling >= feeCeiling(fees)) {
      const neededWei = valueWei + gas * feeCeiling(ceiling < feeCeiling(least) ? least : fees)
      throw new InsufficientFundsError({ address: this.address, balanceWei, neededWei, cause })
    }
    if (fees.type === 'legacy') return { type: 'legacy', gasPrice: ceiling }
    const tip = fees.maxPriorityFeePerGas
    return { type: 'eip1559', maxFeePerGas: ceiling, maxPriorityFeePerGas: tip < ceiling ? tip : ceiling }
  }

  async #higherFees(pending: PendingTransaction, cause: ChainRpcError): Promise<Fees> {
    const market = await quoteFees({ chain: this.#options.chain, policy: this.#policy })
    const fees = bumpFees({ old: pending.fees, market, policy: this.#policy })
    if (fees !== undefined) return fees
    throw new TransactionRejectedError({
      code: 'TRANSACTION_FEE_CAP',
      message: `the chain wants a higher fee than the policy allows: ${cause.rpcMessage ?? cause.message}`,
      fix: 'wait for cheaper gas, or raise the fee cap',
      cause,
    })
  }

  async #insufficientFunds(neededWei: bigint, cause: ChainRpcError): Promise<InsufficientFundsError> {
    return new InsufficientFundsError({ address: this.address, balanceWei: await this.#balance(), neededWei, cause })
  }

  async #balance(): Promise<bigint> {
    return BigInt(String(await this.#options.chain.request('eth_getBalance', [this.address, 'latest'])))
  }

  #limit(timeoutMs: number, signal: AbortSignal | undefined): AbortSignal {
    const signals = [AbortSignal.timeout(timeoutMs), this.#closed.signal]
    return AbortSignal.any(signal === undefined ? signals : [...signals, signal])
  }

  #limitError(parameters: {
    timeoutMs: number
    pending: PendingTransaction | undefined
    error: unknown
  }): TransactionRejectedError | TransactionTimeoutError {
    const { timeoutMs, pending, error } = parameters
    const hashes = pending?.attempts.map(({ hash }) => hash) ?? []
    if (this.#closed.signal.aborted) return closedError(hashes)
    const reason =
      hashes.length === 0
        ? `it was not sent${error instanceof WeightlessError ? `: ${error.message}` : ''}`
        : (pending?.lastError ?? 'it was sent and is not mined yet')
    return new TransactionTimeoutError({ hashes, nonce: pending?.nonce, timeoutMs, reason, cause: error })
  }
}

function rejected(cause: Error | undefined): TransactionRejectedError {
  const reason = cause instanceof ChainRpcError ? (cause.rpcMessage ?? cause.message) : 'no usable nonce was found'
  return new TransactionRejectedError({
    code: 'TRANSACTION_REJECTED',
    message: `the chain refused the transaction: ${reason}`,
    fix: cause === undefined ? 'make sure that no other process sends with the same key' : undefined,
    cause,
  })
}

function closedError(hashes: readonly Hash[]): TransactionRejectedError {
  return new TransactionRejectedError({
    code: 'SENDER_CLOSED',
    message: 'the sender was closed before the transaction was settled',
    fix: hashes.length === 0 ? undefined : 'look for the hashes in details before sending again: it may still be mined',
    details: { hashes },
  })
}
