import type { EngineUsage, SamplingProfile, SamplingSettings } from '../engine.ts'
import type { EngineErrorCode } from '../engine-error.ts'
import type { ChatRequest, CompletionRequest } from '../requests.ts'

/** How a model is loaded; see `LlamaEngineParameters`. */
export interface LoadOptions {
  modelPath: string
  gpu: 'auto' | false
  gpuLayers: number | undefined
  threads: number
  sequences: number
  adapterSequences: number
  adapterContexts: number
  contextTokens: number
  batchTokens: number | undefined
  flashAttention: boolean | undefined
  promptCache: boolean
  embeddings: boolean
}

/** What the child says about the model it loaded. */
export interface LoadedInfo {
  build: string
  model: string
  contextTokens: number
  trainContextTokens: number
  hasChatTemplate: boolean
  hasTools: boolean
  /** Rotary models and such: whether embeddings can be computed. */
  hasEmbeddings: boolean
}

/** What the engine sends to its child process. Structured clones: bigints pass. */
export type ToChild =
  | { type: 'load'; options: LoadOptions }
  | { type: 'chat'; id: number; adapter: string | undefined; request: ChatRequest }
  | { type: 'complete'; id: number; adapter: string | undefined; request: CompletionRequest }
  | { type: 'embed'; id: number; inputs: readonly string[] | readonly (readonly number[])[] }
  /** `isKnown`: it was loaded by a process before this one, so its context can wait until somebody asks. */
  | { type: 'adapter'; id: number; name: string; path: string; scale: number; isKnown: boolean }
  | { type: 'unload'; id: number; name: string }
  | { type: 'abort'; id: number }

export interface PlainError {
  code: EngineErrorCode
  message: string
  fix?: string | undefined
  details?: Record<string, unknown> | undefined
}

/** A token's log probability with its alternatives, before OpenAI's form is made of it. */
export interface TokenLogprob {
  text: string
  logprob: number
  top: readonly { text: string; logprob: number }[]
}

/** A call of a function in the answer. */
export interface ToolCall {
  name: string
  /** JSON. */
  arguments: string
}

/** What the child says about a request. Pieces of one request that wait to be sent are put together. */
export type Reply =
  | { id: number; type: 'started' }
  | { id: number; type: 'prompt'; tokenIds: readonly number[]; cachedTokens: number }
  | { id: number; type: 'piece'; text: string; tokenIds: number[]; logprobs: TokenLogprob[] | undefined }
  | {
      id: number
      type: 'end'
      finishReason: string
      toolCalls: readonly ToolCall[]
      usage: EngineUsage
      outputTokenIds: readonly number[]
      profile: SamplingProfile
      settings: SamplingSettings
    }
  | { id: number; type: 'vectors'; vectors: readonly (readonly number[])[]; promptTokens: number }
  | { id: number; type: 'done' }
  | { id: number; type: 'error'; error: PlainError }

export type FromChild =
  | { type: 'loaded'; info: LoadedInfo }
  | { type: 'failed'; error: PlainError }
  | { type: 'replies'; replies: readonly Reply[] }
  | { type: 'log'; level: string; text: string }
  /** The process ends, and it may be for one of these. */
  | { type: 'suspects'; adapters: readonly string[] }
