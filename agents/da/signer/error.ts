import { HttpError } from '#kit/http/http-error.ts'
import { WeightlessError } from '#protocol/error.ts'

/** Stable codes of {@link SignerError}. */
export type SignerErrorCode =
  /** The body ends early, says a wrong length, or is not what the route takes. */
  | 'BODY_INVALID'
  | 'BODY_TOO_LARGE'
  /** Fewer than 1 or more than the largest number of bytes. */
  | 'BLOB_SIZE'
  /** Commitment and root do not belong together. */
  | 'BLOB_ROOT'
  /** No paid submission of this blob is on the chain at the depth this signer waits for. */
  | 'BLOB_NOT_PAID'
  /** The blob's retention is over. */
  | 'BLOB_EXPIRED'
  /** The blob can no longer be confirmed in that epoch. */
  | 'EPOCH_STALE'
  /** This signer has no rows in that epoch. */
  | 'ROWS_NOT_ASSIGNED'
  /** The rows are not exactly this signer's, in ascending order. */
  | 'ROW_INDEX'
  /** This signer does not hold those rows. */
  | 'ROWS_MISSING'
  /** What was stored is damaged; it is never handed out. */
  | 'ROWS_DAMAGED'
  | 'REQUEST_INVALID'
  | 'REQUEST_STALLED'
  | 'SIGNER_BUSY'
  | 'SIGNER_FULL'
  /** Not read up to the chain's head: nothing is signed. */
  | 'SIGNER_BEHIND'
  | 'SIGNER_STOPPED'
  /** A setting or key that does not fit the chain. */
  | 'SIGNER_CHAIN'
  | 'SIGNER_KEY'
  | 'SIGNER_IDENTITY'
  | 'SIGNER_STAKE'

/** The signer refuses, or cannot go on as asked. */
export class SignerError extends WeightlessError {
  declare readonly code: SignerErrorCode

  constructor(parameters: {
    code: SignerErrorCode
    message: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super(parameters)
  }
}

/** HTTP status by error code; what is not here and is the project's own error is the caller's mistake (400). */
const STATUS: Readonly<Record<string, number>> = {
  BODY_TOO_LARGE: 413,
  BLOB_NOT_PAID: 404,
  BLOB_EXPIRED: 410,
  EPOCH_STALE: 410,
  ROWS_NOT_ASSIGNED: 409,
  ROWS_MISSING: 404,
  ROWS_DAMAGED: 410,
  REQUEST_STALLED: 408,
  SIGNER_BUSY: 503,
  SIGNER_BEHIND: 503,
  SIGNER_STOPPED: 503,
  SIGNER_FULL: 507,
  FILE_WRITE: 507,
}

/** Codes of a state that passes, with the seconds after which another try makes sense. */
const RETRY_AFTER_S: Readonly<Record<string, number>> = { SIGNER_BUSY: 1, SIGNER_BEHIND: 2, BLOB_NOT_PAID: 1 }

/** Errors that are this machine's fault whatever their class. */
const OWN_FAULT = /^(DATABASE|FILE|CHAIN|RPC|KERNEL)_/

/** A failure as the routes answer it. */
export function toHttpError(error: unknown): unknown {
  if (!(error instanceof WeightlessError) || error instanceof HttpError) return error
  const { code, message, fix, details, cause } = error
  const statusCode = STATUS[code] ?? (OWN_FAULT.test(code) ? 500 : 400)
  return new HttpError({ statusCode, code, message, fix, details: { ...details }, cause })
}

/** Seconds for the `Retry-After` header, where trying again helps. */
export function retryAfterSeconds(error: unknown): number | undefined {
  return error instanceof WeightlessError ? RETRY_AFTER_S[error.code] : undefined
}

/** The message of anything thrown, for logs and status. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
