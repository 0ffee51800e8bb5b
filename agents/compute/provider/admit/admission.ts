import { DEFAULT_MAX_TOKENS, promptTokenBound, type TokenPrices } from '#protocol/compute/fees.ts'
import { encodeVoucherHeader, VOUCHER_INSUFFICIENT } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import type { AccountState, AccountView, ServiceState } from '../chain/account-view.ts'
import { ProviderError } from '../error.ts'
import type { Cashier, Charge, OpenChargeParameters, PaymentMode } from '../money/cashier.ts'
import type { VoucherBook } from '../money/voucher-book.ts'
import type { Caller } from './authenticate.ts'

export interface AdmissionParameters {
  view: AccountView
  cashier: Cashier
  vouchers: VoucherBook
  /** Users who pay nothing, lower case. */
  freeUsers: ReadonlySet<string>
  /** What must stay free in an account that pays by session token, in wei. */
  minimumReserveWei: bigint
  /** Ids of the latest chats billed to a user by voucher, newest last. */
  latestChats: (user: Hex) => readonly string[]
}

/** What a request may take at most. */
export interface Need {
  kind: OpenChargeParameters['kind']
  id: string
  /** Length of the request body. */
  bodyBytes: number
  /** What the request says; undefined where it says nothing. 0 for embeddings. */
  maxTokens: number | undefined
  choices: number
  /** 0 where it is not known. */
  contextTokens: number
}

export interface Admitted {
  charge: Charge
  mode: PaymentMode
  /** Tokens the answer may have: what was asked for, or what the account can pay. 0 for embeddings. */
  maxTokens: number
}

/** A request without a limit of its own is not begun for fewer tokens than this. */
const LEAST_TOKENS = 16
/** What was read this recently counts as fresh. */
const FRESH_MS = 2_000

/** Decides whether a request can be paid, and sets its most aside in the same step. */
export class Admission {
  readonly #parameters: AdmissionParameters

  constructor(parameters: AdmissionParameters) {
    this.#parameters = parameters
  }

  /**
   * @throws ProviderError 400 `account_missing`, `provider_not_acknowledged`; 402 `insufficient_balance`,
   * `voucher_insufficient`; 503 `service_missing`, `signer_not_acknowledged`, `chain_unavailable`
   */
  async admit(caller: Caller, need: Need): Promise<Admitted> {
    const { view, freeUsers, vouchers } = this.#parameters
    const service = await view.service()
    if (service === undefined) {
      throw new ProviderError({
        ...{ statusCode: 503, type: 'server_error', code: 'service_missing' },
        message: 'this provider has not registered its service on the chain',
        fix: 'use another provider',
      })
    }
    const prices = { inputPriceWei: service.inputPriceWei, outputPriceWei: service.outputPriceWei }
    const maxTokens = need.maxTokens ?? this.#defaultTokens(need)
    if (freeUsers.has(caller.user)) return this.#open({ caller, need, prices, mode: 'free', maxTokens })
    const mode = caller.voucher === undefined ? 'token' : 'voucher'
    const account = await this.#fresh(caller, maximum(need, prices, maxTokens))
    checkAccount(account, { mode, service })
    // From here to the end nothing waits: two requests cannot be admitted for the same money.
    const free = this.#freeWei(account)
    if (mode === 'voucher') {
      const reserveWei = maximum(need, prices, maxTokens)
      this.#checkVoucher(caller, account, reserveWei)
      if (free < reserveWei) throw this.#insufficient({ account, reserveWei, minimumWei: 0n })
      if (caller.voucher !== undefined) vouchers.keep(caller.voucher)
      return this.#open({ caller, need, prices, mode, maxTokens })
    }
    const { minimumReserveWei } = this.#parameters
    const affordable = affordableTokens({ need, prices, freeWei: free - minimumReserveWei, wanted: maxTokens })
    const least = need.maxTokens ?? Math.min(LEAST_TOKENS, maxTokens)
    if (affordable < least) {
      const reserveWei = maximum(need, prices, least)
      throw this.#insufficient({ account, reserveWei, minimumWei: minimumReserveWei })
    }
    return this.#open({ caller, need, prices, mode, maxTokens: Math.min(maxTokens, affordable) })
  }

  #open(parameters: {
    caller: Caller
    need: Need
    prices: TokenPrices
    mode: PaymentMode
    maxTokens: number
  }): Admitted {
    const { caller, need, prices, mode, maxTokens } = parameters
    const reservedWei = mode === 'free' ? 0n : maximum(need, prices, maxTokens)
    const { id, kind } = need
    const charge = this.#parameters.cashier.open({ id, user: caller.user, mode, kind, prices, reservedWei })
    return { charge, mode, maxTokens }
  }

  #defaultTokens({ contextTokens }: Need): number {
    return contextTokens === 0 ? DEFAULT_MAX_TOKENS : Math.min(DEFAULT_MAX_TOKENS, contextTokens)
  }

  /** A request that takes more than half of what is left is measured against the chain as it is now. */
  async #fresh({ account }: Caller, reserveWei: bigint): Promise<AccountState> {
    const { view, minimumReserveWei } = this.#parameters
    const free = this.#freeWei(account) - minimumReserveWei
    // Nobody is refused for what he may have paid a moment ago.
    if (!account.exists || !account.acknowledged || free < reserveWei) {
      return await view.account(account.user, { maxAgeMs: 0 })
    }
    return 2n * reserveWei <= free ? account : await view.account(account.user, { maxAgeMs: FRESH_MS })
  }

  /** What no request has claimed yet. Money under refund does not count: it may be gone when it is settled. */
  #freeWei({ user, balanceWei, pendingRefundWei }: AccountState): bigint {
    const { unsettledWei, reservedWei } = this.#parameters.cashier.total(user)
    return balanceWei - pendingRefundWei - unsettledWei - reservedWei
  }

  /**
   * The voucher must cover what was billed, what is set aside and this request. Without a session token beside it a
   * voucher is good for one request alone, so that a copy of it buys nothing.
   */
  #checkVoucher({ user, token, voucher }: Caller, account: AccountState, reserveWei: bigint): void {
    const { vouchers, cashier, latestChats } = this.#parameters
    const held = vouchers.held(user)
    const heldWei =
      held?.voucher.generation === voucher?.voucher.generation ? held?.voucher.cumulativeFeeWei : undefined
    const billedWei = vouchers.billedWei(user, account.voucherPaidWei)
    const sentWei = voucher?.voucher.cumulativeFeeWei ?? 0n
    const coverWei = token !== undefined && heldWei !== undefined && heldWei > sentWei ? heldWei : sentWei
    let requiredWei = billedWei + cashier.standing(user, 'voucher').reservedWei + reserveWei
    if (token === undefined && heldWei !== undefined && heldWei >= requiredWei) requiredWei = heldWei + 1n
    if (coverWei >= requiredWei) return
    const lastVoucher = held === undefined ? undefined : encodeVoucherHeader(held)
    throw new ProviderError({
      ...{ statusCode: 402, type: 'insufficient_quota', code: VOUCHER_INSUFFICIENT },
      message: `insufficient voucher: a voucher over at least ${requiredWei} wei in all is needed`,
      details: {
        ...{ cumulativeFeeWei: String(billedWei), requiredCumulativeFeeWei: String(requiredWei) },
        ...(lastVoucher === undefined ? {} : { lastVoucher }),
        chatIds: latestChats(user),
      },
    })
  }

  #insufficient(parameters: { account: AccountState; reserveWei: bigint; minimumWei: bigint }): ProviderError {
    const { account, reserveWei, minimumWei } = parameters
    const { balanceWei, pendingRefundWei, user } = account
    const { unsettledWei, reservedWei } = this.#parameters.cashier.total(user)
    const lockedWei = balanceWei - pendingRefundWei
    const requiredWei = reserveWei + unsettledWei + reservedWei + minimumWei
    return new ProviderError({
      ...{ statusCode: 402, type: 'insufficient_quota', code: 'insufficient_balance' },
      message: `validate request: insufficient balance: your locked balance is ${lockedWei} wei, but the required minimum is ${requiredWei} wei`,
      fix: 'transfer more to this provider from your ledger, or ask for fewer tokens',
      details: { lockedWei, requiredWei, requestWei: reserveWei, unsettledWei, reservedWei, minimumWei },
    })
  }
}

/** The most a request can cost, in wei. The prompt cannot pass the context, whatever the body's length. */
function maximum(need: Need, { inputPriceWei, outputPriceWei }: TokenPrices, maxTokens: number): bigint {
  const bound = promptTokenBound(need.bodyBytes)
  const promptTokens =
    need.contextTokens === 0 || need.kind === 'embedding' ? bound : Math.min(bound, need.contextTokens)
  return BigInt(promptTokens) * inputPriceWei + BigInt(maxTokens * need.choices) * outputPriceWei
}

function affordableTokens(parameters: { need: Need; prices: TokenPrices; freeWei: bigint; wanted: number }): number {
  const { need, prices, freeWei, wanted } = parameters
  const left = freeWei - maximum(need, prices, 0)
  if (left < 0n) return -1
  const perToken = prices.outputPriceWei * BigInt(need.choices)
  if (perToken === 0n) return wanted
  const tokens = left / perToken
  return tokens > BigInt(wanted) ? wanted : Number(tokens)
}

function checkAccount(account: AccountState, { mode, service }: { mode: PaymentMode; service: ServiceState }): void {
  if (!account.exists) {
    throw new ProviderError({
      ...{ statusCode: 402, type: 'insufficient_quota', code: 'account_missing' },
      message: 'validate request: insufficient balance: there is no account for this provider',
      fix: 'transfer funds to this provider from your ledger first',
    })
  }
  if (mode === 'voucher') return
  if (!account.acknowledged) {
    throw new ProviderError({
      ...{ statusCode: 400, type: 'permission_error', code: 'provider_not_acknowledged' },
      message:
        'user not acknowledge the provider, please use acknowledgeProviderSigner function in sdk first, or transfer funds to the account',
    })
  }
  if (account.signedOnlyFromS !== 0n) {
    throw new ProviderError({
      ...{ statusCode: 402, type: 'insufficient_quota', code: 'voucher_required' },
      message: 'this account has said that it pays only what it signed, so a session token is not enough',
      fix: 'send a voucher, or take the setting back (setSignedChargesOnly)',
    })
  }
  if (service.signerAcknowledged) return
  throw new ProviderError({
    ...{ statusCode: 503, type: 'server_error', code: 'signer_not_acknowledged' },
    message: "this provider's signer is not approved on the chain, so session tokens cannot be settled",
    fix: 'pay by voucher, or use another provider',
  })
}
