import { WeightlessError } from '#protocol/error.ts'

/** Stable codes of what a disperser refuses or fails at. */
export type DisperserErrorCode =
  | 'BLOB_SIZE'
  | 'REQUEST_UNKNOWN'
  | 'REQUEST_INVALID'
  | 'DISPERSER_CLOSED'
  | 'VOUCHER_MISSING'
  | 'VOUCHER_FOREIGN'
  | 'VOUCHER_INSUFFICIENT'
  | 'DEPOSIT_INSUFFICIENT'

/** What a disperser refuses or fails at; `details` name the field and the limit. */
export class DisperserError extends WeightlessError {
  override readonly code: DisperserErrorCode

  constructor(parameters: {
    code: DisperserErrorCode
    message: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super(parameters)
    this.code = parameters.code
  }
}
