import { z } from 'zod'
import type { Hex } from '../../hex.ts'
import { FineTuningFormatError } from './error.ts'

/** What a task goes through, in order; `Failed` ends it from anywhere before `Delivered` (compute.md §4.3). */
export const TASK_PROGRESS = [
  ...(['Init', 'SettingUp', 'SetUp', 'Training', 'Trained', 'Delivering', 'Delivered'] as const),
  ...(['UserAcknowledged', 'Finished', 'Failed'] as const),
] as const

export type TaskProgress = (typeof TASK_PROGRESS)[number]

export const taskIdSchema = z
  .string()
  .regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'expected a UUID in lower case')
const hash = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes in 0x hex')
  .transform((text) => text.toLowerCase() as Hex)
const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'expected 20 bytes in 0x hex')
  .transform((text) => text.toLowerCase() as Hex)
const signature = z
  .string()
  .regex(/^0x[0-9a-fA-F]{130}$/, 'expected 65 bytes in 0x hex')
  .transform((text) => text.toLowerCase() as Hex)
const decimal = z.string().regex(/^\d{1,39}$/, 'expected a decimal number')

/** Terms that bound fee and time of a task; see `termsTypedData`. */
export const taskTermsSchema = z.object({
  /** The task's id, chosen by the user. */
  id: taskIdSchema,
  /** Wei. */
  maxFee: decimal,
  /** Seconds since 1970. */
  deliverBy: z.number().int().min(1),
  signature,
})

/** Body of `POST /v1/user/{a}/task`. `terms` is this project's addition; public clients leave it out. */
export const createTaskSchema = z.object({
  userAddress: address,
  /** As sent: the text is what is signed. */
  datasetHash: z.string().regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes in 0x hex'),
  trainingParams: z.string().max(4_096),
  preTrainedModelHash: hash,
  fee: z.union([z.string(), z.number()]).optional(),
  nonce: decimal,
  signature,
  wait: z.boolean().default(false),
  terms: taskTermsSchema.optional(),
})
export type CreateTask = z.output<typeof createTaskSchema>
export type CreateTaskInput = z.input<typeof createTaskSchema>

/** The settings of a task: exactly these keys. */
export const trainingParametersSchema = z.strictObject({
  neftune_noise_alpha: z.number().min(0).max(10),
  num_train_epochs: z.number().int().min(1).max(10),
  per_device_train_batch_size: z.number().int().min(1).max(4),
  learning_rate: z.number().min(1e-5).max(1e-3),
  max_steps: z
    .number()
    .int()
    .max(1_000_000)
    .refine((steps) => steps === -1 || steps > 0, 'expected -1 or more than 0'),
})
export type TrainingParameters = z.output<typeof trainingParametersSchema>

/** A task as `GET /v1/user/{a}/task/{id}` gives it. To others than its user what is private is left empty. */
export interface TaskView {
  id: string
  createdAt: string
  updatedAt: string
  userAddress: Hex
  datasetHash: string
  trainingParams: string
  preTrainedModelHash: string
  /** Wei; "0" until set up. */
  fee: string
  nonce: string
  progress: TaskProgress
  deliverIndex: string
  /** Seconds since 1970 of the delivery, 0 before. */
  deliverTime: string
  modelType: string
  /** Why it failed; `code` is stable. Only to its user. */
  failure?: { code: string; message: string; fix?: string | undefined }
  /** Tasks before this one, and seconds until this one is likely done. */
  queuePosition?: number
  estimatedSeconds?: number
  /** What the deliverable on the chain names: storage root, or keccak-256 where there is no storage. */
  artefactRoot?: Hex
  lineageRoot?: Hex
}

/** A body as a task to create. @throws FineTuningFormatError `TASK_FORMAT` */
export function parseCreateTask(body: unknown): CreateTask {
  const parsed = createTaskSchema.safeParse(body)
  if (parsed.success) return parsed.data
  throw refused('TASK_FORMAT', parsed.error, 'task')
}

/**
 * The settings of a task from their JSON text.
 *
 * @throws FineTuningFormatError `TASK_PARAMETERS`
 */
export function parseTrainingParameters(text: string): TrainingParameters {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new FineTuningFormatError({
      ...{
        code: 'TASK_PARAMETERS',
        message: 'trainingParams is not JSON',
        details: { field: 'trainingParams' },
        cause,
      },
      fix: 'give a JSON object as text',
    })
  }
  // Decimal notation only: implementations differ in how they write what they read back.
  if (/\d[eE][+-]?\d/.test(text)) {
    throw new FineTuningFormatError({
      code: 'TASK_PARAMETERS',
      message: 'trainingParams holds a number with an exponent',
      fix: 'write 0.0002 instead of 2e-4',
      details: { field: 'trainingParams' },
    })
  }
  const parsed = trainingParametersSchema.safeParse(value)
  if (parsed.success) return parsed.data
  throw refused('TASK_PARAMETERS', parsed.error, 'trainingParams')
}

function refused(code: 'TASK_FORMAT' | 'TASK_PARAMETERS', error: z.ZodError, whole: string): FineTuningFormatError {
  const issue = error.issues[0]
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const field = unknown ?? (issue?.path.join('.') || whole)
  return new FineTuningFormatError({
    code,
    message: `${field}: ${issue?.message ?? 'not as expected'}`,
    fix: 'see docs/training.md for the fields and their limits',
    details: { field },
    cause: error,
  })
}
