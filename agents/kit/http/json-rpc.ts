import type { FastifyInstance, FastifyReply } from 'fastify'
import { WeightlessError } from '#protocol/error.ts'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { type ExactJson, JsonError, parseExactJson, toExactJson } from './exact-json.ts'
import { RPC_CODE, RpcError } from './rpc-error.ts'
import type { RpcMethod } from './rpc-method.ts'
import { methodNotFound } from './rpc-method-help.ts'

export { RPC_CODE, RpcError } from './rpc-error.ts'
export { type RpcCallContext, type RpcMethod, rpcMethod } from './rpc-method.ts'

export interface JsonRpcParameters {
  app: FastifyInstance
  /** Where requests are posted. Default `/`. */
  path?: string | undefined
  methods: Record<string, RpcMethod>
  log: Logger
  metrics?: Metrics | undefined
  /** Calls in one batch. Default 100. */
  maxBatch?: number | undefined
  /** Largest request body. Default 100 MiB. */
  bodyLimitBytes?: number | undefined
  /** Bytes of request bodies in memory at once, over all callers; more answer 503. Default 512 MiB. */
  inFlightLimitBytes?: number | undefined
  /** Largest answer, a batch taken together. Default 128 MiB. */
  responseLimitBytes?: number | undefined
  /** Limit of one call. Default 60,000 ms. */
  callTimeoutMs?: number | undefined
  /** Data text for an unknown method; undefined falls back to a text about where such methods are served. */
  fallbackHelp?: ((method: string) => string | undefined) | undefined
}

const BATCH_AT_ONCE = 8
const MAX_ID_CHARS = 1_024
const SEEN_METHOD = 'unknown'

/**
 * Serves JSON-RPC 2.0 (https://www.jsonrpc.org/specification) over HTTP POST. Every JSON-RPC error answers HTTP 200,
 * because clients take other codes for a broken connection; ids come back digit for digit; a missing result is an
 * explicit null. Only `application/json` is taken, so that web pages cannot call without a CORS preflight.
 *
 * @example
 * registerJsonRpc({ app: server.app, log, methods: { zgs_getStatus: rpcMethod({ handler: () => status() }) } })
 */
export function registerJsonRpc(parameters: JsonRpcParameters): void {
  const { app, path = '/', log } = parameters
  const bodyLimit = parameters.bodyLimitBytes ?? 100 * 2 ** 20
  const inFlightLimit = parameters.inFlightLimitBytes ?? 512 * 2 ** 20
  const answerTo = createDispatcher(parameters)
  let inFlightBytes = 0

  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_, body, done) => done(null, body))
    scope.setErrorHandler((error, _, reply) => {
      const { statusCode, rpcError } = transportError(error, bodyLimit)
      if (statusCode >= 500) log.error({ err: error }, 'request failed')
      return send(reply.code(statusCode), failure('null', rpcError))
    })
    scope.addHook('preParsing', async (request, reply, payload) => {
      const length = Number(request.headers['content-length'])
      // A body of unknown length counts as the largest one allowed.
      const reserved = Math.min(Number.isFinite(length) ? length : bodyLimit, bodyLimit)
      if (inFlightBytes + reserved > inFlightLimit && inFlightBytes > 0) {
        reply.header('retry-after', '1')
        throw new RpcError({ rpcCode: RPC_CODE.limitExceeded, message: 'Server is busy', data: 'try again in 1 s' })
      }
      inFlightBytes += reserved
      reply.raw.once('close', () => {
        inFlightBytes -= reserved
      })
      return payload
    })
    scope.post(path, { bodyLimit }, async (request, reply) => {
      if (!isJson(request.headers['content-type'])) {
        return send(reply, failure('null', RpcError.invalidRequest('set the header Content-Type: application/json')))
      }
      const gone = new AbortController()
      reply.raw.once('close', () => {
        if (!reply.raw.writableFinished) gone.abort(new Error('the caller went away'))
      })
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
      const answer = await answerTo(body, gone.signal)
      return answer === undefined ? reply.code(204).send() : send(reply, answer)
    })
  })
}

/** Answers one request body; undefined when it held notifications only. Never rejects. */
export type JsonRpcDispatcher = (body: Uint8Array, signal: AbortSignal) => Promise<string | undefined>

/** The protocol without its transport: from a request body to the text of its answer. */
export function createDispatcher(
  parameters: Omit<JsonRpcParameters, 'app' | 'path' | 'bodyLimitBytes' | 'inFlightLimitBytes'>,
): JsonRpcDispatcher {
  const { maxBatch = 100, responseLimitBytes = 128 * 2 ** 20 } = parameters
  const answerCall = createCaller(parameters)

  async function answerBatch(calls: unknown[], json: ExactJson, signal: AbortSignal): Promise<string | undefined> {
    if (calls.length === 0) return failure('null', RpcError.invalidRequest('the batch is empty'))
    if (calls.length > maxBatch) {
      return failure('null', RpcError.invalidRequest(`the batch has ${calls.length} calls, the limit is ${maxBatch}`))
    }
    const answers: (string | undefined)[] = new Array(calls.length)
    const budget = { chars: responseLimitBytes }
    let next = 0
    async function work(): Promise<void> {
      for (let i = next++; i < calls.length; i = next++) {
        answers[i] = await answerCall(calls[i], json, signal, budget)
      }
    }
    await Promise.all(Array.from({ length: Math.min(BATCH_AT_ONCE, calls.length) }, work))
    const answered = answers.filter((answer) => answer !== undefined)
    return answered.length === 0 ? undefined : `[${answered.join(',')}]`
  }

  return async (body, signal) => {
    let json: ExactJson
    try {
      json = parseExactJson(body)
    } catch (error) {
      return failure('null', parseError(error))
    }
    if (Array.isArray(json.value)) return answerBatch(json.value, json, signal)
    return answerCall(json.value, json, signal, { chars: responseLimitBytes })
  }
}

/** What is left of the largest answer; the calls of a batch share one. */
interface Budget {
  chars: number
}

type Caller = (request: unknown, json: ExactJson, signal: AbortSignal, budget: Budget) => Promise<string | undefined>

function createCaller({
  methods,
  log,
  metrics,
  fallbackHelp,
  callTimeoutMs = 60_000,
}: Pick<JsonRpcParameters, 'methods' | 'log' | 'metrics' | 'fallbackHelp' | 'callTimeoutMs'>): Caller {
  const seconds = metrics?.histogram({
    name: 'rpc_request_seconds',
    help: 'Time to answer a JSON-RPC call',
    labels: ['method'],
  })
  const calls = metrics?.counter({
    name: 'rpc_requests_total',
    help: 'JSON-RPC calls by method and error code (0 for success)',
    labels: ['method', 'code'],
  })

  async function run(request: RpcRequest, signal: AbortSignal): Promise<unknown> {
    const method = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined
    if (method === undefined) throw methodNotFound({ method: request.method, methods, fallbackHelp })
    const stop = new AbortController()
    let giveUp: (reason: string) => void = () => {}
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = (reason) => {
        const error = RpcError.internal(reason)
        stop.abort(error)
        reject(error)
      }
    })
    const onGone = (): void => giveUp('the caller went away')
    const timer = setTimeout(() => giveUp(`no answer within ${callTimeoutMs} ms`), callTimeoutMs)
    signal.addEventListener('abort', onGone, { once: true })
    if (signal.aborted) onGone()
    try {
      return await Promise.race([givenUp, method.call(request.params, { signal: stop.signal })])
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onGone)
    }
  }

  return async (given, json, signal, budget) => {
    const start = performance.now()
    let id: string | undefined = 'null'
    let label = SEEN_METHOD
    let code = 0
    let answer: string
    try {
      id = idText(given, json)
      const request = toRequest(given)
      if (Object.hasOwn(methods, request.method)) label = request.method
      const result = toExactJson(await run(request, signal))
      if (result.length > budget.chars) throw oversizedResponse(budget.chars)
      budget.chars -= result.length
      answer = `{"jsonrpc":"2.0","id":${id},"result":${result}}`
    } catch (error) {
      const rpcError = toRpcError(error)
      if (rpcError.rpcCode === RPC_CODE.internal) log.warn({ method: label, err: error }, 'a JSON-RPC call failed')
      code = rpcError.rpcCode
      answer = failure(id ?? 'null', rpcError)
      // A malformed call has no standing as a notification: its sender is told.
      if (code === RPC_CODE.invalidRequest) id ??= 'null'
    }
    seconds?.observe({ method: label }, (performance.now() - start) / 1000)
    calls?.inc({ method: label, code: label === SEEN_METHOD ? String(code || SEEN_METHOD) : String(code) })
    return id === undefined ? undefined : answer
  }
}

interface RpcRequest {
  method: string
  params: unknown
}

/** The id as JSON text, its digits as they came; undefined for a notification. */
function idText(request: unknown, json: ExactJson): string | undefined {
  if (typeof request !== 'object' || request === null || Array.isArray(request)) return 'null'
  if (!Object.hasOwn(request, 'id')) return undefined
  const id: unknown = Reflect.get(request, 'id')
  if (id === null) return 'null'
  if (typeof id === 'number' || typeof id === 'bigint' || typeof id === 'string') {
    const text = typeof id === 'string' ? JSON.stringify(id) : (json.idSource(request) ?? String(id))
    if (text.length <= MAX_ID_CHARS) return text
    throw RpcError.invalidRequest(`the id is longer than ${MAX_ID_CHARS} characters`)
  }
  throw RpcError.invalidRequest('the id must be a number, text or null')
}

function toRequest(given: unknown): RpcRequest {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw RpcError.invalidRequest('a call is an object with jsonrpc, id, method and params')
  }
  if (Reflect.get(given, 'jsonrpc') !== '2.0') throw RpcError.invalidRequest('"jsonrpc" must be "2.0"')
  const method: unknown = Object.hasOwn(given, 'method') ? Reflect.get(given, 'method') : undefined
  if (typeof method !== 'string') throw RpcError.invalidRequest('"method" must be text')
  const params: unknown = Object.hasOwn(given, 'params') ? Reflect.get(given, 'params') : undefined
  return { method, params }
}

function toRpcError(error: unknown): RpcError {
  if (error instanceof RpcError) return error
  if (error instanceof WeightlessError) return RpcError.internal(error.message, error)
  return RpcError.internal('the call failed inside the server; its log has the reason', error)
}

function parseError(error: unknown): RpcError {
  if (error instanceof JsonError && (error.code === 'JSON_DEPTH' || error.code === 'JSON_VALUES')) {
    return new RpcError({ rpcCode: RPC_CODE.oversizedRequest, message: 'Request is too big', data: error.message })
  }
  const data = error instanceof Error ? error.message : undefined
  return new RpcError({ rpcCode: RPC_CODE.parse, message: 'Parse error', data, cause: error })
}

function oversizedResponse(maxChars: number): RpcError {
  const data = `the answer has more than ${maxChars} bytes; ask for less at once`
  return new RpcError({ rpcCode: RPC_CODE.oversizedResponse, message: 'Response is too big', data })
}

function failure(id: string, { rpcCode, message, data }: RpcError): string {
  const error = data === undefined ? { code: rpcCode, message } : { code: rpcCode, message, data }
  return `{"jsonrpc":"2.0","id":${id},"error":${JSON.stringify(error)}}`
}

/** Errors before a call is reached. All are HTTP 200 but two that only the transport can express: 429 and 503. */
function transportError(error: unknown, bodyLimit: number): { statusCode: number; rpcError: RpcError } {
  if (error instanceof RpcError) return { statusCode: 503, rpcError: error }
  const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
  const status: unknown = error instanceof Error ? Reflect.get(error, 'statusCode') : undefined
  const message = error instanceof Error ? error.message : 'the request could not be read'
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    const data = `the limit is ${bodyLimit} bytes; send fewer segments at once`
    const rpcError = new RpcError({ rpcCode: RPC_CODE.oversizedRequest, message: 'Request is too big', data })
    return { statusCode: 200, rpcError }
  }
  if (status === 429) {
    const rpcError = new RpcError({ rpcCode: RPC_CODE.limitExceeded, message: 'Too many requests', data: message })
    return { statusCode: 429, rpcError }
  }
  if (typeof status === 'number' && status < 500) return { statusCode: 200, rpcError: RpcError.invalidRequest(message) }
  return { statusCode: 200, rpcError: RpcError.internal('the request failed inside the server', error) }
}

function send(reply: FastifyReply, body: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(body)
}

function isJson(contentType: string | undefined): boolean {
  return (
    contentType !== undefined && /^application\/(json|[\w.-]+\+json|json-rpc|jsonrequest)\s*(;|$)/i.test(contentType)
  )
}
