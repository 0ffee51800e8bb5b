import { LINEARS, type Linear, type LlamaConfig, linearShape, llamaShapes, type Weights } from '#protocol/gguf/llama.ts'
import { seededRandom } from './random.ts'

/**
 * Weights to train a model from: N(0, 0.02), the two projections that write to the residual stream divided by
 * sqrt(2 layers), norms 1. The same seed gives the same bits on every machine with the same Math.
 */
export function initialWeights({ config, seed }: { config: LlamaConfig; seed: number }): Weights {
  const { normal } = seededRandom(seed)
  const weights: Weights = {}
  for (const [name, dims] of llamaShapes(config)) {
    const size = dims.reduce((a, b) => a * b, 1)
    if (dims.length === 1) {
      weights[name] = { shape: dims, data: new Float32Array(size).fill(1) }
      continue
    }
    const toResidual = name.endsWith('.o') || name.endsWith('.down')
    const deviation = 0.02 / (toResidual ? Math.sqrt(2 * config.layers) : 1)
    weights[name] = { shape: dims, data: Float32Array.from({ length: size }, () => normal() * deviation) }
  }
  return weights
}

/** A ~ N(0, 1 / in), B = 0: the adapter starts as the identity. */
export function initialAdapter({
  config,
  rank,
  targets = LINEARS,
  seed,
}: {
  config: LlamaConfig
  rank: number
  targets?: readonly Linear[]
  seed: number
}): Weights {
  const { normal } = seededRandom(seed)
  const weights: Weights = {}
  for (let layer = 0; layer < config.layers; layer++) {
    for (const target of targets) {
      const [out, inputs] = linearShape(config, target)
      const deviation = 1 / Math.sqrt(inputs)
      const a = Float32Array.from({ length: rank * inputs }, () => normal() * deviation)
      weights[`${layer}.${target}.a`] = { shape: [rank, inputs], data: a }
      weights[`${layer}.${target}.b`] = { shape: [out, rank], data: new Float32Array(out * rank) }
    }
  }
  return weights
}

/** Zeros of the same shapes: AdamW's moments before the first step. */
export function zerosLike(weights: Weights): Weights {
  const zeros: Weights = {}
  for (const [name, { shape, data }] of Object.entries(weights)) {
    zeros[name] = { shape, data: new Float32Array(data.length) }
  }
  return zeros
}
