import type { ByteSource } from '../storage/byte-source.ts'
import { GgufError } from './gguf-error.ts'
import type { GgufTensor } from './layout.ts'
import {
  LINEARS,
  type Linear,
  type LlamaConfig,
  linearShape,
  parameterOf,
  tensorName,
  toInterleavedRows,
  toPartMajorRows,
  type Weights,
} from './llama.ts'
import { numberOf, textOf } from './metadata.ts'
import { type GgufHead, readGgufTensor } from './read.ts'
import type { GgufContent } from './write.ts'

/**
 * Metadata key of the storage root of the weights that an adapter was trained on. Shapes tell models of one family not
 * apart; who serves the adapter compares this where it is given.
 */
export const ADAPTER_BASE_ROOT = 'weightless.base.root'

/** Largest rank that is read. */
export const MAX_RANK = 1024

/**
 * A low-rank change of a model: y = W x + (alpha / rank) · B (A x). `weights` hold for every changed projection
 * `i.linear.a` of shape [rank, in] and `i.linear.b` of shape [out, rank], rows of B in the layout of `Weights`.
 */
export interface Lora {
  alpha: number
  weights: Weights
}

/**
 * An adapter as the content of a GGUF file that llama.cpp loads onto the model of this shape.
 *
 * @throws GgufError `GGUF_TENSOR` when a half is missing or a shape does not fit the model
 */
export function loraGguf({ config, lora, name, baseRoot }: LoraGgufParameters): GgufContent {
  const tensors: GgufTensor[] = []
  for (const { key, linear, rank } of projections(config, lora.weights)) {
    const [out, inputs] = linearShape(config, linear)
    const a = parameterOf(lora.weights, `${key}.a`, [rank, inputs])
    const b = parameterOf(lora.weights, `${key}.b`, [out, rank])
    const tensor = tensorName(key)
    tensors.push({ name: `${tensor}.lora_a`, ne: [inputs, rank], type: 'F32', data: a })
    tensors.push({
      name: `${tensor}.lora_b`,
      ne: [rank, out],
      type: 'F32',
      data: () => toInterleavedRows(config, key, b),
    })
  }
  return {
    metadata: {
      'general.type': { type: 'string', value: 'adapter' },
      'general.architecture': { type: 'string', value: 'llama' },
      'general.name': { type: 'string', value: name },
      'adapter.type': { type: 'string', value: 'lora' },
      'adapter.lora.alpha': { type: 'f32', value: lora.alpha },
      ...(baseRoot === undefined ? {} : { [ADAPTER_BASE_ROOT]: { type: 'string' as const, value: baseRoot } }),
    },
    tensors,
  }
}

export interface LoraGgufParameters {
  config: LlamaConfig
  lora: Lora
  name: string
  /** Storage root of the base model's file. */
  baseRoot?: string | undefined
}

/**
 * Reads an adapter of a model of this shape.
 *
 * @throws GgufError see `checkLora`
 */
export async function readLora({ source, head, config }: ReadLoraParameters): Promise<Lora> {
  const { alpha, changed } = checkLora({ head, config })
  const weights: Weights = {}
  for (const { key, rank, linear } of changed) {
    const [out, inputs] = linearShape(config, linear)
    const tensor = tensorName(key)
    weights[`${key}.a`] = {
      shape: [rank, inputs],
      data: await readGgufTensor({ source, head, name: `${tensor}.lora_a` }),
    }
    const b = await readGgufTensor({ source, head, name: `${tensor}.lora_b` })
    weights[`${key}.b`] = { shape: [out, rank], data: toPartMajorRows(config, key, b) }
  }
  return { alpha, weights }
}

export interface ReadLoraParameters {
  source: ByteSource
  head: GgufHead
  config: LlamaConfig
}

/**
 * Whether an adapter file fits a model of this shape: kind, architecture, every tensor's name and shape.
 *
 * @throws GgufError `GGUF_METADATA`, `GGUF_TENSOR`
 */
export function checkLora({ head, config }: { head: GgufHead; config: LlamaConfig }): CheckedLora {
  const expected = { 'general.type': 'adapter', 'general.architecture': 'llama', 'adapter.type': 'lora' }
  for (const [key, wanted] of Object.entries(expected)) {
    const value = textOf(head, key)
    if (value === wanted) continue
    throw new GgufError({
      code: 'GGUF_METADATA',
      message: `${key} is ${value}, not ${wanted}`,
      fix: 'give a LoRA adapter in GGUF made for this model',
      details: { key },
    })
  }
  const shapes: Weights = {}
  const empty = new Float32Array(0)
  const keyOf = new Map<string, string>()
  for (let i = 0; i < config.layers; i++)
    for (const linear of LINEARS) keyOf.set(tensorName(`${i}.${linear}`), `${i}.${linear}`)
  for (const { name, ne } of head.tensors.values()) {
    const [, tensor = '', half = ''] = /^(.*)\.lora_([ab])$/.exec(name) ?? []
    const key = keyOf.get(tensor)
    if (key === undefined || ne.length !== 2) throw notFitting(`${name} changes nothing of this model`, name)
    shapes[`${key}.${half}`] = { shape: ne.toReversed(), data: empty }
  }
  const changed = [...projections(config, shapes)]
  if (changed.length === 0) throw notFitting('the adapter changes nothing', '')
  for (const { key, linear, rank } of changed) {
    const [out, inputs] = linearShape(config, linear)
    parameterOf(shapes, `${key}.a`, [rank, inputs])
    parameterOf(shapes, `${key}.b`, [out, rank])
  }
  return { alpha: numberOf(head, 'adapter.lora.alpha'), changed }
}

export interface CheckedLora {
  alpha: number
  changed: readonly { key: string; linear: Linear; rank: number }[]
}

/** The model with the change worked in: W + (alpha / rank) · B A. Parameters that do not change are shared. */
export function mergeLora({ config, weights, lora }: MergeLoraParameters): Weights {
  const merged: Weights = { ...weights }
  for (const { key, linear, rank } of projections(config, lora.weights)) {
    const shape = linearShape(config, linear)
    const [out, inputs] = shape
    const a = parameterOf(lora.weights, `${key}.a`, [rank, inputs])
    const b = parameterOf(lora.weights, `${key}.b`, [out, rank])
    const data = parameterOf(weights, key, shape).slice()
    const scale = lora.alpha / rank
    for (let row = 0; row < out; row++)
      for (let r = 0; r < rank; r++) {
        const factor = scale * (b[row * rank + r] ?? 0)
        if (factor === 0) continue
        for (let column = 0; column < inputs; column++) {
          const at = row * inputs + column
          data[at] = (data[at] ?? 0) + factor * (a[r * inputs + column] ?? 0)
        }
      }
    merged[key] = { shape, data }
  }
  return merged
}

export interface MergeLoraParameters {
  config: LlamaConfig
  weights: Weights
  lora: Lora
}

/** The changed projections in order; both halves must be there and name a projection of the model. */
function* projections(config: LlamaConfig, weights: Weights): Generator<{ key: string; linear: Linear; rank: number }> {
  let found = 0
  for (let i = 0; i < config.layers; i++)
    for (const linear of LINEARS) {
      const key = `${i}.${linear}`
      const a = weights[`${key}.a`]
      const b = weights[`${key}.b`]
      if (a === undefined && b === undefined) continue
      if (a === undefined || b === undefined) throw notFitting(`one half of ${key} is missing`, key)
      const rank = a.shape[0] ?? 0
      if (rank < 1 || rank > MAX_RANK) throw notFitting(`${key} has rank ${rank}`, key)
      found += 2
      yield { key, linear, rank }
    }
  const names = Object.keys(weights).length
  if (found !== names) throw notFitting(`${names - found} tensors name no projection of this model`, '')
}

function notFitting(message: string, tensor: string): GgufError {
  return new GgufError({
    code: 'GGUF_TENSOR',
    message,
    fix: 'give an adapter that was trained on this model',
    details: { tensor },
  })
}
