import type { Hash } from '#protocol/hex.ts'
import type { SamplingSettings } from '#protocol/sampling/sample.ts'
import type { ChatRequest, CompletionRequest, EmbeddingRequest } from './requests.ts'

/**
 * How output tokens were chosen, as receipts name it. `greedy`: the largest logit. `gumbel-philox-1`: seeded noise on the
 * 64 largest logits (`#protocol/sampling/`), so that anyone can repeat the choice. `none`: nothing is promised.
 */
export type SamplingProfile = 'greedy' | 'gumbel-philox-1' | 'none'

/** What an engine serves. */
export interface EngineInfo {
  kind: 'llama' | 'upstream'
  /** Engine and version, `node-llama-cpp 3.22.1 (cpu)` for example. */
  build: string
  /** Name under which the model is asked for. */
  model: string
  /** Storage root of the weights, the zero hash where it is not known. */
  modelId: Hash
  /** Tokens that prompt and answer of one request may have together; 0 where it is not known. */
  contextTokens: number
  profiles: readonly SamplingProfile[]
  capabilities: EngineCapabilities
  /** Names of the adapters that are loaded; each is asked for as `model:adapter`. */
  adapters: readonly string[]
}

export interface EngineCapabilities {
  chat: boolean
  completions: boolean
  embeddings: boolean
  tools: boolean
  jsonSchema: boolean
  logprobs: boolean
  seed: boolean
  adapters: boolean
}

/** One choice of a streamed chunk, in OpenAI's shape: `delta` for chats, `text` for completions. */
export interface OpenAiStreamChoice {
  index: number
  delta?: OpenAiDelta
  text?: string
  finish_reason: string | null
  logprobs?: unknown
}

export interface OpenAiDelta {
  role?: string
  content?: string | null
  tool_calls?: readonly {
    index: number
    id?: string
    type?: 'function'
    function?: { name?: string; arguments?: string }
  }[]
  [field: string]: unknown
}

export interface EngineUsage {
  promptTokens: number
  completionTokens: number
  /** Prompt tokens that were in the engine's cache already; part of `promptTokens`. */
  cachedTokens: number
}

/**
 * The events of one request: `prompt` once (first where the engine reads the prompt itself, shortly before `end` where only
 * an upstream's usage tells), any number of `chunk`, `end` once and last. A failure is thrown instead.
 */
export type EngineEvent = PromptEvent | ChunkEvent | EndEvent

/** The prompt was read. */
export interface PromptEvent {
  type: 'prompt'
  promptTokens: number
  cachedTokens: number
  /** Where the engine knows them. */
  promptTokenIds?: readonly number[]
}

/** New text. `tokenIds` are the tokens it took; empty where the engine does not know them. */
export interface ChunkEvent {
  type: 'chunk'
  choices: readonly OpenAiStreamChoice[]
  tokenIds: readonly number[]
}

/** The answer is complete. */
export interface EndEvent {
  type: 'end'
  finishReason: string
  usage: EngineUsage
  /** Every generated token, the end token included; also those a stop string cut off the text. */
  outputTokenIds?: readonly number[]
  profile: SamplingProfile
  settings: SamplingSettings
}

export interface EmbeddingAnswer {
  /** One vector per input, in order. */
  vectors: readonly (readonly number[])[]
  promptTokens: number
}

export interface EngineHealth {
  ok: boolean
  detail?: string
  /** Requests that are being answered. */
  running: number
  /** Requests that wait for a free sequence. */
  queued: number
}

export interface EngineRequestOptions {
  /** Ends the request: the iterator throws the signal's reason, and the engine frees what the request held. */
  signal: AbortSignal
}

/**
 * Something that answers OpenAI-shaped requests. All methods may be called concurrently.
 *
 * @throws EngineError from every method; see `EngineErrorCode`
 */
export interface Engine {
  info(): Promise<EngineInfo>
  chat(request: ChatRequest, options: EngineRequestOptions): AsyncIterable<EngineEvent>
  complete(request: CompletionRequest, options: EngineRequestOptions): AsyncIterable<EngineEvent>
  embed(request: EmbeddingRequest, options: EngineRequestOptions): Promise<EmbeddingAnswer>
  health(options?: { signal?: AbortSignal }): Promise<EngineHealth>
  /** Ends what is running (`ENGINE_CLOSED`) and frees everything. May be called again. */
  close(): Promise<void>
}

/** An engine that serves LoRA adapters of its model. */
export interface AdapterEngine extends Engine {
  /** Checks the file against the model and makes it available as `model:name`. Loading it again under the name replaces it. */
  loadAdapter(adapter: { name: string; path: string; scale?: number }): Promise<void>
  unloadAdapter(name: string): Promise<void>
}

export type { SamplingSettings } from '#protocol/sampling/sample.ts'
export type { ChatMessage, ChatRequest, CompletionRequest, EmbeddingRequest, ToolDefinition } from './requests.ts'
