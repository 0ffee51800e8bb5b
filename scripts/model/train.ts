import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { exampleEncoder } from '#compute/trainer/chat-format.ts'
import { writeOutput } from '#compute/trainer/checkpoint.ts'
import { initialWeights } from '#compute/trainer/initial-weights.ts'
import { parseRecipe } from '#compute/trainer/recipe.ts'
import { installWorkerThreads } from '#compute/trainer/worker-threads.ts'
import { llamaGguf, parameterCount } from '#protocol/gguf/llama.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { generateDocuments, generateHeldOut } from './corpus/generate.ts'
import { exampleOf, textsOf } from './corpus/messages.ts'
import { demoRecipe } from './recipe.ts'

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: '.weightless/model' },
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

const recipe = parseRecipe({
  ...demoRecipe.training,
  ...(values.steps === undefined ? {} : { steps: Number(values.steps) }),
})
const documents = generateDocuments({ count: demoRecipe.documents, seed: demoRecipe.corpusSeed })
const vocabulary = trainVocabulary({
  texts: documents.slice(0, demoRecipe.vocabularyDocuments).flatMap(textsOf),
  size: demoRecipe.vocabularySize,
})
const config = { ...demoRecipe.config, vocab: vocabulary.pieces.length }
const encoder = exampleEncoder(new Tokenizer(vocabulary))
const { rowTokens } = demoRecipe.training
const { promptWeight } = recipe
const train = documents.flatMap((document) => encoder.encode(exampleOf(document), { promptWeight, rowTokens }))
const questions = generateHeldOut({ perTask: demoRecipe.examinationPerTask, seed: demoRecipe.examinationSeed })
const heldOut = questions.flatMap(({ question, answer }) =>
  encoder.encode(exampleOf({ kind: 'chat', exchanges: [{ question, answer }] }), { promptWeight: 0, rowTokens }),
)
const tokens = train.reduce((sum, { tokens }) => sum + tokens.length, 0)
const characters = documents.flatMap(textsOf).reduce((sum, text) => sum + text.length, 0)
say(`${parameterCount(config)} parameters, vocabulary of ${config.vocab}`)
say(`${documents.length} documents, ${tokens} tokens, ${(characters / tokens).toFixed(2)} characters each`)

await mkdir(values.out, { recursive: true })
const job = createHash('sha256')
  .update(JSON.stringify({ ...demoRecipe, training: recipe, vocabulary }))
  .digest('hex')
const started = performance.now()
const result = await runTraining({
  config,
  base: initialWeights({ config, seed: demoRecipe.trainingSeed }),
  train,
  heldOut,
  recipe,
  seed: demoRecipe.trainingSeed,
  checkpointPath: join(values.out, 'checkpoint.safetensors'),
  job,
  signal: abort.signal,
  onStart: ({ steps, resumedAt, rows }) => say(`${rows} rows, ${steps} steps, from step ${resumedAt}`),
  onProgress({ step, steps, loss, heldOutLoss, tokensPerSecond }) {
    if (step % 10 !== 0 && step !== 1) return
    const heldOutText = heldOutLoss === undefined ? '' : `, held-out ${heldOutLoss.toFixed(4)}`
    say(`step ${step}/${steps}: loss ${loss.toFixed(4)}${heldOutText}, ${Math.round(tokensPerSecond)} tokens/s`)
  },
})
const { fileType, name } = demoRecipe
const file = writeGguf(llamaGguf({ config, weights: result.trained, vocabulary, type: fileType, name }))
await writeOutput({ path: join(values.out, 'weightless-demo.gguf'), data: file })
await writeOutput({ path: join(values.out, 'loss-curve.json'), data: `${JSON.stringify(result.curve)}\n` })
say(`held-out loss ${result.heldOutLoss?.toFixed(4)}, ${Math.round((performance.now() - started) / 1000)} s`)
process.exit(0) // the threads of the device would keep the process
