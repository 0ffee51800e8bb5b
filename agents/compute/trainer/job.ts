import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type LlamaConfig, llamaGguf, type Weights } from '#protocol/gguf/llama.ts'
import { loraGguf, mergeLora } from '#protocol/gguf/lora.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { type BaseModel, readBaseModel } from './base-model.ts'
import { type Example, exampleEncoder } from './chat-format.ts'
import { writeOutput } from './checkpoint.ts'
import { readDataset } from './dataset.ts'
import { TrainerError } from './error.ts'
import { rowTokensFor, type TokenExample } from './packing.ts'
import { peftAdapter } from './peft.ts'
import type { TrainerEvent, TrainerJob, TrainerResult } from './protocol.ts'
import { seededRandom } from './random.ts'
import type { Recipe } from './recipe.ts'
import { runTraining } from './training-loop.ts'

/** Dataset and base, read, checked and cut into tokens; nothing is computed yet. */
export interface PreparedJob {
  base: BaseModel
  train: readonly TokenExample[]
  heldOut: readonly TokenExample[]
  /** Fixed for the job: given, or the shortest that holds the longest example. */
  rowTokens: number
  /** SHA-256 of everything that decides the result. */
  digest: string
}

/**
 * Reads and checks all that a job needs.
 *
 * @throws TrainerError `TRAINER_BASE`, `TRAINER_ARCHITECTURE`, `TRAINER_TOKENIZER`, `TRAINER_MEMORY`,
 * `TRAINER_DATASET_LINE`, `TRAINER_DATASET_EMPTY`, `TRAINER_DATASET_SIZE`
 */
export async function prepareJob(
  job: Pick<TrainerJob, 'basePath' | 'datasetPath' | 'recipe' | 'seed'>,
): Promise<PreparedJob> {
  const dataset = await readDataset({ path: job.datasetPath })
  const base = await readBaseModel(job.basePath)
  const { recipe, seed } = job
  const { train, heldOut } = splitExamples({ examples: dataset.examples, recipe, seed })
  const encoder = exampleEncoder(base.tokenizer)
  const { context } = base.config
  const encode = (examples: readonly Example[], rowTokens: number): TokenExample[] =>
    examples.flatMap((example) => encoder.encode(example, { promptWeight: recipe.promptWeight, rowTokens }))
  // Text is cut to fit; the length of rows follows from the conversations, if there are any.
  const limit = Math.min(recipe.rowTokens ?? context, context)
  const tokens = { train: encode(train, limit), heldOut: encode(heldOut, limit) }
  const rowTokens = recipe.rowTokens ?? Math.min(context, rowTokensFor([...tokens.train, ...tokens.heldOut]))
  if (rowTokens > context) {
    throw new TrainerError({
      code: 'TRAINER_RECIPE',
      message: `rowTokens ${rowTokens} is more than the model's context of ${context}`,
      fix: 'leave rowTokens out',
      details: { field: 'rowTokens', limit: context },
    })
  }
  const digest = createHash('sha256')
    .update(JSON.stringify({ base: base.sha256, dataset: dataset.sha256, recipe, seed }))
    .digest('hex')
  return { base, ...tokens, rowTokens, digest }
}

/**
 * Does a job from reading to the files it leaves. Run it in a process of its own, see `TrainerProcess`: the device's
 * memory and threads last as long as the process.
 *
 * @throws TrainerError any but the `TRAINER_PROTOCOL`, `TRAINER_CRASHED` and `TRAINER_STALLED` of the parent's side
 */
export async function runJob({
  job,
  report,
  signal,
}: {
  job: TrainerJob
  report: (event: TrainerEvent) => void
  signal?: AbortSignal
}): Promise<TrainerResult> {
  const prepared = await prepareJob(job)
  const { base, train, heldOut, digest } = prepared
  await mkdir(job.outputDir, { recursive: true }).catch((cause: unknown) => {
    throw new TrainerError({ code: 'TRAINER_WRITE', message: `${job.outputDir} cannot be made`, cause })
  })
  let learnedTokens = 0
  const outcome = await runTraining({
    config: base.config,
    base: base.weights,
    train,
    heldOut,
    recipe: { ...job.recipe, rowTokens: prepared.rowTokens },
    seed: job.seed,
    device: job.device,
    checkpointPath: join(job.outputDir, 'checkpoint.safetensors'),
    job: digest,
    signal,
    onStart(start) {
      learnedTokens = start.learnedTokens
      const { steps, resumedAt } = start
      const counts = { examples: train.length, heldOutExamples: heldOut.length, learnedTokens }
      report({ type: 'started', protocol: 1, steps, resumedAt, ...counts })
    },
    onProgress: ({ gradientNorm: _, ...progress }) => report({ type: 'progress', ...progress }),
    onCheckpoint: ({ step }) => report({ type: 'checkpoint', step }),
  })
  const paths = await writeResults({ job, base, trained: outcome.trained, curve: outcome.curve })
  const { steps, loss, heldOutLoss } = outcome
  return { ...paths, steps, loss, heldOutLoss, examples: train.length, learnedTokens }
}

/** Splits off the held-out share, at random by the seed; at least one example is trained on. */
export function splitExamples({
  examples,
  recipe,
  seed,
}: {
  examples: readonly Example[]
  recipe: Pick<Recipe, 'heldOutShare'>
  seed: number
}): {
  train: Example[]
  heldOut: Example[]
} {
  const order = seededRandom(seed).shuffle([...examples])
  const heldOut = Math.min(examples.length - 1, Math.round(recipe.heldOutShare * examples.length))
  return { train: order.slice(heldOut), heldOut: order.slice(0, heldOut) }
}

async function writeResults({
  job,
  base,
  trained,
  curve,
}: {
  job: TrainerJob
  base: BaseModel
  trained: Weights
  curve: readonly object[]
}) {
  const { outputDir, recipe, name, baseRoot } = job
  const paths: Pick<TrainerResult, 'adapterPath' | 'modelPath' | 'safetensorsPath' | 'curvePath'> = {}
  const write = async (file: string, data: Uint8Array | string): Promise<string> => {
    const path = join(outputDir, file)
    await writeOutput({ path, data })
    return path
  }
  paths.curvePath = await write('loss-curve.json', `${JSON.stringify(curve)}\n`)
  const config: LlamaConfig = base.config
  if (recipe.mode === 'full') {
    paths.modelPath = await write('model.gguf', modelFile({ base, weights: trained, type: job.export.merged, name }))
    return paths
  }
  const lora = { alpha: recipe.alpha, weights: trained }
  if (job.export.safetensors) {
    const { tensors, configJson } = peftAdapter({ config, lora, targets: recipe.targets, rank: recipe.rank })
    paths.safetensorsPath = await write('adapter_model.safetensors', tensors)
    await write('adapter_config.json', configJson)
  }
  if (job.export.merged !== undefined) {
    const weights = mergeLora({ config, weights: base.weights, lora })
    paths.modelPath = await write('merged.gguf', modelFile({ base, weights, type: job.export.merged, name }))
  }
  paths.adapterPath = await write('adapter.gguf', writeGguf(loraGguf({ config, lora, name, baseRoot })))
  return paths
}

function modelFile({
  base,
  weights,
  type = 'F32',
  name,
}: {
  base: BaseModel
  weights: Weights
  type?: 'F32' | 'F16' | 'Q8_0' | undefined
  name: string
}): Uint8Array {
  const { config, tokenizer } = base
  return writeGguf(llamaGguf({ config, weights, vocabulary: tokenizer.vocabulary, type, name }))
}
