import { setTimeout as sleep } from 'node:timers/promises'
import { keccak256, type LocalAccount, parseTransaction, type TransactionReceipt } from 'viem'
import { type BroadcastOutcome, broadcast } from '#kit/chain/broadcast.ts'
import type { Chain } from '#kit/chain/client.ts'
import { bumpFees, type Fees, feeCeiling, quoteFees } from '#kit/chain/fees.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hex } from '#protocol/hex.ts'
import { InsufficientFundsError, reasonOf, WaitTimeoutError } from './errors.ts'
import type { JournalEntry, SubmissionJournal } from './submission-journal.ts'

/** A transaction that waits longer than this for a block is sent again with a higher fee. */
const BUMP_AFTER_MS = 30_000
const MAX_VERSIONS = 8
/** Tries to find a nonce and a fee that the chain takes. */
const MAX_TRIES = 5
/** A nonce that is used up for so long, with no receipt of ours, went to another transaction. */
const TAKEN_FOR_GOOD_MS = 5_000
/** Longer, the same bytes are sent again: an endpoint may have forgotten them. */
const REPEAT_AFTER_MS = 10_000
/**
 * An earlier nonce that nothing has used for so long, as far as the endpoint knows, was dropped with its transaction; or
 * for a quarter of the time limit where that is shorter.
 */
const GAP_PATIENCE_MS = 20_000
/** A longer hole in the nonces is another chain. */
const MAX_GAP = 16
const FILLER_GAS = 21_000n

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
 * Sign, write the signed bytes to the journal, send. Of one account this must not overlap: run it under a lock. From
 * then on {@link resumeSend} brings the transaction home, also from another process: the same bytes cannot pay twice.
 *
 * @throws InsufficientFundsError; `TRANSACTION_REFUSED`
 */
export async function signAndSend(parameters: SendOnceParameters): Promise<JournalEntry> {
  const { chain, account, journal, root, gas, valueWei, signal } = parameters
  const { address } = account
  let fees = await quoteFees({ chain, policy: {}, signal })
  let last: BroadcastOutcome | undefined
  let nonce = -1
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const pending = await chain.client.getTransactionCount({ address, blockTag: 'pending' })
    nonce = last?.kind === 'nonce-too-low' ? Math.max(pending, nonce + 1) : pending
    const haveWei = await chain.client.getBalance({ address })
    const gasWei = gas * feeCeiling(fees)
    if (haveWei < valueWei + gasWei) throw new InsufficientFundsError({ address, haveWei, feeWei: valueWei, gasWei })
    const raw = await sign(parameters, { nonce, fees })
    const entry: JournalEntry = { root, nonce, transactions: [{ hash: keccak256(raw), raw }] }
    signal?.throwIfAborted()
    await journal.write(entry)
    last = await broadcast({ chain, raw })
    if (last.kind === 'accepted' || last.kind === 'unknown') {
      parameters.onSent(keccak256(raw))
      return entry
    }
    if (last.kind === 'nonce-too-low' && (await findReceipt(chain, entry)) !== undefined) return entry
    // The chain has refused these bytes for good: nothing of them may be found on resume.
    await journal.remove()
    if (last.kind === 'rejected') break
    if (last.kind === 'insufficient-funds') {
      throw new InsufficientFundsError({ address, haveWei, feeWei: valueWei, gasWei, cause: last.error })
    }
    const market = await quoteFees({ chain, policy: {}, signal })
    fees = last.kind === 'underpriced' ? (bumpFees({ old: fees, market, policy: {} }) ?? market) : market
  }
  const cause = last !== undefined && 'error' in last ? last.error : undefined
  throw new WeightlessError({
    code: 'TRANSACTION_REFUSED',
    message: `the chain refuses the transaction: ${cause === undefined ? 'its nonce is always taken' : reasonOf(cause)}`,
    fix:
      cause === undefined
        ? 'let no other program send from this account at the same time'
        : 'nothing was paid; see the reason',
    cause,
  })
}

/**
 * Bring a journalled transaction to its receipt: look for it, send it again where the chain does not know it, raise its
 * fee when it waits long, fill a hole in the nonces before it. Undefined when it can never be mined any more because its
 * nonce went to another transaction: then nothing was paid and the entry is removed.
 *
 * @throws WaitTimeoutError, `TRANSACTION_REVERTED`
 */
export async function resumeSend(
  entry: JournalEntry,
  parameters: SendOnceParameters,
): Promise<TransactionReceipt | undefined> {
  const { chain, account, journal, timeoutMs, pollIntervalMs, signal } = parameters
  const started = Date.now()
  let bumpedAt = started
  let sentAt = 0
  let takenAt: number | undefined
  let gapSince: number | undefined
  for (;;) {
    signal?.throwIfAborted()
    const receipt = await findReceipt(chain, entry)
    if (receipt?.status === 'success') return receipt
    if (receipt !== undefined) {
      await journal.remove()
      throw reverted(receipt)
    }
    const mined = await chain.client.getTransactionCount({ address: account.address, blockTag: 'latest' })
    if (mined > entry.nonce) {
      // Count and receipt may come from different blocks or endpoints. To give the entry up too early would pay twice.
      takenAt ??= Date.now()
      if (Date.now() - takenAt > TAKEN_FOR_GOOD_MS) {
        await journal.remove()
        return undefined
      }
      await sleep(pollIntervalMs, undefined, { signal }).catch(() => signal?.throwIfAborted())
      continue
    }
    takenAt = undefined
    const now = Date.now()
    gapSince = mined < entry.nonce ? (gapSince ?? now) : undefined
    if (gapSince !== undefined && now - gapSince > Math.min(GAP_PATIENCE_MS, timeoutMs / 4)) {
      gapSince = now
      await fillGap({ from: mined, entry }, parameters)
    }
    const last = entry.transactions.at(-1)
    if (now - started > timeoutMs) {
      const missing = [{ url: chain.endpoints.join(', '), reason: `has no receipt of ${last?.hash}` }]
      throw new WaitTimeoutError({ what: 'the transaction to be mined', waitedMs: now - started, missing })
    }
    if (now - bumpedAt > BUMP_AFTER_MS && entry.transactions.length < MAX_VERSIONS) {
      bumpedAt = now
      await bump(entry, parameters)
    } else if (last !== undefined && now - sentAt > REPEAT_AFTER_MS) {
      sentAt = now
      await broadcast({ chain, raw: last.raw, signal })
    }
    parameters.onWaiting({ waitedMs: now - started, reason: `has not mined ${last?.hash}` })
    await sleep(pollIntervalMs, undefined, { signal }).catch(() => signal?.throwIfAborted())
  }
}

/**
 * Nothing is mined behind a nonce that nothing uses: a transaction was dropped, and whoever sent it has given it up. An
 * empty transfer to the account itself takes its place: its content is unknown, and what waits must not be signed twice.
 */
async function fillGap(
  { from, entry }: { from: number; entry: JournalEntry },
  { chain, account, signal }: SendOnceParameters,
): Promise<void> {
  const { address } = account
  const pending = await chain.client.getTransactionCount({ address, blockTag: 'pending' })
  if (pending > from || entry.nonce - from > MAX_GAP) return
  const fees = await quoteFees({ chain, policy: {}, signal })
  for (let nonce = from; nonce < entry.nonce; nonce++) {
    const filler = { chain, account, to: address, data: '0x' as const, gas: FILLER_GAS, valueWei: 0n }
    await broadcast({ chain, raw: await sign(filler, { nonce, fees }), signal })
  }
}

/** The same transaction with a fee that replaces the earlier one. */
async function bump(entry: JournalEntry, { chain, account, journal, signal }: SendOnceParameters): Promise<void> {
  const last = entry.transactions.at(-1)
  if (last === undefined) return
  const { to, data, value = 0n, gas = 0n, ...before } = parseTransaction(last.raw)
  if (to === undefined || to === null || data === undefined) return
  const old: Fees =
    before.maxFeePerGas === undefined
      ? { type: 'legacy', gasPrice: before.gasPrice ?? 0n }
      : {
          type: 'eip1559',
          maxFeePerGas: before.maxFeePerGas,
          maxPriorityFeePerGas: before.maxPriorityFeePerGas ?? 0n,
        }
  const fees = bumpFees({ old, market: await quoteFees({ chain, policy: {}, signal }), policy: {} })
  if (fees === undefined) return
  const raw = await sign({ chain, account, to, data, gas, valueWei: value }, { nonce: entry.nonce, fees })
  entry.transactions.push({ hash: keccak256(raw), raw })
  await journal.write(entry)
  await broadcast({ chain, raw, signal })
}

function sign(
  {
    chain,
    account,
    to,
    data,
    gas,
    valueWei,
  }: Pick<SendOnceParameters, 'chain' | 'account' | 'to' | 'data' | 'gas' | 'valueWei'>,
  { nonce, fees }: { nonce: number; fees: Fees },
): Promise<Hex> {
  const fields = { chainId: chain.id, nonce, to, data, value: valueWei, gas }
  return fees.type === 'legacy'
    ? account.signTransaction({ ...fields, type: 'legacy', gasPrice: fees.gasPrice })
    : account.signTransaction({
        ...fields,
        type: 'eip1559',
        maxFeePerGas: fees.maxFeePerGas,
        maxPriorityFeePerGas: fees.maxPriorityFeePerGas,
      })
}

async function findReceipt(chain: Chain, entry: JournalEntry): Promise<TransactionReceipt | undefined> {
  for (const { hash } of entry.transactions) {
    const answer = await chain.request('eth_getTransactionReceipt', [hash])
    if (answer !== null && answer !== undefined) return chain.client.getTransactionReceipt({ hash })
  }
  return undefined
}

function reverted({ transactionHash }: TransactionReceipt): WeightlessError {
  return new WeightlessError({
    code: 'TRANSACTION_REVERTED',
    message: `the transaction ${transactionHash} was mined and reverted`,
    fix: 'run the same command again: the fee was returned, only gas is lost',
    details: { txHash: transactionHash },
  })
}
