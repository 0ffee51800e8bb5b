import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Attestor } from '#compute/attestation/attestor.ts'
import { encodeReceipt } from '#protocol/compute/receipt-json.ts'
import { VOUCHER_INSUFFICIENT } from '#protocol/compute/voucher.ts'
import { badRequest, openAiErrorBody, ProviderError, proxyErrorBody } from '../error.ts'
import { serveEmbeddings } from '../serve/embed.ts'
import { asProviderError, loggable } from '../serve/engine-errors.ts'
import { clientGone } from '../serve/engine-run.ts'
import { serveGeneration } from '../serve/generate.ts'
import type { ServedRequest, Serving } from '../serve/serving.ts'
import { corsHeaders } from './cors.ts'
import { adapterList, modelList } from './models.ts'

export interface RoutesParameters {
  app: FastifyInstance
  serving: Serving
  attestor: Attestor
  /** Aborted when running answers must end: their clients are told, what was delivered is billed. */
  stop: AbortSignal
}

type Shape = 'openai' | 'proxy'
type Answer = (serving: Serving, served: ServedRequest) => Promise<void>

const chat: Answer = (serving, served) => serveGeneration(serving, 'chat', served)
const completion: Answer = (serving, served) => serveGeneration(serving, 'completion', served)
/** Billed targets, after `/v1/proxy` and a second `/v1`. */
const TARGETS: Readonly<Record<string, Answer>> = {
  '/chat/completions': chat,
  '/completions': completion,
  '/embeddings': serveEmbeddings,
}
const REPORT_CACHE_MS = 60_000

/** All routes of the provider: OpenAI's under `/v1`, those of 0G's broker beside them (compute.md §2.1). */
export function registerRoutes({ app, serving, attestor, stop }: RoutesParameters): void {
  const report = cached(() => attestor.report(), REPORT_CACHE_MS, serving.now)

  // Bodies are hashed as they came, so they are taken as bytes whatever their type says.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  app.register(async (openai) => {
    errorsIn(openai, 'openai', serving)
    for (const [path, answer] of Object.entries(TARGETS)) {
      openai.post(`/v1${path}`, (request, reply) => run(answer, request, reply, false))
    }
    openai.get('/v1/models', async () => await modelList(serving))
    openai.get('/v1/models/*', async (request) => {
      const list = await modelList(serving)
      const wanted = decodeURIComponent((request.params as { '*': string })['*'])
      const model = list.data.find(({ id }) => id === wanted)
      if (model !== undefined) return model
      throw new ProviderError({
        ...{ statusCode: 404, type: 'invalid_request_error', code: 'model_not_found', param: 'model' },
        message: 'this provider does not serve that model',
      })
    })
    openai.get<{ Params: { id: string } }>('/v1/receipts/:id', async (request) => {
      const signed = await serving.artifacts.receipt(request.params.id)
      if (signed === undefined) throw unknownChat(request.params.id, 404)
      return encodeReceipt(signed)
    })
  })

  app.register(async (proxy) => {
    errorsIn(proxy, 'proxy', serving)
    proxy.get<{ Params: { id: string } }>('/v1/proxy/signature/:id', async (request) => {
      const signature = await serving.artifacts.signature(request.params.id)
      if (signature === undefined) throw unknownChat(request.params.id, 400)
      return signature
    })
    proxy.get('/v1/proxy/attestation/report', async () => await report())
    proxy.get('/v1/quote', async () => await report())
    proxy.get<{ Params: { address: string } }>('/v1/user/:address/unsettledfee', async (request) => {
      const { authorization } = request.headers
      const { user } = await serving.authenticator.caller({ authorization })
      if (user !== request.params.address.toLowerCase()) {
        throw new ProviderError({
          ...{ statusCode: 403, type: 'permission_error', code: 'other_user' },
          message: 'a session token shows the fees of its own user only',
        })
      }
      const { unsettledWei } = serving.cashier.total(user)
      return { userAddress: user, unsettledFee: String(unsettledWei) }
    })
    proxy.get('/v1/lora/adapters', async () => await adapterList(serving))
    const target = async (request: FastifyRequest, reply: FastifyReply) => {
      const path = targetOf((request.params as { '*': string })['*'])
      if (request.method === 'GET' && path === '/models') return await modelList(serving)
      const answer = request.method === 'POST' ? TARGETS[path] : undefined
      if (answer !== undefined) return await run(answer, request, reply, true)
      throw badRequest({ code: 'unsupported_endpoint', message: 'unsupported endpoint: endpoint not supported' })
    }
    proxy.route({ method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], url: '/v1/proxy/*', handler: target })
  })

  async function run(answer: Answer, request: FastifyRequest, reply: FastifyReply, usageAlways: boolean) {
    const response = reply.raw
    const controller = new AbortController()
    const onClose = () => {
      if (!response.writableFinished) controller.abort(clientGone())
    }
    const onStop = () => controller.abort(stop.reason)
    response.once('close', onClose)
    stop.addEventListener('abort', onStop, { once: true })
    try {
      if (stop.aborted) throw stop.reason
      await answer(serving, {
        body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
        headers: request.headers,
        ...{ response, usageAlways, signal: controller.signal, answerHeaders: corsHeaders(request) },
      })
      reply.hijack()
    } catch (error) {
      // Nothing was sent yet, or the answer has ended in its own form.
      if (!response.headersSent && !response.destroyed) throw error
      if (!response.writableEnded) response.destroy()
      reply.hijack()
    } finally {
      response.off('close', onClose)
      stop.removeEventListener('abort', onStop)
    }
    return reply
  }
}

/** Errors in the shape that callers of these routes read. */
function errorsIn(app: FastifyInstance, shape: Shape, { log, metrics }: Serving): void {
  app.setErrorHandler((thrown, request, reply) => {
    const error = asProviderError(thrown)
    metrics.refused(error.code)
    const facts = { method: request.method, route: request.routeOptions.url, statusCode: error.statusCode }
    if (error.statusCode >= 500) log.warn({ ...facts, code: error.code, ...loggable(thrown) }, 'a request failed')
    else log.debug({ ...facts, code: error.code }, 'a request was refused')
    if (error.retryAfterS !== undefined) reply.header('retry-after', String(error.retryAfterS))
    // 0G's clients know 400 for everything that is about money; ours ask for the voucher by 402.
    const softened = shape === 'proxy' && error.statusCode === 402 && error.code !== VOUCHER_INSUFFICIENT
    const body = shape === 'proxy' ? proxyErrorBody(error) : openAiErrorBody(error)
    return reply.code(softened ? 400 : error.statusCode).send(body)
  })
}

/** A doubled `/v1` is dropped, and so is a slash at the end. */
function targetOf(rest: string): string {
  return `/${rest}`.replace(/\/+$/, '').replace(/^\/v1(?=\/)/, '')
}

function unknownChat(id: string, statusCode: number): ProviderError {
  return new ProviderError({
    ...{ statusCode, type: 'invalid_request_error', code: 'chat_id_not_found' },
    message: 'chat_id_not_found: no answer of this id is kept',
    fix: 'use the ZG-Res-Key of an answer of the last days',
    details: { chatId: id.slice(0, 100) },
  })
}

/** Keeps an answer for a while; a failure is not kept. */
function cached<T>(make: () => Promise<T>, forMs: number, now: () => number): () => Promise<T> {
  let made: { value: Promise<T>; atMs: number } | undefined
  return () => {
    const nowMs = now()
    if (made !== undefined && nowMs >= made.atMs && nowMs - made.atMs < forMs) return made.value
    const value = make()
    const entry = { value, atMs: nowMs }
    made = entry
    value.catch(() => {
      if (made === entry) made = undefined
    })
    return value
  }
}
