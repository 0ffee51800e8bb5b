import { setImmediate as nextTurn } from 'node:timers/promises'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'
import { type CurvePoint, readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import { TrainerError } from './error.ts'
import { initialAdapter, zerosLike } from './initial-weights.ts'
import { type PackedRows, packRows, rowSequence, rowTokensFor, type TokenExample } from './packing.ts'
import { learningRateAt, type Recipe } from './recipe.ts'
import { openSession } from './session.ts'

/** Most batches that one measurement of the held-out loss takes. */
const HELD_OUT_BATCHES = 8

/** What a running job tells. */
export interface Progress {
  step: number
  steps: number
  loss: number
  /** The last held-out loss; undefined before the first measurement or without held-out examples. */
  heldOutLoss?: number | undefined
  learningRate: number
  gradientNorm: number
  /** Tokens of the batches (padding included) per second of this step. */
  tokensPerSecond: number
}

export interface TrainingParameters {
  config: LlamaConfig
  base: Weights
  train: readonly TokenExample[]
  heldOut: readonly TokenExample[]
  recipe: Recipe
  seed: number
  device?: 'wasm' | 'webgpu' | undefined
  /** Where the checkpoint lies. */
  checkpointPath: string
  /** Identifies the job; see `Checkpoint`. */
  job: string
  onStart?:
    | ((o: { steps: number; resumedAt: number; rows: number; rowTokens: number; learnedTokens: number }) => void)
    | undefined
  onProgress?: ((progress: Progress) => void) | undefined
  onCheckpoint?: ((o: { step: number }) => void) | undefined
  signal?: AbortSignal | undefined
}

export interface TrainingResult {
  /** The adapter, or the model after full training. */
  trained: Weights
  steps: number
  curve: readonly CurvePoint[]
  loss: number
  heldOutLoss?: number | undefined
  rowTokens: number
}

/**
 * Trains to the end, from the checkpoint if there is one. What comes out depends on the parameters alone, not on how often
 * the job was interrupted. An abort stops after the running step, with a checkpoint written.
 *
 * @throws TrainerError `TRAINER_LOSS`, `TRAINER_CHECKPOINT`, `TRAINER_WRITE`, `TRAINER_ABORTED`, `TRAINER_MEMORY`,
 * `TRAINER_DEVICE`, `TRAINER_DATASET_SIZE`, `TRAINER_DATASET_EMPTY`
 */
export async function runTraining(parameters: TrainingParameters): Promise<TrainingResult> {
  const { config, base, recipe, seed, checkpointPath, job } = parameters
  const rowTokens = recipe.rowTokens ?? rowTokensFor([...parameters.train, ...parameters.heldOut])
  if (rowTokens > config.context) {
    throw new TrainerError({
      code: 'TRAINER_DATASET_SIZE',
      message: `rows of ${rowTokens} tokens do not fit into the model's context of ${config.context}`,
      fix: 'shorten the examples, or set rowTokens',
      details: { rowTokens, limit: config.context },
    })
  }
  const rows = packRows({ examples: parameters.train, rowTokens, seed })
  const rowsPerStep = recipe.batchRows * recipe.accumulation
  const steps = recipe.steps ?? Math.max(1, Math.ceil((recipe.epochs * rows.count) / rowsPerStep))
  const heldOutBatches = measuringBatches({ parameters, rowTokens })

  const resumed = await readCheckpoint({ path: checkpointPath, job })
  const trained = resumed?.state.trained ?? startOf(parameters)
  const state = resumed?.state ?? { trained, m: zerosLike(trained), v: zerosLike(trained) }
  const curve: CurvePoint[] = [...(resumed?.curve ?? [])]
  const session = await openSession({
    config,
    base,
    state,
    adapterScale: recipe.mode === 'lora' ? recipe.alpha / recipe.rank : undefined,
    optimiser: recipe,
    device: parameters.device,
  })
  // The worker threads of the device do not keep the process alive by themselves.
  const alive = setInterval(() => undefined, 60_000)
  try {
    let step = resumed?.step ?? 0
    const { count, learnedTokens } = rows
    parameters.onStart?.({ steps, resumedAt: step, rows: count, rowTokens, learnedTokens })
    const rowAt = rowSequence({ count: rows.count, seed })
    const save = async (): Promise<void> => {
      const checkpoint = { job, step, curve, state: await session.state() }
      await writeCheckpoint({ path: checkpointPath, checkpoint })
      parameters.onCheckpoint?.({ step })
    }
    while (step < steps) {
      if (parameters.signal?.aborted) {
        await save()
        throw new TrainerError({ code: 'TRAINER_ABORTED', message: `stopped after step ${step}`, details: { step } })
      }
      const startedMs = performance.now()
      const batches = Array.from({ length: recipe.accumulation }, (_, part) => {
        const first = step * rowsPerStep + part * recipe.batchRows
        return rows.batch(Array.from({ length: recipe.batchRows }, (_, i) => rowAt(first + i)))
      })
      step += 1
      const learningRate = learningRateAt({ recipe, step, steps })
      const { loss, gradientNorm } = await session.update({ batches, learningRate, step })
      const tokensPerSecond = (rowsPerStep * rowTokens * 1000) / (performance.now() - startedMs)
      const point: CurvePoint = { step, loss }
      const isLast = step === steps
      if (heldOutBatches.length > 0 && (isLast || step % recipe.evaluateEvery === 0)) {
        point.heldOutLoss = await session.evaluate(heldOutBatches)
      }
      curve.push(point)
      const heldOutLoss = point.heldOutLoss ?? curve.findLast((p) => p.heldOutLoss !== undefined)?.heldOutLoss
      parameters.onProgress?.({ step, steps, loss, heldOutLoss, learningRate, gradientNorm, tokensPerSecond })
      if (isLast || step % recipe.checkpointEvery === 0) await save()
      await nextTurn() // lets signals and the reader of our progress in
    }
    const final = await session.state()
    const last = curve.at(-1)
    return {
      trained: final.trained,
      steps,
      curve,
      loss: last?.loss ?? Number.NaN,
      heldOutLoss: curve.findLast((p) => p.heldOutLoss !== undefined)?.heldOutLoss,
      rowTokens,
    }
  } catch (error) {
    throw asTrainerError(error)
  } finally {
    clearInterval(alive)
    session.close()
  }
}

/** What an untrained job starts from. */
function startOf({ config, base, recipe, seed }: TrainingParameters): Weights {
  if (recipe.mode === 'full') return base
  return initialAdapter({ config, rank: recipe.rank, targets: recipe.targets, seed })
}

/** The held-out examples as batches of the training shape, so that nothing is compiled twice. */
function measuringBatches({ parameters, rowTokens }: { parameters: TrainingParameters; rowTokens: number }) {
  const { heldOut, recipe, seed } = parameters
  if (heldOut.length === 0) return []
  const rows: PackedRows = packRows({ examples: heldOut, rowTokens, seed })
  const batches = Math.min(HELD_OUT_BATCHES, Math.ceil(rows.count / recipe.batchRows))
  // Indices past the end give empty rows, which weigh nothing.
  return Array.from({ length: batches }, (_, b) =>
    rows.batch(Array.from({ length: recipe.batchRows }, (_, i) => b * recipe.batchRows + i)),
  )
}

function asTrainerError(error: unknown): unknown {
  if (error instanceof TrainerError) return error
  if (error instanceof Error && /memory|allocat/i.test(error.message)) {
    return new TrainerError({
      code: 'TRAINER_MEMORY',
      message: `the device has no room for this batch: ${error.message}`,
      fix: 'lower batchRows or rowTokens and raise accumulation',
      cause: error,
    })
  }
  return error
}
