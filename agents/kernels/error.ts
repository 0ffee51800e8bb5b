/**
 * The error of this layer. It has the shape of the project's base error (code, message, fix, details, cause) but stands
 * alone, because kernels import nothing of the project.
 *
 * Codes: `KERNELS_NOT_BUILT`, `KERNEL_INPUT`, `KERNEL_TRAP`, `KERNEL_WORKER_DIED`, `KERNEL_POOL_CLOSED`.
 */
export class KernelError extends Error {
  readonly code: KernelErrorCode
  readonly fix: string | undefined
  readonly details: Readonly<Record<string, unknown>>

  constructor({ code, message, fix, details, cause }: KernelErrorParameters) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.code = code
    this.fix = fix
    this.details = details ?? {}
  }
}

export type KernelErrorCode =
  | 'KERNELS_NOT_BUILT'
  | 'KERNEL_INPUT'
  | 'KERNEL_TRAP'
  | 'KERNEL_WORKER_DIED'
  | 'KERNEL_POOL_CLOSED'

export interface KernelErrorParameters {
  code: KernelErrorCode
  message: string
  fix?: string | undefined
  details?: Record<string, unknown> | undefined
  cause?: unknown
}
