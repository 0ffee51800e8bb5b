import { timingSafeEqual } from 'node:crypto'
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ComputeConnection } from '#client/compute/connection.ts'
import { mayFailOver, NoProviderError, reasonOf } from '#client/compute/errors.ts'
import type { Exchange, ExchangePath } from '#client/compute/exchange.ts'
import { offerOf } from '#client/compute/rank.ts'
import { showReceipt } from '#client/compute/receipts.ts'
import { type RouteEvent, routeExchange } from '#client/compute/route.ts'
import type { Logger } from '#kit/log.ts'
import type { GatewayMetrics } from './gateway-metrics.ts'
import { listModels } from './models.ts'
import { describeOpenAiError, GatewayError } from './openai-error.ts'
import { type GatewayRequest, readRequest } from './openai-request.ts'

/** Largest request. */
export const BODY_LIMIT_BYTES = 32 * 2 ** 20
const PATHS: readonly ExchangePath[] = ['chat/completions', 'completions', 'embeddings']

export interface RoutesParameters {
  connection: ComputeConnection
  /** Clients must send it as `Authorization: Bearer`. */
  apiKey: string | undefined
  maxRequests: number
  metrics: GatewayMetrics
  log: Logger
}

/**
 * The routes of OpenAI's API, each at `/v1/…` and, for clients whose base URL lacks it, without. They take JSON alone:
 * a web page cannot send that to another origin without asking, and no origin is allowed.
 */
export async function registerRoutes(app: FastifyInstance, parameters: RoutesParameters): Promise<void> {
  const { connection, apiKey, maxRequests, metrics, log } = parameters
  let running = 0

  await app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      'application/json',
      { parseAs: 'buffer', bodyLimit: BODY_LIMIT_BYTES },
      (_, body, done) => done(null, body),
    )
    scope.setErrorHandler((error, _, reply) => {
      const { statusCode, body } = describeOpenAiError(error)
      const facts = { statusCode, code: body.error.code, reason: reasonOf(error) }
      if (statusCode >= 500) log.warn(facts, 'request failed')
      else log.debug(facts, 'request refused')
      return reply.code(statusCode).send(body)
    })
    scope.addHook('onRequest', async (request) => checkKey(request, apiKey))

    for (const path of PATHS) {
      for (const url of [`/v1/${path}`, `/${path}`]) {
        scope.post(url, { bodyLimit: BODY_LIMIT_BYTES }, async (request, reply) => {
          if (running >= maxRequests) throw tooMany(maxRequests)
          running += 1
          reply.raw.once('close', () => {
            running -= 1
          })
          return await answer({ path, request, reply, parameters })
        })
      }
    }
    for (const url of ['/v1/models', '/models']) {
      scope.get(url, async () => ({ object: 'list', data: await listModels(connection) }))
    }
    scope.get<{ Params: { id: string } }>('/v1/receipts/:id', async ({ params }) => {
      try {
        const { json, verified, checks, digest, provider, feeWei, intact } = showReceipt(connection, { id: params.id })
        return { provider, digest, verified, intact, feeWei: String(feeWei), checks, receipt: json }
      } catch (cause) {
        const message = 'there is no receipt of that name (yet: it comes after the answer has ended)'
        const facts = { statusCode: 404, type: 'invalid_request_error', code: 'receipt_unknown', param: 'id' }
        throw new GatewayError({ ...facts, message, cause })
      }
    })
  })
  metrics.running(() => running)
}

interface AnswerParameters {
  path: ExchangePath
  request: FastifyRequest
  reply: FastifyReply
  parameters: RoutesParameters
}

async function answer({ path, request, reply, parameters }: AnswerParameters): Promise<FastifyReply> {
  const { log, metrics } = parameters
  const gone = new AbortController()
  // Closed before all was written: the client has left, and so must the request at the provider.
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new DOMException('the client has left', 'AbortError'))
  })
  const wanted = readRequest({ path, bytes: request.body instanceof Uint8Array ? request.body : new Uint8Array() })
  const startedMs = performance.now()
  try {
    const exchange = await routeModels(wanted, { ...parameters, signal: gone.signal })
    metrics.firstToken(performance.now() - startedMs)
    note(exchange, parameters)
    reply.code(200).type(exchange.contentType)
    reply.header('x-weightless-provider', exchange.service.provider)
    if (exchange.chatId !== undefined) reply.header('zg-res-key', exchange.chatId)
    if (!wanted.stream) return await sendWhole(exchange, reply)
    reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no')
    return reply.send(Readable.from(streamed(exchange, { log, gone: gone.signal }), { objectMode: false }))
  } catch (error) {
    metrics.ended(gone.signal.aborted ? 'cancelled' : 'failed')
    throw error
  }
}

/** Asks for each model in turn, and for each provider of it. */
async function routeModels(wanted: GatewayRequest, on: RoutesParameters & { signal: AbortSignal }): Promise<Exchange> {
  const { connection, signal } = on
  let first: unknown
  for (const name of wanted.models) {
    try {
      return await routeExchange(connection, {
        ...{ path: wanted.path, stream: wanted.stream, model: name, signal },
        ...{ preferences: wanted.preferences, parameters: wanted.parameters },
        bodyFor: (candidate, model) => wanted.bodyFor({ model, offer: offerOf(candidate, model) }),
        onEvent: (event) => noteRoute(event, on),
      })
    } catch (error) {
      first ??= error
      if (!(error instanceof NoProviderError) && !mayFailOver(error)) throw error
    }
  }
  throw first
}

/** The whole answer with what the check of it gave: nothing was sent yet, so the client can be told in a header. */
async function sendWhole({ chunks, verification }: Exchange, reply: FastifyReply): Promise<FastifyReply> {
  const parts: Uint8Array[] = []
  for await (const bytes of chunks) parts.push(bytes)
  const { verified, digest, feeWei } = await verification
  reply.header('x-weightless-verified', String(verified))
  if (digest !== undefined) reply.header('x-weightless-receipt', digest)
  if (feeWei !== undefined) reply.header('x-weightless-fee-wei', String(feeWei))
  return reply.send(Buffer.concat(parts))
}

/** The answer as it comes. A provider that fails on the way becomes an error event: clients throw at it. */
async function* streamed(
  exchange: Exchange,
  { log, gone }: { log: Logger; gone: AbortSignal },
): AsyncGenerator<Uint8Array> {
  try {
    yield* exchange.chunks
  } catch (error) {
    if (gone.aborted) return
    log.warn({ provider: exchange.service.provider, reason: reasonOf(error) }, 'an answer broke off')
    yield Buffer.from(`data: ${JSON.stringify(describeOpenAiError(error).body)}\n\n`)
  }
}

function note(
  { service, model, chatId, firstTokenMs, verification }: Exchange,
  { log, metrics }: RoutesParameters,
): void {
  const { provider } = service
  void verification.then(({ verified, feeWei, checks, usage, digest }) => {
    metrics.ended(verified ? 'verified' : 'unverified')
    metrics.spent(feeWei ?? 0n)
    const facts = { provider, model, chatId, verified, receipt: digest, feeWei: feeWei?.toString() }
    const failed = checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`)
    const tokens = { promptTokens: usage?.promptTokens, completionTokens: usage?.completionTokens }
    if (verified) log.info({ ...facts, ...tokens, firstTokenMs: Math.round(firstTokenMs) }, 'answered')
    else log.warn({ ...facts, ...tokens, failed }, 'answered, but the answer could not be verified')
  })
}

function noteRoute(event: RouteEvent, { log, metrics }: RoutesParameters): void {
  if (event.type === 'fail-over') {
    metrics.failedOver()
    log.warn({ provider: event.service.provider, reason: event.reason }, 'a provider failed; asking the next')
  } else if (event.type !== 'ask') {
    const amountWei = event.type === 'account-guard' ? undefined : event.amountWei.toString()
    log.info({ provider: event.provider, amountWei }, EVENT_TEXT[event.type])
  }
}

const EVENT_TEXT = {
  'account-guard': 'binding a provider to charge only what is signed',
  'account-open': 'opening an account at a provider out of the deposit',
  'account-top-up': 'topping up the account at a provider out of the deposit',
} as const

function checkKey({ headers }: FastifyRequest, apiKey: string | undefined): void {
  if (apiKey === undefined) return
  const given = Buffer.from((headers.authorization ?? '').replace(/^Bearer\s+/i, ''))
  const wanted = Buffer.from(apiKey)
  if (given.length === wanted.length && timingSafeEqual(given, wanted)) return
  throw new GatewayError({
    ...{ statusCode: 401, type: 'invalid_request_error', code: 'invalid_api_key' },
    message: 'this gateway wants an API key, and the one sent is not it',
    fix: 'send the apiKey of its configuration',
  })
}

function tooMany(limit: number): GatewayError {
  return new GatewayError({
    ...{ statusCode: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded' },
    message: `${limit} requests are under way`,
    fix: 'try again later, or raise maxRequests',
    details: { limit },
  })
}
