import type { Hex } from '#protocol/hex.ts'
import {
  getLedger,
  getMinimums,
  getProviderAccount,
  type ProviderAccount,
  setSignedChargesOnly,
  signedChargesOnlyFrom,
  transferToProvider,
  voucherPaid,
} from './accounts.ts'
import type { BookKey } from './book.ts'
import { type Known, readCached } from './cached-read.ts'
import type { ComputeConnection } from './connection.ts'
import { ComputeFundsError } from './errors.ts'

/** Money that is moved on the user's behalf, told before it moves. */
export type FundingEvent =
  /** The provider is bound to charge no more than the user signs; before its account is opened. */
  | { readonly type: 'account-guard'; readonly provider: Hex }
  | { readonly type: 'account-open'; readonly provider: Hex; readonly amountWei: bigint }
  | { readonly type: 'account-top-up'; readonly provider: Hex; readonly amountWei: bigint }

export interface FundProviderParameters {
  key: BookKey
  /** What the request at hand may cost. */
  maxFeeWei: bigint
  /** Told what is moved, before it is. Throwing keeps the money where it is. */
  onEvent?: ((event: FundingEvent) => void | Promise<void>) | undefined
  /** The provider says that the account lacks money: read the chain anew and leave it a larger reserve. */
  insufficient?: boolean | undefined
  /** Read the chain even where the account was read a moment ago. */
  fresh?: boolean | undefined
  signal?: AbortSignal | undefined
}

const known = new WeakMap<ComputeConnection, Map<string, Known<FundedAccount | undefined>>>()

/** The account at a provider, and what vouchers have taken out of it. */
export interface FundedAccount extends ProviderAccount {
  /** Undefined where the contract knows no vouchers. */
  readonly paidWei: bigint | undefined
}

/**
 * Makes sure that the user's account at a provider carries a request: opens it with the ledger's minimum plus what the
 * request may cost, or tops it up to that when too little is left beside what is billed and not yet claimed. Providers
 * keep a reserve of the minimum, hence the sum.
 *
 * @throws ComputeFundsError naming the deposit to make
 */
export async function fundProvider(
  connection: ComputeConnection,
  parameters: FundProviderParameters,
): Promise<FundedAccount> {
  const { key, maxFeeWei, insufficient = false, fresh = false } = parameters
  const cacheKey = `${key.user}:${key.provider}`.toLowerCase()
  const cache = known.get(connection) ?? new Map<string, Known<FundedAccount | undefined>>()
  known.set(connection, cache)
  const look = async () => {
    const found = await readCached(connection, { known: cache.get(cacheKey), read: () => read(connection, key) })
    cache.set(cacheKey, found)
    return found.value
  }
  return await connection.exclusively(`fund:${cacheKey}`, async () => {
    if (insufficient || fresh) cache.delete(cacheKey)
    // A provider may keep back a reserve of its own: twice the minimum is the most it is given.
    const reserveWei = insufficient ? 2n * (await getMinimums(connection)).transferWei : 0n
    const missing = (account: FundedAccount) => shortfall(connection, parameters, account) + reserveWei
    let account = await look()
    // Money is moved only on what the chain says now.
    if (account === undefined || missing(account) > 0n) {
      cache.delete(cacheKey)
      account = await look()
    }
    if (account === undefined || missing(account) > 0n) {
      await move(connection, parameters, account === undefined ? undefined : missing(account))
      cache.delete(cacheKey)
      account = await look()
    }
    if (account === undefined) throw new Error(`the account at ${key.provider} is gone`)
    return account
  })

  async function move(on: ComputeConnection, { onEvent, signal }: FundProviderParameters, missingWei?: bigint) {
    const [ledger, minimums] = await Promise.all([getLedger(on), getMinimums(on)])
    const { provider, user } = key
    const wanted = minimums.transferWei + (missingWei ?? maxFeeWei)
    const least = missingWei ?? minimums.transferWei
    const haveWei = ledger?.availableWei ?? 0n
    if (haveWei < least || (missingWei === undefined && haveWei < wanted)) {
      const shortWei = wanted - haveWei
      const depositWei = ledger === undefined && shortWei < minimums.depositWei ? minimums.depositWei : shortWei
      const purpose = `an account at provider ${provider}`
      throw new ComputeFundsError({ address: user, haveWei, needWei: wanted, depositWei, purpose })
    }
    const amountWei = haveWei < wanted ? haveWei : wanted
    if (missingWei === undefined && on.guard && (await signedChargesOnlyFrom(on, key)) === 0) {
      await onEvent?.({ type: 'account-guard', provider })
      await setSignedChargesOnly(on, { provider, enabled: true, signal })
    }
    await onEvent?.({ type: missingWei === undefined ? 'account-open' : 'account-top-up', provider, amountWei })
    await transferToProvider(on, { provider, amountWei, signal })
  }
}

/** What is missing for the request; not above zero when nothing is. */
function shortfall(
  connection: ComputeConnection,
  { key, maxFeeWei }: FundProviderParameters,
  account: FundedAccount,
): bigint {
  const { billedWei, openWei } = connection.book.account(key)
  const paidWei = account.paidWei ?? 0n
  const unclaimedWei = billedWei > paidWei ? billedWei - paidWei : 0n
  return unclaimedWei + openWei + maxFeeWei - (account.balanceWei - account.pendingRefundWei)
}

async function read(connection: ComputeConnection, { provider, user }: BookKey): Promise<FundedAccount | undefined> {
  const account = await getProviderAccount(connection, { provider, user })
  if (account === undefined) return undefined
  return { ...account, paidWei: await voucherPaid(connection, { provider, user }) }
}
