import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { initialAdapter, zerosLike } from '#compute/trainer/initial-weights.ts'
import { prepareJob } from '#compute/trainer/job.ts'
import { packRows } from '#compute/trainer/packing.ts'
import type { TrainerJob } from '#compute/trainer/protocol.ts'
import { openSession } from '#compute/trainer/session.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Weights } from '#protocol/gguf/llama.ts'
import { loraGguf } from '#protocol/gguf/lora.ts'
import { writeGguf } from '#protocol/gguf/write.ts'

/**
 * An external trainer as somebody else could have written it: its own optimiser (gradient descent with momentum), its own
 * checkpoint, its own names of files. It speaks the protocol of docs/training.md on its standard streams, and shares with
 * the project's trainer only what reads files and computes gradients.
 */
const say = (event: object): boolean => process.stdout.write(`${JSON.stringify(event)}\n`)
const MOMENTUM = 0.9
let stopped = false

interface Checkpoint {
  step: number
  adapter: Record<string, number[]>
  velocity: Record<string, number[]>
}

async function train(job: TrainerJob): Promise<void> {
  const { recipe, outputDir, seed } = job
  const { base, train: examples, heldOut, rowTokens } = await prepareJob(job)
  const { config, weights } = base
  const rows = packRows({ examples, rowTokens, seed })
  const perStep = recipe.batchRows * recipe.accumulation
  const steps = recipe.steps ?? Math.ceil((recipe.epochs * rows.count) / perStep)
  const adapter = initialAdapter({ config, rank: recipe.rank, targets: recipe.targets, seed })
  const velocity = zerosLike(adapter)
  await mkdir(outputDir, { recursive: true })
  const checkpointPath = join(outputDir, 'descent.json')
  let step = await resume({ path: checkpointPath, adapter, velocity })
  const counts = { examples: examples.length, heldOutExamples: heldOut.length, learnedTokens: rows.learnedTokens }
  say({ type: 'started', protocol: 1, steps, resumedAt: step, ...counts })
  process.stderr.write(`${rows.count} rows of ${rowTokens} tokens\n`)
  const adapterScale = recipe.alpha / recipe.rank
  const optimiser = { beta1: 0, beta2: 0, epsilon: 1, weightDecay: 0, clipNorm: 1 }
  const save = async (): Promise<void> => {
    const saved: Checkpoint = { step, adapter: numbersOf(adapter), velocity: numbersOf(velocity) }
    await writeFile(`${checkpointPath}.new`, JSON.stringify(saved))
    await rename(`${checkpointPath}.new`, checkpointPath)
    say({ type: 'checkpoint', step })
  }
  let loss = 0
  while (step < steps) {
    if (stopped) {
      await save()
      say({ type: 'error', code: 'TRAINER_ABORTED', message: `stopped after step ${step}` })
      return
    }
    const state = { trained: adapter, m: zerosLike(adapter), v: zerosLike(adapter) }
    const session = await openSession({ config, base: weights, state, adapterScale, optimiser })
    const indices = Array.from({ length: perStep }, (_, i) => (step * perStep + i) % rows.count)
    const found = await session.gradients(rows.batch(indices))
    session.close()
    loss = found.loss
    if (!Number.isFinite(loss)) throw new Error(`the loss is ${loss}`)
    for (const [name, { data }] of Object.entries(adapter)) {
      const speed = velocity[name]?.data ?? new Float32Array(0)
      const gradient = found.gradients[name]?.data ?? new Float32Array(0)
      for (const i of data.keys()) {
        speed[i] = MOMENTUM * (speed[i] ?? 0) + (gradient[i] ?? 0)
        data[i] = (data[i] ?? 0) - recipe.learningRate * (speed[i] ?? 0)
      }
    }
    step += 1
    say({ type: 'progress', step, steps, loss, learningRate: recipe.learningRate })
    // Something that this version of the protocol does not know: whoever reads passes it over.
    say({ type: 'speed', squared: Object.values(velocity).reduce((sum, { data }) => sum + (data[0] ?? 0) ** 2, 0) })
    if (step % recipe.checkpointEvery === 0) await save()
  }
  await mkdir(join(outputDir, 'mine'), { recursive: true })
  const adapterPath = join(outputDir, 'mine', 'descent.gguf')
  const lora = { alpha: recipe.alpha, weights: adapter }
  await writeFile(adapterPath, writeGguf(loraGguf({ config, lora, name: job.name })))
  const result = { adapterPath, steps, loss, examples: examples.length, learnedTokens: rows.learnedTokens }
  say({ type: 'result', result })
}

/** Takes over a checkpoint; the step it was written after. */
async function resume(o: { path: string; adapter: Weights; velocity: Weights }): Promise<number> {
  const text = await readFile(o.path, 'utf8').catch(() => undefined)
  if (text === undefined) return 0
  const saved = JSON.parse(text) as Checkpoint
  for (const part of ['adapter', 'velocity'] as const) {
    for (const [name, values] of Object.entries(saved[part])) o[part][name]?.data.set(values)
  }
  return saved.step
}

function numbersOf(weights: Weights): Record<string, number[]> {
  return Object.fromEntries(Object.entries(weights).map(([name, { data }]) => [name, [...data]]))
}

function fail(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof WeightlessError) say({ type: 'error', code: error.code, message, fix: error.fix })
  else say({ type: 'error', code: 'DESCENT_FAILED', message })
  process.exitCode = 1
}

const lines = createInterface({ input: process.stdin })
lines.on('close', () => {
  stopped = true
})
let begun = false
lines.on('line', (line) => {
  const request = JSON.parse(line) as { type: string; job: TrainerJob }
  if (request.type === 'stop') stopped = true
  if (request.type !== 'job' || begun) return
  begun = true
  const alive = setInterval(() => undefined, 1_000)
  train(request.job)
    .catch(fail)
    .finally(() => {
      clearInterval(alive)
      lines.close()
    })
})
