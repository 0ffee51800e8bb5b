import { type Abi, formatTransactionReceipt, type RpcTransactionReceipt, type TransactionReceipt } from 'viem'
import type { Hash } from './block.ts'
import type { Chain } from './client.ts'
import { decodeRevert } from './revert.ts'
import { ChainRpcError } from './rpc-error.ts'
import { ContractRevertError } from './transaction-error.ts'

/** The parts of a transaction that decide what it does. */
export interface TransactionRequest {
  /** Left out: creates a contract. */
  to?: Hash | undefined
  data?: Hash | undefined
  valueWei?: bigint | undefined
}

/** The receipt of a mined transaction; undefined when the chain has none. Checked to be of this transaction. */
export async function fetchReceipt(parameters: {
  chain: Chain
  hash: Hash
  signal?: AbortSignal | undefined
}): Promise<TransactionReceipt | undefined> {
  const { chain, hash, signal } = parameters
  const answer = await chain.request('eth_getTransactionReceipt', [hash], { signal })
  if (answer === null) return undefined
  const receipt = answer as Partial<RpcTransactionReceipt>
  const usable =
    typeof answer === 'object' &&
    receipt.transactionHash?.toLowerCase() === hash &&
    typeof receipt.blockHash === 'string' &&
    typeof receipt.blockNumber === 'string' &&
    Array.isArray(receipt.logs)
  // Some nodes show the receipt of a transaction that is still pending, without a block.
  if (!usable) return undefined
  return formatTransactionReceipt(receipt as RpcTransactionReceipt)
}

/** Whether the receipt's block is (still) on the chain. */
export async function isCanonical(parameters: {
  chain: Chain
  receipt: TransactionReceipt
  signal?: AbortSignal | undefined
}): Promise<boolean> {
  const { chain, receipt, signal } = parameters
  const number = `0x${receipt.blockNumber.toString(16)}`
  const block = await chain.request('eth_getBlockByNumber', [number, false], { signal })
  return typeof block === 'object' && block !== null && 'hash' in block && block.hash === receipt.blockHash
}

/**
 * Why a mined transaction failed: it is played again on the state before its block, then on the state after.
 * Transactions before it in the block may have mattered; then the reason stays unknown.
 */
export async function explainFailure(parameters: {
  chain: Chain
  request: TransactionRequest
  from: Hash
  gas: bigint
  receipt: TransactionReceipt
  abi: Abi
  signal?: AbortSignal | undefined
}): Promise<ContractRevertError> {
  const { chain, request, from, gas, receipt, abi, signal } = parameters
  const { to, data, valueWei = 0n } = request
  const call = { from, to, data, value: `0x${valueWei.toString(16)}`, gas: `0x${gas.toString(16)}` }
  for (const number of [receipt.blockNumber - 1n, receipt.blockNumber]) {
    try {
      await chain.request('eth_call', [call, `0x${number.toString(16)}`], { signal })
    } catch (error) {
      const revert = decodeRevert({ error, abi, to })
      if (revert !== undefined) {
        const { errorName, args, data: revertData, cause } = revert
        return new ContractRevertError({ errorName, args, data: revertData, to, receipt, cause })
      }
      if (!(error instanceof ChainRpcError)) break
    }
  }
  const errorName = receipt.gasUsed >= gas ? 'OutOfGas' : undefined
  return new ContractRevertError({ errorName, args: [], data: '0x', to, receipt })
}
