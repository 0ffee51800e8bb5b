import type { VoucherDemand } from '#protocol/compute/voucher-demand.ts'
import type { BookAccount } from './book.ts'

/** What to do about a provider's demand for a higher voucher. */
export type VoucherVerdict =
  /** The books cover it now: sign as they say. */
  | { readonly verdict: 'sign' }
  /** These books know less than the voucher the provider shows: the user signed it elsewhere. Take over and sign. */
  | { readonly verdict: 'adopt'; readonly billedWei: bigint; readonly signedWei: bigint }
  /** It asks for more than its receipts and this request justify. */
  | { readonly verdict: 'refuse'; readonly justifiedWei: bigint }

/**
 * Decides about a demand. The books hold what checked receipts justify plus what requests under way (this one among
 * them) may cost: never is more signed than that. One exception: a voucher of this user that these books did not sign, above
 * what they had signed before, shows that they are behind (another machine, a lost disk). What it allows can be claimed
 * anyway, so the provider's count is taken over up to that amount.
 */
export function judgeDemand({
  demand,
  books,
  signedBeforeWei,
  lastVoucherForeign,
}: {
  demand: VoucherDemand
  /** After every receipt at hand was entered. */
  books: BookAccount
  /** The highest amount signed before this request. */
  signedBeforeWei: bigint
  /** The shown voucher is signed by this user for this provider, and not with these books. */
  lastVoucherForeign: boolean
}): VoucherVerdict {
  const justifiedWei = books.billedWei + books.openWei
  if (demand.requiredCumulativeFeeWei <= justifiedWei) return { verdict: 'sign' }
  const shownWei = demand.lastVoucher?.voucher.cumulativeFeeWei ?? 0n
  const { cumulativeFeeWei: billedWei, requiredCumulativeFeeWei } = demand
  const behind = lastVoucherForeign && shownWei > signedBeforeWei
  const adoptable = billedWei <= shownWei && requiredCumulativeFeeWei <= billedWei + books.openWei
  if (behind && adoptable) return { verdict: 'adopt', billedWei, signedWei: shownWei }
  return { verdict: 'refuse', justifiedWei }
}
