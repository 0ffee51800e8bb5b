import type { DisperserAccount } from '#client/da/accounts.ts'
import type { DuePayer } from './fee-book.ts'

/** A user's part of a claim. */
export interface ChosenClaim {
  readonly payer: DuePayer
  /** What is claimed in all, over the life of the account, wei. */
  readonly claimWei: bigint
  /** What it brings now, wei. */
  readonly gainWei: bigint
  /** Why it cannot wait until it is worth several times its gas. */
  readonly urgent: 'withdrawal' | 'expiry' | 'age' | undefined
}

export interface ChooseClaimsParameters {
  due: readonly { payer: DuePayer; account: DisperserAccount }[]
  nowMs: number
  gasPriceWei: bigint
  /** What is not urgent must bring so many times its gas. */
  earnOverGas: number
  /** Vouchers that end within this are claimed while it is worth their gas at all. */
  expiringMs: number
  /** So are those that waited for so long. */
  maxUnclaimedMs: number
  maxItems: number
}

/** Gas of a claim: what each transaction costs, and each account in it. Measured, and rounded up. */
export const CLAIM_BASE_GAS = 45_000n
export const CLAIM_ITEM_GAS = 20_000n
/** A voucher that ends this soon may not be mined in time. */
const MARGIN_MS = 30_000

/**
 * Chooses what to claim now: those that bring most, each worth its own gas and all together worth the transaction. Empty
 * when it would not pay.
 */
export function chooseClaims(parameters: ChooseClaimsParameters): ChosenClaim[] {
  const { due, gasPriceWei, earnOverGas, maxItems } = parameters
  const itemCostWei = CLAIM_ITEM_GAS * gasPriceWei
  const chosen = due
    .flatMap(({ payer, account }) => candidate(payer, account, parameters) ?? [])
    .filter(({ gainWei, urgent }) => gainWei * 100n >= itemCostWei * percent(urgent, earnOverGas))
    .sort((a, b) => (a.gainWei < b.gainWei ? 1 : a.gainWei > b.gainWei ? -1 : 0))
    .slice(0, maxItems)
  const gainWei = chosen.reduce((sum, item) => sum + item.gainWei, 0n)
  const costWei = (CLAIM_BASE_GAS + CLAIM_ITEM_GAS * BigInt(chosen.length)) * gasPriceWei
  const urgent = chosen.find((item) => item.urgent !== undefined)?.urgent
  return chosen.length > 0 && gainWei * 100n >= costWei * percent(urgent, earnOverGas) ? chosen : []
}

function candidate(
  payer: DuePayer,
  { balanceWei, claimedWei, withdrawingWei }: DisperserAccount,
  { nowMs, expiringMs, maxUnclaimedMs }: ChooseClaimsParameters,
): ChosenClaim | undefined {
  const { chargedWei, held, dueSinceMs } = payer
  const { cumulativeFeeWei, expiresAtS } = held.voucher
  const leftMs = expiresAtS * 1_000 - nowMs
  if (leftMs < MARGIN_MS) return undefined
  const claimWei = least(least(chargedWei, cumulativeFeeWei), claimedWei + balanceWei)
  if (claimWei <= claimedWei) return undefined
  const urgent =
    withdrawingWei > 0n
      ? 'withdrawal'
      : leftMs < expiringMs
        ? 'expiry'
        : nowMs - dueSinceMs >= maxUnclaimedMs
          ? 'age'
          : undefined
  return { payer, claimWei, gainWei: claimWei - claimedWei, urgent }
}

/** How many times its gas something must bring, in percent. */
function percent(urgent: ChosenClaim['urgent'], earnOverGas: number): bigint {
  return urgent === undefined ? BigInt(Math.round(earnOverGas * 100)) : 100n
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
