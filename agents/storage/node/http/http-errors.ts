import { HttpError } from '#kit/http/http-error.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { NodeErrorCode } from '../error.ts'

/** HTTP status by error code; what is not here is the caller's mistake (400). */
const STATUS: Partial<Record<NodeErrorCode, number>> = {
  TX_UNKNOWN: 404,
  SECTOR_UNAVAILABLE: 404,
  ROOT_MISMATCH: 409,
  TX_REVERTED: 409,
  NOT_A_FILE: 409,
  ALREADY_PRUNED: 410,
  REQUEST_TOO_LARGE: 413,
  REQUEST_STALLED: 408,
  RANGE_INVALID: 416,
  DISK_FULL: 507,
  DISK_FAILURE: 500,
  NODE_CLOSED: 503,
  NODE_HALTED: 503,
  NODE_BUSY: 503,
}

/** A failure as the binary path answers it: `{ code, message, fix, details }` with a fitting status. */
export function toHttpError(error: unknown, details: Record<string, unknown> = {}): unknown {
  if (!(error instanceof WeightlessError) || error instanceof HttpError) return error
  const { code, message, fix, cause } = error
  const statusCode = Object.hasOwn(STATUS, code) ? (STATUS[code as NodeErrorCode] ?? 400) : 400
  return new HttpError({ statusCode, code, message, fix, details: { ...error.details, ...details }, cause })
}
