import { NoProviderError, ProviderError } from '#client/compute/errors.ts'
import { describeHttpError } from '#kit/http/http-error.ts'
import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

/** A request that the gateway refuses by itself, in OpenAI's terms. */
export class GatewayError extends WeightlessError {
  readonly statusCode: number
  readonly type: string
  /** The parameter at fault. */
  readonly param: string | undefined

  constructor(facts: WeightlessErrorParameters & { statusCode: number; type: string; param?: string | undefined }) {
    const { statusCode, type, param, ...rest } = facts
    super(rest)
    this.statusCode = statusCode
    this.type = type
    this.param = param
  }
}

/** An error as OpenAI's API answers it. */
export interface OpenAiErrorBody {
  readonly error: {
    readonly message: string
    readonly type: string
    readonly param: string | null
    readonly code: string
    /** What to do, and the facts; beside OpenAI's own fields. */
    readonly fix?: string | undefined
    readonly details?: Readonly<Record<string, unknown>> | undefined
  }
}

const STATUS: Readonly<Record<string, readonly [status: number, type: string, code: string]>> = {
  INSUFFICIENT_FUNDS: [402, 'insufficient_quota', 'insufficient_quota'],
  NO_PROVIDER: [503, 'service_unavailable', 'no_provider'],
  CHAIN_UNREACHABLE: [503, 'service_unavailable', 'chain_unreachable'],
  PROVIDER_BUSY: [429, 'rate_limit_error', 'rate_limit_exceeded'],
  PROVIDER_TIMEOUT: [504, 'server_error', 'provider_timeout'],
  PROVIDER_UNREACHABLE: [502, 'server_error', 'provider_unreachable'],
  PROVIDER_FAILED: [502, 'server_error', 'provider_failed'],
  PROVIDER_ANSWER: [502, 'server_error', 'provider_failed'],
  PROVIDER_BROKE_OFF: [502, 'server_error', 'provider_broke_off'],
  VOUCHER_UNJUSTIFIED: [502, 'server_error', 'voucher_unjustified'],
}

/** Any error as status and body of OpenAI's API. Says nothing of what was asked or answered. */
export function describeOpenAiError(error: unknown): { statusCode: number; body: OpenAiErrorBody } {
  if (error instanceof GatewayError) {
    const { statusCode, type, param = null, code, message, fix, details } = error
    return { statusCode, body: { error: { message: withFix(message, fix), type, param, code, fix, details } } }
  }
  if (error instanceof NoProviderError && error.attempts.every(({ code }) => code === 'NO_MODEL')) {
    const { message, fix } = error
    const facts = { type: 'invalid_request_error', param: 'model', code: 'model_not_found', fix }
    return { statusCode: 404, body: { error: { message: withFix(message, fix), ...facts } } }
  }
  if (error instanceof ProviderError && error.code === 'PROVIDER_REFUSED') {
    const { message, status = 400, providerError = {}, details } = error
    const text = (value: unknown, otherwise: string) => (typeof value === 'string' ? value : otherwise)
    const type = text(providerError.type, 'invalid_request_error')
    const param = typeof providerError.param === 'string' ? providerError.param : null
    const code = text(providerError.code, 'provider_refused')
    return { statusCode: status, body: { error: { message, type, param, code, details } } }
  }
  if (error instanceof WeightlessError) {
    const [statusCode, type, code] = STATUS[error.code] ?? [500, 'server_error', error.code.toLowerCase()]
    const { message, fix, details } = error
    return { statusCode, body: { error: { message: withFix(message, fix), type, param: null, code, fix, details } } }
  }
  const { statusCode, body } = describeHttpError(error)
  const type = statusCode < 500 ? 'invalid_request_error' : 'server_error'
  return { statusCode, body: { error: { message: body.message, type, param: null, code: body.code.toLowerCase() } } }
}

/** Clients show the message alone, so what to do about it must stand there. */
function withFix(message: string, fix: string | undefined): string {
  return fix === undefined ? message : `${message}; ${fix}`
}
