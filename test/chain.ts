import { type LocalChain, type LocalChainParameters, startLocalChain } from '#kit/chain/local-chain.ts'

export { DEV_ACCOUNTS, type DevAccount, LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'

/** A real chain for one test file. */
export type Anvil = LocalChain

export type StartAnvilParameters = LocalChainParameters

/**
 * Starts anvil on a free loopback port and waits until it answers. End it in `after`.
 *
 * @example
 * const anvil = await startAnvil()
 * after(() => anvil.stop())
 */
export function startAnvil(parameters: StartAnvilParameters = {}): Promise<Anvil> {
  return startLocalChain(parameters)
}

/** Mines so many blocks at once. */
export async function mine(anvil: Anvil, blocks = 1): Promise<void> {
  await anvil.rpc('anvil_mine', [`0x${blocks.toString(16)}`])
}

/** The chain's head. */
export async function headNumber(anvil: Anvil): Promise<number> {
  return Number(await anvil.rpc('eth_blockNumber'))
}
