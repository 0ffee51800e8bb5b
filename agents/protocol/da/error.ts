import { WeightlessError } from '../error.ts'

/**
 * `ROW_INDEX` (no such row, or given twice), `ROW_LENGTH`, `ROW_PATH` (the path does not lead to the row root),
 * `ROW_PADDING` (a data row holds something behind the payload), `ROW_COMBINATION` (the row is not of the code),
 * `RLC_ROOT` (the combinations are not those of the commitment).
 */
export type InvalidRowCode = 'ROW_INDEX' | 'ROW_LENGTH' | 'ROW_PATH' | 'ROW_PADDING' | 'ROW_COMBINATION' | 'RLC_ROOT'

/** A row, or the combinations it is checked against, that the commitment does not stand for. `details.index` is the row. */
export class InvalidRowError extends WeightlessError {
  override readonly code: InvalidRowCode

  constructor({
    code,
    message,
    details,
  }: { code: InvalidRowCode; message: string; details?: Record<string, unknown> }) {
    super({ code, message, fix: 'take the row from another source', details })
    this.code = code
  }
}

/**
 * `BLOB_SIZE` (empty or too large), `BLOB_COMMITMENT` (its parts contradict each other), `BLOB_ROWS_MISSING` (too few rows),
 * `BLOB_INCONSISTENT` (the rows are not the encoding of any payload: every reader finds the same).
 */
export type InvalidBlobCode = 'BLOB_SIZE' | 'BLOB_COMMITMENT' | 'BLOB_ROWS_MISSING' | 'BLOB_INCONSISTENT'

/** A blob that cannot be encoded, or that cannot be what its commitment says. */
export class InvalidBlobError extends WeightlessError {
  override readonly code: InvalidBlobCode

  constructor(parameters: { code: InvalidBlobCode; message: string; fix?: string; details?: Record<string, unknown> }) {
    super(parameters)
    this.code = parameters.code
  }
}
