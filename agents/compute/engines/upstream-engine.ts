import { z } from 'zod'
import type { Hash } from '#protocol/hex.ts'
import type {
  EmbeddingAnswer,
  Engine,
  EngineCapabilities,
  EngineEvent,
  EngineHealth,
  EngineInfo,
  EngineRequestOptions,
} from './engine.ts'
import { EngineError } from './engine-error.ts'
import type { ChatRequest, CompletionRequest, EmbeddingRequest, SamplingRequest } from './requests.ts'
import { requestSettings } from './settings.ts'
import { readSse } from './sse.ts'
import { readChunk, readEmbeddings } from './upstream-chunk.ts'
import { readText, UpstreamConnections } from './upstream-http.ts'

const ZERO_HASH: Hash = `0x${'00'.repeat(32)}`
const MAX_LIST_BYTES = 4 * 1024 * 1024
const MAX_EMBEDDING_BYTES = 256 * 1024 * 1024

export interface UpstreamEngineParameters {
  /** Base of the OpenAI-compatible interface, `http://127.0.0.1:8000/v1` for example. */
  url: string
  apiKey?: string | undefined
  /** Model to ask the upstream for, whatever name the request has. Default: the request's. */
  model?: string | undefined
  /** Adapters that the upstream has loaded, by the name they are asked for behind `model:`; the value is its own name. */
  adapters?: ReadonlyMap<string, string> | undefined
  /** Storage root of the weights that the upstream serves, where the operator knows it. */
  modelId?: Hash | undefined
  /** Tokens of its context; default: what the upstream says. */
  contextTokens?: number | undefined
  /** What the upstream cannot do. Default: everything is passed on. */
  capabilities?: Partial<EngineCapabilities> | undefined
  /** Most requests at a time; more are refused with `ENGINE_BUSY`. Default 256. */
  maxRunning?: number | undefined
  /** Milliseconds until the answer begins. Default 120,000: the prompt is read before. */
  headTimeoutMs?: number | undefined
  /** Milliseconds between two pieces of the answer. Default 60,000. */
  idleTimeoutMs?: number | undefined
  /** Most bytes of a streamed answer. Default 64 MiB. */
  maxAnswerBytes?: number | undefined
  /** Ask for token ids (`return_token_ids`, vLLM), so that receipts can carry them. Default false. */
  tokenIds?: boolean | undefined
}

/**
 * An engine behind an OpenAI-compatible interface: vLLM, llama-server, Ollama. Every request is streamed and asks for its
 * usage; fields that this project does not know reach the upstream as they came.
 *
 * @example
 * const engine = createUpstreamEngine({ url: 'http://127.0.0.1:8000/v1', model: 'qwen' })
 * for await (const event of engine.chat(parseChatRequest(body), { signal })) console.log(event)
 */
export function createUpstreamEngine(parameters: UpstreamEngineParameters): Engine {
  return new UpstreamEngine(parameters)
}

class UpstreamEngine implements Engine {
  readonly #options: UpstreamEngineParameters
  readonly #base: string
  readonly #connections = new UpstreamConnections()
  readonly #closing = new AbortController()
  #running = 0

  constructor(options: UpstreamEngineParameters) {
    if (!URL.canParse(options.url) || !/^https?:$/.test(new URL(options.url).protocol)) {
      throw new EngineError({
        code: 'ENGINE_REQUEST',
        message: 'the URL of the upstream is none',
        fix: 'give http://host:port/v1',
        details: { field: 'url' },
      })
    }
    this.#options = options
    this.#base = options.url.replace(/\/+$/, '')
  }

  async info(): Promise<EngineInfo> {
    const { model, modelId = ZERO_HASH, contextTokens, capabilities, adapters } = this.#options
    const found = await this.#models(AbortSignal.timeout(10_000))
    const mine = found.find(({ id }) => id === model) ?? (model === undefined ? found[0] : undefined)
    return {
      kind: 'upstream',
      build: `upstream ${mine?.owned_by ?? 'openai-compatible'}`,
      model: model ?? mine?.id ?? '',
      modelId,
      contextTokens: contextTokens ?? mine?.max_model_len ?? mine?.meta?.n_ctx ?? mine?.meta?.n_ctx_train ?? 0,
      profiles: ['greedy', 'none'],
      capabilities: { ...ALL, ...capabilities, adapters: (adapters?.size ?? 0) > 0 },
      adapters: [...(adapters?.keys() ?? [])],
    }
  }

  async *chat(request: ChatRequest, options: EngineRequestOptions): AsyncGenerator<EngineEvent, void, void> {
    const { tools: canTools = true, jsonSchema = true, logprobs = true } = this.#options.capabilities ?? {}
    if (request.tools && !canTools) throw unsupported('tools')
    if (request.responseFormat && request.responseFormat.type !== 'text' && !jsonSchema)
      throw unsupported('response_format')
    if (request.logprobs && !logprobs) throw unsupported('logprobs')
    yield* this.#stream('/chat/completions', request, options)
  }

  async *complete(request: CompletionRequest, options: EngineRequestOptions): AsyncGenerator<EngineEvent, void, void> {
    if (this.#options.capabilities?.completions === false) throw unsupported('completions')
    yield* this.#stream('/completions', request, options)
  }

  async embed(request: EmbeddingRequest, { signal }: EngineRequestOptions): Promise<EmbeddingAnswer> {
    if (this.#options.capabilities?.embeddings === false) throw unsupported('embeddings')
    return this.#counted(async () => {
      const body = { ...request.raw, model: this.#options.model ?? request.model, encoding_format: 'float' }
      const answer = await this.#call('POST', '/embeddings', signal, body, 'application/json')
      return readEmbeddings(await readText(answer.body, MAX_EMBEDDING_BYTES), request.inputs.length)
    })
  }

  async health({ signal }: { signal?: AbortSignal } = {}): Promise<EngineHealth> {
    const counts = { running: this.#running, queued: 0 }
    try {
      const limit = AbortSignal.timeout(5_000)
      await this.#models(signal === undefined ? limit : AbortSignal.any([signal, limit]))
      return { ok: true, ...counts }
    } catch (error) {
      return { ok: false, detail: error instanceof Error ? error.message : String(error), ...counts }
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new EngineError({ code: 'ENGINE_CLOSED', message: 'the engine was closed' }))
    this.#connections.close()
  }

  async *#stream(
    path: string,
    request: SamplingRequest & { logprobs?: unknown },
    { signal }: EngineRequestOptions,
  ): AsyncGenerator<EngineEvent, void, void> {
    const { maxRunning = 256, tokenIds: wantsIds, maxAnswerBytes = 64 * 1024 * 1024 } = this.#options
    const { settings, profile } = upstreamProfile(request)
    if (this.#running >= maxRunning) throw busy(maxRunning)
    this.#running += 1
    try {
      const answer = await this.#call(
        'POST',
        path,
        signal,
        upstreamBody(request, { model: this.#modelOf(request.model), wantsIds }),
        'text/event-stream',
      )
      if (!answer.contentType.includes('text/event-stream')) {
        answer.drop()
        throw new EngineError({
          code: 'ENGINE_UPSTREAM',
          message: `the upstream answered with ${answer.contentType || 'no content type'} instead of an event stream`,
        })
      }
      yield* readAnswer(capped(answer.body, maxAnswerBytes), { settings, profile })
    } finally {
      this.#running -= 1
    }
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    const { maxRunning = 256 } = this.#options
    if (this.#running >= maxRunning) throw busy(maxRunning)
    this.#running += 1
    try {
      return await work()
    } finally {
      this.#running -= 1
    }
  }

  #call(method: 'GET' | 'POST', path: string, signal: AbortSignal, body: unknown, accept: string) {
    const { apiKey, headTimeoutMs = 120_000, idleTimeoutMs = 60_000 } = this.#options
    return this.#connections.call({
      url: this.#base + path,
      apiKey,
      method,
      body,
      accept,
      headTimeoutMs,
      idleTimeoutMs,
      signals: [signal, this.#closing.signal],
    })
  }

  /** The upstream's name of what is asked for: the model, or one of its adapters. */
  #modelOf(asked: string): string {
    const { model = asked, adapters = new Map<string, string>() } = this.#options
    if (asked === model && this.#options.model !== undefined) return model
    for (const [name, id] of adapters) if (asked === name || asked.endsWith(`:${name}`)) return id
    return model
  }

  async #models(signal: AbortSignal): Promise<z.infer<typeof modelsSchema>['data']> {
    const answer = await this.#call('GET', '/models', signal, undefined, 'application/json')
    const text = await readText(answer.body, MAX_LIST_BYTES)
    const parsed = modelsSchema.safeParse(safeJson(text))
    if (parsed.success) return parsed.data.data
    throw new EngineError({ code: 'ENGINE_UPSTREAM', message: 'the upstream sent no list of models' })
  }
}

const ALL: EngineCapabilities = {
  chat: true,
  completions: true,
  embeddings: true,
  tools: true,
  jsonSchema: true,
  logprobs: true,
  seed: true,
  adapters: false,
}

const context = z.number().int().min(0).optional().catch(undefined)
const modelsSchema = z.looseObject({
  data: z
    .array(
      z.looseObject({
        id: z.string().max(512),
        owned_by: z.string().max(128).optional(),
        max_model_len: context,
        meta: z.looseObject({ n_ctx: context, n_ctx_train: context }).nullish(),
      }),
    )
    .max(10_000),
})

async function* readAnswer(
  body: AsyncIterable<Uint8Array>,
  { settings, profile }: ReturnType<typeof upstreamProfile>,
): AsyncGenerator<EngineEvent, void, void> {
  const outputTokenIds: number[] = []
  let promptTokenIds: readonly number[] | undefined
  let usage: UpstreamUsage
  let finishReason: string | undefined
  let isDone = false
  for await (const data of readSse(body)) {
    if (data === '[DONE]') {
      isDone = true
      break
    }
    const chunk = readChunk(data)
    usage = chunk.usage ?? usage
    promptTokenIds ??= chunk.promptTokenIds
    outputTokenIds.push(...chunk.tokenIds)
    finishReason = chunk.choices.find(({ index }) => index === 0)?.finish_reason ?? finishReason
    if (chunk.choices.length > 0) yield { type: 'chunk', choices: chunk.choices, tokenIds: chunk.tokenIds }
  }
  if (!isDone && finishReason === undefined) {
    throw new EngineError({ code: 'ENGINE_UPSTREAM', message: 'the upstream broke off in the middle of its answer' })
  }
  if (usage === undefined) {
    throw new EngineError({
      code: 'ENGINE_UPSTREAM',
      message: 'the upstream did not say how many tokens it used',
      fix: 'use an upstream that honours stream_options.include_usage',
    })
  }
  const { promptTokens, cachedTokens } = usage
  yield { type: 'prompt', promptTokens, cachedTokens, ...(promptTokenIds === undefined ? {} : { promptTokenIds }) }
  const knowsIds = outputTokenIds.length > 0 && outputTokenIds.length === usage.completionTokens
  yield {
    type: 'end',
    finishReason: finishReason ?? 'stop',
    usage,
    ...(knowsIds ? { outputTokenIds } : {}),
    profile,
    settings,
  }
}

type UpstreamUsage = ReturnType<typeof readChunk>['usage']

/** An upstream's own sampler cannot be repeated by others, except where it does not choose at all. */
function upstreamProfile(request: SamplingRequest) {
  const { profile: wanted, temperature } = request
  const settings = requestSettings(request, request.seed ?? 0n)
  const { response_format: format, tool_choice: choice } = request.raw
  const isFree = (Reflect.get(Object(format), 'type') ?? 'text') === 'text' && (choice ?? 'auto') === 'auto'
  const isPlain = isFree && !request.frequencyPenalty && !request.presencePenalty && !request.logitBias
  const profile = temperature === 0 && isPlain && wanted !== 'none' ? ('greedy' as const) : ('none' as const)
  if (wanted === 'gumbel-philox-1' || (wanted === 'greedy' && profile !== 'greedy'))
    throw unsupported('sampling_profile')
  return { settings, profile }
}

function upstreamBody(
  request: SamplingRequest,
  { model, wantsIds }: { model: string; wantsIds?: boolean | undefined },
) {
  const { sampling_profile: _, ...raw } = request.raw
  const asked: unknown = raw.stream_options
  return {
    ...raw,
    model,
    ...(request.seed === undefined ? {} : { seed: Number(BigInt.asUintN(53, request.seed)) }),
    stream: true,
    stream_options: { ...Object(asked), include_usage: true },
    ...(wantsIds ? { return_token_ids: true } : {}),
  }
}

async function* capped(body: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array, void, void> {
  let size = 0
  for await (const piece of body) {
    size += piece.length
    if (size > maxBytes) {
      throw new EngineError({
        code: 'ENGINE_UPSTREAM',
        message: `the upstream sent more than ${maxBytes} bytes`,
        details: { limit: maxBytes },
      })
    }
    yield piece
  }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function unsupported(field: string): EngineError {
  return new EngineError({
    code: 'ENGINE_UNSUPPORTED',
    message: `the upstream does not support ${field}`,
    fix: `leave out ${field}`,
    details: { field },
  })
}

function busy(limit: number): EngineError {
  return new EngineError({
    code: 'ENGINE_BUSY',
    message: `${limit} requests are being answered already`,
    fix: 'try again later',
    details: { limit },
  })
}
