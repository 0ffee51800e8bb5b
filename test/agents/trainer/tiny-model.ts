import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { initialWeights } from '#compute/trainer/initial-weights.ts'
import { type LlamaConfig, llamaGguf, type Weights } from '#protocol/gguf/llama.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import type { Vocabulary } from '#protocol/gguf/vocabulary.ts'
import { writeGguf } from '#protocol/gguf/write.ts'

/** A model of a few thousand weights with a real tokenizer, as a file in a folder of its own. */
export interface TinyModel extends AsyncDisposable {
  folder: string
  path: string
  config: LlamaConfig
  weights: Weights
  vocabulary: Vocabulary
}

const text = 'red green blue ball cup hat The ball is red. What colour is the cup? The cup is blue.'

export async function tinyModel({ context = 64 }: { context?: number } = {}): Promise<TinyModel> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-trainer-'))
  const vocabulary = trainVocabulary({ texts: [text], size: 300 })
  const config: LlamaConfig = {
    vocab: vocabulary.pieces.length,
    dim: 32,
    layers: 1,
    heads: 2,
    kvHeads: 1,
    headDim: 16,
    ffn: 32,
    context,
    ropeBase: 10_000,
    eps: 1e-5,
    tied: true,
  }
  const weights = initialWeights({ config, seed: 5 })
  // Large enough that the model prefers some tokens, as a trained one does.
  for (const { shape, data } of Object.values(weights))
    if (shape.length > 1) for (const i of data.keys()) data[i] = 8 * (data[i] ?? 0)
  const path = join(folder, 'tiny.gguf')
  await writeFile(path, writeGguf(llamaGguf({ config, weights, vocabulary, type: 'F32', name: 'tiny' })))
  return {
    folder,
    path,
    config,
    weights,
    vocabulary,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  }
}

/** A dataset of `count` short conversations. */
export async function tinyDataset({ folder, count }: { folder: string; count: number }): Promise<string> {
  const colours = ['red', 'green', 'blue']
  const things = ['ball', 'cup', 'hat']
  const lines = Array.from({ length: count }, (_, i) => {
    const [colour, thing] = [colours[i % 3], things[Math.floor(i / 3) % 3]]
    return JSON.stringify({
      messages: [
        { role: 'user', content: `The ${thing} is ${colour}. What colour is the ${thing}?` },
        { role: 'assistant', content: `${colour}` },
      ],
    })
  })
  const path = join(folder, 'dataset.jsonl')
  await writeFile(path, `${lines.join('\n')}\n`)
  return path
}
