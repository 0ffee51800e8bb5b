import type { Hash } from '#protocol/hex.ts'
import type { LoadOptions } from './llama/messages.ts'

/** Files below this gain nothing from more threads, which wait by spinning. */
export const SMALL_MODEL_BYTES = 100 * 1024 * 1024

/** What a llama engine serves, and how. */
export interface LlamaEngineParameters {
  /** A GGUF file. */
  modelPath: string
  /** Name under which the model is asked for. Default: the one in the file. */
  name?: string | undefined
  /** Storage root of the file. */
  modelId?: Hash | undefined
  /** `auto`: the GPU where a GPU package is installed (`installedBackends`), else the CPU. Nothing is built or fetched. */
  gpu?: 'auto' | false | undefined
  /** Layers on the GPU. Default: as many as fit. */
  gpuLayers?: number | undefined
  /** Threads per evaluation; 0, the default: one for models below 100 MiB, which only lose by more, else every core. */
  threads?: number | undefined
  /** Requests that are answered at the same time. Default 8. */
  sequences?: number | undefined
  /** Requests that may wait beside them; more are refused with `ENGINE_BUSY`. Default 64. */
  maxQueued?: number | undefined
  /** Tokens of prompt and answer together, at most what the model was trained on. Default 4096; memory grows with it. */
  contextTokens?: number | undefined
  /** Tokens that are evaluated at once. */
  batchTokens?: number | undefined
  flashAttention?: boolean | undefined
  /**
   * Reuse what a sequence has in its cache of the beginning of a prompt. Default true. `cachedTokens` then tells that someone
   * asked with the same beginning shortly before; turn it off where users must not learn that.
   */
  promptCache?: boolean | undefined
  /** Answer embedding requests. Default true. */
  embeddings?: boolean | undefined
  /** Adapters that have a context at the same time; each takes the memory of its sequences. Default 4. */
  adapterContexts?: number | undefined
  /** Requests that an adapter answers at the same time. Default 2. */
  adapterSequences?: number | undefined
  /**
   * Adapters in the memory of the process, those unloaded included: llama.cpp frees them with the model only. Where so many
   * are there the process is renewed before the next. Default 64.
   */
  maxLoadedAdapters?: number | undefined
  /** Bytes of unloaded adapters after which the process is renewed. Default 2 GiB. */
  maxUnloadedAdapterBytes?: number | undefined
  /** Most bytes of an adapter file. Default 2 GiB. */
  maxAdapterBytes?: number | undefined
  /** Milliseconds without a token after which a started request, and the process with it, is given up. Default 600,000. */
  stallTimeoutMs?: number | undefined
  /** Told what llama.cpp says, and of crashes. */
  onLog?: ((level: string, text: string) => void) | undefined
}

/** The part of the parameters that the child process needs, with defaults. */
export function loadOptions(parameters: LlamaEngineParameters): LoadOptions {
  return {
    modelPath: parameters.modelPath,
    gpu: parameters.gpu ?? 'auto',
    gpuLayers: parameters.gpuLayers,
    threads: parameters.threads ?? 0,
    sequences: parameters.sequences ?? 8,
    adapterSequences: parameters.adapterSequences ?? 2,
    adapterContexts: parameters.adapterContexts ?? 4,
    contextTokens: parameters.contextTokens ?? 4096,
    batchTokens: parameters.batchTokens,
    flashAttention: parameters.flashAttention,
    promptCache: parameters.promptCache ?? true,
    embeddings: parameters.embeddings ?? true,
  }
}
