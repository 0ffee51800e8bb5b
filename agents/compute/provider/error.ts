import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

/** Groups of errors as OpenAI's clients know them (`error.type`). */
export type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'insufficient_quota'
  | 'rate_limit_error'
  | 'server_error'

export interface ProviderErrorParameters extends WeightlessErrorParameters {
  statusCode: number
  type: ErrorType
  /** The request's field at fault. */
  param?: string | undefined
  /** When to try again. */
  retryAfterS?: number | undefined
}

/** An error a provider answers with; see {@link openAiErrorBody} and {@link proxyErrorBody} for how it looks. */
export class ProviderError extends WeightlessError {
  readonly statusCode: number
  readonly type: ErrorType
  readonly param: string | undefined
  readonly retryAfterS: number | undefined

  constructor({ statusCode, type, param, retryAfterS, ...parameters }: ProviderErrorParameters) {
    super(parameters)
    this.statusCode = statusCode
    this.type = type
    this.param = param
    this.retryAfterS = retryAfterS
  }
}

/** The body of OpenAI's errors. `fix` and `details` are ours; clients ignore what they do not know. */
export interface OpenAiErrorBody {
  error: {
    message: string
    type: ErrorType
    param: string | null
    code: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
  }
}

/** An error in OpenAI's shape, for `/v1/*` and inside of streams. */
export function openAiErrorBody(error: ProviderError): OpenAiErrorBody {
  const { message, type, param, code, fix, details } = error
  return {
    error: {
      ...{ message, type, param: param ?? null, code },
      ...(fix === undefined ? {} : { fix }),
      ...(Object.keys(details).length === 0 ? {} : { details: jsonSafe(details) }),
    },
  }
}

/**
 * An error in the shape of the 0G broker, for `/v1/proxy/*`: `{ "error": "context: message" }`. Its clients match on
 * words in the text (`insufficient`, `revoked`); `code` and `details` stand beside it for those who look.
 */
export function proxyErrorBody(error: ProviderError): { error: string; code: string; details?: unknown } {
  const { code, message, fix, details } = error
  const text = fix === undefined ? message : `${message} (${fix})`
  return { error: text, code, ...(Object.keys(details).length === 0 ? {} : { details: jsonSafe(details) }) }
}

/** A request that is wrong in itself: HTTP 400. */
export function badRequest(parameters: {
  code: string
  message: string
  param?: string | undefined
  fix?: string | undefined
  details?: Record<string, unknown> | undefined
  cause?: unknown
}): ProviderError {
  return new ProviderError({ statusCode: 400, type: 'invalid_request_error', ...parameters })
}

function jsonSafe(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(details).map(([key, value]) => [key, typeof value === 'bigint' ? value.toString() : value]),
  )
}
