import { EngineError } from '#compute/engines/engine-error.ts'
import type { Hash } from '#protocol/hex.ts'
import { ProviderError } from '../error.ts'

/** No such adapter: 404 as for a model that does not exist, so that clients ask another provider. */
export function adapterUnknown(adapter: string, fix: string): ProviderError {
  return new ProviderError({
    ...{ statusCode: 404, type: 'invalid_request_error', code: 'model_not_found', param: 'model', fix },
    message: `there is no adapter ${adapter.slice(0, 100)}`,
  })
}

/** The bytes are no adapter of this provider's base model: 400, for good. */
export function adapterMisfit(root: Hash, cause: EngineError): ProviderError {
  return new ProviderError({
    ...{ statusCode: 400, type: 'invalid_request_error', code: 'invalid_adapter', param: 'model', cause },
    message: `${root} is no adapter of this model: ${reasonOf(cause)}`,
    fix: 'name a LoRA adapter in GGUF that was trained on this base model',
    details: { root },
  })
}

/** Larger than this provider loads: 413. */
export function adapterTooLarge(root: Hash, { sizeBytes, limit }: { sizeBytes: number; limit: number }): ProviderError {
  return new ProviderError({
    ...{ statusCode: 413, type: 'invalid_request_error', code: 'adapter_too_large', param: 'model' },
    message: `the adapter ${root} has ${sizeBytes} bytes, this provider loads ${limit} at most`,
    fix: 'train one of lower rank, or use another provider',
    details: { root, sizeBytes, limit },
  })
}

/** The adapter exists, perhaps, but cannot be had now: 503, try again. */
export function adapterUnavailable(root: Hash, reason: string, cause?: unknown): ProviderError {
  return new ProviderError({
    ...{ statusCode: 503, type: 'server_error', code: 'adapter_unavailable', param: 'model', cause, retryAfterS: 5 },
    message: `the adapter ${root} cannot be had now: ${reason}`,
    fix: 'try again shortly, or use another provider',
    details: { root },
  })
}

/** All places for adapters, or for fetching them, are taken: 503, try again. */
export function adaptersBusy(limit: number, what: string): ProviderError {
  return new ProviderError({
    ...{ statusCode: 503, type: 'server_error', code: 'adapters_busy', param: 'model', retryAfterS: 2 },
    message: `${limit} adapters are ${what} already`,
    fix: 'try again shortly, or use another provider',
    details: { limit },
  })
}

/** One user has had more adapters fetched than its share: 429. */
export function tooManyFetches(limit: number, retryAfterS: number): ProviderError {
  return new ProviderError({
    ...{ statusCode: 429, type: 'rate_limit_error', code: 'adapter_fetch_limit', param: 'model', retryAfterS },
    message: `this provider fetches ${limit} adapters an hour for one user`,
    fix: `wait ${retryAfterS} s, or ask for an adapter that is here already (GET /v1/models)`,
    details: { limit },
  })
}

/** What the engine said of a file, without the name that only this provider gives it. */
function reasonOf(error: EngineError): string {
  const { cause } = error
  const text = cause instanceof EngineError || !(cause instanceof Error) ? error.message : cause.message
  return text.slice(0, 300)
}
