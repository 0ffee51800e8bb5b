import type { Hash } from './block.ts'
import type { Chain } from './client.ts'
import { findRpcError } from './rpc-error.ts'

const known = new WeakMap<Chain, Promise<Hash>>()

/**
 * Hash of the chain's first block: what tells two chains with one id apart, as a local chain from the one that was there
 * before it. What is kept about a chain on disk is kept under it. `0x` where the endpoints do not show the block.
 *
 * @throws ChainUnavailableError, ChainRpcError
 */
export async function genesisOf(chain: Chain): Promise<Hash> {
  const asked = known.get(chain) ?? ask(chain)
  known.set(chain, asked)
  try {
    return await asked
  } catch (error) {
    known.delete(chain)
    throw error
  }
}

/** As the second block names it: a local chain that goes on from its stored state may show a first block made anew. */
async function ask(chain: Chain): Promise<Hash> {
  return (await blockOf(chain, 1n))?.parentHash ?? (await blockOf(chain, 0n))?.hash ?? '0x'
}

async function blockOf({ client }: Chain, blockNumber: bigint) {
  try {
    return await client.getBlock({ blockNumber })
  } catch (error) {
    const kind = findRpcError(error)?.kind
    // Another answer tomorrow would be another chain: only what an endpoint says for good may count.
    if (kind === 'endpoint' || kind === 'rate-limit') throw error
    return undefined
  }
}
