import type { Abi, Address } from 'viem'
import { findRpcError } from '#kit/chain/client.ts'
import { decodeRevert } from '#kit/chain/revert.ts'
import { reasonOf } from './errors.ts'

/** That a contract refused a call, or is not there. */
export interface ContractRefusal {
  /** Its error with arguments, or what the endpoint said. */
  said: string
  errorName: string | undefined
  args: readonly string[] | undefined
}

/**
 * What a contract said to a call that failed; undefined where the failure is not the contract's.
 *
 * @param abi errors that the contract, and those it calls, may revert with
 */
export function contractRefusal({
  error,
  contract,
  abi,
}: {
  error: unknown
  contract: Address
  abi: Abi
}): ContractRefusal | undefined {
  const failure = findRpcError(error)
  if (failure !== undefined && failure.kind === 'endpoint') return undefined
  const revert = decodeRevert({ error, abi, to: contract })
  if (revert === undefined && failure === undefined && !isEmptyAnswer(error)) return undefined
  const errorName = revert?.errorName
  const args = revert?.args.map(String)
  const said =
    args === undefined ? (reasonOf(error).split('\n')[0] ?? '') : `${errorName ?? 'no reason'}(${args.join(', ')})`
  return { said, errorName, args }
}

/** viem's way of saying that there is no contract at the address. */
function isEmptyAnswer(error: unknown): boolean {
  return error instanceof Error && /returned no data|ContractFunctionZeroData/i.test(`${error.name} ${error.message}`)
}
