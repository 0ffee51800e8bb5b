import { ProviderError, reasonOf } from './errors.ts'

/** Largest small answer of a provider: model lists, receipts with their tokens. */
const MAX_JSON_BYTES = 32 * 2 ** 20
/** Of an error body. */
const MAX_ERROR_BYTES = 64 * 1024

export interface ProviderCall {
  /** For errors: the provider's address. */
  provider: string
  url: string
  timeoutMs: number
  headers?: Record<string, string> | undefined
  signal?: AbortSignal | undefined
}

/**
 * A small GET of JSON: limited in time and size, no redirects (a provider must not send us elsewhere).
 *
 * @throws ProviderError
 */
export async function getProviderJson(call: ProviderCall): Promise<unknown> {
  const { provider, url, timeoutMs, headers = {}, signal } = call
  const limit = AbortSignal.timeout(timeoutMs)
  const both = signal === undefined ? limit : AbortSignal.any([signal, limit])
  try {
    const response = await fetch(url, {
      headers: { accept: 'application/json', ...headers },
      redirect: 'error',
      signal: both,
    })
    const bytes = await readCapped(response, response.ok ? MAX_JSON_BYTES : MAX_ERROR_BYTES)
    if (!response.ok) throw refusal({ provider, status: response.status, body: bytes })
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch (error) {
    throw asProviderError({ error, provider, signal, timedOut: limit.aborted, timeoutMs })
  }
}

/** What a failed transfer is, as our error; ours and the caller's own abort stay what they are. */
export function asProviderError(facts: {
  error: unknown
  provider: string
  signal: AbortSignal | undefined
  timedOut: boolean
  timeoutMs: number
}): unknown {
  const { error, provider, signal, timedOut, timeoutMs } = facts
  if (error instanceof ProviderError) return error
  if (signal?.aborted) return signal.reason
  if (timedOut) {
    return new ProviderError({
      code: 'PROVIDER_TIMEOUT',
      message: `provider ${provider} did not answer within ${timeoutMs} ms`,
      fix: 'try another provider',
      provider,
      details: { timeoutMs },
      cause: error,
    })
  }
  const shape = error instanceof SyntaxError
  return new ProviderError({
    code: shape ? 'PROVIDER_ANSWER' : 'PROVIDER_UNREACHABLE',
    message: shape
      ? `provider ${provider} sent no JSON`
      : `provider ${provider} cannot be reached: ${reasonOf(error instanceof Error ? (error.cause ?? error) : error)}`,
    fix: 'try another provider',
    provider,
    cause: error,
  })
}

/** An answer with an error status, as our error. */
export function refusal({
  provider,
  status,
  body,
}: {
  provider: string
  status: number
  body: Uint8Array
}): ProviderError {
  const parsed = parseJson(body)
  const inner: unknown = typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, 'error') : undefined
  const providerError: Record<string, unknown> | undefined =
    typeof inner === 'object' && inner !== null ? { ...inner } : undefined
  const text = typeof inner === 'string' ? inner : providerError?.message
  const reason = (typeof text === 'string' ? text : `status ${status}`).slice(0, 500)
  const busy = status === 429 || status === 503
  // 400, 413 and 422 are about the request; what is about this user's account at this provider may differ elsewhere.
  const ofRequest = (status === 400 || status === 413 || status === 422) && !/insufficient|acknowledge/i.test(reason)
  return new ProviderError({
    code: busy ? 'PROVIDER_BUSY' : ofRequest ? 'PROVIDER_REFUSED' : 'PROVIDER_FAILED',
    message: `provider ${provider} answered ${status}: ${reason}`,
    fix: busy ? 'try again later, or use another provider' : ofRequest ? 'correct the request' : 'use another provider',
    provider,
    status,
    providerError,
  })
}

/** A whole body, refused above `limit` bytes. */
export async function readCapped(response: Response, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let size = 0
  if (response.body === null) return new Uint8Array()
  const reader = response.body.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return Buffer.concat(parts)
    size += value.length
    if (size > limit) {
      await reader.cancel().catch(() => {})
      throw new Error(`the answer is longer than ${limit} bytes`)
    }
    parts.push(value)
  }
}

/** JSON, or undefined. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    return undefined
  }
}
