import { type Abi, decodeErrorResult, parseAbi } from 'viem'
import type { Hash } from './block.ts'
import { type ChainRpcError, findRpcError } from './rpc-error.ts'
import { ContractRevertError } from './transaction-error.ts'

/** What every contract may revert with (Solidity ABI specification, "Errors"). */
const BUILT_IN = parseAbi(['error Error(string reason)', 'error Panic(uint256 code)'])

/**
 * The revert inside a failed call as {@link ContractRevertError}, its custom error decoded where the ABI has it;
 * undefined when the call failed for another reason.
 */
export function decodeRevert(parameters: {
  error: unknown
  abi?: Abi | undefined
  to?: Hash | undefined
}): ContractRevertError | undefined {
  const { error, abi = [], to } = parameters
  const failure = findRpcError(error)
  if (failure === undefined || failure.rpcCode === undefined) return undefined
  const data = revertData(failure)
  if (data === undefined) return undefined
  return new ContractRevertError({ ...decodeErrorData(data, abi), data, to, cause: failure })
}

/** Name and arguments of revert data. */
export function decodeErrorData(data: Hash, abi: Abi): { errorName: string | undefined; args: readonly unknown[] } {
  if (data.length < 10) return { errorName: undefined, args: [] }
  try {
    const { errorName, args } = decodeErrorResult({ abi: [...abi, ...BUILT_IN], data })
    return { errorName, args: args ?? [] }
  } catch {
    return { errorName: undefined, args: [] }
  }
}

/** Nodes put the data in `data`, in `data.data`, or (Parity's heirs) in `data` after the word "Reverted". */
function revertData({ rpcCode, rpcMessage = '', rpcData }: ChainRpcError): Hash | undefined {
  const inner = typeof rpcData === 'object' && rpcData !== null && 'data' in rpcData ? rpcData.data : rpcData
  if (typeof inner === 'string') {
    const hex = inner.startsWith('Reverted ') ? inner.slice('Reverted '.length) : inner
    if (hex.length % 2 === 0 && /^0x[0-9a-f]*$/i.test(hex) && (hex.length > 2 || /revert/i.test(rpcMessage))) {
      return hex.toLowerCase() as Hash
    }
  }
  return rpcCode === 3 || /execution reverted|revert|invalid opcode/i.test(rpcMessage) ? '0x' : undefined
}
