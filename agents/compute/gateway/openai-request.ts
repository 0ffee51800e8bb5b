import { defaultMaxTokens } from '#client/compute/default-max-tokens.ts'
import type { ExchangePath } from '#client/compute/exchange.ts'
import type { OfferedModel } from '#client/compute/health.ts'
import { type ProviderPreferences, preferencesSchema } from '#client/compute/preferences.ts'
import type { RoutedBody } from '#client/compute/route.ts'
import { GatewayError } from './openai-error.ts'

/** A client's request, taken apart as far as routing needs. */
export interface GatewayRequest {
  readonly path: ExchangePath
  readonly stream: boolean
  /** Models to try, best first; undefined for any. */
  readonly models: readonly (string | undefined)[]
  readonly preferences: ProviderPreferences
  /** Names of the parameters used, for `require_parameters`. */
  readonly parameters: readonly string[]
  /**
   * The request for a provider. Where nothing needs to be put in or taken out, these are the client's own bytes, so
   * that the receipt's request hash is that of what the client sent.
   */
  bodyFor(provider: { model: string; offer: OfferedModel | undefined }): RoutedBody
}

/** Fields for the gateway alone: providers of the original protocol may refuse what they do not know. */
const OWN_FIELDS = ['provider', 'models', 'route', 'transforms', 'plugins'] as const
/** No parameters of the model. */
const NO_PARAMETERS = new Set([
  ...OWN_FIELDS,
  ...['model', 'messages', 'prompt', 'input', 'stream', 'stream_options', 'user', 'metadata', 'store'],
])
/** Names of any model at all. */
const ANY_MODEL = new Set(['', 'auto', 'weightless/auto', 'openrouter/auto'])
const MAX_MODELS = 16
const MAX_CHOICES = 128
/** OpenAI's default for plain completions. */
const COMPLETION_TOKENS = 16
const MAX_TOKENS = 2 ** 20

/**
 * Reads the body of a request to `/v1/<path>`.
 *
 * @throws GatewayError with status 400, naming the parameter
 */
export function readRequest({ path, bytes }: { path: ExchangePath; bytes: Uint8Array }): GatewayRequest {
  const body = parseObject(bytes)
  const preferences = preferencesSchema.safeParse(body.provider ?? {})
  if (!preferences.success) {
    const [issue] = preferences.error.issues
    const param = ['provider', ...(issue?.path ?? [])].join('.')
    throw invalid(param, `${param}: ${issue?.message ?? 'is not valid'}`)
  }
  const given = OWN_FIELDS.some((name) => name in body)
  const asked = maxTokensOf(path, body)
  const choices = count(body, 'n', MAX_CHOICES) ?? 1
  const drawn = path === 'completions' ? Math.max(choices, count(body, 'best_of', MAX_CHOICES) ?? 1) : choices
  const seed = typeof body.seed === 'number' && Number.isSafeInteger(body.seed) ? body.seed : undefined
  return {
    path,
    stream: body.stream === true && path !== 'embeddings',
    models: modelsOf(body),
    preferences: preferences.data,
    parameters: Object.keys(body)
      .filter((name) => !NO_PARAMETERS.has(name) && body[name] !== null)
      .map((name) => (name === 'max_completion_tokens' ? 'max_tokens' : name)),
    bodyFor: ({ model, offer }) => {
      const otherwise =
        path === 'completions' ? COMPLETION_TOKENS : defaultMaxTokens({ offer, bodyBytes: bytes.length })
      const maxTokens = path === 'embeddings' ? 0 : (asked ?? otherwise)
      const routed = { maxTokens: maxTokens * drawn, seed }
      const bounded = asked !== undefined || path === 'embeddings'
      if (!given && bounded && body.model === model) return { bytes, ...routed }
      const kept = Object.entries(body).filter(([name]) => !OWN_FIELDS.some((own) => own === name))
      const sent = { ...Object.fromEntries(kept), model, ...(bounded ? {} : { max_tokens: maxTokens }) }
      return { bytes: new TextEncoder().encode(JSON.stringify(sent)), ...routed }
    },
  }
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return { ...body }
  } catch (cause) {
    throw invalid(undefined, 'the body is no JSON', cause)
  }
  throw invalid(undefined, 'the body is no JSON object')
}

function modelsOf(body: Record<string, unknown>): (string | undefined)[] {
  const more = body.models ?? []
  if (!Array.isArray(more) || more.length > MAX_MODELS)
    throw invalid('models', `models: give at most ${MAX_MODELS} names`)
  const names: unknown[] = [...(body.model === undefined || body.model === null ? [] : [body.model]), ...more]
  const texts = names.map((name) => {
    if (typeof name === 'string' && name.length <= 256) return name
    throw invalid('model', 'model: give a name of at most 256 characters')
  })
  const distinct = [...new Set(texts)].map((name) => (ANY_MODEL.has(name) ? undefined : name))
  return distinct.length === 0 ? [undefined] : distinct
}

function maxTokensOf(path: ExchangePath, body: Record<string, unknown>): number | undefined {
  const names = path === 'chat/completions' ? ['max_completion_tokens', 'max_tokens'] : ['max_tokens']
  for (const name of names) {
    const value = count(body, name, MAX_TOKENS)
    if (value !== undefined) return value
  }
  return undefined
}

function count(body: Record<string, unknown>, name: string, max: number): number | undefined {
  const value = body[name]
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value
  throw invalid(name, `${name}: give a whole number from 1 to ${max}`)
}

function invalid(param: string | undefined, message: string, cause?: unknown): GatewayError {
  return new GatewayError({
    ...{ statusCode: 400, type: 'invalid_request_error', code: 'invalid_request', param, message, cause },
    fix: 'correct the request',
  })
}
