import { decodeFunctionResult, encodeFunctionData } from 'viem'
import { z } from 'zod'
import type { Chain } from '#kit/chain/client.ts'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { JsonValue } from '#kit/queue/queue.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import {
  decodePackedStatuses,
  MAX_PACKED_VOUCHERS,
  type PackedVoucher,
  packableVoucher,
  packVouchers,
} from '#protocol/compute/packed-vouchers.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { SettlementBatch } from './settlement-log.ts'

const hex = z.string().regex(/^0x[0-9a-f]*$/i) as unknown as z.ZodType<Hex>
const decimal = z.string().regex(/^\d{1,78}$/)
const schema = z.object({
  chainId: z.number().int(),
  contract: hex,
  provider: hex,
  mode: z.enum(['token', 'voucher']),
  /** See `SettlementBatch`. Follows the call's arguments, where no contract looks. */
  tag: z.string().regex(/^0x([0-9a-f]{32})?$/) as unknown as z.ZodType<Hex>,
  items: z
    .array(
      z.object({
        ...{ user: hex, totalWei: decimal, signature: hex, nonce: decimal, requestsHash: z.string() },
        ...{ cumulativeWei: decimal, expiresS: z.number().int(), generation: z.number().int() },
      }),
    )
    .min(1)
    .max(MAX_PACKED_VOUCHERS),
})

/** A settlement ready to be sent: everything in it is signed, so whoever sends it can change nothing. */
export type SettlementJob = z.infer<typeof schema>

/** What became of the sending. The contract's word on each item is on the chain. */
export type SettlementSent = { hash: Hash | null; gasCostWei: string }

/** Gas of a transaction that runs out is lost: this much is added to an estimate, in percent. */
const GAS_MARGIN = 20n

/** Reads a job that comes from a queue. */
export function parseSettlementJob(data: unknown): SettlementJob {
  return schema.parse(data)
}

/** A batch as a job. */
export function settlementJob(parameters: {
  batch: SettlementBatch
  chainId: number
  contract: Hex
  provider: Hex
}): SettlementJob {
  const { batch, chainId, contract, provider } = parameters
  return {
    ...{ chainId, contract, provider, mode: batch.mode, tag: batch.tag },
    items: batch.items.map((item) => ({
      ...{ user: item.user, totalWei: String(item.totalWei), signature: item.signature, nonce: String(item.nonce) },
      ...{ requestsHash: item.requestsHash, cumulativeWei: String(item.cumulativeWei) },
      ...{ expiresS: item.expiresS, generation: item.generation },
    })),
  }
}

/** A job as the data of a queue. */
export function jobData(job: SettlementJob): JsonValue {
  return { ...job, items: job.items.map((item) => ({ ...item })) }
}

/**
 * Sends a settlement and waits for its receipt. May be repeated: items that the chain has taken are left out, and the
 * contract takes none twice.
 */
export async function sendSettlement(parameters: {
  job: SettlementJob
  chain: Chain
  sender: TransactionSender
  signal?: AbortSignal | undefined
  timeoutMs?: number | undefined
}): Promise<SettlementSent> {
  const { chain, sender, signal, timeoutMs = 180_000 } = parameters
  const job = await withoutTaken(parameters.job, chain)
  if (job.items.length === 0) return { hash: null, gasCostWei: '0' }
  const { data } = settlementCall(job)
  const estimate = await chain.client.estimateGas({ account: job.provider, to: job.contract, data })
  const receipt = await sender.send(
    { to: job.contract, data, gas: (estimate * (100n + GAS_MARGIN)) / 100n, abi: inferenceServingAbi },
    { signal, timeoutMs },
  )
  return { hash: receipt.transactionHash, gasCostWei: String(receipt.gasUsed * receipt.effectiveGasPrice) }
}

/** A contract call that settles. */
export interface SettlementCall {
  readonly functionName: 'settleFeesWithTEE' | 'settleVouchers' | 'settlePackedVouchers'
  readonly data: Hex
}

/**
 * The contract call of a settlement, told by what is in it alone, so that sending it again sends the same. Vouchers go
 * the cheaper, packed way when all of them can.
 */
export function settlementCall(job: SettlementJob): SettlementCall {
  const { functionName, data } = untaggedCall(job)
  return { functionName, data: `${data}${job.tag.slice(2)}` }
}

/** Whether a call carries a batch's tag. */
export function carriesTag(data: Hex, tag: Hex): boolean {
  return data.endsWith(tag.slice(2))
}

function untaggedCall(job: SettlementJob): SettlementCall {
  const { mode, items, provider } = job
  const abi = inferenceServingAbi
  if (mode === 'token') {
    const functionName = 'settleFeesWithTEE'
    return { functionName, data: encodeFunctionData({ abi, functionName, args: [teeItems({ items, provider })] }) }
  }
  const packed = items.flatMap((item) => packedItem(job, item) ?? [])
  if (packed.length === items.length) {
    const functionName = 'settlePackedVouchers'
    return { functionName, data: encodeFunctionData({ abi, functionName, args: [packVouchers(packed)] }) }
  }
  const functionName = 'settleVouchers'
  const vouchers = items.map(({ user, totalWei, cumulativeWei, expiresS, generation, signature }) => ({
    ...{ user, cumulativeFee: BigInt(cumulativeWei), claim: BigInt(totalWei), expiry: BigInt(expiresS) },
    ...{ generation: BigInt(generation), signature },
  }))
  return { functionName, data: encodeFunctionData({ abi, functionName, args: [vouchers] }) }
}

/** A voucher's item for the packed call; undefined where it takes `settleVouchers`. */
export function packedItem(
  { chainId, contract, provider }: Pick<SettlementJob, 'chainId' | 'contract' | 'provider'>,
  { user, totalWei, cumulativeWei, expiresS, generation, signature }: SettlementJob['items'][number],
): PackedVoucher | undefined {
  const voucher = { user, provider, cumulativeFeeWei: BigInt(cumulativeWei), expiresAtS: expiresS, generation }
  return packableVoucher({ chainId, contract, voucher, signature, claimWei: BigInt(totalWei) })
}

/** The statuses that a call which settles `count` items answered with. */
export function settlementStatuses(parameters: {
  call: SettlementCall
  answer: Hex | undefined
  count: number
}): readonly number[] {
  const { call, answer = '0x', count } = parameters
  const { functionName } = call
  const statuses = decodeFunctionResult({ abi: inferenceServingAbi, functionName, data: answer })
  return typeof statuses === 'string' ? decodePackedStatuses(statuses, count) : statuses
}

/** The items of a settlement by the signer's word, as the contract takes them. */
export function teeItems({ items, provider }: Pick<SettlementJob, 'items' | 'provider'>) {
  return items.map(({ user, totalWei, requestsHash, nonce, signature }) => ({
    ...{ user, provider, totalFee: BigInt(totalWei), requestsHash: requestsHash as Hash, nonce: BigInt(nonce) },
    signature,
  }))
}

async function withoutTaken(job: SettlementJob, chain: Chain): Promise<SettlementJob> {
  const { contract, provider, mode } = job
  const taken = await Promise.all(
    job.items.map(async ({ user, nonce, totalWei }) => {
      const call = { address: contract, abi: inferenceServingAbi, args: [user, provider] } as const
      if (mode === 'voucher') {
        return (await chain.client.readContract({ ...call, functionName: 'voucherPaid' })) >= BigInt(totalWei)
      }
      const account = await chain.client.readContract({ ...call, functionName: 'getAccount' })
      return account.nonce >= BigInt(nonce)
    }),
  )
  return { ...job, items: job.items.filter((_, index) => taken[index] !== true) }
}
