import type { FastifyReply } from 'fastify'
import { WeightlessError } from '#protocol/error.ts'

/** Codes of the REST envelope `{code, message, data}` and the HTTP status each is sent with. */
export const ENVELOPE = {
  success: { code: 0, status: 200, message: 'Success' },
  invalidParameter: { code: 1, status: 400, message: 'Invalid parameter' },
  internal: { code: 2, status: 500, message: 'Internal server error' },
  unavailable: { code: 2, status: 503, message: 'Internal server error' },
  fileNotFound: { code: 101, status: 404, message: 'File not found' },
  filePruned: { code: 102, status: 410, message: 'File already pruned' },
  fileNotFinalized: { code: 103, status: 409, message: 'File not finalized yet' },
  pathNotFound: { code: 104, status: 404, message: 'File path not found' },
  tooLarge: { code: 105, status: 413, message: 'File size too large' },
  unsupportedType: { code: 106, status: 415, message: 'File type unsupported' },
} as const
export type EnvelopeKind = keyof typeof ENVELOPE

/** A refusal that the gateway answers with an envelope. `data` tells the caller what exactly. */
export class GatewayError extends WeightlessError {
  readonly kind: EnvelopeKind
  readonly data: unknown

  constructor({ kind, data = null, cause }: { kind: EnvelopeKind; data?: unknown; cause?: unknown }) {
    const { code, status, message } = ENVELOPE[kind]
    super({
      code: `GATEWAY_${code}`,
      message: typeof data === 'string' ? `${message}: ${data}` : message,
      details: { status, data },
      cause,
    })
    this.kind = kind
    this.data = data
  }
}

/** Sends `data` in a success envelope. */
export function sendSuccess({ reply, data }: { reply: FastifyReply; data: unknown }): FastifyReply {
  return reply.code(200).type('application/json; charset=utf-8').send({ code: 0, message: 'Success', data })
}

/** Sends a refusal: the envelope of the error where it has one, else an internal error with its message. */
export function sendFailure({ reply, error }: { reply: FastifyReply; error: unknown }): FastifyReply {
  const { kind, data } = failureOf(error)
  const { code, status, message } = ENVELOPE[kind]
  if (status === 503) reply.header('retry-after', '2')
  return reply.code(status).type('application/json; charset=utf-8').send({ code, message, data })
}

/** The envelope an error is answered with. */
export function failureOf(error: unknown): { kind: EnvelopeKind; data: unknown } {
  if (error instanceof GatewayError) return { kind: error.kind, data: error.data }
  if (error instanceof WeightlessError && UNAVAILABLE.has(error.code))
    return { kind: 'unavailable', data: error.message }
  // fastify's own refusals (body too large, media type) carry the status they mean.
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (status === 413) return { kind: 'tooLarge', data: error instanceof Error ? error.message : null }
  if (status === 415) return { kind: 'unsupportedType', data: error instanceof Error ? error.message : null }
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return { kind: 'invalidParameter', data: error instanceof Error ? error.message : null }
  }
  return { kind: 'internal', data: error instanceof WeightlessError ? error.message : 'unexpected error, see the log' }
}

const UNAVAILABLE = new Set(['SEGMENT_UNAVAILABLE', 'INDEXER_BUSY', 'NODE_ANSWER', 'NO_NODES'])
