import { decodeFunctionData, parseEventLogs } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
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
  /** The transaction, where it is known: saves the search. */
  hash?: Hash | undefined
}

/**
 * What became of a batch, from the chain alone, so that it does not matter who sent it, how often, or whether the sender
 * lived to see its receipt. An item that the chain has not seen has no outcome.
 */
export async function readOutcomes(parameters: OutcomesParameters): Promise<ItemOutcome[]> {
  return parameters.batch.mode === 'voucher' ? await voucherOutcomes(parameters) : await tokenOutcomes(parameters)
}

/** A claim is paid as far as the contract's own count has risen. */
async function voucherOutcomes({ chain, contract, provider, batch }: OutcomesParameters): Promise<ItemOutcome[]> {
  const paid = await Promise.all(
    batch.items.map(({ user }) =>
      chain.client.readContract({
        ...{ address: contract, abi: inferenceServingAbi, functionName: 'voucherPaid', args: [user, provider] },
      }),
    ),
  )
  return batch.items.flatMap((item, index) => {
    const paidWei = (paid[index] ?? 0n) - item.paidBeforeWei
    if (paidWei <= 0n) return []
    return [{ itemId: item.id, status: paidWei >= item.totalWei - item.paidBeforeWei ? 'success' : 'partial', paidWei }]
  })
}

async function tokenOutcomes({ chain, contract, provider, batch, hash }: OutcomesParameters): Promise<ItemOutcome[]> {
  const hashes = hash === undefined ? await searchTransactions({ chain, contract, batch }) : [hash]
  const outcomes = new Map<number, ItemOutcome>()
  for (const transactionHash of hashes.slice(0, MAX_TRANSACTIONS)) {
    const [transaction, receipt] = await Promise.all([
      chain.client.getTransaction({ hash: transactionHash }),
      chain.client.getTransactionReceipt({ hash: transactionHash }),
    ])
    if (receipt.status !== 'success' || transaction.from.toLowerCase() !== provider) continue
    const items = settledItems(transaction.input)
    // One event for each item, in the order of the call.
    const events = parseEventLogs({
      ...{ abi: inferenceServingAbi, eventName: 'TEESettlementResult', logs: receipt.logs },
    }).filter(({ address }) => address.toLowerCase() === contract.toLowerCase())
    for (const [index, { user, nonce, totalFee }] of items.entries()) {
      const event = events[index]?.args
      const item = batch.items.find((own) => own.user === user.toLowerCase() && own.nonce === nonce)
      if (event === undefined || item === undefined || event.user.toLowerCase() !== item.user) continue
      const status = STATUS[event.status] ?? `status-${event.status}`
      const paidWei = event.status <= 1 ? totalFee - event.unsettledAmount : 0n
      // A second sending of a paid item says "invalid nonce": what paid it counts.
      if (paidWei > 0n || !outcomes.has(item.id)) outcomes.set(item.id, { itemId: item.id, status, paidWei })
    }
  }
  return [...outcomes.values()]
}

async function searchTransactions(parameters: {
  chain: Chain
  contract: Hex
  batch: SettlementBatch
}): Promise<Hash[]> {
  const { chain, contract, batch } = parameters
  const head = await chain.client.getBlockNumber()
  const hashes = new Set<Hash>()
  for (let from = BigInt(batch.fromBlock); from <= head; from += PAGE_BLOCKS) {
    const last = from + PAGE_BLOCKS - 1n
    const logs = await chain.client.getContractEvents({
      ...{ address: contract, abi: inferenceServingAbi, eventName: 'TEESettlementResult' },
      args: { user: [...new Set(batch.items.map(({ user }) => user))] },
      ...{ fromBlock: from, toBlock: last < head ? last : head },
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
