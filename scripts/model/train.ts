import { createHash } from 'node:crypto'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { writeOutput } from '#compute/trainer/checkpoint.ts'
import { installWorkerThreads } from '#compute/trainer/worker-threads.ts'
import { llamaGguf, parameterCount } from '#protocol/gguf/llama.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { modelCard } from './card.ts'
import { generateHeldOut } from './corpus/generate.ts'
import { examine, scoresOf } from './examine.ts'
import { pretrain } from './pretrain.ts'
import { demoRecipe } from './recipe.ts'

/**
 * Makes the demo model: text, vocabulary, training, examination, card. Interrupted, it goes on from its last checkpoint.
 *
 *   --out DIR      checkpoint and results, default .weightless/model
 *   --models DIR   where the finished model goes, default models
 *   --threads N    threads of the device, default 2; the result does not depend on it
 *   --steps N      a shorter run to try things; its model stays in --out
 */
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: '.weightless/model' },
    models: { type: 'string', default: 'models' },
    threads: { type: 'string', default: '2' },
    steps: { type: 'string' },
  },
})

installWorkerThreads(Number(values.threads))
const { runTraining } = await import('#compute/trainer/training-loop.ts')

const abort = new AbortController()
process.once('SIGINT', () => abort.abort())
process.once('SIGTERM', () => abort.abort())
const say = (text: string): void => void process.stderr.write(`${text}\n`)

await mkdir(values.out, { recursive: true })
const questions = generateHeldOut({ perTask: demoRecipe.examinationPerTask, seed: demoRecipe.examinationSeed })
const started = performance.now()
const result = await pretrain({
  train: runTraining,
  questions,
  folder: values.out,
  steps: values.steps === undefined ? undefined : Number(values.steps),
  signal: abort.signal,
  say,
})
const { fileType, name } = demoRecipe
const file = writeGguf(
  llamaGguf({ config: result.config, weights: result.weights, vocabulary: result.vocabulary, type: fileType, name }),
)
const modelPath = join(values.out, 'weightless-demo.gguf')
await writeOutput({ path: modelPath, data: file })
say(
  `held-out loss ${result.heldOutLoss?.toFixed(4)}, ${Math.round((performance.now() - started) / 1000)} s; now the examination`,
)

const answers = await examine({ modelPath, questions, signal: abort.signal })
const scores = scoresOf(answers)
for (const { task, correct, total } of scores) say(`${task}: ${correct} of ${total}`)
const card = modelCard({
  ...result,
  recipe: demoRecipe,
  parameters: parameterCount(result.config),
  fileBytes: file.length,
  sha256: createHash('sha256').update(file).digest('hex'),
  scores,
  answers,
})
await writeOutput({ path: join(values.out, 'weightless-demo.md'), data: card })
const curve = result.curve.map(({ step, loss, heldOutLoss }) => ({ step, loss, heldOutLoss }))
await writeOutput({
  path: join(values.out, 'weightless-demo.json'),
  data: `${JSON.stringify({ scores, answers, curve })}\n`,
})
if (values.steps === undefined) {
  for (const suffix of ['gguf', 'md', 'json']) {
    await copyFile(join(values.out, `weightless-demo.${suffix}`), join(values.models, `weightless-demo.${suffix}`))
  }
  say(`model, card and answers are in ${values.models}`)
}
process.exit(0) // the threads of the device would keep the process
