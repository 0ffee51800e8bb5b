import { EngineError, type EngineErrorCode, engineErrorStatus } from '#compute/engines/engine-error.ts'
import { ProviderError } from '../error.ts'

const CODES: Readonly<Partial<Record<EngineErrorCode, string>>> = {
  ENGINE_REQUEST: 'invalid_request',
  ENGINE_CONTEXT: 'context_length_exceeded',
  ENGINE_UNSUPPORTED: 'unsupported_parameter',
  ENGINE_MODEL: 'model_not_found',
  ENGINE_BUSY: 'engine_busy',
  ENGINE_ADAPTER: 'invalid_adapter',
  ENGINE_CRASHED: 'engine_crashed',
  ENGINE_UPSTREAM: 'upstream_error',
  ENGINE_TIMEOUT: 'engine_timeout',
}

/** What is said of an engine that failed: its own words may hold parts of a prompt, or of the operator's affairs. */
const FAILURES: Readonly<Partial<Record<EngineErrorCode, string>>> = {
  ENGINE_UPSTREAM: 'the upstream engine refused, broke off or sent what is no answer',
  ENGINE_CRASHED: 'the engine ended while it answered; it is being started again',
  ENGINE_BUSY: 'the engine answers as many requests as it can',
  ENGINE_TIMEOUT: 'the engine gave nothing within the limit',
}

/** An error as it may be logged: never with words that an engine may have taken from a prompt. */
export function loggable(error: unknown): Record<string, unknown> {
  const engine = error instanceof ProviderError && error.cause !== undefined ? error.cause : error
  if (!(engine instanceof EngineError)) return { err: error }
  const { status } = engine.details
  return { code: engine.code, ...(typeof status === 'number' ? { upstreamStatus: status } : {}) }
}

/** Whatever went wrong while a request was served, as the error its client is told. Foreign texts stay inside. */
export function asProviderError(error: unknown): ProviderError {
  if (error instanceof ProviderError) return error
  if (error instanceof EngineError) {
    const statusCode = engineErrorStatus[error.code]
    const field: unknown = error.details.field
    const busy = error.code === 'ENGINE_BUSY'
    return new ProviderError({
      ...{ statusCode, code: CODES[error.code] ?? 'engine_unavailable', cause: error },
      message: FAILURES[error.code] ?? (statusCode < 500 ? error.message : 'the engine is not ready'),
      type: busy ? 'rate_limit_error' : statusCode < 500 ? 'invalid_request_error' : 'server_error',
      ...(typeof field === 'string' ? { param: field } : {}),
      ...(busy || statusCode === 503 ? { retryAfterS: 1 } : {}),
      fix: statusCode < 500 ? error.fix : 'try again, or use another provider',
      details: statusCode === 400 ? { ...error.details } : {},
    })
  }
  const status: unknown = error instanceof Error ? Reflect.get(error, 'statusCode') : undefined
  if (error instanceof Error && typeof status === 'number' && status >= 400 && status < 500) {
    const code: unknown = Reflect.get(error, 'code')
    return new ProviderError({
      ...{ statusCode: status, message: error.message, cause: error },
      type: status === 429 ? 'rate_limit_error' : 'invalid_request_error',
      code: typeof code === 'string' ? code.toLowerCase() : 'invalid_request',
    })
  }
  return new ProviderError({
    ...{ statusCode: 500, type: 'server_error', code: 'internal_error', cause: error },
    message: 'the request failed inside the provider',
    fix: 'try again, or use another provider',
  })
}
