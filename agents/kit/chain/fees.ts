import type { Chain } from './client.ts'
import { ChainRpcError } from './rpc-error.ts'
import { TransactionRejectedError } from './transaction-error.ts'

/** What a transaction may cost and how hard to push. */
export interface GasPolicy {
  /** Estimated gas times this. Default 1.2. */
  gasMargin?: number | undefined
  /** Refuse a transaction that needs more gas. Default: the chain's block limit decides. */
  maxGas?: bigint | undefined
  /** Never offer more per gas, replacements included. Default: no cap. */
  maxFeePerGasWei?: bigint | undefined
  /** Never tip more per gas. Default: no cap. */
  maxPriorityFeePerGasWei?: bigint | undefined
  /** Tip at least this much per gas. Default 0. */
  minPriorityFeePerGasWei?: bigint | undefined
  /** Room for the base fee to rise: max fee = base fee × this + tip. Default 2. */
  baseFeeMultiplier?: number | undefined
  /** A replacement offers so much more. Default 15; nodes want 10 at least. */
  bumpPercent?: number | undefined
  /** Not mined for so long while its turn: replace with a higher fee. Default 30 000. */
  stuckAfterMs?: number | undefined
  /** Replacements of one transaction. Default 10, which with 15 % is four times the first fee. */
  maxReplacements?: number | undefined
  /** Legacy (`gasPrice`) transactions even where the chain has EIP-1559. Default: what the chain has. */
  legacy?: boolean | undefined
}

/** The fee fields of a transaction, in wei per gas. */
export type Fees =
  | { readonly type: 'eip1559'; readonly maxFeePerGas: bigint; readonly maxPriorityFeePerGas: bigint }
  | { readonly type: 'legacy'; readonly gasPrice: bigint }

/** The most a gas may cost with these fees. */
export function feeCeiling(fees: Fees): bigint {
  return fees.type === 'legacy' ? fees.gasPrice : fees.maxFeePerGas
}

/**
 * Today's fees under the policy: EIP-1559 where blocks carry a base fee, else the node's gas price.
 *
 * @throws {@link TransactionRejectedError} `TRANSACTION_FEE_CAP` when the base fee alone exceeds the cap.
 */
export async function quoteFees({ chain, policy, signal }: QuoteFeesParameters): Promise<Fees> {
  const block = await chain.request('eth_getBlockByNumber', ['latest', false], { signal })
  const baseFee =
    typeof block === 'object' && block !== null && 'baseFeePerGas' in block ? wei(block.baseFeePerGas) : undefined
  const cap = policy.maxFeePerGasWei
  if (baseFee === undefined || policy.legacy) {
    const price = wei(await chain.request('eth_gasPrice', [], { signal })) ?? 0n
    // A node's gas price is what the last blocks took; a little more gets into the next one.
    const gasPrice = max((price * 110n) / 100n, baseFee ?? 0n)
    if (cap !== undefined && price > cap) throw overCap(price, cap)
    return { type: 'legacy', gasPrice: min(gasPrice, cap) }
  }
  if (cap !== undefined && baseFee > cap) throw overCap(baseFee, cap)
  const tip = min(max(await quoteTip({ chain, policy, signal }), policy.minPriorityFeePerGasWei ?? 0n), cap)
  const maxPriorityFeePerGas = min(tip, policy.maxPriorityFeePerGasWei)
  const multiplier = BigInt(Math.round((policy.baseFeeMultiplier ?? 2) * 100))
  const maxFeePerGas = min((baseFee * multiplier) / 100n + maxPriorityFeePerGas, cap)
  return { type: 'eip1559', maxFeePerGas, maxPriorityFeePerGas: min(maxPriorityFeePerGas, maxFeePerGas) }
}

export interface QuoteFeesParameters {
  chain: Chain
  policy: GasPolicy
  signal?: AbortSignal | undefined
}

/**
 * Fees for a replacement: today's, or the old ones plus the bump in every field (nodes compare both), whichever is
 * more. Undefined when the cap does not allow a replacement that nodes would take.
 */
export function bumpFees({ old, market, policy }: { old: Fees; market: Fees; policy: GasPolicy }): Fees | undefined {
  const percent = BigInt(Math.max(10, Math.ceil(policy.bumpPercent ?? 15)))
  const raise = (value: bigint) => (value * (100n + percent)) / 100n + 1n
  const cap = policy.maxFeePerGasWei
  if (old.type === 'legacy') {
    const gasPrice = max(raise(old.gasPrice), feeCeiling(market))
    return cap !== undefined && raise(old.gasPrice) > cap ? undefined : { type: 'legacy', gasPrice: min(gasPrice, cap) }
  }
  const tipCap = policy.maxPriorityFeePerGasWei
  const raisedFee = raise(old.maxFeePerGas)
  const raisedTip = raise(old.maxPriorityFeePerGas)
  if (cap !== undefined && raisedFee > cap) return undefined
  if (tipCap !== undefined && raisedTip > tipCap) return undefined
  const marketTip = market.type === 'legacy' ? 0n : market.maxPriorityFeePerGas
  const maxFeePerGas = min(max(raisedFee, feeCeiling(market)), cap)
  return {
    type: 'eip1559',
    maxFeePerGas,
    maxPriorityFeePerGas: min(min(max(raisedTip, marketTip), tipCap), maxFeePerGas),
  }
}

/** The node's suggestion; without one, what the median transaction of the last blocks paid. */
async function quoteTip({ chain, signal }: QuoteFeesParameters): Promise<bigint> {
  try {
    const tip = wei(await chain.request('eth_maxPriorityFeePerGas', [], { signal }))
    if (tip !== undefined) return tip
  } catch (error) {
    if (!(error instanceof ChainRpcError)) throw error
  }
  try {
    const history = await chain.request('eth_feeHistory', ['0x5', 'latest', [50]], { signal })
    const rewards = typeof history === 'object' && history !== null && 'reward' in history ? history.reward : []
    const tips = (Array.isArray(rewards) ? rewards.slice(0, 16).flat() : []).flatMap((value) => wei(value) ?? [])
    return tips.reduce((highest, tip) => max(highest, tip), 0n)
  } catch (error) {
    if (!(error instanceof ChainRpcError)) throw error
    return 0n
  }
}

function overCap(feeWei: bigint, capWei: bigint): TransactionRejectedError {
  return new TransactionRejectedError({
    code: 'TRANSACTION_FEE_CAP',
    message: `the chain asks ${feeWei} wei per gas, the policy allows ${capWei}`,
    fix: 'wait for cheaper gas, or raise the fee cap',
    details: { feeWei: String(feeWei), capWei: String(capWei) },
  })
}

function wei(value: unknown): bigint | undefined {
  return typeof value === 'string' && /^0x[0-9a-f]{1,32}$/i.test(value) ? BigInt(value) : undefined
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}

function min(a: bigint, b: bigint | undefined): bigint {
  return b === undefined || a < b ? a : b
}
