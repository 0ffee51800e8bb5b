import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { getLlama, type Llama, type LlamaModel, type Token } from 'node-llama-cpp'
import { type LlamaConfig, linearShape, llamaGguf, readLlamaConfig, readLlamaWeights } from '#protocol/gguf/llama.ts'
import { checkLora, type Lora, loraGguf, mergeLora, readLora } from '#protocol/gguf/lora.ts'
import { readGgufHead } from '#protocol/gguf/read.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import { readVocabulary } from '#protocol/gguf/vocabulary.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { philox4x32 } from '#protocol/sampling/philox.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import { sampleText } from '#scripts/model/sample-text.ts'

const small = { dim: 64, layers: 2, heads: 4, kvHeads: 2, headDim: 32, ffn: 96, context: 256 }
let directory: string
let llama: Llama

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'weightless-gguf-'))
  llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1 })
})
after(async () => {
  await llama.dispose()
  await rm(directory, { recursive: true, force: true })
})

const readModel = async (bytes: Uint8Array) => {
  const source = memorySource(bytes)
  return { source, head: await readGgufHead(source) }
}

/** Seeded text of what breaks tokenizers: multi-byte characters, controls, runs of spaces, look-alikes of control tokens. */
function strangeTexts(count: number): string[] {
  const parts = [
    'the ',
    'river',
    ' 107',
    'ß',
    '漢字',
    '🦊',
    '👩‍👩‍👧',
    '\n',
    '\t',
    '\u0000',
    '   ',
    '</s>',
    '<0x41>',
    '▁',
    '{"a": 1}',
    'ﬁ',
    '\u0301',
  ]
  return Array.from({ length: count }, (_, i) => {
    const words = philox4x32([i, 1, 2, 3], [4, 5])
    return Array.from({ length: 1 + ((words[0] ?? 0) % 12) }, (_, j) => {
      const word = philox4x32([i, j, 7, 7], [4, 5])[0] ?? 0
      return word % 5 === 0
        ? sampleText.slice(word % sampleText.length).slice(0, word % 40)
        : parts[word % parts.length]
    }).join('')
  })
}

describe('a model file', () => {
  // Shape, parameters and vocabulary come back from the file, the row order of q and k included.
  it('comes back as it was written', async () => {
    const model = randomModel({ type: 'F32', config: { ...small, tied: false } })
    const { source, head } = await readModel(writeGguf(model))
    assert.deepEqual(readLlamaConfig(head), { ...model.config, eps: Math.fround(model.config.eps) })
    assert.deepEqual(await readLlamaWeights({ source, head }), model.weights)
    assert.equal(readVocabulary(head).pieces.length, model.config.vocab)
    assert.match(String(head.metadata.get('general.description')), /random/)
  })

  // Same seed, same bytes; another seed, other bytes.
  it('depends on the seed alone', () => {
    const bytes = (seed: bigint) => writeGguf(randomModel({ seed, config: small }))
    assert.deepEqual(bytes(3n), bytes(3n))
    assert.notDeepEqual(bytes(3n), bytes(4n))
  })

  it('is refused when a parameter is missing or the vocabulary has another size', () => {
    const { config, weights } = randomModel({ config: small })
    const vocabulary = trainVocabulary({ texts: [sampleText], size: config.vocab })
    const write = (changes: object) => () =>
      llamaGguf({ config, weights, vocabulary, type: 'F32', name: 'x', ...changes })
    assert.throws(write({ weights: { ...weights, '1.q': undefined } }), { code: 'GGUF_TENSOR' })
    assert.throws(write({ config: { ...config, layers: 3 } }), { code: 'GGUF_TENSOR' })
    assert.throws(write({ config: { ...config, vocab: 9 } }), { code: 'VOCABULARY' })
  })

  // llama.cpp loads every type and shape without a warning: grouped, single and full key-value heads, wide heads, untied.
  it('is loaded by llama.cpp', async () => {
    const shapes = [{}, { kvHeads: 1 }, { kvHeads: 4 }, { headDim: 64 }, { tied: false }]
    for (const [i, shape] of shapes.entries())
      for (const type of ['F32', 'F16', 'Q8_0'] as const) {
        const path = join(directory, `shape-${i}-${type}.gguf`)
        await writeGgufFile({ path, content: randomModel({ type, config: { ...small, ...shape } }) })
        const model = await llama.loadModel({ modelPath: path })
        assert.deepEqual(model.getWarnings(), [])
        assert.equal(model.trainContextSize, 256)
        await model.dispose()
      }
  })
})

describe('the tokenizer', () => {
  let model: LlamaModel
  let tokenizer: Tokenizer
  before(async () => {
    const content = randomModel({ config: small })
    const path = join(directory, 'tokenizer.gguf')
    await writeGgufFile({ path, content })
    model = await llama.loadModel({ modelPath: path })
    const { head } = await readModel(writeGguf(content))
    tokenizer = new Tokenizer(readVocabulary(head))
  })
  after(() => model.dispose())

  // Token for token what llama.cpp gives, and the text comes back; ▁ alone comes back as the space it stands for.
  it('agrees with llama.cpp on strange text', () => {
    for (const text of [...strangeTexts(400), ...sampleText.split('\n')]) {
      const ids = tokenizer.encode(text)
      assert.deepEqual(ids, [...model.tokenize(text, false)], JSON.stringify(text))
      assert.equal(tokenizer.decode(ids), text.replaceAll('▁', ' '))
    }
  })

  // Control tokens are read from text only on demand, and as llama.cpp reads them.
  it('reads control tokens only on demand', () => {
    for (const text of ['<s><|user|>Hi there</s><|assistant|>', 'a</s>b <unk> <pad><|system|>', '<s', '<|user|']) {
      assert.deepEqual(tokenizer.encode(text, { special: true }), [...model.tokenize(text, true)], text)
      assert.ok(tokenizer.encode(text).every((id) => id > 6))
    }
    assert.deepEqual(tokenizer.encode('', { bos: true }), [1])
    assert.equal(tokenizer.decode([1, 5], { special: true }), '<s><|user|>')
    assert.equal(tokenizer.decode([1, 5]), '')
  })

  // Long texts take time that grows with their length, not with its square.
  it('encodes long texts', () => {
    const text = sampleText.repeat(100)
    const ids = tokenizer.encode(text)
    assert.ok(ids.length < text.length / 1.5, `${ids.length} tokens for ${text.length} characters`)
    assert.equal(tokenizer.decode(ids), text)
  })

  it('does not train or load what cannot work', () => {
    assert.throws(() => trainVocabulary({ texts: ['a'], size: 100 }), { code: 'VOCABULARY' })
    const { vocabulary } = tokenizer
    assert.throws(() => new Tokenizer({ ...vocabulary, scores: [] }), { code: 'VOCABULARY' })
    assert.throws(() => new Tokenizer({ ...vocabulary, types: vocabulary.types.map(() => 1) }), { code: 'VOCABULARY' })
    assert.throws(() => tokenizer.decode([99_999]), { code: 'VOCABULARY' })
  })
})

/** An adapter with seeded values on some projections. */
function someLora(config: LlamaConfig, rank = 4): Lora {
  const weights: Lora['weights'] = {}
  const values = (length: number, stream: number) =>
    Float32Array.from({ length }, (_, i) => ((philox4x32([i, stream, 0, 0], [1, 2])[0] ?? 0) / 2 ** 32 - 0.5) / 2)
  for (const [i, linear] of (['q', 'k', 'v', 'o', 'gate', 'down'] as const).entries()) {
    const [out, inputs] = linearShape(config, linear)
    weights[`1.${linear}.a`] = { shape: [rank, inputs], data: values(rank * inputs, 2 * i) }
    weights[`1.${linear}.b`] = { shape: [out, rank], data: values(out * rank, 2 * i + 1) }
  }
  return { alpha: 6, weights }
}

describe('an adapter file', () => {
  const model = randomModel({ type: 'F32', config: small })
  const { config } = model
  const lora = someLora(config)
  const content = loraGguf({ config, lora, name: 'test' })

  it('comes back as it was written', async () => {
    const { source, head } = await readModel(writeGguf(content))
    assert.deepEqual(await readLora({ source, head, config }), lora)
  })

  // Base and adapter in llama.cpp give the logits of the merged model; without the adapter they differ.
  it('does in llama.cpp what the merged model does', async () => {
    const paths = {
      base: join(directory, 'base.gguf'),
      lora: join(directory, 'l.gguf'),
      merged: join(directory, 'm.gguf'),
    }
    await writeGgufFile({ path: paths.base, content: model })
    await writeGgufFile({ path: paths.lora, content })
    const merged = llamaGguf({
      config,
      weights: mergeLora({ config, weights: model.weights, lora }),
      vocabulary: trainVocabulary({ texts: [sampleText], size: config.vocab }),
      type: 'F32',
      name: 'merged',
    })
    await writeGgufFile({ path: paths.merged, content: merged })
    const logits = async (modelPath: string, adapter?: string) => {
      const loaded = await llama.loadModel({ modelPath })
      const context = await loaded.createContext({
        contextSize: 256,
        threads: 1,
        flashAttention: false,
        experimentalKvCacheKeyType: 'F32',
        experimentalKvCacheValueType: 'F32',
        ...(adapter === undefined ? {} : { lora: adapter }),
      })
      const prompt = loaded.tokenize('<s>the river begins', true)
      const last = prompt.at(-1) as Token
      const answers = await context
        .getSequence()
        .controlledEvaluate([...prompt.slice(0, -1), [last, { generateNext: { logits: true } }]])
      const found = answers.at(-1)?.next.logits ?? new Map()
      await loaded.dispose()
      return Array.from({ length: config.vocab }, (_, id) => found.get(id as Token) ?? Number.NaN)
    }
    const [plain, adapted, whole] = [
      await logits(paths.base),
      await logits(paths.base, paths.lora),
      await logits(paths.merged),
    ]
    const distance = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - (b[i] ?? Number.NaN))))
    assert.ok(distance(adapted, whole) < 1e-4, `adapter and merge differ by ${distance(adapted, whole)}`)
    assert.ok(distance(plain, adapted) > 0.1, `the adapter changes logits by ${distance(plain, adapted)} only`)
  })

  // What is not an adapter of this model is refused before llama.cpp sees it.
  it('is refused when it does not fit the model', async () => {
    const { head } = await readModel(writeGguf(content))
    assert.equal(checkLora({ head, config }).changed.length, 6)
    assert.throws(() => checkLora({ head, config: { ...config, layers: 1 } }), { code: 'GGUF_TENSOR' })
    assert.throws(() => checkLora({ head, config: { ...config, ffn: 64 } }), { code: 'GGUF_TENSOR' })
    const { head: half } = await readModel(writeGguf({ ...content, tensors: content.tensors.slice(1) }))
    assert.throws(() => checkLora({ head: half, config }), { code: 'GGUF_TENSOR' })
    const { head: none } = await readModel(writeGguf({ ...content, tensors: [] }))
    assert.throws(() => checkLora({ head: none, config }), { code: 'GGUF_TENSOR' })
    const { head: base } = await readModel(writeGguf(model))
    assert.throws(() => checkLora({ head: base, config }), { code: 'GGUF_METADATA' })
  })
})
