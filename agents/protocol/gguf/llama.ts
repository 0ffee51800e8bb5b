import type { ByteSource } from '../storage/byte-source.ts'
import { GgufError } from './gguf-error.ts'
import { FILE_TYPES, type GgmlType, type GgufMetadata, type GgufTensor } from './layout.ts'
import { numberOf, textOf } from './metadata.ts'
import { type GgufHead, readGgufTensor } from './read.ts'
import { type Vocabulary, vocabularyMetadata } from './vocabulary.ts'
import type { GgufContent } from './write.ts'

/** The shape of a Llama-architecture model. */
export interface LlamaConfig {
  vocab: number
  dim: number
  layers: number
  heads: number
  /** Divides `heads`. */
  kvHeads: number
  /** Even. */
  headDim: number
  ffn: number
  context: number
  ropeBase: number
  /** Inside the square root of the norms. */
  eps: number
  /** Output projection = embeddings; `output` is then no parameter. */
  tied: boolean
}

/**
 * Parameters by name, row-major, `shape` = [out, in] (norms [n]): `embd`, `out_norm`, `output` unless tied, and for every
 * layer i `i.attn_norm`, `i.q`, `i.k`, `i.v`, `i.o`, `i.ffn_norm`, `i.gate`, `i.up`, `i.down`. Rows of q and k are
 * part-major, [2, heads, headDim / 2]: the halves that RoPE rotates are plain slices, so a forward pass needs no copies.
 */
export type Weights = Record<string, { shape: readonly number[]; data: Float32Array }>

/** The projections of a layer. */
export const LINEARS = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] as const
export type Linear = (typeof LINEARS)[number]

/** GGUF names of the projections, after `blk.i.` and before `.weight`. */
export const LINEAR_TENSORS: Readonly<Record<Linear, string>> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
}

/** [out, in] of a projection. */
export function linearShape(config: LlamaConfig, linear: Linear): [out: number, inputs: number] {
  const { dim, ffn, heads, kvHeads, headDim } = config
  const shapes: Record<Linear, [number, number]> = {
    q: [heads * headDim, dim],
    k: [kvHeads * headDim, dim],
    v: [kvHeads * headDim, dim],
    o: [dim, heads * headDim],
    gate: [ffn, dim],
    up: [ffn, dim],
    down: [dim, ffn],
  }
  return shapes[linear]
}

/** Every parameter's name with its shape, in the order of the file. */
export function llamaShapes(config: LlamaConfig): [name: string, shape: readonly number[]][] {
  const { vocab, dim, layers, tied } = config
  const shapes: [string, readonly number[]][] = [['embd', [vocab, dim]]]
  for (let i = 0; i < layers; i++) {
    shapes.push([`${i}.attn_norm`, [dim]])
    for (const linear of LINEARS.slice(0, 4)) shapes.push([`${i}.${linear}`, linearShape(config, linear)])
    shapes.push([`${i}.ffn_norm`, [dim]])
    for (const linear of LINEARS.slice(4)) shapes.push([`${i}.${linear}`, linearShape(config, linear)])
  }
  shapes.push(['out_norm', [dim]])
  if (!tied) shapes.push(['output', [vocab, dim]])
  return shapes
}

/** Number of parameters. */
export function parameterCount(config: LlamaConfig): number {
  return llamaShapes(config).reduce((sum, [, shape]) => sum + shape.reduce((product, n) => product * n, 1), 0)
}

/** What makes a model file. */
export interface LlamaGgufParameters {
  config: LlamaConfig
  weights: Weights
  vocabulary: Vocabulary
  /** Type of the matrices; norms stay F32 as llama.cpp requires. */
  type: GgmlType
  name: string
  /** Further pairs: licence, description. */
  metadata?: GgufMetadata
}

/**
 * A model as the content of a GGUF file that llama.cpp loads.
 *
 * @throws GgufError `GGUF_TENSOR` when a parameter is missing or has another shape than `config` says
 * @example
 * for (const piece of ggufChunks(llamaGguf({ config, weights, vocabulary, type: 'Q8_0', name: 'demo' }))) await file.write(piece)
 */
export function llamaGguf({ config, weights, vocabulary, type, name, metadata }: LlamaGgufParameters): GgufContent {
  if (vocabulary.pieces.length !== config.vocab) {
    throw new GgufError({
      code: 'VOCABULARY',
      message: `the vocabulary has ${vocabulary.pieces.length} tokens, the model ${config.vocab}`,
    })
  }
  const u32 = (value: number) => ({ type: 'u32', value }) as const
  const tensors = llamaShapes(config).map(([key, shape]): GgufTensor => {
    const parameter = parameterOf(weights, key, shape)
    return {
      name: tensorName(key),
      ne: shape.toReversed(),
      type: shape.length === 1 ? 'F32' : type,
      data: () => toInterleavedRows(config, key, parameter),
    }
  })
  return {
    metadata: {
      'general.architecture': { type: 'string', value: 'llama' },
      'general.type': { type: 'string', value: 'model' },
      'general.name': { type: 'string', value: name },
      'general.file_type': u32(FILE_TYPES[type]),
      ...metadata,
      'llama.block_count': u32(config.layers),
      'llama.context_length': u32(config.context),
      'llama.embedding_length': u32(config.dim),
      'llama.feed_forward_length': u32(config.ffn),
      'llama.attention.head_count': u32(config.heads),
      'llama.attention.head_count_kv': u32(config.kvHeads),
      'llama.attention.key_length': u32(config.headDim),
      'llama.attention.value_length': u32(config.headDim),
      'llama.attention.layer_norm_rms_epsilon': { type: 'f32', value: config.eps },
      'llama.rope.dimension_count': u32(config.headDim),
      'llama.rope.freq_base': { type: 'f32', value: config.ropeBase },
      'llama.vocab_size': u32(config.vocab),
      ...vocabularyMetadata(vocabulary),
    },
    tensors,
  }
}

/**
 * The shape of the model in a file.
 *
 * @throws GgufError `GGUF_METADATA` for other architectures
 */
export function readLlamaConfig(head: GgufHead): LlamaConfig {
  const architecture = textOf(head, 'general.architecture')
  if (architecture !== 'llama') {
    throw new GgufError({
      code: 'GGUF_METADATA',
      message: `the model's architecture is ${architecture}, not llama`,
      details: { architecture },
    })
  }
  const number = (key: string, otherwise?: number) => numberOf(head, `llama.${key}`, otherwise)
  const dim = number('embedding_length')
  const heads = number('attention.head_count')
  const embedding = head.tensors.get('token_embd.weight')
  return {
    vocab: number('vocab_size', embedding?.ne[1]),
    dim,
    layers: number('block_count'),
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    headDim: number('attention.key_length', dim / heads),
    ffn: number('feed_forward_length'),
    context: number('context_length'),
    ropeBase: number('rope.freq_base', 10_000),
    eps: number('attention.layer_norm_rms_epsilon'),
    tied: !head.tensors.has('output.weight'),
  }
}

/**
 * All parameters of a model file, as f32 in the layout of `Weights`.
 *
 * @throws GgufError `GGUF_TENSOR`, `GGUF_TYPE`
 */
export async function readLlamaWeights({ source, head }: { source: ByteSource; head: GgufHead }): Promise<Weights> {
  const config = readLlamaConfig(head)
  const weights: Weights = {}
  for (const [key, shape] of llamaShapes(config)) {
    const name = tensorName(key)
    const ne = head.tensors.get(name)?.ne
    if (ne === undefined || ne.join() !== shape.toReversed().join()) throw wrongShape(name, shape.toReversed(), ne)
    const data = await readGgufTensor({ source, head, name })
    weights[key] = { shape, data: toPartMajorRows(config, key, data) }
  }
  return weights
}

/** Name in the file of a parameter. */
export function tensorName(key: string): string {
  const names: Record<string, string> = { embd: 'token_embd', out_norm: 'output_norm', output: 'output' }
  const [layer = '', part = ''] = key.split('.')
  const name = names[key] ?? `blk.${layer}.${LINEAR_TENSORS[part as Linear] ?? part}`
  return `${name}.weight`
}

/**
 * The rows of q and k as llama.cpp wants them: neighbours (2i, 2i + 1) of a head are rotated together. Other parameters
 * come back as they are. `key` is the parameter's name, `0.q` for instance; also for the B half of an adapter.
 */
export function toInterleavedRows(config: LlamaConfig, key: string, data: Float32Array): Float32Array {
  return permuteRows(config, key, data, ({ inFile, trained }) => ({ to: inFile, from: trained }))
}

/** The inverse of `toInterleavedRows`. */
export function toPartMajorRows(config: LlamaConfig, key: string, data: Float32Array): Float32Array {
  return permuteRows(config, key, data, ({ inFile, trained }) => ({ to: trained, from: inFile }))
}

function permuteRows(
  { heads: queryHeads, kvHeads, headDim }: LlamaConfig,
  key: string,
  data: Float32Array,
  move: (rows: { inFile: number; trained: number }) => { to: number; from: number },
): Float32Array {
  const linear = key.split('.')[1]
  if (linear !== 'q' && linear !== 'k') return data
  const heads = linear === 'q' ? queryHeads : kvHeads
  const half = headDim / 2
  const columns = data.length / (heads * headDim)
  const out = new Float32Array(data.length)
  for (let part = 0; part < 2; part++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < half; i++) {
        const { to, from } = move({ inFile: h * headDim + 2 * i + part, trained: (part * heads + h) * half + i })
        out.set(data.subarray(from * columns, (from + 1) * columns), to * columns)
      }
  return out
}

/**
 * A parameter of a given shape.
 *
 * @throws GgufError `GGUF_TENSOR`
 */
export function parameterOf(weights: Weights, key: string, shape: readonly number[]): Float32Array {
  const found = weights[key]
  if (found === undefined || found.shape.join() !== shape.join()) throw wrongShape(key, shape, found?.shape)
  return found.data
}

function wrongShape(name: string, wanted: readonly number[], got: readonly number[] | undefined): GgufError {
  return new GgufError({
    code: 'GGUF_TENSOR',
    message: `${name} must have the shape [${wanted.join(', ')}] and ${got ? `has [${got.join(', ')}]` : 'is missing'}`,
    details: { tensor: name, wanted, got },
  })
}
