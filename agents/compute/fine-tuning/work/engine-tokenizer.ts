import { getLlama, LlamaLogLevel } from 'node-llama-cpp'
import type { ExampleTokenizer } from '#compute/trainer/chat-format.ts'
import { TrainerError } from '#compute/trainer/error.ts'
import { CHAT_TEMPLATE } from '#protocol/gguf/vocabulary.ts'

/** A tokenizer of llama.cpp, and what else counting needs of a model. */
export interface EngineTokenizer extends AsyncDisposable {
  tokenizer: ExampleTokenizer
  /** Tokens. */
  context: number
}

/**
 * Opens the vocabulary of any model that llama.cpp knows, weights left out: for base models that the own trainer cannot
 * read and an external one can. Chat templates that are not known here are counted as ChatML.
 *
 * @throws TrainerError `TRAINER_TOKENIZER`
 */
export async function openEngineTokenizer(path: string): Promise<EngineTokenizer> {
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: LlamaLogLevel.disabled })
  try {
    const model = await llama.loadModel({ modelPath: path, vocabOnly: true })
    const metadata: unknown = model.fileInfo.metadata
    const architecture = String(at(metadata, 'general', 'architecture'))
    const context = at(metadata, architecture, 'context_length')
    const template = at(metadata, 'tokenizer', 'chat_template')
    if (typeof context !== 'number' || context < 1) throw new Error('it does not name the length of its context')
    const { bos, eos } = model.tokens
    const last = eos ?? bos ?? 0
    const tokenizer: ExampleTokenizer = {
      vocabulary: {
        bos: bos ?? last,
        eos: last,
        chatTemplate: typeof template === 'string' ? template : CHAT_TEMPLATE,
      },
      isCounting: true,
      encode: (text, { special = false } = {}) => model.tokenize(text, special),
    }
    return {
      ...{ tokenizer, context },
      async [Symbol.asyncDispose]() {
        await model.dispose()
        await llama.dispose()
      },
    }
  } catch (cause) {
    await llama.dispose()
    throw new TrainerError({
      code: 'TRAINER_TOKENIZER',
      message: `llama.cpp cannot read the tokenizer of ${path}: ${cause instanceof Error ? cause.message : cause}`,
      fix: 'give a GGUF file with its tokenizer',
      cause,
    })
  }
}

function at(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (found, key) => (typeof found === 'object' && found !== null ? Reflect.get(found, key) : undefined),
    value,
  )
}
