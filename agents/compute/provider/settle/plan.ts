import type { LocalAccount } from 'viem'
import { requestsHash, signTeeSettlement } from '#protocol/compute/settlement.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { AccountView } from '../chain/account-view.ts'
import { least } from '../money/amounts.ts'
import type { VoucherBook } from '../money/voucher-book.ts'
import type { DueCharge, SettlementItem, SettlementLog, SettlementMode } from './settlement-log.ts'

/** Gas of a settlement: what every transaction costs, and each item on top. Rough at first, then as measured. */
export interface GasCosts {
  readonly baseGas: bigint
  readonly itemGas: bigint
}

export interface PlanParameters {
  mode: SettlementMode
  settlements: SettlementLog
  vouchers: VoucherBook
  view: AccountView
  chainId: number
  contract: Hex
  provider: Hex
  /** The key that the service names as its signer. */
  signer: LocalAccount
  nowMs: number
  gasPriceWei: bigint
  gas: GasCosts
  earnOverGas: number
  maxItems: number
  maxUnsettledMs: number
  /** Users left out for now. */
  isHeld: (user: Hex) => boolean
  /** Users whose fees may soon be out of reach: they revoked everything, or will pay by voucher alone. */
  isUrgent: (user: Hex) => boolean
}

export interface PlannedItem {
  readonly item: SettlementItem
  readonly charges: readonly DueCharge[]
  /** How many times its gas it must bring, in percent. */
  readonly factor: bigint
  /** What it brings. */
  readonly gainWei: bigint
}

/** Most items of one settlement by the signer's word; of vouchers the contract takes 100. */
const MAX_TOKEN_ITEMS = 50
/** Vouchers that end this soon are settled if that is worth its gas at all. */
const EXPIRING_S = 3_600
/** A voucher that ends this soon may not be mined in time. */
const MARGIN_S = 60
const NONCES_PER_SECOND = 10_000_000n
const ZERO_HASH: Hash = `0x${'00'.repeat(32)}`

/**
 * Chooses what to settle now: the users who owe most, as many as fit, each worth its own gas and all together worth the
 * transaction. Empty when it would not pay.
 */
export async function planSettlement(parameters: PlanParameters): Promise<PlannedItem[]> {
  const { mode, settlements, gasPriceWei, gas, earnOverGas, maxItems, isHeld } = parameters
  const byUser = new Map<Hex, DueCharge[]>()
  for (const charge of settlements.due(mode)) {
    if (isHeld(charge.user)) continue
    const charges = byUser.get(charge.user)
    if (charges === undefined) byUser.set(charge.user, [charge])
    else charges.push(charge)
  }
  const itemCostWei = gas.itemGas * gasPriceWei
  const candidates = [...byUser.values()]
    .map((charges) => ({ charges, owedWei: sum(charges), ...urgencyOf(charges, parameters) }))
    .filter(({ owedWei, factor }) => owedWei * 100n >= itemCostWei * factor)
    .sort((a, b) => (a.owedWei < b.owedWei ? 1 : a.owedWei > b.owedWei ? -1 : 0))
    .slice(0, mode === 'token' ? Math.min(maxItems, MAX_TOKEN_ITEMS) : maxItems)
  const planned: PlannedItem[] = []
  for (const { charges, owedWei, factor } of candidates) {
    const item =
      mode === 'token' ? await tokenItem(parameters, charges, owedWei) : await voucherItem(parameters, charges, owedWei)
    if (item === undefined) continue
    const gainWei = mode === 'token' ? item.totalWei : item.totalWei - item.paidBeforeWei
    planned.push({ item, charges, factor, gainWei })
  }
  return isWorthIt(planned, { gas, gasPriceWei, earnOverGas }) ? planned : []
}

/** Whether items together bring so much that a transaction of their own pays. */
export function isWorthIt(
  planned: readonly PlannedItem[],
  { gas, gasPriceWei, earnOverGas }: Pick<PlanParameters, 'gas' | 'gasPriceWei' | 'earnOverGas'>,
): boolean {
  const gainWei = planned.reduce((total, { gainWei: gain }) => total + gain, 0n)
  const factor = planned.reduce((lowest, item) => least(item.factor, lowest), percent(earnOverGas))
  const costWei = (gas.baseGas + gas.itemGas * BigInt(planned.length)) * gasPriceWei
  return planned.length > 0 && gainWei * 100n >= costWei * factor
}

/** How many times its gas a settlement must bring, in percent: once, where it cannot wait. */
function urgencyOf(charges: readonly DueCharge[], parameters: PlanParameters): { factor: bigint } {
  const { nowMs, maxUnsettledMs, mode, vouchers, earnOverGas, isUrgent } = parameters
  const [oldest] = charges
  const old = oldest !== undefined && nowMs - oldest.closedMs >= maxUnsettledMs
  const held = mode === 'voucher' && oldest !== undefined ? vouchers.held(oldest.user) : undefined
  const expiring = held !== undefined && held.voucher.expiresAtS * 1000 - nowMs < EXPIRING_S * 1000
  const urgent = old || expiring || (oldest !== undefined && isUrgent(oldest.user))
  return { factor: urgent ? 100n : percent(earnOverGas) }
}

/** The signer's word over a user's charges, as far as the balance goes. */
async function tokenItem(
  parameters: PlanParameters,
  charges: readonly DueCharge[],
  owedWei: bigint,
): Promise<SettlementItem | undefined> {
  const { view, settlements, chainId, contract, provider, signer, nowMs } = parameters
  const user = charges[0]?.user
  if (user === undefined) return undefined
  const account = await view.account(user, { maxAgeMs: 0 })
  if (!account.exists || account.balanceWei === 0n) return undefined
  const totalWei = least(owedWei, account.balanceWei)
  const clock = BigInt(Math.floor(nowMs / 1000)) * NONCES_PER_SECOND
  const nonce = [account.nonce + 1n, settlements.lastNonce(user) + 1n, clock].reduce((a, b) => (a > b ? a : b))
  const hash = requestsHash(
    charges.map(({ requestHash, feeWei, inputFeeWei }) => ({
      ...{ requestHash, user, feeWei, inputFeeWei, outputFeeWei: feeWei - inputFeeWei },
    })),
  )
  const settlement = { requestsHash: hash, nonce, provider, user, totalFeeWei: totalWei }
  const signature = await signTeeSettlement({ chainId, contract, settlement, signer })
  return {
    ...{ user, owedWei, totalWei, nonce, requestsHash: hash, signature },
    ...{ paidBeforeWei: 0n, cumulativeWei: 0n, expiresS: 0, generation: 0 },
  }
}

/** A claim within the best voucher held. */
async function voucherItem(
  parameters: PlanParameters,
  charges: readonly DueCharge[],
  owedWei: bigint,
): Promise<SettlementItem | undefined> {
  const { view, vouchers, nowMs } = parameters
  const user = charges[0]?.user
  const held = user === undefined ? undefined : vouchers.held(user)
  if (user === undefined || held === undefined) return undefined
  const { cumulativeFeeWei, expiresAtS, generation } = held.voucher
  if (expiresAtS * 1000 < nowMs + MARGIN_S * 1000) return undefined
  const account = await view.account(user, { maxAgeMs: 0 })
  // Vouchers of the generation before can be settled for a while after all were revoked.
  if (!account.exists || account.balanceWei === 0n || account.generation > BigInt(generation) + 1n) return undefined
  const paidBeforeWei = account.voucherPaidWei
  const wantedWei = paidBeforeWei + least(owedWei, account.balanceWei)
  const totalWei = least(wantedWei, cumulativeFeeWei)
  if (totalWei <= paidBeforeWei) return undefined
  return {
    ...{ user, owedWei, totalWei, signature: held.signature, paidBeforeWei },
    ...{ cumulativeWei: cumulativeFeeWei, expiresS: expiresAtS, generation, nonce: 0n, requestsHash: ZERO_HASH },
  }
}

function sum(charges: readonly DueCharge[]): bigint {
  return charges.reduce((total, { feeWei }) => total + feeWei, 0n)
}

function percent(factor: number): bigint {
  return BigInt(Math.round(factor * 100))
}
