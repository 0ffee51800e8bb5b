import { type Abi, type Address, decodeFunctionResult, encodeFunctionData } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { decodeRevert } from '#kit/chain/revert.ts'
import type { Hex } from '#protocol/hex.ts'

export interface EthCallParameters {
  chain: Chain
  address: Address
  abi: Abi
  functionName: string
  args?: readonly unknown[] | undefined
  from?: Address | undefined
  /** Block whose state is asked; left out, the latest. */
  block?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * Calls a function without a transaction, also one that writes: what it would write is forgotten.
 *
 * @throws ContractRevertError with the contract's reason decoded; chain errors
 */
export async function ethCall(parameters: EthCallParameters): Promise<unknown> {
  const { chain, address, abi, functionName, args = [], from, block, signal } = parameters
  const data = encodeFunctionData({ abi, functionName, args })
  const tag = block === undefined ? 'latest' : `0x${block.toString(16)}`
  try {
    const call = from === undefined ? { to: address, data } : { from, to: address, data }
    const answer = (await chain.request('eth_call', [call, tag], { signal })) as Hex
    return decodeFunctionResult({ abi, functionName, args, data: answer })
  } catch (error) {
    throw decodeRevert({ error, abi, to: address }) ?? error
  }
}
