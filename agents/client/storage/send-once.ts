import { setTimeout as sleep } from 'node:timers/promises'
import {
  keccak256,
  type LocalAccount,
  parseTransaction,
  type TransactionReceipt,
  type TransactionSerializable,
} from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { findRpcError } from '#kit/chain/rpc-error.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hex } from '#protocol/hex.ts'
import { InsufficientFundsError, reasonOf, WaitTimeoutError } from './errors.ts'
import type { JournalEntry, SubmissionJournal } from './submission-journal.ts'

/** A transaction that waits longer than this for a block is sent again with a higher fee. */
const BUMP_AFTER_MS = 30_000
const MAX_BUMPS = 4

export interface SendOnceParameters {
  chain: Chain
  account: LocalAccount
  journal: SubmissionJournal
  root: Hex
  to: Hex
  data: Hex
  gas: bigint
  valueWei: bigint
  timeoutMs: number
  pollIntervalMs: number
  signal?: AbortSignal | undefined
  /** The hash is in the journal; the transaction is on its way. */
  onSent: (hash: Hex) => void
  onWaiting: (state: { waitedMs: number; reason: string }) => void
}

/**
 * Sign, write to the journal, send, wait for the receipt. Sign and send of one account must not overlap: run this
 * under a lock per account. Once the journal holds the transaction, a repeat through {@link resumeSend} cannot pay again.
 *
 * @throws InsufficientFundsError, WaitTimeoutError; `TRANSACTION_REVERTED`
 */
export async function signAndSend(parameters: SendOnceParameters): Promise<JournalEntry> {
  const { chain, account, to, data, gas, valueWei } = parameters
  const address = account.address
  const nonce = await chain.client.getTransactionCount({ address, blockTag: 'pending' })
  const request = await chain.client.prepareTransactionRequest({ account, to, data, gas, value: valueWei, nonce })
  await checkFunds({ chain, address, feeWei: valueWei, gasWei: gas * (request.maxFeePerGas ?? request.gasPrice ?? 0n) })
  const { account: _account, chain: _chain, from: _from, ...transaction } = request
  const raw = await account.signTransaction(transaction as TransactionSerializable)
  const entry: JournalEntry = { root: parameters.root, nonce, transactions: [{ hash: keccak256(raw), raw }] }
  await parameters.journal.write(entry)
  await broadcast({ chain, address, raw, valueWei })
  parameters.onSent(keccak256(raw))
  return entry
}

/**
 * Bring a journalled transaction to its receipt: look for it, send it again where the chain does not know it, wait.
 * Undefined when it can never be mined any more (its nonce went to another transaction) or was reverted: then nothing
 * was paid and the entry is removed.
 */
export async function resumeSend(
  entry: JournalEntry,
  parameters: SendOnceParameters,
): Promise<TransactionReceipt | undefined> {
  const { chain, account, journal, valueWei, timeoutMs, pollIntervalMs, signal } = parameters
  const started = Date.now()
  let bumpedAt = started
  for (let round = 0; ; round++) {
    signal?.throwIfAborted()
    const receipt = await findReceipt(chain, entry)
    if (receipt !== undefined) {
      if (receipt.status === 'success') return receipt
      await journal.remove()
      throw new WeightlessError({
        code: 'TRANSACTION_REVERTED',
        message: `the transaction ${receipt.transactionHash} was mined and reverted`,
        fix: 'run the same command again: the fee was returned, only gas is lost',
        details: { txHash: receipt.transactionHash },
      })
    }
    const mined = await chain.client.getTransactionCount({ address: account.address, blockTag: 'latest' })
    if (mined > entry.nonce) {
      // Between the two questions a block may have come in: look once more before giving the entry up.
      if ((await findReceipt(chain, entry)) !== undefined) continue
      await journal.remove()
      return undefined
    }
    const waitedMs = Date.now() - started
    if (waitedMs > timeoutMs) {
      throw new WaitTimeoutError({
        what: 'the transaction to be mined',
        waitedMs,
        missing: [{ url: chain.endpoints.join(', '), reason: `has no receipt of ${entry.transactions.at(-1)?.hash}` }],
      })
    }
    const last = entry.transactions.at(-1)
    if (round === 0 && last !== undefined) {
      await broadcast({ chain, address: account.address, raw: last.raw, valueWei })
    } else if (Date.now() - bumpedAt > BUMP_AFTER_MS && entry.transactions.length <= MAX_BUMPS) {
      bumpedAt = Date.now()
      await bump(entry, parameters)
    }
    parameters.onWaiting({ waitedMs, reason: `has not mined ${last?.hash}` })
    await sleep(pollIntervalMs, undefined, { signal }).catch(() => signal?.throwIfAborted())
  }
}

/** The same transaction with a fee that replaces the earlier one: nodes ask for at least 10 % more. */
async function bump(entry: JournalEntry, { chain, account, journal, valueWei }: SendOnceParameters): Promise<void> {
  const last = entry.transactions.at(-1)
  if (last === undefined) return
  const { r: _r, s: _s, v: _v, yParity: _y, ...transaction } = parseTransaction(last.raw)
  const raise = (wei: bigint | undefined) => ((wei ?? 0n) * 5n) / 4n + 1n
  const fees =
    transaction.maxFeePerGas === undefined
      ? { gasPrice: raise(transaction.gasPrice) }
      : {
          maxFeePerGas: raise(transaction.maxFeePerGas),
          maxPriorityFeePerGas: raise(transaction.maxPriorityFeePerGas),
        }
  const raw = await account.signTransaction({ ...transaction, ...fees } as TransactionSerializable)
  entry.transactions.push({ hash: keccak256(raw), raw })
  await journal.write(entry)
  await broadcast({ chain, address: account.address, raw, valueWei })
}

async function findReceipt(chain: Chain, entry: JournalEntry): Promise<TransactionReceipt | undefined> {
  for (const { hash } of entry.transactions) {
    const answer = await chain.request('eth_getTransactionReceipt', [hash])
    if (answer !== null && answer !== undefined) return chain.client.getTransactionReceipt({ hash })
  }
  return undefined
}

/** Answers of nodes that know the transaction, or a later one of the same nonce. */
const HARMLESS =
  /already known|already imported|known transaction|nonce too low|replacement transaction underpriced|nonce .*(lower|too low|used)/i

async function broadcast({
  chain,
  address,
  raw,
  valueWei,
}: {
  chain: Chain
  address: Hex
  raw: Hex
  valueWei: bigint
}): Promise<void> {
  try {
    await chain.request('eth_sendRawTransaction', [raw])
  } catch (cause) {
    const failure = findRpcError(cause)
    if (failure === undefined || failure.rpcMessage === undefined || HARMLESS.test(failure.rpcMessage)) {
      if (failure?.rpcMessage !== undefined) return
      throw cause
    }
    if (/insufficient funds/i.test(failure.rpcMessage)) {
      const haveWei = await chain.client.getBalance({ address })
      throw new InsufficientFundsError({
        address,
        haveWei,
        feeWei: valueWei,
        gasWei: (await chain.client.getGasPrice()) * 500_000n,
        cause,
      })
    }
    throw new WeightlessError({
      code: 'TRANSACTION_REFUSED',
      message: `the chain refuses the transaction: ${reasonOf(failure)}`,
      fix: 'see the reason; nothing was paid',
      cause,
    })
  }
}

async function checkFunds({
  chain,
  address,
  feeWei,
  gasWei,
}: {
  chain: Chain
  address: Hex
  feeWei: bigint
  gasWei: bigint
}) {
  const haveWei = await chain.client.getBalance({ address })
  if (haveWei < feeWei + gasWei) throw new InsufficientFundsError({ address, haveWei, feeWei, gasWei })
}
