import { parseArgs } from 'node:util'
import { readBaseModel } from '#compute/trainer/base-model.ts'
import { initialAdapter, zerosLike } from '#compute/trainer/initial-weights.ts'
import { seededRandom } from '#compute/trainer/random.ts'
import type { HostBatch } from '#compute/trainer/session.ts'
import { installWorkerThreads } from '#compute/trainer/worker-threads.ts'
import { LINEARS, type LlamaConfig, linearShape } from '#protocol/gguf/llama.ts'

/**
 * A process of its own for `train.ts`, because jax-js takes its number of threads once: times LoRA steps on a model in
 * turns with the matrix products that such a step is made of, and prints one JSON line.
 */
const { values } = parseArgs({
  options: { model: { type: 'string' }, threads: { type: 'string' }, rounds: { type: 'string' } },
})
const rounds = Number(values.rounds)
installWorkerThreads(Number(values.threads))
const alive = setInterval(() => undefined, 60_000)
const { numpy, random, blockUntilReady, jit } = await import('@jax-js/jax')
const { openSession } = await import('#compute/trainer/session.ts')

/** Rows as short as the examples of the bundled dataset. */
const ROWS = 64
const ROW_TOKENS = 32
const RANK = 8
const TOKENS = ROWS * ROW_TOKENS
const PRODUCT_REPEATS = 8

const { config, weights } = await readBaseModel(values.model ?? '')
const adapter = initialAdapter({ config, rank: RANK, seed: 1 })
const session = await openSession({
  config,
  base: weights,
  state: { trained: adapter, m: zerosLike(adapter), v: zerosLike(adapter) },
  adapterScale: 2,
  optimiser: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 },
})
const batch = randomBatch(config)

/** The shapes of the products with the base weights: [tokens, in] times [in, out], and how many multiply-adds. */
interface Product {
  inputs: number
  out: number
  multiplyAdds: number
}

const products = productsOf(config)
const operands = await Promise.all(
  products.map(async ({ inputs, out }) => {
    const x = random.normal(random.key(1), [TOKENS, inputs])
    const w = random.normal(random.key(2), [out, inputs])
    await blockUntilReady([x, w])
    return { x, w, product: jit((a: typeof x, b: typeof x) => numpy.matmul(a, b.transpose())) }
  }),
)

const best = {
  wallMs: Number.POSITIVE_INFINITY,
  stepMs: Number.POSITIVE_INFINITY,
  productMs: products.map(() => Number.POSITIVE_INFINITY),
}
for (let round = 0; round < rounds; round++) {
  const startedMs = performance.now()
  const stepMs = await cpuMs(() => session.update({ batches: [batch], learningRate: 1e-3, step: round + 1 }))
  best.wallMs = Math.min(best.wallMs, performance.now() - startedMs)
  best.stepMs = Math.min(best.stepMs, stepMs)
  for (const [i, { x, w, product }] of operands.entries()) {
    const productMs = await cpuMs(async () => {
      // Several in a row: one alone is too short for the clock.
      for (let repeat = 0; repeat < PRODUCT_REPEATS; repeat++) {
        const y = product(x.ref, w.ref)
        await blockUntilReady(y)
        y.dispose()
      }
    })
    best.productMs[i] = Math.min(best.productMs[i] ?? 0, productMs / PRODUCT_REPEATS)
  }
}
const productFlops = products.reduce((sum, { multiplyAdds }) => sum + 2 * multiplyAdds, 0)
// Each shape counts as often as a step needs it, so the rate is that of a step made of products alone.
const productSeconds = best.productMs.reduce((sum, ms, i) => {
  const { inputs = 0, out = 0, multiplyAdds = 0 } = products[i] ?? {}
  return sum + ((ms / 1000) * multiplyAdds) / (TOKENS * inputs * out)
}, 0)
const stepFlops = productFlops + 2 * otherMultiplyAdds(config)
const stepRate = stepFlops / (best.stepMs / 1000)
const matmulRate = productFlops / productSeconds
process.stdout.write(
  `${JSON.stringify({ tokensPerSecond: (TOKENS * 1000) / best.wallMs, stepFlops, stepRate, matmulRate, rows: ROWS, rowTokens: ROW_TOKENS, rank: RANK })}\n`,
)
session.close()
clearInterval(alive)
process.exit(0)

/**
 * Processor time of this thread, which does all the work when there is one thread: a step takes so long that on a busy
 * machine it never runs undisturbed, a single product does, and by the wall clock the comparison would be unfair.
 */
async function cpuMs(work: () => Promise<unknown>): Promise<number> {
  const before = process.threadCpuUsage()
  await work()
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1000
}

/** Products with the base weights in one step: forward all, backward to the activations all but the lowest q, k, v. */
function productsOf(shape: LlamaConfig): Product[] {
  const counts = new Map<string, Product>()
  const add = (inputs: number, out: number, times: number): void => {
    const key = `${inputs} ${out}`
    const found = counts.get(key) ?? { inputs, out, multiplyAdds: 0 }
    found.multiplyAdds += times * TOKENS * inputs * out
    counts.set(key, found)
  }
  for (const linear of LINEARS) {
    const [out, inputs] = linearShape(shape, linear)
    const isLowestInput = linear === 'q' || linear === 'k' || linear === 'v'
    add(inputs, out, shape.layers)
    add(out, inputs, shape.layers - (isLowestInput ? 1 : 0))
  }
  add(shape.dim, shape.vocab, 1)
  add(shape.vocab, shape.dim, 1)
  return [...counts.values()]
}

/** The rest of the useful work: attention's two products and the adapter, forward and backward. */
function otherMultiplyAdds(shape: LlamaConfig): number {
  const attention = 3 * shape.layers * 2 * ROW_TOKENS * shape.heads * shape.headDim
  let low = 0
  for (const linear of LINEARS) {
    const [out, inputs] = linearShape(shape, linear)
    low += 3 * shape.layers * RANK * (out + inputs)
  }
  return TOKENS * (attention + low)
}

function randomBatch(shape: LlamaConfig): HostBatch {
  const { below } = seededRandom(3)
  const ids = Int32Array.from({ length: TOKENS }, () => below(shape.vocab))
  const targets = Int32Array.from(ids, () => below(shape.vocab))
  const ones = { weights: new Float32Array(TOKENS).fill(1), segments: new Int32Array(TOKENS).fill(1) }
  return { rows: ROWS, rowTokens: ROW_TOKENS, ids, targets, ...ones }
}
