import { decodeErrorResult, encodeFunctionData, type Log, parseEventLogs } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { findRpcError } from '#kit/chain/rpc-error.ts'
import { fixedPriceMarketAbi } from '#protocol/abi/fixed-price-market.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import type { Hex } from '#protocol/hex.ts'
import { type Submission, submissionSectors } from '#protocol/storage/submission.ts'
import { FlowRefusedError, InsufficientFundsError, reasonOf } from './errors.ts'

/**
 * An epoch may end between the estimate and the block: whoever submits first in the new one pays for recording the old.
 * What is not used is not charged.
 */
const EPOCH_ROLL_GAS = 150_000n

/** The fee of a submission: sectors × the market's price. */
export interface SubmissionQuote {
  sectors: number
  pricePerSectorWei: bigint
  feeWei: bigint
}

/**
 * What storing a submission costs at this moment.
 *
 * @throws FlowRefusedError when the address is no Flow contract
 * @example
 * const { feeWei } = await quoteSubmission({ chain, flow, nodes: tree.nodes })
 */
export async function quoteSubmission({
  chain,
  flow,
  nodes,
}: {
  chain: Chain
  flow: Hex
  nodes: readonly { height: number }[]
}): Promise<SubmissionQuote> {
  try {
    const market = await chain.client.readContract({ address: flow, abi: flowAbi, functionName: 'market' })
    const pricePerSectorWei = await chain.client.readContract({
      address: market,
      abi: fixedPriceMarketAbi,
      functionName: 'pricePerSector',
    })
    const sectors = submissionSectors(nodes)
    return { sectors, pricePerSectorWei, feeWei: pricePerSectorWei * BigInt(sectors) }
  } catch (cause) {
    if (findRpcError(cause)?.kind === 'endpoint') throw cause
    throw new FlowRefusedError({ flow, reason: 'it names no market with a price per sector', cause })
  }
}

/** The two forms of `submit` in the field: with the submitter in the data, and the older one without. */
export type SubmitForm = 'current' | 'legacy'

/** Call data of `submit`. */
export function encodeSubmit({
  form,
  submission,
  submitter,
}: {
  form: SubmitForm
  submission: Submission
  submitter: Hex
}): Hex {
  const data = {
    length: BigInt(submission.sizeBytes),
    tags: submission.tags,
    nodes: submission.nodes.map(({ root, height }) => ({ root, height: BigInt(height) })),
  }
  return form === 'current'
    ? encodeFunctionData({ abi: flowAbi, functionName: 'submit', args: [{ data, submitter }] })
    : encodeFunctionData({ abi: flowAbi, functionName: 'submit', args: [data] })
}

/** A `submit` the Flow contract accepted in a trial. */
export interface PreparedSubmit {
  form: SubmitForm
  data: Hex
  gas: bigint
}

/**
 * Try the submission without sending it, in the current form and, where the contract does not know that, in the legacy
 * form. So the user hears of a refusal before any money moves.
 *
 * @throws FlowRefusedError with the contract's reason; InsufficientFundsError
 */
export async function prepareSubmit({
  chain,
  flow,
  submission,
  submitter,
  feeWei,
}: {
  chain: Chain
  flow: Hex
  submission: Submission
  submitter: Hex
  feeWei: bigint
}): Promise<PreparedSubmit> {
  const haveWei = await chain.client.getBalance({ address: submitter })
  if (haveWei < feeWei) throw new InsufficientFundsError({ address: submitter, haveWei, feeWei, gasWei: 0n })
  for (const form of ['current', 'legacy'] as const) {
    const data = encodeSubmit({ form, submission, submitter })
    const call = { from: submitter, to: flow, data, value: `0x${feeWei.toString(16)}` }
    try {
      const gas = BigInt(String(await chain.request('eth_estimateGas', [call])))
      return { form, data, gas: (gas * 3n) / 2n + EPOCH_ROLL_GAS }
    } catch (cause) {
      const failure = findRpcError(cause)
      if (failure === undefined || failure.kind !== 'answer') throw cause
      if (/insufficient funds|insufficient balance|out of funds/i.test(failure.rpcMessage ?? '')) {
        const gasPrice = await chain.client.getGasPrice()
        throw new InsufficientFundsError({ address: submitter, haveWei, feeWei, gasWei: gasPrice * 500_000n, cause })
      }
      const reason = revertReason(failure.rpcData)
      if (reason !== undefined || form === 'legacy') {
        throw new FlowRefusedError({ flow, reason: reason ?? 'it knows no submit of either form', cause })
      }
    }
  }
  throw new FlowRefusedError({ flow, reason: 'it knows no submit of either form' })
}

/** A submission as the Flow contract recorded it. */
export interface SubmitEvent {
  txSeq: number
  txHash: Hex
  block: number
  identity: Hex
  sizeBytes: number
  tags: Hex
}

/** The `Submit` events of one Flow contract among logs, in order. */
export function readSubmitEvents({ flow, logs }: { flow: Hex; logs: readonly Log[] }): SubmitEvent[] {
  const own = logs.filter((log) => log.address.toLowerCase() === flow.toLowerCase())
  return parseEventLogs({ abi: flowAbi, eventName: 'Submit', logs: own }).map((log) => ({
    txSeq: Number(log.args.submissionIndex),
    txHash: log.transactionHash ?? '0x',
    block: Number(log.blockNumber ?? 0n),
    identity: log.args.identity,
    sizeBytes: Number(log.args.submission.length),
    tags: log.args.submission.tags,
  }))
}

/** The contract's reason out of revert data: a custom error, a text, or undefined where it gave none. */
function revertReason(data: unknown): string | undefined {
  const bytes = typeof data === 'object' && data !== null && 'data' in data ? data.data : data
  if (typeof bytes !== 'string' || !/^0x[0-9a-f]{8}/i.test(bytes)) return undefined
  try {
    const { errorName, args } = decodeErrorResult({ abi: [...flowAbi, ...fixedPriceMarketAbi], data: bytes as Hex })
    const text = (args ?? []).map(String).join(', ')
    return (errorName as string) === 'Error' ? text : `${errorName}(${text})`
  } catch (error) {
    return `unknown error ${bytes.slice(0, 10)} (${reasonOf(error).slice(0, 40)})`
  }
}
