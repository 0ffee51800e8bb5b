import { WeightlessError } from '#protocol/error.ts'

/** Stable codes of what an alt-DA server refuses or fails at. */
export type AltDaErrorCode =
  | 'COMMITMENT_HEX'
  | 'COMMITMENT_TYPE'
  | 'COMMITMENT_FORM'
  | 'COMMITMENT_MISMATCH'
  | 'INPUT_EMPTY'
  | 'INPUT_UNKNOWN'
  | 'PUT_TIMEOUT'

/** What an alt-DA server refuses or fails at. */
export class AltDaError extends WeightlessError {
  override readonly code: AltDaErrorCode

  constructor(parameters: {
    code: AltDaErrorCode
    message: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super(parameters)
    this.code = parameters.code
  }
}
