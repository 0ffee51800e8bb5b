import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { atomicWrite } from '#kit/files.ts'
import type { Weights } from '#protocol/gguf/llama.ts'
import { TrainerError } from './error.ts'
import { readSafetensors, writeSafetensors } from './safetensors.ts'
import type { TrainedState } from './session.ts'

/** A point of the loss curve. */
export interface CurvePoint {
  step: number
  loss: number
  heldOutLoss?: number | undefined
}

/** A job in the middle: everything that the next step depends on. */
export interface Checkpoint {
  /** SHA-256 of base, dataset, recipe and seed; a checkpoint of another job is refused. */
  job: string
  step: number
  curve: readonly CurvePoint[]
  state: TrainedState
}

const metadataSchema = z.object({
  format: z.literal('weightless-checkpoint-1'),
  job: z.string(),
  step: z.coerce.number().int().min(0),
  curve: z.string(),
})

const curveSchema = z.array(z.object({ step: z.number(), loss: z.number(), heldOutLoss: z.number().optional() }))

/**
 * Writes a checkpoint so that a kill at any moment leaves the old one or the new one, whole.
 *
 * @throws TrainerError `TRAINER_WRITE` when the disk is full or not writable.
 */
export async function writeCheckpoint({ path, checkpoint }: { path: string; checkpoint: Checkpoint }): Promise<void> {
  const tensors: Weights = {}
  for (const part of ['trained', 'm', 'v'] as const) {
    for (const [name, weight] of Object.entries(checkpoint.state[part])) tensors[`${part}/${name}`] = weight
  }
  const metadata = {
    format: 'weightless-checkpoint-1',
    job: checkpoint.job,
    step: String(checkpoint.step),
    curve: JSON.stringify(checkpoint.curve),
  }
  await writeOutput({ path, data: writeSafetensors({ tensors, metadata }) })
}

/**
 * The checkpoint at `path`, or undefined when there is none.
 *
 * @throws TrainerError `TRAINER_CHECKPOINT` when it is damaged or belongs to another job.
 */
export async function readCheckpoint({ path, job }: { path: string; job: string }): Promise<Checkpoint | undefined> {
  let file: Uint8Array
  try {
    file = await readFile(path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new TrainerError({ code: 'TRAINER_CHECKPOINT', message: `${path} cannot be read`, cause, details: { path } })
  }
  const { tensors, metadata } = readSafetensors(file)
  const parsed = metadataSchema.safeParse(metadata)
  if (!parsed.success) throw refused(path, 'it is no checkpoint of this trainer')
  if (parsed.data.job !== job) throw refused(path, 'it belongs to a job with another base, dataset, recipe or seed')
  const state: TrainedState = { trained: {}, m: {}, v: {} }
  for (const [name, weight] of Object.entries(tensors)) {
    const [part = '', ...rest] = name.split('/')
    if (part === 'trained' || part === 'm' || part === 'v') state[part][rest.join('/')] = weight
  }
  return { job, step: parsed.data.step, curve: curveSchema.parse(JSON.parse(parsed.data.curve)), state }
}

/** Writes a result; failures become `TRAINER_WRITE`. */
export async function writeOutput({ path, data }: { path: string; data: Uint8Array | string }): Promise<void> {
  try {
    await atomicWrite({ path, data })
  } catch (cause) {
    throw new TrainerError({
      code: 'TRAINER_WRITE',
      message: `${path} cannot be written`,
      fix: 'free some space on the disk; the job goes on from its last checkpoint',
      details: { path },
      cause,
    })
  }
}

function refused(path: string, why: string): TrainerError {
  return new TrainerError({
    code: 'TRAINER_CHECKPOINT',
    message: `${path} is refused: ${why}`,
    fix: 'give an empty output folder',
    details: { path },
  })
}
