import { GgufError } from './gguf-error.ts'
import { MAX_RANK } from './lora.ts'
import { textOf } from './metadata.ts'
import type { GgufHead } from './read.ts'

/**
 * Whether a LoRA file fits a model file of any architecture: every tensor is one half of a pair, names a matrix of the model
 * and has its shape. llama.cpp refuses such files too, but only after parsing a stranger's file in native code.
 *
 * @throws GgufError `GGUF_METADATA`, `GGUF_TENSOR`
 */
export function checkAdapter({ adapter, base }: { adapter: GgufHead; base: GgufHead }): void {
  const expected = {
    'general.type': 'adapter',
    'adapter.type': 'lora',
    'general.architecture': textOf(base, 'general.architecture'),
  }
  for (const [key, wanted] of Object.entries(expected)) {
    const value = textOf(adapter, key)
    if (value === wanted) continue
    throw new GgufError({
      code: 'GGUF_METADATA',
      message: `${key} is ${value}, not ${wanted}`,
      fix: 'give a LoRA adapter in GGUF made for this model',
      details: { key },
    })
  }
  const matrices = new Set<string>()
  for (const name of adapter.tensors.keys()) {
    const matrix = /^(.+)\.lora_[ab]$/.exec(name)?.[1]
    if (matrix === undefined) throw notFitting(name, 'is no half of an adapted matrix')
    matrices.add(matrix)
  }
  if (matrices.size === 0) throw notFitting('the adapter', 'changes nothing')
  for (const name of matrices) checkMatrix(name, { adapter, base })
}

function checkMatrix(name: string, { adapter, base }: { adapter: GgufHead; base: GgufHead }): void {
  const whole = base.tensors.get(name)?.ne
  const a = adapter.tensors.get(`${name}.lora_a`)?.ne
  const b = adapter.tensors.get(`${name}.lora_b`)?.ne
  if (whole === undefined) throw notFitting(name, 'is no matrix of the model')
  if (a === undefined || b === undefined) throw notFitting(name, 'has one half only')
  const rank = b[0] ?? 0
  // Embeddings are looked up, not multiplied: llama.cpp wants their halves the other way round.
  const [inputs, outputs] = name === 'token_embd.weight' ? [whole[1], whole[0]] : [whole[0], whole[1]]
  const isEmbedding = name === 'token_embd.weight'
  const fits = isEmbedding
    ? a.includes(inputs ?? 0) && b.includes(outputs ?? 0)
    : a[0] === inputs && a[1] === rank && b[1] === outputs && rank >= 1 && rank <= MAX_RANK
  const others = whole.slice(2).every((n, i) => a[i + 2] === n && b[i + 2] === n)
  if (!fits || !others)
    throw notFitting(
      name,
      `has the shape [${whole.join(', ')}], which [${a.join(', ')}] and [${b.join(', ')}] do not fit`,
    )
}

function notFitting(name: string, what: string): GgufError {
  return new GgufError({
    code: 'GGUF_TENSOR',
    message: `${name} ${what}`,
    fix: 'give an adapter that was trained on this model',
    details: { tensor: name },
  })
}
