import { type LlamaConfig, linearShape } from '#protocol/gguf/llama.ts'
import { loraGguf } from '#protocol/gguf/lora.ts'
import { philox4x32 } from '#protocol/sampling/philox.ts'

/** A LoRA adapter of one projection whose values follow from a number; strong enough to change what a model says. */
export function randomAdapter(parameters: { config: LlamaConfig; seed: number; name?: string; baseRoot?: string }) {
  const { config, seed, name = 'random', baseRoot } = parameters
  const [out, inputs] = linearShape(config, 'v')
  const values = (length: number, part: number) =>
    Float32Array.from({ length }, (_, i) => ((philox4x32([i, seed, part, 0], [1, 2])[0] ?? 0) / 2 ** 32 - 0.5) / 2)
  const weights = {
    '0.v.a': { shape: [4, inputs], data: values(4 * inputs, 0) },
    '0.v.b': { shape: [out, 4], data: values(out * 4, 1) },
  }
  return loraGguf({ config, lora: { alpha: 8, weights }, name, baseRoot })
}
