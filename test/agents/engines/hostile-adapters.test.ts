import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { createLlamaEngine, type LlamaEngine } from '#compute/engines/llama-engine.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { seededRandom, testSeed } from '../client/seeded.ts'
import { ask, type TestModel, writeRandomModel } from './fixture.ts'
import { randomAdapter } from './random-adapter.ts'

const seed = testSeed()
const greedy = { temperature: 0, max_tokens: 3 }
const refused = { code: 'ENGINE_ADAPTER' }

/** Adapters come from strangers: whatever a file holds, the process of the model goes on for everybody else. */
describe(`adapters that mean harm (seed ${seed})`, () => {
  let tied: TestModel
  let untied: TestModel
  let engine: LlamaEngine
  let second: LlamaEngine

  before(async () => {
    tied = await writeRandomModel()
    untied = await writeRandomModel({ config: { tied: false } })
    engine = await createLlamaEngine({ modelPath: tied.path, contextTokens: 256, maxLoadedAdapters: 1_000 })
    second = await createLlamaEngine({ modelPath: untied.path, contextTokens: 256 })
  })
  after(async () => {
    await engine?.close()
    await second?.close()
    await tied?.remove()
    await untied?.remove()
  })

  /** An adapter of the embeddings: values by token, so that some prompts never meet them. */
  async function embeddingAdapter(model: TestModel, value: (token: number) => number): Promise<string> {
    const { dim, vocab } = model.model.config
    const a = Float32Array.from({ length: 4 * vocab }, (_, i) => value(Math.floor(i / 4)))
    const path = join(model.folder, 'embedding.gguf')
    await writeGgufFile({
      path,
      content: {
        metadata: {
          'general.type': { type: 'string', value: 'adapter' },
          'general.architecture': { type: 'string', value: 'llama' },
          'adapter.type': { type: 'string', value: 'lora' },
          'adapter.lora.alpha': { type: 'f32', value: 8 },
        },
        tensors: [
          { name: 'token_embd.weight.lora_a', ne: [4, vocab], type: 'F32', data: a },
          { name: 'token_embd.weight.lora_b', ne: [4, dim], type: 'F32', data: new Float32Array(4 * dim).fill(1) },
        ],
      },
    })
    return path
  }

  it('are refused where their values give no numbers', async () => {
    const content = randomAdapter({ config: tied.model.config, seed: 1 })
    for (const wild of [Number.NaN, Number.POSITIVE_INFINITY, 3e38]) {
      const tensors = content.tensors.map((tensor) => ({
        ...tensor,
        data: new Float32Array(lengthOf(tensor.ne)).fill(wild),
      }))
      const path = join(tied.folder, 'wild.gguf')
      await writeGgufFile({ path, content: { ...content, tensors } })
      await assert.rejects(engine.loadAdapter({ name: 'wild', path }), refused)
    }
    assert.ok((await ask(engine, 'Hello', greedy)).text.length > 0)
  })

  // Embeddings that are the output too are multiplied in a shape that llama.cpp ends its process over.
  it('are refused where they adapt embeddings that are the output too', async () => {
    const { pid } = engine
    await assert.rejects(engine.loadAdapter({ name: 'x', path: await embeddingAdapter(tied, () => 0.01) }), refused)
    assert.equal(engine.pid, pid)
    const path = await embeddingAdapter(untied, () => 0.01)
    await second.loadAdapter({ name: 'fits', path })
    assert.ok((await ask(second, 'Hello', { ...greedy, model: 'fits' })).end.usage.completionTokens > 0)
    await second.unloadAdapter('fits')
  })

  // One that behaves until a certain word comes can end the process, with a grammar that allows nothing it then says. It
  // can do that twice: then the same content is never loaded again, under no name.
  it('are given up after the second time that the process ended over them', async () => {
    const path = await embeddingAdapter(untied, (token) => (token === 1 ? 0 : Number.NaN))
    await second.loadAdapter({ name: 'trap', path })
    const bound = { model: 'trap', temperature: 1, top_p: 0.5, response_format: { type: 'json_object' } }
    for (let i = 0; i < 2; i++) await assert.rejects(ask(second, 'Hello', bound), { code: 'ENGINE_CRASHED' })
    await assert.rejects(ask(second, 'Hello', bound), { code: 'ENGINE_MODEL' })
    await assert.rejects(second.loadAdapter({ name: 'trap', path }), refused)
    await assert.rejects(second.loadAdapter({ name: 'other', path }), refused)
    assert.ok((await ask(second, 'Hello', greedy)).text.length > 0, 'the model itself goes on')
  })

  // Whatever bytes of the head are changed: a file is refused with a reason or answers, and the process lives.
  it('do not end the process by a broken head', async () => {
    const good = writeGguf(randomAdapter({ config: tied.model.config, seed: 1 }))
    const random = seededRandom(seed)
    const { pid } = engine
    const path = join(tied.folder, 'broken.gguf')
    for (let i = 0; i < 60; i++) {
      const bytes = Buffer.from(good)
      for (let hits = 1 + random(3); hits > 0; hits--) bytes[random(400)] = random(4) === 0 ? 255 : random(256)
      await writeFile(path, bytes)
      try {
        await engine.loadAdapter({ name: 'broken', path })
        await ask(engine, 'Hello', { ...greedy, model: 'broken' })
      } catch (error) {
        assert.equal(Reflect.get(Object(error), 'code'), 'ENGINE_ADAPTER', `${i}: ${String(error)}`)
      }
      assert.equal(engine.pid, pid, `file ${i} ended the process`)
    }
  })
})

function lengthOf(ne: readonly number[]): number {
  return ne.reduce((product, n) => product * n, 1)
}
