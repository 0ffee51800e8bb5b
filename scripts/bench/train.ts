import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { z } from 'zod'
import { TrainerProcess } from '#compute/trainer/process.ts'
import { examine } from '#scripts/model/examine.ts'
import { asJsonLines, noteExamples } from '#scripts/model/example-notes.ts'
import { notesRecipe } from '#scripts/model/recipe.ts'
import type { BenchContext } from './context.ts'

const model = fileURLToPath(new URL('../../models/weightless-demo.gguf', import.meta.url))
const stepScript = fileURLToPath(new URL('./train-step.ts', import.meta.url))
const run = promisify(execFile)

const stepSchema = z.object({
  tokensPerSecond: z.number(),
  stepFlops: z.number(),
  stepRate: z.number(),
  matmulRate: z.number(),
  rows: z.number(),
  rowTokens: z.number(),
  rank: z.number(),
})

/**
 * `train.tokens` and `train.matmul-fraction`: LoRA steps on the demo model on the CPU, and how near their arithmetic comes
 * to that of the same library's matrix products of the same shapes, measured in turns in one process on one thread, in
 * processor time.
 *
 * `train.demo-minutes` and `train.accuracy-after`: the bundled fine-tune from dataset to adapter on two cores, and how many
 * held-out examples base and adapter answer word for word in node-llama-cpp at temperature 0.
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const threads = Math.min(2, availableParallelism())
  const fraction = await measureSteps({ threads: 1, rounds: quick ? 6 : 24, signal })
  const tokens = threads === 1 ? fraction : await measureSteps({ threads, rounds: quick ? 6 : 24, signal })
  const { rows, rowTokens, rank } = tokens
  report({
    name: 'train.tokens',
    value: tokens.tokensPerSecond,
    unit: 'tokens/s',
    detail: { threads, rows, rowTokens, rank, oneThread: Math.round(fraction.tokensPerSecond) },
  })
  const gflops = (rate: number): number => Math.round(rate / 1e8) / 10
  report({
    name: 'train.matmul-fraction',
    value: (100 * fraction.stepRate) / fraction.matmulRate,
    unit: '%',
    detail: { threads: 1, stepGflops: gflops(fraction.stepRate), matmulGflops: gflops(fraction.matmulRate) },
  })
  await fineTune({ threads, signal, report, note })
}

async function measureSteps({ threads, rounds, signal }: { threads: number; rounds: number; signal: AbortSignal }) {
  const options = ['--model', model, '--threads', String(threads), '--rounds', String(rounds)]
  const { stdout } = await run(process.execPath, [stepScript, ...options], { signal, timeout: 300_000 })
  return stepSchema.parse(JSON.parse(stdout))
}

async function fineTune({
  threads,
  signal,
  report,
  note,
}: Pick<BenchContext, 'signal' | 'report' | 'note'> & { threads: number }): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-bench-train-'))
  try {
    const { training, heldOut } = noteExamples(notesRecipe)
    const datasetPath = join(folder, 'notes.jsonl')
    await writeFile(datasetPath, asJsonLines(training))
    const job = { basePath: model, datasetPath, outputDir: join(folder, 'out'), recipe: notesRecipe.recipe, threads }
    const startedMs = performance.now()
    const result = await new TrainerProcess({}).run({
      job,
      signal,
      onEvent(event) {
        if (event.type === 'progress' && event.step % 10 === 0) {
          note(`step ${event.step} of ${event.steps}, loss ${event.loss.toFixed(3)}`)
        }
      },
    })
    const minutes = (performance.now() - startedMs) / 60_000
    report({
      name: 'train.demo-minutes',
      value: minutes,
      unit: 'min',
      detail: { threads, examples: result.examples, steps: result.steps, heldOutLoss: result.heldOutLoss },
    })
    const questions = heldOut.map((example) => ({ task: 'notes', ...example }))
    const before = await share({ modelPath: model, questions, signal })
    const after = await share({ modelPath: model, adapterPath: result.adapterPath, questions, signal })
    const detail = { heldOut: questions.length, trainedOn: training.length, baseAnswers: before }
    report({ name: 'train.accuracy-after', value: after, unit: '%', detail })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Share of right answers, in percent. */
async function share(parameters: Parameters<typeof examine>[0]): Promise<number> {
  const answers = await examine(parameters)
  return (100 * answers.filter(({ correct }) => correct).length) / answers.length
}
