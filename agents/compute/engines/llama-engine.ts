import { setTimeout as delay } from 'node:timers/promises'
import type { Hash } from '#protocol/hex.ts'
import type {
  AdapterEngine,
  EmbeddingAnswer,
  EngineEvent,
  EngineHealth,
  EngineInfo,
  EngineRequestOptions,
} from './engine.ts'
import { EngineError } from './engine-error.ts'
import { ChildHandle } from './llama/child-handle.ts'
import { EngineAdapters } from './llama/engine-adapters.ts'
import type { LoadedInfo, Reply, ToChild } from './llama/messages.ts'
import { RequestFeed } from './llama/request-feed.ts'
import { type LlamaEngineParameters, loadOptions } from './llama-parameters.ts'
import type { ChatRequest, CompletionRequest, EmbeddingRequest } from './requests.ts'

const ZERO_HASH: Hash = `0x${'00'.repeat(32)}`
const MAX_RESTART_WAIT_MS = 30_000
/** Replies after which the process has no more to say to a request or call. */
const ENDS: ReadonlySet<Reply['type']> = new Set(['end', 'vectors', 'done', 'error'])

export type { LlamaEngineParameters } from './llama-parameters.ts'

/** An engine in a process of its own. */
export interface LlamaEngine extends AdapterEngine {
  /** Process that holds the model; undefined while it is started again. */
  readonly pid: number | undefined
}

/**
 * Serves a GGUF model with llama.cpp in a child process: requests share batches, a crash costs the requests in flight
 * (`ENGINE_CRASHED`) and the process is started again.
 *
 * @throws EngineError `ENGINE_LOAD`
 * @example
 * const engine = await createLlamaEngine({ modelPath: 'models/demo.gguf' })
 * for await (const event of engine.chat(parseChatRequest(body), { signal })) console.log(event)
 * await engine.close()
 */
export async function createLlamaEngine(parameters: LlamaEngineParameters): Promise<LlamaEngine> {
  const engine = new ChildEngine(parameters)
  await engine.start()
  return engine
}

interface Waiting {
  push: (reply: Reply) => void
  fail: (error: unknown) => void
}

class ChildEngine implements LlamaEngine {
  readonly #parameters: LlamaEngineParameters
  readonly #adapters: EngineAdapters
  /** The process is being renewed; `idle` is called when the old one has answered all that it was sent. */
  #renewal: { idle: () => void } | undefined
  /** Requests and calls that the process was sent and has not answered. */
  readonly #sent = new Set<number>()
  readonly #feeds = new Map<number, RequestFeed>()
  readonly #calls = new Map<number, Waiting>()
  readonly #most: number
  #child: Promise<ChildHandle>
  #alive: ChildHandle | undefined
  #info: LoadedInfo | undefined
  #nextId = 1
  #crashes = 0
  #watch: NodeJS.Timeout | undefined
  readonly #closing = new AbortController()

  constructor(parameters: LlamaEngineParameters) {
    this.#parameters = parameters
    this.#adapters = new EngineAdapters({
      modelPath: parameters.modelPath,
      modelId: parameters.modelId,
      maxBytes: parameters.maxAdapterBytes ?? 2 * 1024 ** 3,
      maxLoaded: parameters.maxLoadedAdapters ?? 64,
      maxUnloadedBytes: parameters.maxUnloadedAdapterBytes ?? 2 * 1024 ** 3,
      call: (message) => this.#call((id) => ({ id, isKnown: false, ...message }), this.#closing.signal),
      renew: () => this.#renew(),
    })
    this.#most = (parameters.sequences ?? 8) + (parameters.maxQueued ?? 64)
    this.#child = this.#spawn()
    this.#child.catch(() => undefined)
  }

  async start(): Promise<void> {
    const { info } = await this.#child
    this.#info = info
    this.#watch = setInterval(() => this.#findStalled(), 1_000)
    this.#watch.unref()
  }

  get pid(): number | undefined {
    return this.#alive?.pid
  }

  async info(): Promise<EngineInfo> {
    const info = this.#info
    if (info === undefined) throw closed()
    return {
      kind: 'llama',
      build: info.build,
      model: this.#name,
      modelId: this.#parameters.modelId ?? ZERO_HASH,
      contextTokens: info.contextTokens,
      profiles: ['greedy', 'gumbel-philox-1', 'none'],
      capabilities: {
        chat: info.hasChatTemplate,
        completions: true,
        embeddings: info.hasEmbeddings,
        tools: info.hasTools,
        jsonSchema: true,
        logprobs: true,
        seed: true,
        adapters: true,
      },
      adapters: this.#adapters.names,
    }
  }

  chat(request: ChatRequest, options: EngineRequestOptions): AsyncIterable<EngineEvent> {
    return this.#stream('chat', (id, adapter) => ({ type: 'chat', id, adapter, request }), request.model, options)
  }

  complete(request: CompletionRequest, options: EngineRequestOptions): AsyncIterable<EngineEvent> {
    return this.#stream(
      'complete',
      (id, adapter) => ({ type: 'complete', id, adapter, request }),
      request.model,
      options,
    )
  }

  async embed(
    { model, inputs, dimensions }: EmbeddingRequest,
    { signal }: EngineRequestOptions,
  ): Promise<EmbeddingAnswer> {
    if (this.#adapterOf(model) !== undefined) {
      throw new EngineError({
        code: 'ENGINE_UNSUPPORTED',
        message: 'adapters give no embeddings',
        fix: `ask for ${this.#name}`,
        details: { field: 'model' },
      })
    }
    const reply = await this.#call((id) => ({ type: 'embed', id, inputs }), signal)
    if (reply.type !== 'vectors') throw closed()
    const length = reply.vectors[0]?.length
    if (dimensions !== undefined && dimensions !== length) {
      throw new EngineError({
        code: 'ENGINE_UNSUPPORTED',
        message: `the vectors of this model have ${length} dimensions and are not shortened`,
        fix: 'leave out dimensions',
        details: { field: 'dimensions' },
      })
    }
    return { vectors: reply.vectors, promptTokens: reply.promptTokens }
  }

  async loadAdapter({ name, path, scale = 1 }: { name: string; path: string; scale?: number }): Promise<void> {
    await this.#adapters.load({ name, path, scale })
  }

  async unloadAdapter(name: string): Promise<void> {
    await this.#adapters.unload(name)
  }

  async health(): Promise<EngineHealth> {
    const running = [...this.#feeds.values()].filter(({ isStarted }) => isStarted).length
    const counts = { running, queued: this.#feeds.size - running }
    if (this.#closing.signal.aborted) return { ok: false, detail: 'the engine is closed', ...counts }
    if (this.#alive === undefined) return { ok: false, detail: 'the process of the model is being started', ...counts }
    return { ok: true, ...counts }
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort(closed())
    clearInterval(this.#watch)
    this.#failAll(closed())
    const child = await this.#child.catch(() => undefined)
    await child?.close()
    this.#alive = undefined
    await this.#adapters.close()
  }

  /**
   * Puts a new process in the place of the old one, with the adapters that are loaded now. What the old one was sent it
   * answers to its end; what comes meanwhile waits. The model is in memory once, never twice.
   */
  async #renew(): Promise<void> {
    const old = await this.#child
    const next = Promise.withResolvers<ChildHandle>()
    next.promise.catch(() => undefined)
    const drained = new Promise<void>((resolve) => {
      this.#renewal = { idle: resolve }
    })
    this.#child = next.promise
    try {
      // Whoever was given the old process a moment ago sends to it now.
      await new Promise(setImmediate)
      if (this.#sent.size > 0) await drained
      this.#alive = undefined
      await old.close()
      this.#closing.signal.throwIfAborted()
      next.resolve(await this.#spawn().catch(() => this.#restart()))
    } catch (error) {
      next.reject(error)
      throw error
    } finally {
      this.#renewal = undefined
    }
  }

  #answered(id: number): void {
    this.#sent.delete(id)
    if (this.#sent.size === 0) this.#renewal?.idle()
  }

  get #name(): string {
    return this.#parameters.name ?? this.#info?.model ?? 'model'
  }

  async *#stream(
    kind: 'chat' | 'complete',
    message: (id: number, adapter: string | undefined) => ToChild,
    model: string,
    { signal }: EngineRequestOptions,
  ): AsyncGenerator<EngineEvent, void, void> {
    signal.throwIfAborted()
    const adapter = this.#adapterOf(model)
    if (this.#feeds.size >= this.#most) throw busy(this.#most)
    const id = this.#nextId++
    const feed = new RequestFeed(kind)
    const onAbort = () => feed.fail(signal.reason)
    let isComplete = false
    this.#feeds.set(id, feed)
    signal.addEventListener('abort', onAbort, { once: true })
    let child: ChildHandle | undefined
    try {
      this.#closing.signal.throwIfAborted()
      this.#child.then(
        (ready) => {
          if (!this.#feeds.has(id)) return
          child = ready
          this.#sent.add(id)
          child.send(message(id, adapter))
        },
        (error: unknown) => feed.fail(error),
      )
      for await (const event of feed.read()) {
        isComplete = event.type === 'end'
        yield event
      }
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#feeds.delete(id)
      if (!isComplete) child?.send({ type: 'abort', id })
      this.#answered(id)
    }
  }

  async #call(message: (id: number) => ToChild, signal: AbortSignal): Promise<Reply> {
    this.#closing.signal.throwIfAborted()
    signal.throwIfAborted()
    if (this.#feeds.size + this.#calls.size >= this.#most) throw busy(this.#most)
    const id = this.#nextId++
    let onAbort: (() => void) | undefined
    try {
      return await new Promise<Reply>((resolve, reject) => {
        onAbort = () => {
          this.#alive?.send({ type: 'abort', id })
          reject(signal.reason)
        }
        signal.addEventListener('abort', onAbort, { once: true })
        this.#calls.set(id, {
          push: (reply) => {
            if (reply.type === 'error') reject(new EngineError(reply.error))
            else if (reply.type !== 'started') resolve(reply)
          },
          fail: reject,
        })
        this.#child.then((child) => {
          if (!this.#calls.has(id)) return
          this.#sent.add(id)
          child.send(message(id))
        }, reject)
      })
    } finally {
      if (onAbort) signal.removeEventListener('abort', onAbort)
      this.#calls.delete(id)
      this.#answered(id)
    }
  }

  #onReplies(replies: readonly Reply[]): void {
    for (const reply of replies) {
      // What it has said to its end it has answered, however slowly that is read here.
      if (ENDS.has(reply.type)) this.#answered(reply.id)
      const feed = this.#feeds.get(reply.id)
      if (feed === undefined) this.#calls.get(reply.id)?.push(reply)
      else if (reply.type === 'error') feed.fail(new EngineError(reply.error))
      else feed.push(reply)
    }
  }

  async #spawn(): Promise<ChildHandle> {
    const child = await ChildHandle.start({
      options: loadOptions(this.#parameters),
      onReplies: (replies) => this.#onReplies(replies),
      onLog: (level, text) => this.#parameters.onLog?.(level, text),
      onSuspects: (adapters) => this.#adapters.suspect(adapters),
      onCrash: (error) => this.#onCrash(error),
    })
    this.#alive = child
    // Adapters are known again before the first request comes: messages arrive in order.
    for (const { name, path, scale } of this.#adapters.known()) {
      child.send({ type: 'adapter', id: 0, name, path, scale, isKnown: true })
    }
    return child
  }

  #onCrash(error: EngineError): void {
    if (this.#closing.signal.aborted || this.#info === undefined) return
    this.#parameters.onLog?.('error', `${error.message} ${JSON.stringify(error.details)}`)
    this.#alive = undefined
    this.#failAll(error)
    // A renewal starts the next process itself, as soon as what failed here has gone.
    if (this.#renewal !== undefined) return
    this.#child = this.#restart()
    this.#child.catch(() => undefined)
  }

  /** Starts again, at once after the first crash and ever later while crashes follow one another. */
  async #restart(): Promise<ChildHandle> {
    const { signal } = this.#closing
    for (;;) {
      const waitMs = this.#crashes === 0 ? 0 : Math.min(MAX_RESTART_WAIT_MS, 250 * 2 ** this.#crashes)
      this.#crashes += 1
      await delay(waitMs, undefined, { signal }).catch(() => {
        throw closed()
      })
      try {
        const child = await this.#spawn()
        setTimeout(() => this.#forgive(child), 60_000).unref()
        return child
      } catch (error) {
        this.#parameters.onLog?.('error', `the model could not be loaded again: ${String(error)}`)
      }
    }
  }

  #forgive(child: ChildHandle): void {
    if (this.#alive === child) this.#crashes = 0
  }

  #failAll(error: EngineError): void {
    for (const waiting of [...this.#feeds.values(), ...this.#calls.values()]) waiting.fail(error)
  }

  #findStalled(): void {
    const limitMs = this.#parameters.stallTimeoutMs ?? 600_000
    const now = performance.now()
    const stalled = [...this.#feeds.values()].filter((feed) => feed.isStarted && now - feed.lastReplyAt > limitMs)
    const child = this.#alive
    if (stalled.length === 0 || child === undefined) return
    const error = new EngineError({
      code: 'ENGINE_TIMEOUT',
      message: `the model gave no token for ${limitMs} ms`,
      fix: 'ask for less, or use a faster machine',
      details: { limitMs },
    })
    for (const feed of stalled) feed.fail(error)
    child.kill()
    this.#onCrash(
      new EngineError({
        code: 'ENGINE_CRASHED',
        message: 'the process of the model hung and was ended',
        fix: 'it is being started again: repeat the request',
        cause: error,
      }),
    )
  }

  /** The adapter that a model name means: `model:adapter`, or the adapter's name alone. */
  #adapterOf(model: string): string | undefined {
    if (model === '' || model === this.#name) return undefined
    const prefix = `${this.#name}:`
    const adapter = model.startsWith(prefix) ? model.slice(prefix.length) : model
    if (this.#adapters.has(adapter)) return adapter
    throw new EngineError({
      code: 'ENGINE_MODEL',
      message: `no model is called ${model.slice(0, 100)}`,
      fix: `ask for ${[this.#name, ...this.#adapters.names.map((name) => prefix + name)].slice(0, 10).join(', ')}`,
      details: { model },
    })
  }
}

function busy(limit: number): EngineError {
  return new EngineError({
    code: 'ENGINE_BUSY',
    message: `${limit} requests are running or waiting already`,
    fix: 'try again later',
    details: { limit },
  })
}

function closed(): EngineError {
  return new EngineError({ code: 'ENGINE_CLOSED', message: 'the engine is closed' })
}
