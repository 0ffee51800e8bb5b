import { decodeFunctionData, type Log, parseEventLogs } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { decodeVoucherPayments } from '#protocol/compute/packed-vouchers.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { carriesTag } from './settlement-job.ts'
import type { ItemOutcome, SettlementBatch } from './settlement-log.ts'

/** What the contract says of one item (compute.md §1.5). */
const STATUS: readonly string[] = [
  'success',
  'partial',
  'provider-mismatch',
  'no-tee-signer',
  'invalid-nonce',
  'invalid-signature',
]
/** Blocks asked for at once. */
const PAGE_BLOCKS = 1_000n
/** Transactions looked at for one batch. */
const MAX_TRANSACTIONS = 1_000

export interface OutcomesParameters {
  chain: Chain
  contract: Hex
  provider: Hex
  batch: SettlementBatch
  /** The transaction, where it is known: saves the search if it settled everything. */
  hash?: Hash | undefined
}

/**
 * What became of a batch, from the chain alone, so that it does not matter who sent it, how often, or whether the sender
 * lived to see its receipt. An item that the chain has not seen has no outcome.
 *
 * What counts is what transactions of this very batch paid, told by the tag that they carry. The contract's counts of a
 * user rise for all who settle with one key; were they taken, two processes would both count what one of them was paid.
 */
export async function readOutcomes(parameters: OutcomesParameters): Promise<ItemOutcome[]> {
  const { batch, hash } = parameters
  if (hash !== undefined) {
    const outcomes = await outcomesOf(parameters, [hash])
    if (batch.items.every(({ id }) => outcomes.some(({ itemId, status }) => itemId === id && status === 'success'))) {
      return outcomes
    }
  }
  // A sending before this one may have been mined after all.
  const found = await searchTransactions(parameters)
  return await outcomesOf(parameters, hash === undefined ? found : [...new Set([...found, hash])])
}

async function outcomesOf(parameters: OutcomesParameters, hashes: readonly Hash[]): Promise<ItemOutcome[]> {
  const { chain, contract, provider, batch } = parameters
  const outcomes = new Map<number, ItemOutcome>()
  for (const transactionHash of hashes.slice(0, MAX_TRANSACTIONS)) {
    const { from, input } = await chain.client.getTransaction({ hash: transactionHash })
    if (from.toLowerCase() !== provider || !carriesTag(input, batch.tag)) continue
    const { status, logs } = await chain.client.getTransactionReceipt({ hash: transactionHash })
    if (status !== 'success') continue
    const own = logs.filter(({ address }) => address.toLowerCase() === contract.toLowerCase())
    if (batch.mode === 'voucher') addPayments(outcomes, batch, own)
    else addResults(outcomes, batch, own, input)
  }
  return [...outcomes.values()]
}

/** What each user paid, over all transactions of the batch: one that was sent again pays what the first could not. */
function addPayments(outcomes: Map<number, ItemOutcome>, batch: SettlementBatch, logs: Log[]): void {
  for (const { args } of parseEventLogs({ abi: inferenceServingAbi, eventName: 'VouchersSettled', logs })) {
    for (const payment of decodeVoucherPayments(args.payments)) {
      const item = batch.items.find(({ user }) => user === payment.user)
      if (item === undefined) continue
      const paidWei = (outcomes.get(item.id)?.paidWei ?? 0n) + payment.paidWei
      const status = paidWei >= item.totalWei - item.paidBeforeWei ? 'success' : 'partial'
      outcomes.set(item.id, { itemId: item.id, status, paidWei })
    }
  }
}

/** One event for each item, in the order of the call. */
function addResults(outcomes: Map<number, ItemOutcome>, batch: SettlementBatch, logs: Log[], input: Hex): void {
  const events = parseEventLogs({ abi: inferenceServingAbi, eventName: 'TEESettlementResult', logs })
  for (const [index, { user, nonce, totalFee }] of settledItems(input).entries()) {
    const event = events[index]?.args
    const item = batch.items.find((own) => own.user === user.toLowerCase() && own.nonce === nonce)
    if (event === undefined || item === undefined || event.user.toLowerCase() !== item.user) continue
    const status = STATUS[event.status] ?? `status-${event.status}`
    const paidWei = event.status <= 1 ? totalFee - event.unsettledAmount : 0n
    // A second sending of a paid item says "invalid nonce": what paid it counts.
    if (paidWei > 0n || !outcomes.has(item.id)) outcomes.set(item.id, { itemId: item.id, status, paidWei })
  }
}

async function searchTransactions({ chain, contract, provider, batch }: OutcomesParameters): Promise<Hash[]> {
  const head = await chain.client.getBlockNumber()
  const users = [...new Set(batch.items.map(({ user }) => user))]
  const at = { address: contract, abi: inferenceServingAbi } as const
  const hashes = new Set<Hash>()
  for (let from = BigInt(batch.fromBlock); from <= head; from += PAGE_BLOCKS) {
    const last = from + PAGE_BLOCKS - 1n
    const blocks = { fromBlock: from, toBlock: last < head ? last : head }
    const logs =
      batch.mode === 'voucher'
        ? await chain.client.getContractEvents({ ...at, ...blocks, eventName: 'VouchersSettled', args: { provider } })
        : await chain.client.getContractEvents({
            ...{ ...at, ...blocks, eventName: 'TEESettlementResult', args: { user: users } },
          })
    for (const { transactionHash } of logs) hashes.add(transactionHash)
  }
  return [...hashes]
}

function settledItems(input: Hex): readonly { user: Hex; nonce: bigint; totalFee: bigint }[] {
  try {
    const call = decodeFunctionData({ abi: inferenceServingAbi, data: input })
    return call.functionName === 'settleFeesWithTEE' ? call.args[0] : []
  } catch {
    return []
  }
}
