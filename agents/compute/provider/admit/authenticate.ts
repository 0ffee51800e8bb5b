import {
  EPHEMERAL_TOKEN_ID,
  parseSessionToken,
  type SessionToken,
  SessionTokenError,
} from '#protocol/compute/session-token.ts'
import { decodeVoucherHeader, type SignedVoucher, VoucherError } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import type { AccountState, AccountView } from '../chain/account-view.ts'
import { ProviderError } from '../error.ts'
import { VoucherCheck } from './voucher-check.ts'

/** Who sends a request, and by what he pays. */
export interface Caller {
  /** Lower case. */
  readonly user: Hex
  readonly token: SessionToken | undefined
  readonly voucher: SignedVoucher | undefined
  readonly account: AccountState
}

export interface AuthenticatorParameters {
  chainId: number
  contract: Hex
  provider: Hex
  view: AccountView
  now: () => number
  /** A voucher must be good for at least so long, so that it can be settled in time. */
  voucherMinLifeS: number
}

/** Verified tokens remembered: their signature is checked once, everything that can change at every request. */
const MAX_TOKENS = 20_000

/** Tells who sends a request, from the session token, the voucher, or both. */
export class Authenticator {
  readonly #parameters: AuthenticatorParameters
  readonly #vouchers: VoucherCheck
  readonly #verified = new Map<string, SessionToken>()

  constructor(parameters: AuthenticatorParameters) {
    this.#parameters = parameters
    this.#vouchers = new VoucherCheck(parameters)
  }

  /**
   * @throws ProviderError 401 `invalid_session_token`, `session_token_expired`, `session_token_revoked`,
   * `invalid_voucher`, `voucher_expired`, `voucher_revoked`; 503 `chain_unavailable`
   */
  async caller(headers: { authorization?: string | undefined; voucher?: string | undefined }): Promise<Caller> {
    const { view } = this.#parameters
    const { authorization, voucher: voucherHeader } = headers
    const hasToken = authorization?.includes('app-sk-') === true
    if (!hasToken && voucherHeader !== undefined) {
      const voucher = await this.#voucher(voucherHeader)
      const account = await view.account(voucher.voucher.user)
      this.#checkVoucherGeneration(voucher, account)
      return { user: voucher.voucher.user, token: undefined, voucher, account }
    }
    const token = this.#token(authorization)
    const account = await view.account(token.address)
    this.#checkRevoked(token, account)
    if (voucherHeader === undefined) return { user: token.address, token, voucher: undefined, account }
    const voucher = await this.#voucher(voucherHeader)
    if (voucher.voucher.user !== token.address) throw badVoucher('the voucher is drawn on another account', 'user')
    this.#checkVoucherGeneration(voucher, account)
    return { user: token.address, token, voucher, account }
  }

  #token(header: string | undefined): SessionToken {
    const { provider, now } = this.#parameters
    const nowMs = now()
    const known = header === undefined ? undefined : this.#verified.get(header)
    if (known !== undefined && header !== undefined) {
      if (known.expiresAtMs === 0 || known.expiresAtMs > nowMs) return known
      this.#verified.delete(header)
    }
    try {
      const token = parseSessionToken(header, { provider, nowMs })
      if (header !== undefined) {
        const [oldest] = this.#verified.size >= MAX_TOKENS ? this.#verified.keys() : []
        if (oldest !== undefined) this.#verified.delete(oldest)
        this.#verified.set(header, token)
      }
      return token
    } catch (cause) {
      if (!(cause instanceof SessionTokenError)) throw cause
      const code = cause.code === 'TOKEN_EXPIRED' ? 'session_token_expired' : 'invalid_session_token'
      throw denied(code, cause.message, { fix: cause.fix, cause, reason: cause.code })
    }
  }

  #checkRevoked(token: SessionToken, account: AccountState): void {
    const { generation, bitmap } = this.#parameters.view.revocation(account)
    const own = BigInt(token.generation)
    if (own < generation) {
      throw denied('session_token_revoked', 'session token has been revoked (generation expired)', {})
    }
    if (own > generation && account.exists) {
      throw denied('invalid_session_token', 'the session token is of a generation that does not exist yet', {
        reason: 'TOKEN_GENERATION',
      })
    }
    if (token.tokenId !== EPHEMERAL_TOKEN_ID && ((bitmap >> BigInt(token.tokenId)) & 1n) === 1n) {
      throw denied('session_token_revoked', `session token ${token.tokenId} has been revoked`, {})
    }
  }

  async #voucher(header: string): Promise<SignedVoucher> {
    const { provider, now, voucherMinLifeS } = this.#parameters
    try {
      const signed = decodeVoucherHeader(header)
      if (signed.voucher.provider !== provider) throw badVoucher('the voucher is for another provider', 'provider')
      await this.#vouchers.verify(signed, now())
      if (signed.voucher.expiresAtS * 1000 < now() + voucherMinLifeS * 1000) {
        throw denied('voucher_expired', `a voucher must be good for ${voucherMinLifeS} s or more`, {
          fix: 'sign a voucher with a later expiry',
        })
      }
      return signed
    } catch (cause) {
      if (!(cause instanceof VoucherError)) throw cause
      const code = cause.code === 'VOUCHER_EXPIRED' ? 'voucher_expired' : 'invalid_voucher'
      throw denied(code, cause.message, { fix: cause.fix, cause, reason: cause.code })
    }
  }

  #checkVoucherGeneration({ voucher }: SignedVoucher, account: AccountState): void {
    const { generation } = this.#parameters.view.revocation(account)
    if (BigInt(voucher.generation) === generation || !account.exists) return
    const message = `the voucher is of generation ${voucher.generation}, the account of ${generation}`
    throw denied('voucher_revoked', message, { fix: 'sign a voucher for the current generation' })
  }
}

function badVoucher(message: string, field: string): ProviderError {
  return denied('invalid_voucher', message, { reason: field })
}

function denied(
  code: string,
  message: string,
  { fix = 'make a new session token', cause, reason }: { fix?: string | undefined; cause?: unknown; reason?: string },
): ProviderError {
  const details = reason === undefined ? {} : { reason }
  return new ProviderError({ statusCode: 401, type: 'authentication_error', code, message, fix, details, cause })
}
