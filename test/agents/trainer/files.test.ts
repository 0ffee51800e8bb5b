import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { readCheckpoint, writeCheckpoint } from '#compute/trainer/checkpoint.ts'
import { TrainerError } from '#compute/trainer/error.ts'
import { initialAdapter, zerosLike } from '#compute/trainer/initial-weights.ts'
import { peftAdapter } from '#compute/trainer/peft.ts'
import { learningRateAt, parseRecipe } from '#compute/trainer/recipe.ts'
import { readSafetensors, writeSafetensors } from '#compute/trainer/safetensors.ts'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'

const config: LlamaConfig = {
  vocab: 40,
  dim: 32,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  ffn: 32,
  context: 32,
  ropeBase: 10_000,
  eps: 1e-5,
  tied: true,
}

describe('safetensors', () => {
  // What is written is read, bit for bit, wherever the bytes lie in memory.
  it('round-trip', () => {
    const tensor = fc
      .array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 20 })
      .map((values) => ({ shape: [values.length], data: Float32Array.from(values) }))
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ minLength: 1 }).filter((s) => !s.startsWith('_')),
          tensor,
        ),
        (tensors) => {
          const file = writeSafetensors({ tensors, metadata: { note: 'ü' } })
          const shifted = Buffer.concat([Buffer.alloc(3), file]).subarray(3)
          const read = readSafetensors(shifted)
          assert.equal(read.metadata.note, 'ü')
          assert.deepEqual(Object.keys(read.tensors), Object.keys(tensors))
          for (const [name, { data }] of Object.entries(tensors)) assert.deepEqual(read.tensors[name]?.data, data)
        },
      ),
    )
  })

  // A file cut off or changed anywhere in its header is refused with the one error, never a crash.
  it('refuse damage', () => {
    const file = writeSafetensors({ tensors: { w: { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) } } })
    fc.assert(
      fc.property(fc.nat(file.length - 1), (length) => {
        assert.throws(() => readSafetensors(file.subarray(0, length)), TrainerError)
      }),
    )
    fc.assert(
      fc.property(fc.nat(file.length - 17), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const damaged = file.slice()
        damaged[at] = byte
        try {
          readSafetensors(damaged)
        } catch (error) {
          assert.ok(error instanceof TrainerError, String(error))
        }
      }),
    )
  })

  // Rows of B for PEFT follow Hugging Face's order: both halves of a head one after the other.
  it('carry an adapter for PEFT', () => {
    const rank = 2
    const weights = initialAdapter({ config, rank, seed: 1 })
    const b = weights['1.k.b'] as Weights[string]
    for (const i of b.data.keys()) b.data[i] = Math.floor(i / rank) // every row holds its own number
    const { tensors, configJson } = peftAdapter({ config, lora: { alpha: 4, weights }, targets: ['q', 'k'], rank })
    const read = readSafetensors(tensors).tensors['base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight']
    const rows = Array.from({ length: 16 }, (_, row) => read?.data[row * rank])
    assert.deepEqual(rows, [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15])
    assert.equal((JSON.parse(configJson) as { r: number }).r, 2)
  })
})

describe('a checkpoint', () => {
  // It comes back whole, and only to its own job.
  it('belongs to its job', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'weightless-checkpoint-'))
    try {
      const path = join(folder, 'checkpoint.safetensors')
      assert.equal(await readCheckpoint({ path, job: 'a' }), undefined)
      const trained = initialAdapter({ config, rank: 2, seed: 1 })
      const checkpoint = {
        job: 'a',
        step: 3,
        curve: [{ step: 3, loss: 0.1 + 0.2, heldOutLoss: 1 / 3 }],
        state: { trained, m: zerosLike(trained), v: zerosLike(trained) },
      }
      await writeCheckpoint({ path, checkpoint })
      assert.deepEqual(await readCheckpoint({ path, job: 'a' }), checkpoint)
      await assert.rejects(readCheckpoint({ path, job: 'b' }), TrainerError)
      await writeFile(path, (await readFile(path)).subarray(0, 5000))
      await assert.rejects(readCheckpoint({ path, job: 'a' }), TrainerError)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('a recipe', () => {
  // The rate rises to its peak at the end of the warm-up and falls to its final share at the last step, monotonically.
  it('warms up and cools down', () => {
    const recipe = parseRecipe({ learningRate: 0.01, warmupShare: 0.1, finalRateShare: 0.1 })
    const rates = Array.from({ length: 100 }, (_, i) => learningRateAt({ recipe, step: i + 1, steps: 100 }))
    assert.ok(Math.abs((rates[9] ?? 0) - 0.01) < 1e-12)
    assert.ok(Math.abs((rates[99] ?? 0) - 0.001) < 1e-12)
    for (let i = 1; i < 10; i++) assert.ok((rates[i] ?? 0) > (rates[i - 1] ?? 0))
    for (let i = 10; i < 100; i++) assert.ok((rates[i] ?? 0) < (rates[i - 1] ?? 0))
    assert.ok(learningRateAt({ recipe: parseRecipe({}), step: 1, steps: 1 }) > 0)
  })

  // With a cosine longer than the run, the rate follows it and then falls in a line to the same end; without a cool-down
  // the run simply stops on the way.
  it('can stop on the way of a longer cosine', () => {
    const whole = parseRecipe({ learningRate: 0.01 })
    const cut = parseRecipe({ learningRate: 0.01, cosineSteps: 200, coolDownShare: 0.2 })
    const rateOf = (recipe: typeof whole, step: number, steps: number) => learningRateAt({ recipe, step, steps })
    for (const step of [1, 10, 50, 80]) assert.equal(rateOf(cut, step, 100), rateOf(whole, step, 200))
    assert.ok(Math.abs(rateOf(cut, 100, 100) - 0.001) < 1e-12)
    assert.ok(rateOf(cut, 90, 100) < rateOf(whole, 90, 200))
    const open = parseRecipe({ learningRate: 0.01, cosineSteps: 200, coolDownShare: 0 })
    assert.equal(rateOf(open, 100, 100), rateOf(whole, 100, 200))
  })

  // Settings out of range or unknown are refused by name.
  it('has limits', () => {
    for (const [field, value] of Object.entries({
      rank: 0,
      learningRate: 2,
      batchRows: 1e9,
      heldOutShare: -1,
      targets: ['x'],
    })) {
      assert.throws(
        () => parseRecipe({ [field]: value }),
        (error) => error instanceof TrainerError && String(error.details.field).startsWith(field),
      )
    }
    assert.throws(() => parseRecipe({ learningrate: 1 }), TrainerError)
  })
})
