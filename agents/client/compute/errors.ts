import { formatEther } from 'viem'
import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

/** A call of a contract of the compute market failed. Codes `COMPUTE_CONTRACT`, `CHAIN_UNREACHABLE`. */
export class ComputeChainError extends WeightlessError {}

/** What the caller asked for is not possible. Codes `CHAT_REQUEST`, `RECEIPT_UNKNOWN`, `ACCOUNT_MISSING`. */
export class ComputeRequestError extends WeightlessError {}

/**
 * The user's money does not reach. Code `INSUFFICIENT_FUNDS`; `fix` is the command that mends it. `details`: `address`,
 * `haveWei`, `needWei` as decimal strings.
 */
export class ComputeFundsError extends WeightlessError {
  constructor(facts: { address: string; haveWei: bigint; needWei: bigint; depositWei: bigint; purpose: string }) {
    const { address, haveWei, needWei, depositWei, purpose } = facts
    super({
      code: 'INSUFFICIENT_FUNDS',
      message: `${purpose} needs ${formatEther(needWei)}, the ledger of ${address} has ${formatEther(haveWei)} free`,
      fix: `run: weightless deposit ${formatEther(depositWei)}`,
      details: { address, haveWei: String(haveWei), needWei: String(needWei), depositWei: String(depositWei) },
    })
  }
}

/** No provider is left that could serve. Code `NO_PROVIDER`. `details.attempts` says why each was left out. */
export class NoProviderError extends WeightlessError {
  readonly attempts: readonly ProviderAttempt[]

  constructor({ message, fix, attempts, cause }: NoProviderParameters) {
    const tried = attempts.map(({ provider, reason }) => `${provider}: ${reason}`).join('; ')
    super({
      code: 'NO_PROVIDER',
      message: tried === '' ? message : `${message} (${tried})`,
      fix: fix ?? 'see which providers there are with: weightless providers',
      details: { attempts },
      cause,
    })
    this.attempts = attempts
  }
}

export interface NoProviderParameters {
  message: string
  fix?: string | undefined
  attempts: readonly ProviderAttempt[]
  cause?: unknown
}

/** Why one provider did not serve. */
export interface ProviderAttempt {
  readonly provider: string
  readonly code: string
  readonly reason: string
}

/**
 * A provider failed or refused. Codes `PROVIDER_UNREACHABLE`, `PROVIDER_TIMEOUT`, `PROVIDER_BUSY`, `PROVIDER_REFUSED`
 * (the request: another provider would refuse too), `PROVIDER_FAILED`, `PROVIDER_ANSWER` (not what was asked),
 * `PROVIDER_BROKE_OFF` (after the first token), `VOUCHER_UNJUSTIFIED` (it asks for more than its receipts justify).
 */
export class ProviderError extends WeightlessError {
  readonly provider: string
  /** HTTP status of the answer, where there was one. */
  readonly status: number | undefined
  /** The provider's own error body, where it sent one of the usual shape. */
  readonly providerError: Readonly<Record<string, unknown>> | undefined

  constructor(facts: ProviderErrorParameters) {
    const { provider, status, providerError, details, ...rest } = facts
    super({ ...rest, details: { provider, ...(status === undefined ? {} : { status }), ...details } })
    this.provider = provider
    this.status = status
    this.providerError = providerError
  }
}

export interface ProviderErrorParameters extends WeightlessErrorParameters {
  provider: string
  status?: number | undefined
  providerError?: Record<string, unknown> | undefined
}

/** Codes after which the same request may go to another provider. */
const FAIL_OVER = new Set([
  'PROVIDER_UNREACHABLE',
  'PROVIDER_TIMEOUT',
  'PROVIDER_BUSY',
  'PROVIDER_FAILED',
  'PROVIDER_ANSWER',
  'VOUCHER_UNJUSTIFIED',
])

/** Whether another provider may do better. Not so once tokens were delivered, nor when the request itself is wrong. */
export function mayFailOver(error: unknown): error is ProviderError {
  return error instanceof ProviderError && FAIL_OVER.has(error.code)
}

/** A short text of anything thrown. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const short: unknown = Reflect.get(error, 'shortMessage')
  return (typeof short === 'string' ? short : error.message).replaceAll(/\s*\n\s*/g, ' ').slice(0, 300)
}
