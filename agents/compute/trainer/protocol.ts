import { z } from 'zod'
import { TrainerError, type TrainerErrorCode, trainerErrorCodes } from './error.ts'
import { recipeSchema } from './recipe.ts'

/** Version of the trainer protocol; both sides name it first. */
export const TRAINER_PROTOCOL = 1

/** Longest line that either side sends. */
export const MAX_PROTOCOL_LINE_BYTES = 4 * 1024 * 1024

/** What a trainer is asked to do. Paths are absolute and on the trainer's machine. */
export const jobSchema = z.object({
  /** The base model: GGUF. An external trainer may find its own weights by this path's folder. */
  basePath: z.string().min(1),
  /** Storage root of that file; the adapter's file says that it was trained on it. */
  baseRoot: z
    .string()
    .regex(/^0x[0-9a-f]{64}$/)
    .optional(),
  /** JSON lines; see `parseExample`. */
  datasetPath: z.string().min(1),
  /** Everything the job writes lies here, its checkpoint too. */
  outputDir: z.string().min(1),
  recipe: recipeSchema,
  /** Decides initial values, order and split. */
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  /** Name that the adapter's file carries. */
  name: z.string().min(1).max(200).default('adapter'),
  device: z.enum(['wasm', 'webgpu']).default('wasm'),
  /** Threads of the device. */
  threads: z.number().int().min(1).max(64).default(1),
  /** What to write beside the adapter: a merged model of this type, the adapter as safetensors. */
  export: z
    .object({ merged: z.enum(['F32', 'F16', 'Q8_0']).optional(), safetensors: z.boolean().default(false) })
    .prefault({}),
})

export type TrainerJob = z.output<typeof jobSchema>
export type TrainerJobInput = z.input<typeof jobSchema>

/** Lines to the trainer. `stop` asks it to write a checkpoint and end. */
export const requestSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('job'), protocol: z.literal(TRAINER_PROTOCOL), job: jobSchema }),
  z.object({ type: z.literal('stop') }),
])

const count = z.number().int().min(0)

/** What came out. `adapterPath` is absent after full training, `modelPath` unless a whole model was written. */
export const resultSchema = z.object({
  adapterPath: z.string().optional(),
  modelPath: z.string().optional(),
  safetensorsPath: z.string().optional(),
  curvePath: z.string().optional(),
  steps: count,
  /** Training loss of the last step and loss on the held-out examples, in nats per learned token. */
  loss: z.number(),
  heldOutLoss: z.number().optional(),
  examples: count,
  learnedTokens: count,
})

export type TrainerResult = z.output<typeof resultSchema>

/** Lines from the trainer. Unknown types are ignored, so that a trainer may say more. */
export const eventSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('started'),
    protocol: z.literal(TRAINER_PROTOCOL),
    steps: count,
    /** Steps already done, from the checkpoint. */
    resumedAt: count,
    /** Examples trained on, and those kept for the held-out loss. */
    examples: count,
    heldOutExamples: count,
    /** Tokens with weight in one pass. */
    learnedTokens: count,
  }),
  z.object({
    type: z.literal('progress'),
    step: count,
    steps: count,
    loss: z.number(),
    heldOutLoss: z.number().optional(),
    learningRate: z.number().optional(),
    tokensPerSecond: z.number().optional(),
  }),
  z.object({ type: z.literal('checkpoint'), step: count }),
  z.object({ type: z.literal('result'), result: resultSchema }),
  z.object({
    type: z.literal('error'),
    code: z.string(),
    message: z.string(),
    fix: z.string().optional(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
])

export type TrainerEvent = z.output<typeof eventSchema>

const eventTypes: ReadonlySet<string> = new Set(['started', 'progress', 'checkpoint', 'result', 'error'])

/**
 * One line of a trainer; undefined for an event that this version does not know.
 *
 * @throws TrainerError `TRAINER_PROTOCOL`
 */
export function parseEvent(line: string): TrainerEvent | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw protocolError(`it wrote a line that is not JSON: ${line.slice(0, 120)}`, cause)
  }
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined
  if (typeof type !== 'string') throw protocolError('it wrote a line without a type')
  if (!eventTypes.has(type)) return undefined
  const parsed = eventSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw protocolError(`${type}.${issue?.path.join('.')}: ${issue?.message}`)
}

/** An error event as the error it stands for; codes of other trainers become `TRAINER_CRASHED`. */
export function errorOfEvent({ code, message, fix, details }: Extract<TrainerEvent, { type: 'error' }>): TrainerError {
  const known = (trainerErrorCodes as readonly string[]).includes(code)
  return new TrainerError({
    code: known ? (code as TrainerErrorCode) : 'TRAINER_CRASHED',
    message,
    fix,
    details: known ? details : { ...details, code },
  })
}

function protocolError(why: string, cause?: unknown): TrainerError {
  return new TrainerError({
    code: 'TRAINER_PROTOCOL',
    message: `the trainer does not speak the protocol: ${why}`,
    fix: 'standard output carries protocol lines only; logs belong on standard error',
    cause,
  })
}
