import { availableParallelism } from 'node:os'
import {
  getLlama,
  type Llama,
  type LlamaContextSequence,
  type LlamaEmbeddingContext,
  LlamaLogLevel,
  type LlamaModel,
  type Token,
} from 'node-llama-cpp'
import { EngineError } from '../engine-error.ts'
import { SMALL_MODEL_BYTES } from '../llama-parameters.ts'
import type { LoadedInfo, LoadOptions } from './messages.ts'
import { ChatPrompt } from './prompt.ts'
import { SequencePool } from './sequence-pool.ts'

/** Limit of the first evaluation with an adapter. */
const TRIAL_MS = 60_000

interface SetAdapterParameters {
  name: string
  path: string
  scale: number
  isKnown: boolean
}

interface Adapter {
  path: string
  scale: number
  pool: SequencePool | undefined
}

/** A model in memory with its contexts: one for the plain model, one for every adapter in use. Lives in the child process. */
export class LoadedModel {
  readonly llama: Llama
  readonly model: LlamaModel
  readonly options: LoadOptions
  readonly chat: ChatPrompt | undefined
  readonly contextTokens: number
  readonly #base: SequencePool
  readonly #adapters = new Map<string, Adapter>()
  readonly #open = new Set<Adapter>()
  /** Contexts are opened one after the other, so that their number stays within its bound. */
  #opening: Promise<unknown> = Promise.resolve()
  readonly #threads: number
  readonly #textOf: (string | undefined)[] = []
  readonly #isEnd: (boolean | undefined)[] = []
  readonly #writesAlone: boolean
  /** Characters of the longest token: never fewer than 16, since characters without a piece take several tokens. */
  readonly #longestPiece: number
  #embedding: Promise<LlamaEmbeddingContext> | undefined

  private constructor(parts: {
    llama: Llama
    model: LlamaModel
    options: LoadOptions
    base: SequencePool
    threads: number
  }) {
    this.llama = parts.llama
    this.model = parts.model
    this.options = parts.options
    this.#base = parts.base
    this.#threads = parts.threads
    this.contextTokens = parts.options.contextTokens
    const ggml = this.model.fileInfo.metadata.tokenizer?.ggml
    this.#writesAlone = this.model.vocabularyType !== 'spm' || ggml?.add_space_prefix === false
    this.#longestPiece = (ggml?.tokens ?? []).reduce((most, piece) => Math.max(most, piece.length), 16)
    this.chat = this.#chatPrompt()
  }

  /** @throws EngineError `ENGINE_LOAD` */
  static async load(options: LoadOptions, log: (level: string, text: string) => void): Promise<LoadedModel> {
    try {
      const threads = options.threads
      const llama = await getLlama({
        gpu: options.gpu,
        build: 'never',
        skipDownload: true,
        progressLogs: false,
        maxThreads: threads === 0 ? availableParallelism() : threads,
        logLevel: LlamaLogLevel.warn,
        logger: log,
      })
      const model = await llama.loadModel({
        modelPath: options.modelPath,
        ...(options.gpuLayers === undefined ? {} : { gpuLayers: options.gpuLayers }),
      })
      const wanted = threads === 0 ? (model.size < SMALL_MODEL_BYTES ? 1 : availableParallelism()) : threads
      const contextTokens = Math.min(options.contextTokens, model.trainContextSize ?? options.contextTokens)
      const settled = { ...options, contextTokens }
      const context = await model.createContext(contextOptions(settled, options.sequences, wanted))
      return new LoadedModel({ llama, model, options: settled, base: new SequencePool(context), threads: wanted })
    } catch (cause) {
      throw new EngineError({
        code: 'ENGINE_LOAD',
        message: `the model could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
        fix: 'check the file, and that memory suffices for model and context; a smaller context needs less',
        details: { modelPath: options.modelPath },
        cause,
      })
    }
  }

  info(build: string): LoadedInfo {
    const { model, chat } = this
    return {
      build: `${build} (${this.llama.gpu === false ? 'cpu' : this.llama.gpu})`,
      model: model.fileInfo.metadata.general?.name ?? 'model',
      contextTokens: this.contextTokens,
      trainContextTokens: model.trainContextSize ?? 0,
      hasChatTemplate: chat !== undefined,
      hasTools: chat?.hasTools ?? false,
      hasEmbeddings: this.options.embeddings && !(model.fileInsights.hasEncoder && model.fileInsights.hasDecoder),
    }
  }

  /** Text of tokens that follow `before`. */
  readonly decode = (ids: readonly number[], before: readonly number[]): string => {
    const [id] = ids
    if (!this.#writesAlone || ids.length !== 1 || id === undefined) {
      return this.model.detokenize(ids as Token[], false, this.#writesAlone ? undefined : (before as Token[]))
    }
    const known = this.#textOf[id]
    if (known !== undefined) return known
    const text = this.model.detokenize([id as Token], false)
    this.#textOf[id] = text
    return text
  }

  /** Whether the token ends an answer. */
  isEnd(id: number): boolean {
    const known = this.#isEnd[id]
    if (known !== undefined) return known
    const isEnd = this.model.isEogToken(id as Token)
    this.#isEnd[id] = isEnd
    return isEnd
  }

  /**
   * Refuses texts that cannot fit however they are tokenized, before they keep this process busy.
   *
   * @throws EngineError `ENGINE_CONTEXT`
   */
  refuseHopeless(texts: Iterable<string>): void {
    let characters = 0
    for (const text of texts) characters += text.length
    const least = Math.ceil(characters / this.#longestPiece)
    if (least > this.contextTokens) throw tooLong(least, this.contextTokens)
  }

  /** Tokens of a plain text as a prompt, the begin token in front where the model wants one. */
  promptTokens(text: string): number[] {
    const { bos, shouldPrependBosToken } = this.model.tokens
    return [...(shouldPrependBosToken && bos !== null ? [bos] : []), ...this.model.tokenize(text, false)]
  }

  /**
   * A sequence of the plain model or of an adapter; give it back to its pool. Contexts of adapters are made when they are
   * first needed; the least recently used makes room, an idle one first. A context is of one adapter from its beginning to
   * its end, so that nothing of its cache is ever read under another.
   *
   * @throws EngineError `ENGINE_MODEL`, `ENGINE_ADAPTER`; the signal's reason
   */
  async acquire(
    adapter: string | undefined,
    tokens: readonly number[],
    signal: AbortSignal,
  ): Promise<AcquiredSequence> {
    const open = adapter === undefined ? this.#base : this.#adapterOf(adapter).pool
    if (open !== undefined) return await taken(open, tokens, signal)
    // The sequence is taken before anyone else's turn to open comes, who would find the new context idle and close it.
    const { sequence } = await this.#inTurn(async () => {
      // Whoever left while the turn came needs no context.
      signal.throwIfAborted()
      const found = this.#adapterOf(adapter ?? '')
      const opened = found.pool ?? (await this.#openNow(found))
      return { sequence: taken(opened, tokens, signal) }
    })
    return await sequence
  }

  /** Makes an adapter known. Its context is opened at once, so that a file that cannot be used is found out here. */
  async setAdapter({ name, path, scale, isKnown }: SetAdapterParameters): Promise<void> {
    const adapter: Adapter = { path, scale, pool: undefined }
    const before = this.#adapters.get(name)
    // Known from now on: after a crash requests follow the adapter's message at once.
    this.#adapters.set(name, adapter)
    if (before !== undefined) await this.#closeAdapter(before)
    if (isKnown) return
    try {
      await this.#inTurn(async () => await this.#tryOut(adapter.pool ?? (await this.#openNow(adapter))))
    } catch (error) {
      if (this.#adapters.get(name) === adapter) this.#adapters.delete(name)
      await this.#closeAdapter(adapter)
      throw error
    }
  }

  async unloadAdapter(name: string): Promise<void> {
    const found = this.#adapters.get(name)
    this.#adapters.delete(name)
    if (found !== undefined) await this.#closeAdapter(found)
  }

  /** Vector of unit length for a list of tokens, and the number of tokens that were read. */
  async embed(input: string | readonly number[]): Promise<{ vector: number[]; tokens: number }> {
    this.#embedding ??= this.model.createEmbeddingContext({
      contextSize: this.contextTokens,
      batchSize: this.contextTokens,
      threads: this.#threads,
    })
    const context = await this.#embedding
    const tokens = typeof input === 'string' ? this.model.tokenize(input, false) : ([...input] as Token[])
    const count = context.calculateInputLength([...tokens])
    if (count > this.contextTokens) throw tooLong(count, this.contextTokens)
    const { vector } = await context.getEmbeddingFor([...tokens])
    const length = Math.hypot(...vector) || 1
    return { vector: vector.map((x) => x / length), tokens: count }
  }

  /** An adapter whose values are out of all bounds is found out before anybody asks it. */
  async #tryOut(pool: SequencePool): Promise<void> {
    const sequence = await pool.acquire([], AbortSignal.timeout(TRIAL_MS))
    try {
      const token = this.model.tokens.bos ?? (0 as Token)
      const wanted = { generateNext: { logits: { filter: { tokens: [], includeTop: 1 } } } }
      const [result] = await sequence.controlledEvaluate([[token, wanted]])
      const [best] = [...(result?.next?.logits?.values() ?? [])]
      if (best !== undefined && Number.isFinite(best)) return
      throw new EngineError({
        code: 'ENGINE_ADAPTER',
        message: 'the model gives no finite numbers with this adapter',
        fix: 'train it anew, with a lower learning rate',
      })
    } finally {
      await sequence.clearHistory()
      pool.release(sequence)
    }
  }

  #adapterOf(name: string): Adapter {
    const found = this.#adapters.get(name)
    if (found !== undefined) return found
    throw new EngineError({
      code: 'ENGINE_MODEL',
      message: `no adapter is called ${name}`,
      fix: 'load the adapter first',
      details: { adapter: name },
    })
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#opening.then(work)
    this.#opening = done.catch(() => undefined)
    return done
  }

  async #openNow(adapter: Adapter): Promise<SequencePool> {
    await this.#makeRoom()
    try {
      const context = await this.model.createContext({
        ...contextOptions(this.options, this.options.adapterSequences, this.#threads),
        lora: { adapters: [{ filePath: adapter.path, scale: adapter.scale }] },
      })
      const pool = new SequencePool(context)
      pool.usedAt = performance.now()
      adapter.pool = pool
      this.#open.add(adapter)
      return pool
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause)
      // Its form was checked before: what llama.cpp says of adapters is about this one, all else about memory.
      const isOfAdapter = /lora/i.test(text)
      throw new EngineError({
        code: isOfAdapter ? 'ENGINE_ADAPTER' : 'ENGINE_LOAD',
        message: `the adapter could not be loaded: ${text}`,
        fix: isOfAdapter ? 'check that it was trained on this model' : 'free memory, or allow fewer contexts',
        cause,
      })
    }
  }

  async #closeAdapter(adapter: Adapter): Promise<void> {
    const { pool } = adapter
    adapter.pool = undefined
    this.#open.delete(adapter)
    await pool?.close()
  }

  /**
   * Where all contexts answer, the one that was longest not asked for takes no new requests and ends with those it has;
   * later ones for its adapter wait for their turn as this one does. So adapters share contexts in order of arrival.
   */
  async #makeRoom(): Promise<void> {
    if (this.#open.size < this.options.adapterContexts) return
    const usedAt = ({ pool }: Adapter) => pool?.usedAt ?? 0
    const isBusy = ({ pool }: Adapter) => (pool?.isIdle === false ? 1 : 0)
    const [oldest] = [...this.#open].sort((a, b) => isBusy(a) - isBusy(b) || usedAt(a) - usedAt(b))
    const pool = oldest?.pool
    if (oldest !== undefined) await this.#closeAdapter(oldest)
    await pool?.closed
  }

  #chatPrompt(): ChatPrompt | undefined {
    const { model } = this
    const template = model.fileInfo.metadata.tokenizer?.chat_template
    if (typeof template !== 'string' || template === '') return undefined
    const controlTexts: string[] = []
    for (const token of model.iterateAllTokens()) {
      const isControl = model.isSpecialToken(token)
      const text = isControl ? model.detokenize([token], true) : ''
      if (text !== '') controlTexts.push(text)
    }
    const { bos, bosString, eosString, shouldPrependBosToken } = model.tokens
    return new ChatPrompt({
      template,
      bosText: bosString ?? '',
      eosText: eosString ?? '',
      bos: shouldPrependBosToken ? (bos ?? undefined) : undefined,
      controlTexts,
      tokenize: (text, special) => model.tokenize(text, special),
    })
  }
}

/** A sequence for one request, and the pool that wants it back. */
export interface AcquiredSequence {
  pool: SequencePool
  sequence: LlamaContextSequence
}

async function taken(pool: SequencePool, tokens: readonly number[], signal: AbortSignal): Promise<AcquiredSequence> {
  pool.usedAt = performance.now()
  return { pool, sequence: await pool.acquire(tokens, signal) }
}

/** A prompt that leaves no room for an answer. */
export function tooLong(promptTokens: number, contextTokens: number): EngineError {
  return new EngineError({
    code: 'ENGINE_CONTEXT',
    message: `the prompt has ${promptTokens} tokens and the context ${contextTokens}`,
    fix: 'send a shorter prompt',
    details: { promptTokens, contextTokens },
  })
}

function contextOptions(options: LoadOptions, sequences: number, threads: number) {
  const { contextTokens, batchTokens, flashAttention } = options
  return {
    contextSize: contextTokens,
    sequences,
    threads,
    batchSize: batchTokens ?? Math.min(Math.max(512, sequences), contextTokens * sequences),
    ...(flashAttention === undefined ? {} : { flashAttention }),
  }
}
