import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileSource } from '#kit/files.ts'
import { GgufError } from '#protocol/gguf/gguf-error.ts'
import {
  type LlamaConfig,
  parameterCount,
  readLlamaConfig,
  readLlamaWeights,
  type Weights,
} from '#protocol/gguf/llama.ts'
import { type GgufHead, readGgufHead } from '#protocol/gguf/read.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { readVocabulary } from '#protocol/gguf/vocabulary.ts'
import { TrainerError } from './error.ts'

/** Most parameters that are trained here: what fits, with gradients and activations, into 4 GiB of WebAssembly. */
export const MAX_PARAMETERS = 120_000_000

/** A base model in memory, dequantised to f32. */
export interface BaseModel {
  config: LlamaConfig
  weights: Weights
  tokenizer: Tokenizer
  /** SHA-256 of the file. */
  sha256: string
}

/**
 * Reads a base model from GGUF (F32, F16 or Q8_0).
 *
 * @throws TrainerError `TRAINER_BASE` unreadable or damaged, `TRAINER_ARCHITECTURE` not Llama, `TRAINER_TOKENIZER` not
 * SentencePiece BPE, `TRAINER_MEMORY` too large.
 */
export async function readBaseModel(path: string): Promise<BaseModel> {
  await using source = await fileSource(path).catch((cause: unknown) => {
    throw baseError(path, 'cannot be read', cause)
  })
  const head = await readGgufHead(source).catch((cause: unknown) => {
    throw baseError(path, 'is not a GGUF file that is read here', cause)
  })
  checkArchitecture(head, path)
  const tokenizer = tokenizerOf(head)
  try {
    const config = readLlamaConfig(head)
    const parameters = parameterCount(config)
    if (parameters > MAX_PARAMETERS) {
      throw new TrainerError({
        code: 'TRAINER_MEMORY',
        message: `${path} has ${parameters} parameters; this trainer takes up to ${MAX_PARAMETERS}`,
        fix: 'use an external trainer, see docs/training.md',
        details: { parameters, limit: MAX_PARAMETERS },
      })
    }
    if (tokenizer.vocabulary.pieces.length !== config.vocab) {
      throw new TrainerError({
        code: 'TRAINER_TOKENIZER',
        message: `the tokenizer has ${tokenizer.vocabulary.pieces.length} tokens, the model ${config.vocab}`,
        fix: 'give a model file with its own tokenizer',
      })
    }
    return { config, weights: await readLlamaWeights({ source, head }), tokenizer, sha256: await sha256Of(path) }
  } catch (cause) {
    if (cause instanceof TrainerError) throw cause
    throw baseError(path, 'lacks something that a Llama model has', cause)
  }
}

/**
 * What reading a dataset needs of a base model: its tokenizer and its context. Weights are not read, and any architecture
 * will do: an external trainer may know it.
 *
 * @throws TrainerError `TRAINER_BASE`, `TRAINER_TOKENIZER`
 */
export async function readBaseTokenizer(path: string): Promise<{ tokenizer: Tokenizer; context: number }> {
  await using source = await fileSource(path).catch((cause: unknown) => {
    throw baseError(path, 'cannot be read', cause)
  })
  const head = await readGgufHead(source).catch((cause: unknown) => {
    throw baseError(path, 'is not a GGUF file that is read here', cause)
  })
  const context = head.metadata.get(`${String(head.metadata.get('general.architecture'))}.context_length`)
  if (typeof context !== 'number' || context < 1) {
    throw baseError(path, 'lacks something that a model has', 'it does not name the length of its context')
  }
  return { tokenizer: tokenizerOf(head), context }
}

/** SHA-256 of a file, in hex. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

function checkArchitecture(head: GgufHead, path: string): void {
  const architecture = head.metadata.get('general.architecture')
  const type = head.metadata.get('general.type') ?? 'model'
  if (architecture === 'llama' && type === 'model') return
  throw new TrainerError({
    code: 'TRAINER_ARCHITECTURE',
    message: `${path} is a ${type} of architecture ${architecture ?? 'unknown'}; this trainer takes llama models`,
    fix: 'give a Llama-architecture model, or use an external trainer',
    details: { architecture, type },
  })
}

function tokenizerOf(head: GgufHead): Tokenizer {
  try {
    // Another prefix rule would give other tokens than the engine's.
    if (head.metadata.get('tokenizer.ggml.add_space_prefix') !== false) {
      throw new GgufError({ code: 'VOCABULARY', message: 'the tokenizer puts a space in front of every text' })
    }
    return new Tokenizer(readVocabulary(head))
  } catch (cause) {
    throw new TrainerError({
      code: 'TRAINER_TOKENIZER',
      message: `the tokenizer of the base model is not supported: ${cause instanceof Error ? cause.message : cause}`,
      fix: 'give a model with a SentencePiece BPE tokenizer without space prefix, or use an external trainer',
      cause,
    })
  }
}

function baseError(path: string, why: string, cause: unknown): TrainerError {
  return new TrainerError({
    code: 'TRAINER_BASE',
    message: `${path} ${why}: ${cause instanceof Error ? cause.message : cause}`,
    fix: 'give a whole GGUF v3 file with F32, F16 or Q8_0 tensors',
    details: { path },
    cause,
  })
}
