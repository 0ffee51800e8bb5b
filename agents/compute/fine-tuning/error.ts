import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

/** Every reason for which a fine-tuning provider refuses a request or gives up a task, beside those of the trainer. */
export type FineTuningErrorCode =
  | 'FINE_TUNING_SETUP'
  | 'TASK_CANCELLED'
  | 'TASK_UNKNOWN'
  | 'TASK_EXISTS'
  | 'TASK_RUNNING'
  | 'TASK_NOT_READY'
  | 'QUEUE_FULL'
  | 'MODEL_UNKNOWN'
  | 'MODEL_CHANGED'
  | 'DATASET_UNKNOWN'
  | 'DATASET_LIMIT'
  | 'DATASET_UNREACHABLE'
  | 'ACCOUNT_MISSING'
  | 'ACCOUNT_NOT_ACKNOWLEDGED'
  | 'SIGNER_NOT_APPROVED'
  | 'NONCE_USED'
  | 'FEE_NOT_COVERED'
  | 'FEE_ABOVE_TERMS'
  | 'TERMS_REFUSED'
  | 'TERMS_EXPIRED'
  | 'TERMS_REQUIRED'
  | 'DELIVERY_STORAGE'
  | 'ARTEFACT_GONE'
  | 'ARTEFACT_MISMATCH'
  | 'NOT_OWNER'
  | 'UPLOADS_BUSY'
  | 'REQUEST_FORMAT'
  | 'FINE_TUNING_UNREACHABLE'
  | 'SETTLED_UNPAID'
  | 'TASK_FAILED'
  | 'TASK_WAIT'

export interface FineTuningErrorParameters extends WeightlessErrorParameters {
  code: FineTuningErrorCode
  /** HTTP status where it answers a request. Default 400. */
  statusCode?: number | undefined
}

/** Something that a fine-tuning provider or its client cannot do; the code is stable. */
export class FineTuningError extends WeightlessError {
  readonly statusCode: number

  constructor({ statusCode = 400, ...parameters }: FineTuningErrorParameters) {
    super(parameters)
    this.statusCode = statusCode
  }
}

/** As many datasets are being received or read as may be. */
export function uploadsBusy(uploads: number): FineTuningError {
  return new FineTuningError({
    ...{ code: 'UPLOADS_BUSY', statusCode: 503, message: `${uploads} datasets are being read` },
    fix: 'try again shortly',
    details: { limit: uploads },
  })
}
