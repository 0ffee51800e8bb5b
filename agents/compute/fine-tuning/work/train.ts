import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { TrainerError } from '#compute/trainer/error.ts'
import { TrainerProcess } from '#compute/trainer/process.ts'
import type { TrainerEvent } from '#compute/trainer/protocol.ts'
import { parseRecipe, type Recipe } from '#compute/trainer/recipe.ts'
import { parseTrainingParameters } from '#protocol/compute/fine-tuning/task.ts'
import type { FineTuningConfig } from '../config.ts'
import type { BaseModelEntry } from '../models.ts'
import { rootOf } from '../models.ts'
import type { TaskRow, TaskStore } from '../store/task-store.ts'
import { collectOutputs } from './collect-outputs.ts'

/** The files of a task in the provider's folder. */
export interface TaskFiles {
  folder: string
  fetched: string
  dataset: string
  output: string
  archive: string
  artefact: string
  lineage: string
}

export function taskFiles({ dataDir, id }: { dataDir: string; id: string }): TaskFiles {
  const folder = join(dataDir, 'tasks', id)
  return {
    folder,
    fetched: join(folder, 'fetched.jsonl'),
    dataset: join(folder, 'dataset.jsonl'),
    output: join(folder, 'output'),
    archive: join(folder, 'adapter.zip'),
    artefact: join(folder, 'artefact.bin'),
    lineage: join(folder, 'lineage.json'),
  }
}

/** Seed of a task's training: from its id, so that a repetition gives the same bytes. */
export function seedOf(id: string): number {
  return Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)
}

/**
 * The recipe of a task: the model's settings, and over them what the user chose.
 *
 * @throws TrainerError `TRAINER_RECIPE`; FineTuningFormatError `TASK_PARAMETERS`
 */
export function recipeOf({ params, model }: { params: string; model: Pick<BaseModelEntry, 'recipe'> }): Recipe {
  const chosen = parseTrainingParameters(params)
  return parseRecipe({
    ...{ checkpointEvery: 50, ...model.recipe },
    learningRate: chosen.learning_rate,
    epochs: chosen.num_train_epochs,
    batchRows: chosen.per_device_train_batch_size,
    ...(chosen.max_steps > 0 ? { steps: chosen.max_steps } : {}),
  })
}

/** Share of a new measurement in the kept speed. */
const SPEED_WEIGHT = 0.3

/** Trains a task in a child process, noting what it says. Goes on from the checkpoint of an earlier try. */
export async function trainTask(parameters: {
  task: TaskRow
  model: BaseModelEntry
  store: TaskStore
  files: TaskFiles
  config: FineTuningConfig['trainer']
  signal: AbortSignal
  now: () => number
}): Promise<void> {
  const { task, model, store, files, config, signal, now } = parameters
  await mkdir(files.output, { recursive: true, mode: 0o700 })
  const trainer = new TrainerProcess({
    ...{ command: config.command, silenceMs: config.silenceMs, stopMs: config.stopMs },
  })
  const startedAt = now()
  let heldOutExamples: number | undefined
  const roots: Promise<void>[] = []
  const note = (event: TrainerEvent): void => {
    if (event.type === 'started') {
      heldOutExamples = event.heldOutExamples
      store.update(task.id, { steps: event.steps, step: event.resumedAt })
      const from = event.resumedAt > 0 ? `, going on from step ${event.resumedAt}` : ''
      store.addLine(
        task.id,
        `training: ${event.examples} examples, ${event.heldOutExamples} held out, ${event.steps} steps${from}`,
      )
    } else if (event.type === 'progress') {
      const { step, steps, loss, heldOutLoss, tokensPerSecond } = event
      store.addPoint(task.id, { step, loss, heldOutLoss })
      store.update(task.id, { step, steps })
      const held = heldOutLoss === undefined ? '' : `, held-out loss ${heldOutLoss.toFixed(4)}`
      store.addLine(task.id, `step ${step}/${steps}: loss ${loss.toFixed(4)}${held}`)
      if (tokensPerSecond !== undefined && tokensPerSecond > 0) {
        const known = store.figure('tokensPerSecond') ?? tokensPerSecond
        store.setFigure('tokensPerSecond', known + SPEED_WEIGHT * (tokensPerSecond - known))
      }
    } else if (event.type === 'checkpoint') {
      // The next checkpoint takes this one's name by a rename: what is open stays whole.
      const path = join(files.output, 'checkpoint.safetensors')
      const root = rootOf(path).then(
        (found) => store.addCheckpoint(task.id, { step: event.step, root: found.root }),
        () => undefined,
      )
      // Whoever waits for them below sees a failure; until then nobody does.
      root.catch(() => undefined)
      roots.push(root)
    }
  }
  const job = {
    ...{ basePath: model.path, datasetPath: files.dataset, outputDir: files.output, name: `ft-${task.id}` },
    baseRoot: model.root,
    ...{ recipe: recipeOf({ params: task.params, model }), seed: seedOf(task.id) },
    ...{ device: config.device, threads: config.threads, export: { safetensors: true } },
  }
  // None writes to the store after this has ended, however it ended.
  const result = await trainer.run({ job, onEvent: note, signal }).finally(() => Promise.allSettled(roots))
  await Promise.all(roots)
  if (!Number.isFinite(result.loss)) {
    throw new TrainerError({ code: 'TRAINER_LOSS', message: `the loss at the end is ${result.loss}` })
  }
  await collectOutputs({ folder: files.output, basePath: model.path, result })
  const { steps, loss, heldOutLoss, learnedTokens } = result
  const heldOutLossBefore = store.curve(task.id).find((point) => point.heldOutLoss !== undefined)?.heldOutLoss
  store.update(task.id, {
    figures: {
      ...{ steps, loss, heldOutLoss, heldOutLossBefore, heldOutExamples, learnedTokens },
      finishedAtS: Math.floor(now() / 1000),
    },
  })
  store.addLine(task.id, `trained ${steps} steps in ${Math.round((now() - startedAt) / 1000)} s`)
}
