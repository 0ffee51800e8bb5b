import { WeightlessError } from '../error.ts'

/** `BLS_SECRET` (not a secret of the group), `BLS_POINT` (not a point of the group). */
export type BlsErrorCode = 'BLS_SECRET' | 'BLS_POINT'

/** A key or signature that is none. `details.field` names it. */
export class BlsError extends WeightlessError {
  override readonly code: BlsErrorCode

  constructor(parameters: {
    code: BlsErrorCode
    message: string
    fix?: string
    details?: Record<string, unknown>
    cause?: unknown
  }) {
    super(parameters)
    this.code = parameters.code
  }
}
