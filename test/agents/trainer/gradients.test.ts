import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { initialAdapter, initialWeights, zerosLike } from '#compute/trainer/initial-weights.ts'
import { seededRandom } from '#compute/trainer/random.ts'
import { type HostBatch, openSession } from '#compute/trainer/session.ts'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'
import { referenceLoss } from './reference.ts'

const optimiser = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 }
const MAX_RELATIVE_ERROR = 1e-3

const tiny: LlamaConfig = {
  vocab: 13,
  dim: 8,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 4,
  ffn: 12,
  context: 16,
  ropeBase: 10_000,
  eps: 1e-5,
  tied: true,
}

/** Two rows; the first packs two documents, the second has one and padding. */
function packedBatch(config: LlamaConfig, seed: number): HostBatch {
  const random = seededRandom(seed)
  const segments = Int32Array.of(1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 0, 0)
  return {
    rows: 2,
    rowTokens: 6,
    ids: Int32Array.from(segments, () => random.below(config.vocab)),
    targets: Int32Array.from(segments, () => random.below(config.vocab)),
    weights: Float32Array.from(segments, (s, i) => (s === 0 || i === 0 ? 0 : i % 3 === 0 ? 0.25 : 1)),
    segments,
  }
}

/** Weights large enough that no gradient is lost in rounding. */
function lively(weights: Weights, seed: number): Weights {
  const random = seededRandom(seed)
  for (const { data } of Object.values(weights)) for (const i of data.keys()) data[i] = 0.4 * random.normal() + 0.1
  return weights
}

function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0
  let size = 0
  for (let i = 0; i < a.length; i++) {
    difference += ((a[i] ?? 0) - (b[i] ?? 0)) ** 2
    size += (b[i] ?? 0) ** 2
  }
  return Math.sqrt(difference / size)
}

describe('gradients', () => {
  // Every gradient of full training equals the one of a plain implementation.
  for (const config of [tiny, { ...tiny, tied: false, kvHeads: 4 }]) {
    it(`of all weights agree with the reference (${config.tied ? 'tied, grouped' : 'untied, not grouped'})`, async () => {
      const base = lively(initialWeights({ config, seed: 1 }), 2)
      const batch = packedBatch(config, 3)
      const state = { trained: base, m: zerosLike(base), v: zerosLike(base) }
      const session = await openSession({ config, base, state, optimiser })
      const { loss, gradients } = await session.gradients(batch)
      const reference = referenceLoss({ config, base, batch })
      assert.ok(Math.abs(loss - reference.loss) / reference.loss < 1e-5, `loss ${loss} for ${reference.loss}`)
      for (const [name, { data }] of Object.entries(gradients)) {
        const error = relativeError(data, reference.gradients[name] ?? [])
        assert.ok(error <= MAX_RELATIVE_ERROR, `${name}: relative error ${error}`)
      }
      assert.ok(Math.abs((await session.evaluate([batch])) - loss) < 1e-5)
      session.close()
    })
  }

  // With an adapter only the adapter has gradients, and they equal the reference's.
  it('of an adapter agree with the reference', async () => {
    const base = lively(initialWeights({ config: tiny, seed: 4 }), 5)
    const adapter = lively(
      initialAdapter({ config: tiny, rank: 3, targets: ['q', 'v', 'o', 'gate', 'down'], seed: 6 }),
      7,
    )
    const batch = packedBatch(tiny, 8)
    const state = { trained: adapter, m: zerosLike(adapter), v: zerosLike(adapter) }
    const session = await openSession({ config: tiny, base, state, adapterScale: 2, optimiser })
    const { loss, gradients } = await session.gradients(batch)
    const reference = referenceLoss({ config: tiny, base, adapter, adapterScale: 2, batch })
    assert.ok(Math.abs(loss - reference.loss) / reference.loss < 1e-5, `loss ${loss} for ${reference.loss}`)
    assert.deepEqual(Object.keys(gradients).sort(), Object.keys(adapter).sort())
    for (const [name, { data }] of Object.entries(gradients)) {
      const error = relativeError(data, reference.gradients[name] ?? [])
      assert.ok(error <= MAX_RELATIVE_ERROR, `${name}: relative error ${error}`)
    }
    session.close()
  })

  // The reference itself agrees with the difference quotient of its loss, in every weight matrix.
  it('of the reference agree with finite differences', () => {
    const base = lively(initialWeights({ config: tiny, seed: 9 }), 10)
    const batch = packedBatch(tiny, 11)
    const { gradients } = referenceLoss({ config: tiny, base, batch })
    const random = seededRandom(12)
    const step = 2 ** -10 // exact in f32, so that the weight really moves by it
    for (const [name, { data }] of Object.entries(base)) {
      const at = random.below(data.length)
      const old = data[at] ?? 0
      const lossAt = (value: number): number => {
        data[at] = value
        return referenceLoss({ config: tiny, base, batch }).loss
      }
      const [up, down] = [Math.fround(old + step), Math.fround(old - step)]
      const quotient = (lossAt(up) - lossAt(down)) / (up - down)
      data[at] = old
      const gradient = gradients[name]?.[at] ?? Number.NaN
      const error = Math.abs(gradient - quotient) / Math.max(Math.abs(quotient), 1e-3)
      assert.ok(error <= MAX_RELATIVE_ERROR, `${name}[${at}]: ${gradient} for ${quotient}`)
    }
  })

  // One update with two accumulated batches is the update with both in one.
  it('accumulate over batches', async () => {
    const base = lively(initialWeights({ config: tiny, seed: 13 }), 14)
    const whole = packedBatch(tiny, 15)
    const rows = [0, 1].map((row): HostBatch => {
      const part = <T extends Int32Array | Float32Array>(x: T): T => x.slice(row * 6, row * 6 + 6) as T
      return {
        rows: 1,
        rowTokens: 6,
        ids: part(whole.ids),
        targets: part(whole.targets),
        weights: part(whole.weights),
        segments: part(whole.segments),
      }
    })
    const states = []
    for (const batches of [[whole], rows]) {
      const state = { trained: base, m: zerosLike(base), v: zerosLike(base) }
      const session = await openSession({ config: tiny, base, state, optimiser })
      const { loss } = await session.update({ batches, learningRate: 0.01, step: 1 })
      states.push({ loss, ...(await session.state()) })
      session.close()
    }
    const [one, two] = states
    assert.ok(one !== undefined && two !== undefined)
    assert.ok(Math.abs(one.loss - two.loss) < 1e-5)
    for (const [name, { data }] of Object.entries(one.m)) {
      const error = relativeError(data, two.m[name]?.data ?? [])
      assert.ok(error < 1e-4, `${name}: first moments differ by ${error}`)
    }
  })
})
