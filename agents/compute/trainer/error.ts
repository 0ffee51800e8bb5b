import { WeightlessError } from '#protocol/error.ts'

/** Every reason a training job can fail for; stable, and carried unchanged over the trainer protocol. */
export const trainerErrorCodes = [
  'TRAINER_RECIPE',
  'TRAINER_DATASET_LINE',
  'TRAINER_DATASET_EMPTY',
  'TRAINER_DATASET_SIZE',
  'TRAINER_BASE',
  'TRAINER_ARCHITECTURE',
  'TRAINER_TOKENIZER',
  'TRAINER_LOSS',
  'TRAINER_MEMORY',
  'TRAINER_CHECKPOINT',
  'TRAINER_WRITE',
  'TRAINER_DEVICE',
  'TRAINER_PROTOCOL',
  'TRAINER_CRASHED',
  'TRAINER_STALLED',
  'TRAINER_ABORTED',
] as const

export type TrainerErrorCode = (typeof trainerErrorCodes)[number]

/**
 * A training job that cannot start or go on.
 *
 * - `TRAINER_RECIPE` a setting out of range; `TRAINER_DATASET_LINE` a line that is no example (details.line);
 *   `TRAINER_DATASET_EMPTY`, `TRAINER_DATASET_SIZE` too little or too much data
 * - `TRAINER_BASE` the base file is unreadable, `TRAINER_ARCHITECTURE` not Llama, `TRAINER_TOKENIZER` not SentencePiece BPE
 * - `TRAINER_LOSS` the loss is no longer a number; `TRAINER_MEMORY` the device has no room left
 * - `TRAINER_CHECKPOINT` a checkpoint of another job or a damaged one; `TRAINER_WRITE` a full disk
 * - `TRAINER_DEVICE` no such device; `TRAINER_PROTOCOL`, `TRAINER_CRASHED`, `TRAINER_STALLED`, `TRAINER_ABORTED` the
 *   trainer's process spoke out of turn, ended without a result, fell silent, was stopped
 */
export class TrainerError extends WeightlessError {
  constructor(parameters: {
    code: TrainerErrorCode
    message: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super(parameters)
  }
}
