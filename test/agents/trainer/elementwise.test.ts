import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { defaultDevice, init, jit, numpy as np, type Array as Tensor, valueAndGrad } from '@jax-js/jax'
import { exponential, silu, softmax } from '#compute/trainer/elementwise.ts'
import { seededRandom } from '#compute/trainer/random.ts'

before(async () => {
  await init('wasm')
  defaultDevice('wasm')
})

const random = seededRandom(21)
const values = Float32Array.from({ length: 2_000 }, (_, i) => (i === 0 ? 0 : 8 * random.normal()))

/** Values of a function and the gradient of their sum, element by element. */
async function both(f: (x: Tensor) => Tensor, x: Float32Array): Promise<{ y: Float32Array; slope: Float32Array }> {
  const y = (await jit(f)(np.array(new Float32Array(x))).data()) as Float32Array
  const [sum, slope] = jit((a: Tensor) => valueAndGrad((b: Tensor) => f(b).sum())(a))(np.array(new Float32Array(x)))
  sum.dispose()
  return { y, slope: (await slope.data()) as Float32Array }
}

describe('functions of single elements', () => {
  // They are sums of products; they differ from the true functions by less than training can notice.
  it('are as exact as f32 sums are', async () => {
    const low = values.map((x) => -Math.abs(x))
    const e = await both(exponential, low)
    for (const [i, x] of low.entries()) {
      const want = Math.exp(x)
      assert.ok(Math.abs((e.y[i] ?? 9) - want) < 1e-5, `e^${x}: ${e.y[i]}`)
      assert.equal(e.slope[i], e.y[i], 'it is its own gradient')
    }
    const s = await both(silu, values)
    for (const [i, x] of values.entries()) {
      const sigmoid = 1 / (1 + Math.exp(-x))
      assert.ok(Math.abs((s.y[i] ?? 9) - x * sigmoid) < 1e-5, `silu(${x}): ${s.y[i]}`)
      const slope = sigmoid + x * sigmoid * (1 - sigmoid)
      assert.ok(Math.abs((s.slope[i] ?? 9) - slope) < 1e-5, `silu'(${x}): ${s.slope[i]}`)
    }
  })

  // Far from zero nothing overflows, and what is masked weighs exactly nothing.
  it('end well at both ends', async () => {
    const { y } = await both(silu, Float32Array.of(-1e30, -200, -31, 31, 200, 1e30))
    assert.ok(y.every(Number.isFinite))
    for (const i of [0, 1, 2]) assert.ok(Math.abs(y[i] ?? 9) <= 1e30 * 1e-12)
    assert.deepEqual([y[3], y[4]], [31, 200])
    const scores = np.array(Float32Array.of(3, -1e30, 2, -1e30)).reshape([1, 4])
    const shares = (await softmax(scores).data()) as Float32Array
    assert.deepEqual([shares[1], shares[3]], [0, 0])
    assert.ok(Math.abs((shares[0] ?? 0) + (shares[2] ?? 0) - 1) < 1e-6)
    assert.ok(Math.abs((shares[0] ?? 0) / (shares[2] ?? 1) - Math.E) < 1e-4)
  })
})
