import type { Hash } from './block.ts'
import type { Chain } from './client.ts'

/** The furthest back that is looked. Full nodes keep the state of at least the first of these windows. */
const SEARCH_BLOCKS = [100, 400, 1600]

/**
 * The hash of the transaction that used a nonce, if one of the last 1600 blocks holds it. Bisects over the account's
 * nonce by block, so it costs about ten calls.
 *
 * @throws ChainRpcError where an endpoint lacks the state.
 */
export async function findNonceUser(parameters: {
  chain: Chain
  address: Hash
  nonce: number
  signal?: AbortSignal | undefined
}): Promise<Hash | undefined> {
  const { chain, address, nonce, signal } = parameters
  const head = Number(await chain.request('eth_blockNumber', [], { signal }))
  const usedAt = async (block: number) =>
    Number(await chain.request('eth_getTransactionCount', [address, hex(block)], { signal })) > nonce
  // Invariant: not used at `low`, used at `high`.
  let low = head
  let high = head
  if (!(await usedAt(head))) return undefined
  for (const blocks of SEARCH_BLOCKS) {
    high = low
    low = Math.max(0, head - blocks)
    if (!(await usedAt(low))) break
    if (low === 0 || blocks === SEARCH_BLOCKS.at(-1)) return undefined
  }
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (await usedAt(middle)) high = middle
    else low = middle
  }
  const block = await chain.request('eth_getBlockByNumber', [hex(high), true], { signal })
  const transactions =
    typeof block === 'object' && block !== null && 'transactions' in block ? block.transactions : undefined
  if (!Array.isArray(transactions)) return undefined
  for (const transaction of transactions as Record<string, unknown>[]) {
    const { from, nonce: used, hash } = transaction
    if (typeof from !== 'string' || typeof hash !== 'string') continue
    if (from.toLowerCase() === address && Number(used) === nonce) return hash.toLowerCase() as Hash
  }
  return undefined
}

function hex(value: number): Hash {
  return `0x${value.toString(16)}`
}
