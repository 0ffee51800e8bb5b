import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import type { Engine, EngineInfo } from '#compute/engines/engine.ts'
import type { Logger } from '#kit/log.ts'
import { VOUCHER_HEADER } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import type { KnownAdapter } from '../adapters/configured-adapters.ts'
import type { ProviderAdapters } from '../adapters/provider-adapters.ts'
import type { Admission } from '../admit/admission.ts'
import type { Authenticator, Caller } from '../admit/authenticate.ts'
import type { RequestLimits } from '../admit/limits.ts'
import type { AccountView } from '../chain/account-view.ts'
import { badRequest, ProviderError } from '../error.ts'
import type { Cashier } from '../money/cashier.ts'
import type { ProviderMetrics } from '../provider-metrics.ts'
import type { ArtifactStore } from '../store/artifact-store.ts'

/** What serving a request stands on. */
export interface Serving {
  engine: Engine
  /** The engine's description; asked for once and kept. */
  engineInfo: () => Promise<EngineInfo>
  /** Tokens of a context; 0 where it is not known. */
  contextTokens: (info: EngineInfo) => number
  authenticator: Authenticator
  limits: RequestLimits
  admission: Admission
  cashier: Cashier
  view: AccountView
  artifacts: ArtifactStore
  adapters: ProviderAdapters
  metrics: ProviderMetrics
  log: Logger
  now: () => number
  /** The provider's wallet. */
  provider: Hex
  /** Another name the model answers to. */
  modelName: string | undefined
  limitsMs: { firstTokenTimeoutMs: number; stallTimeoutMs: number; clientStallMs: number }
}

/** One request as it came. */
export interface ServedRequest {
  body: Buffer
  headers: IncomingHttpHeaders
  response: ServerResponse
  /** Aborted when the client leaves or the provider stops. */
  signal: AbortSignal
  /** Sent with the answer: what browsers need to read it. */
  answerHeaders: Readonly<Record<string, string>>
  /** End every stream with what it used, asked for or not: 0G's broker does. */
  usageAlways: boolean
}

/** Largest number of nested brackets looked at in a body. */
const MAX_DEPTH = 128

/**
 * Who asks, with a place among the running requests. Release the place once.
 *
 * @throws ProviderError 401, 429, 503
 */
export async function identify(
  { authenticator, limits }: Serving,
  { headers, response }: ServedRequest,
): Promise<{ caller: Caller; place: { release: () => void } }> {
  const voucher = headers[VOUCHER_HEADER.toLowerCase()]
  const caller = await authenticator.caller({
    authorization: headers.authorization,
    voucher: typeof voucher === 'string' ? voucher : undefined,
  })
  try {
    const place = limits.take(caller.user)
    for (const [name, value] of Object.entries(place.headers)) response.setHeader(name, value)
    return { caller, place }
  } catch (error) {
    for (const [name, value] of Object.entries(limits.headers(caller.user))) response.setHeader(name, value)
    throw error
  }
}

/**
 * A body as JSON.
 *
 * @throws ProviderError 400 `invalid_json`
 */
export function readJson(body: Buffer): unknown {
  try {
    if (hasManyBrackets(body) && depthOf(body) > MAX_DEPTH) throw new Error(`nested deeper than ${MAX_DEPTH}`)
    const json: unknown = JSON.parse(body.toString('utf8'))
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json
    throw new Error('not an object')
  } catch (cause) {
    throw badRequest({
      code: 'invalid_json',
      // The parser's own text would repeat parts of the prompt.
      message: body.length === 0 ? 'the request has no body' : 'the request body is not a JSON object',
      param: 'body',
      fix: 'send a JSON object with content-type application/json',
      ...(cause instanceof SyntaxError ? {} : { cause }),
    })
  }
}

/** What a request asks for. */
export interface ServedModel {
  /** The model as the engine knows it. */
  readonly engineModel: string
  /** As the answer names it. */
  readonly answerModel: string
  /** The adapter that takes part; the engine may have to load it first. */
  readonly adapter: KnownAdapter | undefined
}

/**
 * What a model's name means here: the model, or one of its adapters. Nothing is fetched or loaded yet.
 *
 * @throws ProviderError 404 `model_not_found`
 */
export async function servedModel(
  { view, modelName, adapters }: Serving,
  asked: string,
  info: EngineInfo,
): Promise<ServedModel> {
  const engineModel = info.model
  if (asked === '') return { engineModel, answerModel: info.model, adapter: undefined }
  const service = await view.service()
  const own = [info.model, modelName, service?.model].filter((name) => name !== undefined)
  if (own.includes(asked)) return { engineModel, answerModel: asked, adapter: undefined }
  // Names of models may have colons of their own: the longest that fits counts.
  const prefixes = own.map((name) => `${name}:`).filter((start) => asked.startsWith(start))
  const prefix = prefixes.toSorted((a, b) => b.length - a.length)[0]
  // 0G's clients ask for an adapter by its own name, without the model's.
  const adapter = adapters.find(prefix === undefined ? asked : asked.slice(prefix.length))
  if (adapter !== undefined) return { engineModel, answerModel: asked, adapter }
  throw new ProviderError({
    ...{ statusCode: 404, type: 'invalid_request_error', code: 'model_not_found', param: 'model' },
    message: `this provider does not serve the model ${JSON.stringify(asked.slice(0, 100))}`,
    fix: `ask for ${own[0]}; GET /v1/models lists what is served`,
    details: { models: [...new Set(own)] },
  })
}

/** Whether a body has enough opening brackets to nest too deep: most have a few, and need not be read byte by byte. */
function hasManyBrackets(body: Buffer): boolean {
  let count = 0
  for (const bracket of [0x7b, 0x5b]) {
    for (let at = body.indexOf(bracket); at >= 0; at = body.indexOf(bracket, at + 1)) {
      count += 1
      if (count > MAX_DEPTH) return true
    }
  }
  return false
}

/** How deep brackets nest, without parsing: a parser would use the stack. */
function depthOf(body: Buffer): number {
  let depth = 0
  let deepest = 0
  let inText = false
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at]
    if (inText) {
      if (byte === 0x5c) at += 1
      else if (byte === 0x22) inText = false
    } else if (byte === 0x22) inText = true
    else if (byte === 0x7b || byte === 0x5b) {
      depth += 1
      if (depth > deepest) deepest = depth
    } else if (byte === 0x7d || byte === 0x5d) depth -= 1
  }
  return deepest
}
