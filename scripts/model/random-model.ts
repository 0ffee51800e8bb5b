import type { GgmlType } from '#protocol/gguf/layout.ts'
import { type LlamaConfig, llamaGguf, llamaShapes, type Weights } from '#protocol/gguf/llama.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import { CHAT_TEMPLATE } from '#protocol/gguf/vocabulary.ts'
import type { GgufContent } from '#protocol/gguf/write.ts'
import { philox4x32, philoxKey } from '#protocol/sampling/philox.ts'
import { sampleText } from './sample-text.ts'

export interface RandomModelParameters {
  /** Same seed, same file. Default 1. */
  seed?: bigint
  /** Type of the matrices. Default Q8_0. */
  type?: GgmlType
  /** Differences from the default shape: 4 layers, dim 192, 512 tokens, context 2048; 1.7 million parameters. */
  config?: Partial<Omit<LlamaConfig, 'vocab'>>
  /** Tokens of the vocabulary. Default 512. */
  vocab?: number
  /** Default `weightless-random`. */
  name?: string
  /** Jinja; default `CHAT_TEMPLATE`. */
  chatTemplate?: string
}

const DEFAULT_CONFIG = {
  dim: 192,
  layers: 4,
  heads: 6,
  kvHeads: 2,
  headDim: 32,
  ffn: 512,
  context: 2048,
  ropeBase: 10_000,
  eps: 1e-6,
  tied: true,
} satisfies Omit<LlamaConfig, 'vocab'>

/**
 * A small Llama model whose weights are random: it runs like any other and writes nonsense. Its metadata say so. For
 * tests and benches; a trained model takes its place elsewhere.
 */
export function randomModel({
  seed = 1n,
  type = 'Q8_0',
  config: changes = {},
  vocab = 512,
  name = 'weightless-random',
  chatTemplate = CHAT_TEMPLATE,
}: RandomModelParameters = {}): GgufContent & { config: LlamaConfig; weights: Weights } {
  const vocabulary = trainVocabulary({ texts: [sampleText], size: vocab, chatTemplate })
  const config: LlamaConfig = { ...DEFAULT_CONFIG, ...changes, vocab: vocabulary.pieces.length }
  const weights = randomWeights({ config, seed })
  const content = llamaGguf({
    config,
    weights,
    vocabulary,
    type,
    name,
    metadata: {
      'general.description': {
        type: 'string',
        value: `random weights, seed ${seed}: for tests, its text means nothing`,
      },
      'weightless.random_seed': { type: 'u64', value: BigInt.asUintN(64, seed) },
    },
  })
  return { ...content, config, weights }
}

/**
 * Seeded parameters: norms 1, matrices normal with a deviation of 1/√inputs, so that the logits spread as a trained
 * model's do (about ±3) and greedy text does not fall into one repeated token at once.
 */
export function randomWeights({ config, seed }: { config: LlamaConfig; seed: bigint }): Weights {
  const weights: Weights = {}
  llamaShapes(config).forEach(([key, shape], parameter) => {
    const values = new Float32Array(shape.reduce((product, n) => product * n, 1))
    if (shape.length === 1) values.fill(1)
    else fillNormal({ values, deviation: 1 / Math.sqrt(config.dim), stream: parameter, seed })
    weights[key] = { shape, data: values }
  })
  return weights
}

function fillNormal({ values, deviation, stream, seed }: FillNormalParameters): void {
  const key = philoxKey(seed)
  for (let i = 0; i < values.length; i += 4) {
    const words = philox4x32([i >>> 2, 0, stream, 0], key)
    for (let j = 0; j < 4; j += 2) {
      // Box and Muller: two uniform numbers make two normal ones.
      const radius = deviation * Math.sqrt(-2 * Math.log(((words[j] ?? 0) + 1) / 2 ** 32))
      const angle = (2 * Math.PI * (words[j + 1] ?? 0)) / 2 ** 32
      values[i + j] = radius * Math.cos(angle)
      if (i + j + 1 < values.length) values[i + j + 1] = radius * Math.sin(angle)
    }
  }
}

interface FillNormalParameters {
  values: Float32Array
  deviation: number
  stream: number
  seed: bigint
}
