import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import type { ChatRequest, CompletionRequest, EndEvent, EngineEvent, EngineUsage } from '#compute/engines/engine.ts'
import { EngineError } from '#compute/engines/engine-error.ts'
import { parseChatRequest, parseCompletionRequest } from '#compute/engines/requests.ts'
import { RANDOMNESS_HEADER, receiptSeed, requestHash } from '#protocol/compute/receipt.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { AdapterLease } from '../adapters/provider-adapters.ts'
import type { Caller } from '../admit/authenticate.ts'
import { badRequest, openAiErrorBody, ProviderError } from '../error.ts'
import type { Charge } from '../money/cashier.ts'
import { asProviderError, loggable } from './engine-errors.ts'
import { runEngine } from './engine-run.ts'
import { AnswerBuilder, type AnswerHead, type AnswerKind, chunkPrefix, usageChunk } from './openai-answer.ts'
import { identify, readJson, type ServedModel, type ServedRequest, type Serving, servedModel } from './serving.ts'
import { SseWriter } from './sse-writer.ts'

/** A request for text, from its bytes to its last token. */
interface Exchange {
  kind: AnswerKind
  head: AnswerHead
  charge: Charge
  request: ChatRequest | CompletionRequest
  body: Buffer
  /** keccak-256 of the body where the seed needed it already. */
  bodyHash: Hash | undefined
  user: Hex
  /** Storage root of the adapter that takes part. */
  adapter: Hash | undefined
  headers: Readonly<Record<string, string>>
  response: ServerResponse
  signal: AbortSignal
  /** When the request had arrived whole, in `performance.now()`. */
  arrivedAt: number
}

/**
 * Serves `/chat/completions` or `/completions`: who asks, may he, can he pay, then the engine's tokens as they come. What
 * is thrown was thrown before anything was sent, and nothing was billed; later failures end the answer in its own form.
 *
 * @throws ProviderError
 */
export async function serveGeneration(serving: Serving, kind: AnswerKind, served: ServedRequest): Promise<void> {
  const arrivedAt = performance.now()
  const { body, headers, response, usageAlways } = served
  const { caller, place } = await identify(serving, served)
  let adapter: AdapterLease | undefined
  try {
    const json = readJson(body)
    const parsed = kind === 'chat' ? parseChatRequest(json) : parseCompletionRequest(json)
    const info = await serving.engineInfo()
    const model = await servedModel(serving, parsed.model, info)
    const id = crypto.randomUUID()
    const { charge, maxTokens } = await serving.admission.admit(caller, {
      ...{ kind, id, bodyBytes: body.length, maxTokens: parsed.maxTokens, choices: parsed.n ?? 1 },
      contextTokens: serving.contextTokens(info),
    })
    const seeded = seedOf({ request: parsed, body, headers })
    // Not before the money is set aside: who cannot pay makes nobody fetch anything.
    adapter = await leaseAdapter(serving, { model, caller, charge, kind, signal: served.signal })
    const engineModel = adapter === undefined ? model.engineModel : `${model.engineModel}:${adapter.engineName}`
    const request = { ...parsed, ...seeded.fields, model: engineModel, maxTokens }
    request.raw = rawFor({ raw: parsed.raw, kind, request })
    const exchange: Exchange = {
      ...{ kind, charge, request, body, bodyHash: seeded.bodyHash, user: caller.user, response, arrivedAt },
      head: { kind, id, model: model.answerModel, createdS: Math.floor(serving.now() / 1000) },
      headers: { ...served.answerHeaders, 'zg-res-key': id, provider: serving.provider },
      ...{ adapter: adapter?.root, signal: served.signal },
    }
    const stream = parsed.raw.stream === true
    const options: unknown = parsed.raw.stream_options
    const wantsUsage = typeof options === 'object' && options !== null && Reflect.get(options, 'include_usage') === true
    if (stream) await streamAnswer(serving, exchange, wantsUsage || usageAlways)
    else await wholeAnswer(serving, exchange)
  } finally {
    adapter?.release()
    place.release()
  }
}

/** The adapter of a request in the engine. A request that fails here has cost nothing. */
async function leaseAdapter(
  { adapters, metrics }: Serving,
  parameters: { model: ServedModel; caller: Caller; charge: Charge; kind: AnswerKind; signal: AbortSignal },
): Promise<AdapterLease | undefined> {
  const { model, caller, charge, kind, signal } = parameters
  if (model.adapter === undefined) return undefined
  try {
    return await adapters.use(model.adapter, { user: caller.user, signal })
  } catch (error) {
    charge.close({ usage: noUsage(), finish: 'failed' })
    metrics.ended(kind, 'failed', charge.usage)
    throw asProviderError(error)
  }
}

async function streamAnswer(serving: Serving, exchange: Exchange, withUsage: boolean): Promise<void> {
  const { charge, head, response, signal } = exchange
  const durable = serving.cashier.durable()
  durable.catch(() => undefined)
  const prefix = chunkPrefix(head)
  const tracker = new Tracker(exchange)
  const writer = new SseWriter({
    ...{ response, stallMs: serving.limitsMs.clientStallMs },
    headers: { ...exchange.headers, 'cache-control': 'no-cache', 'x-accel-buffering': 'no' },
    onDelivered: (completionTokens) => charge.delivered({ ...tracker.prompt, completionTokens }),
  })
  const write = (event: EngineEvent): void | Promise<void> => {
    if (event.type !== 'chunk') return
    writer.event(`${prefix}${JSON.stringify(event.choices)}}`, tracker.tokensOf(event))
    return undefined
  }
  try {
    const end = await run(serving, exchange, (event) => {
      tracker.note(event)
      if (event.type !== 'chunk') return undefined
      if (!writer.begun) {
        serving.metrics.firstToken(exchange.arrivedAt)
        return durable.then(() => write(event))
      }
      write(event)
      return response.writableNeedDrain ? writer.ready(signal) : undefined
    })
    await durable
    writer.flush()
    if (signal.aborted) throw signal.reason
    for (const index of tracker.unfinished()) {
      const delta = exchange.kind === 'chat' ? { delta: {} } : { text: '' }
      writer.event(`${prefix}${JSON.stringify([{ index, ...delta, finish_reason: end.finishReason }])}}`)
    }
    writer.flush()
    const usage = soundUsage(end.usage)
    settle(serving, exchange, { tracker, end, usage, finish: end.finishReason }, () => {
      if (withUsage) writer.event(usageChunk(prefix, usage))
      writer.event('[DONE]')
      return writer.end()
    })
  } catch (error) {
    if (!writer.begun && !response.destroyed) {
      const usage = { ...tracker.prompt, completionTokens: 0 }
      charge.close({ usage: isClientFault(error) ? usage : noUsage(), finish: 'failed' })
      serving.metrics.ended(exchange.kind, 'failed', charge.usage)
      throw asProviderError(error)
    }
    writer.flush()
    const usage = response.destroyed ? tracker.usage() : charge.usage
    const finish = isClientFault(error) ? 'cancelled' : 'error'
    settle(
      serving,
      exchange,
      { tracker, end: undefined, usage: soundUsage({ cachedTokens: 0, ...usage }), finish },
      () => {
        if (!response.destroyed) writer.event(JSON.stringify(openAiErrorBody(asProviderError(error))))
        return writer.end()
      },
    )
    // Who does not read would hold the connection for good.
    if (error instanceof ProviderError && error.code === 'client_stalled') response.destroy()
    report(serving, exchange, error)
  }
}

async function wholeAnswer(serving: Serving, exchange: Exchange): Promise<void> {
  const { charge, head, response, signal } = exchange
  const durable = serving.cashier.durable()
  durable.catch(() => undefined)
  const tracker = new Tracker(exchange)
  const builder = new AnswerBuilder(head)
  try {
    const end = await run(serving, exchange, (event) => {
      tracker.note(event)
      if (event.type === 'chunk') builder.add(event.choices)
    })
    await durable
    if (signal.aborted) throw signal.reason
    const usage = soundUsage(end.usage)
    const body = Buffer.from(builder.json(usage, end.finishReason))
    serving.metrics.firstToken(exchange.arrivedAt)
    // Sent, then billed, in one step: were the process to end in between, the user would have the benefit.
    settle(serving, exchange, { tracker, end, usage, finish: end.finishReason }, () => {
      response.writeHead(200, {
        ...exchange.headers,
        'content-type': 'application/json; charset=utf-8',
        'content-length': String(body.length),
      })
      response.end(body)
      return createHash('sha256').update(body).digest('hex')
    })
  } catch (error) {
    const cancelled = isClientFault(error)
    charge.close({
      usage: cancelled ? soundUsage(tracker.usage()) : noUsage(),
      finish: cancelled ? 'cancelled' : 'failed',
    })
    serving.metrics.ended(exchange.kind, cancelled ? 'cancelled' : 'failed', charge.usage)
    report(serving, exchange, error)
    throw asProviderError(error)
  }
}

async function run(
  serving: Serving,
  { kind, request, adapter, signal }: Exchange,
  onEvent: (event: EngineEvent) => void | Promise<void>,
): Promise<EndEvent> {
  const { engine, adapters } = serving
  const answer = runEngine({
    start: (options) =>
      kind === 'chat'
        ? engine.chat(request as ChatRequest, options)
        : engine.complete(request as CompletionRequest, options),
    ...{ signal, onEvent },
    firstTokenTimeoutMs: serving.limitsMs.firstTokenTimeoutMs,
    stallTimeoutMs: serving.limitsMs.stallTimeoutMs,
  })
  try {
    return await answer
  } catch (error) {
    // An engine that had to give an adapter up says so at its next use, and not here.
    if (adapter !== undefined && error instanceof EngineError && error.code === 'ENGINE_MODEL') adapters.forget(adapter)
    throw error
  }
}

/** Sends the end of the answer, bills it, and keeps what its receipt is made of, in one step. */
function settle(
  serving: Serving,
  exchange: Exchange,
  outcome: { tracker: Tracker; end: EndEvent | undefined; usage: EngineUsage; finish: string },
  send: () => string,
): void {
  const { charge, body, head, user, request } = exchange
  const { tracker, end, usage, finish } = outcome
  const responseSha256 = send()
  const bodyHash = exchange.bodyHash ?? requestHash(body)
  const feeWei = charge.close({ usage, finish, requestHash: bodyHash })
  serving.metrics.ended(exchange.kind, end === undefined ? finish : 'ok', usage)
  serving.artifacts.keep({
    ...{ id: head.id, user, body, bodyHash, responseSha256, feeWei, usage, finish },
    ...{ end, maxTokens: request.maxTokens ?? 0, adapter: exchange.adapter },
    promptTokenIds: tracker.promptTokenIds,
    outputTokenIds: end?.outputTokenIds ?? tracker.outputTokenIds,
  })
}

/** Counts what an engine gives. */
class Tracker {
  readonly #choices: number
  readonly #finished = new Set<number>()
  #seenChunk = false
  #completionTokens = 0
  #outputIds: number[] | undefined = []
  prompt = { promptTokens: 0, cachedTokens: 0 }
  promptTokenIds: readonly number[] | undefined

  constructor({ request }: Exchange) {
    this.#choices = request.n ?? 1
  }

  get outputTokenIds(): readonly number[] | undefined {
    return this.#outputIds
  }

  note(event: EngineEvent): void {
    if (event.type === 'prompt') {
      this.prompt = { promptTokens: count(event.promptTokens), cachedTokens: count(event.cachedTokens) }
      this.promptTokenIds = event.promptTokenIds
    } else if (event.type === 'chunk') {
      this.#seenChunk = true
      this.#completionTokens += this.tokensOf(event)
      // Tokens of several choices have no order that a receipt could state.
      if (event.tokenIds.length === 0 && hasText(event)) this.#outputIds = undefined
      else if (this.#choices === 1) this.#outputIds?.push(...event.tokenIds)
      else this.#outputIds = undefined
      for (const { index, finish_reason: finish } of event.choices) if (finish !== null) this.#finished.add(index)
    }
  }

  /** Tokens of a chunk: by their ids, or one where the engine does not tell. */
  tokensOf(event: EngineEvent): number {
    if (event.type !== 'chunk') return 0
    return event.tokenIds.length > 0 ? event.tokenIds.length : hasText(event) ? 1 : 0
  }

  /** What was produced so far. */
  usage(): EngineUsage {
    return { ...this.prompt, completionTokens: this.#completionTokens }
  }

  /** Choices that have not been given a finish reason. */
  unfinished(): number[] {
    if (!this.#seenChunk) return [0]
    return Array.from({ length: this.#choices }, (_, index) => index).filter((index) => !this.#finished.has(index))
  }
}

function hasText(event: Extract<EngineEvent, { type: 'chunk' }>): boolean {
  return event.choices.some(
    ({ delta, text }) =>
      (text ?? '') !== '' ||
      Object.entries(delta ?? {}).some(([field, value]) => field !== 'role' && value !== null && value !== ''),
  )
}

function count(value: number): number {
  return Number.isSafeInteger(value) && value > 0 ? value : 0
}

/** An upstream's numbers are foreign: none may be negative or broken, and cached tokens are part of the prompt. */
function soundUsage(usage: EngineUsage): EngineUsage {
  const promptTokens = count(usage.promptTokens)
  const cachedTokens = Math.min(count(usage.cachedTokens), promptTokens)
  return { promptTokens, cachedTokens, completionTokens: count(usage.completionTokens) }
}

function noUsage(): EngineUsage {
  return { promptTokens: 0, completionTokens: 0, cachedTokens: 0 }
}

/** Whether the client ended it, so that what was produced is billed. */
function isClientFault(error: unknown): boolean {
  return error instanceof ProviderError && (error.code === 'client_gone' || error.code === 'client_stalled')
}

function report(serving: Serving, { head, user }: Exchange, error: unknown): void {
  if (isClientFault(error)) serving.log.debug({ chatId: head.id, user }, 'the client left')
  else serving.log.warn({ chatId: head.id, user, ...loggable(error) }, 'an answer failed')
}

/** The seed of the request, else the one its random bytes give (verifiable-inference §B.1). */
function seedOf(parameters: { request: ChatRequest | CompletionRequest; body: Buffer; headers: IncomingHttpHeaders }): {
  fields: { seed?: bigint }
  bodyHash: Hash | undefined
} {
  const { request, body, headers } = parameters
  const randomness = headers[RANDOMNESS_HEADER.toLowerCase()]
  if (randomness === undefined || request.seed !== undefined) return { fields: {}, bodyHash: undefined }
  if (typeof randomness !== 'string' || !/^0x[0-9a-fA-F]{64}$/.test(randomness)) {
    throw badRequest({
      code: 'invalid_header',
      message: `${RANDOMNESS_HEADER} is not 32 bytes in 0x hex`,
      param: RANDOMNESS_HEADER,
      fix: 'send 0x and 64 hex digits, or leave it out',
    })
  }
  const bodyHash = requestHash(body)
  return { fields: { seed: receiptSeed({ requestHash: bodyHash, randomness: randomness as Hex }) }, bodyHash }
}

/** The body for an upstream, with the limit and the model that were admitted. */
function rawFor(parameters: {
  raw: Record<string, unknown>
  kind: AnswerKind
  request: ChatRequest | CompletionRequest
}): Record<string, unknown> {
  const { raw, kind, request } = parameters
  const field = kind === 'chat' && raw.max_completion_tokens !== undefined ? 'max_completion_tokens' : 'max_tokens'
  return { ...raw, model: request.model, [field]: request.maxTokens }
}
