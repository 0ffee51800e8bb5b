/**
 * The base of every error this project throws on purpose. `code` is stable and may be matched by programs; `details`
 * carries the facts needed to act (field, value, limit, peer); `fix` says what to do about it.
 *
 * @example
 * throw new WeightlessError({ code: 'FILE_EMPTY', message: 'an empty file cannot be stored', fix: 'give at least one byte' })
 */
export class WeightlessError extends Error {
  readonly code: string
  readonly details: Readonly<Record<string, unknown>>
  readonly fix: string | undefined

  constructor({ code, message, fix, details, cause }: WeightlessErrorParameters) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.code = code
    this.details = details ?? {}
    this.fix = fix
  }
}

export interface WeightlessErrorParameters {
  code: string
  message: string
  fix?: string | undefined
  details?: Record<string, unknown> | undefined
  cause?: unknown
}
