import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Logger } from '#kit/log.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { type AltDaCommitment, decodeCommitment, MAX_COMMITMENT_CHARS } from './commitment.ts'
import { AltDaError } from './error.ts'
import type { AltDaGateway } from './gateway.ts'

/** Failures of now: a batcher tries again, or falls back to L1. */
const TEMPORARY = new Set([
  'PUT_TIMEOUT',
  'CHAIN_UNREACHABLE',
  'BLOB_UNAVAILABLE',
  'QUORUM_NOT_REACHED',
  'WAIT_TIMEOUT',
  'INSUFFICIENT_FUNDS',
  'BLOB_STORE_FULL',
  'CONFIRMATION_LOST',
])

/** Answers of 418: the certificate is invalid for good, and the batch is to be dropped. */
const INVALID = { parse: 1, cert: 3, decoding: 4 } as const

/**
 * The server side of op-stack's Alt-DA mode:
 *
 * - `POST /put`, `POST /put/` → the raw bytes of a generic commitment; `POST /put/0x00…` keeps an input by its keccak hash
 * - `GET /get/0x…` → the raw input; 404 only where it is certain that nobody has it any more, 418 where the commitment can
 *   never be right, 503 for everything that may pass
 */
export function registerAltDaRoutes({
  app,
  gateway,
  layer,
  maxInputBytes,
  maxRequests,
  log,
}: {
  app: FastifyInstance
  gateway: AltDaGateway
  layer: number
  maxInputBytes: number
  maxRequests: number
  log: Logger
}): void {
  let running = 0
  const counted = new WeakSet<object>()
  app.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (running >= maxRequests) return reply.status(429).header('retry-after', '1').send('too many requests')
      running += 1
      counted.add(request)
      return undefined
    })
    scope.addHook('onResponse', async (request) => {
      if (counted.delete(request)) running -= 1
    })
    scope.removeAllContentTypeParsers()
    // Clients of any make: the body is the input whatever it is called.
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body))

    const put = async (body: unknown, reply: FastifyReply) => {
      const commitment = await gateway.put(Buffer.isBuffer(body) ? body : Buffer.alloc(0))
      return reply.type('application/octet-stream').send(Buffer.from(commitment))
    }
    const options = { bodyLimit: maxInputBytes }
    // Both without a redirect: it would turn the POST into a GET.
    for (const path of ['/put', '/put/']) {
      scope.post(path, options, (request, reply) => guarded({ reply, log, work: () => put(request.body, reply) }))
    }
    scope.post('/put/:commitment', options, (request, reply) =>
      guarded({
        ...{ reply, log },
        work: async () => {
          await gateway.putKeccak(
            keccakOf(request.params, layer),
            Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
          )
          return reply.status(200).send()
        },
      }),
    )
    scope.get('/get/:commitment', (request, reply) =>
      guarded({
        ...{ reply, log },
        work: async () => {
          const commitment = decode(request.params, layer)
          const input = await read({ gateway, commitment })
          return reply
            .type('application/octet-stream')
            .send(Buffer.from(input.buffer, input.byteOffset, input.byteLength))
        },
      }),
    )
  })
}

const WRONG_PUT = {
  code: 'COMMITMENT_TYPE',
  message: 'an input cannot be put under a generic commitment: the server gives those out',
  fix: 'post to /put, or to /put/0x00 and the keccak-256 of the input',
} as const

/** The hash that an input is put under. What is wrong here is the caller's mistake, and no batch hangs on it. */
function keccakOf(params: unknown, layer: number): Hash {
  try {
    const commitment = decode(params, layer)
    if (commitment.type === 'keccak') return commitment.hash
  } catch (error) {
    if (!(error instanceof AltDaError) || error.code !== 'COMMITMENT_FORM') throw error
  }
  throw new AltDaError({ ...WRONG_PUT })
}

function decode(params: unknown, layer: number): AltDaCommitment {
  const { commitment } = params as { commitment: string }
  return decodeCommitment(commitment.slice(0, MAX_COMMITMENT_CHARS * 2 + 2), { layer })
}

/** What is certain of a blob that is not on record, once its epoch is over: it never will be. */
class CertificateInvalidError extends WeightlessError {}

async function read({
  gateway,
  commitment,
}: {
  gateway: AltDaGateway
  commitment: AltDaCommitment
}): Promise<Uint8Array> {
  try {
    return await gateway.get(commitment)
  } catch (error) {
    const unknown = error instanceof WeightlessError && error.code === 'BLOB_UNKNOWN'
    if (!unknown || commitment.type !== 'generic' || (await gateway.mayStillConfirm(commitment.epoch))) throw error
    throw new CertificateInvalidError({
      code: 'CERTIFICATE_INVALID',
      message: 'the DA chain has no confirmation of this blob, and its epoch is over',
      fix: 'drop the batch',
      cause: error,
    })
  }
}

async function guarded({
  reply,
  log,
  work,
}: {
  reply: FastifyReply
  log: Logger
  work: () => Promise<unknown>
}): Promise<unknown> {
  try {
    return await work()
  } catch (error) {
    const { status, body } = answerOf(error)
    if (status >= 500) log.warn({ err: error, status }, 'a request failed')
    return reply.status(status).send(body)
  }
}

function answerOf(error: unknown): { status: number; body: string | object } {
  const code = error instanceof WeightlessError ? error.code : 'UNEXPECTED'
  const text = error instanceof WeightlessError ? `${code}: ${error.message}` : 'internal error'
  const invalid = (StatusCode: number) => ({ status: 418, body: { StatusCode, Msg: text } })
  switch (code) {
    case 'COMMITMENT_HEX':
    case 'COMMITMENT_TYPE':
    case 'COMMITMENT_MISMATCH':
    case 'INPUT_EMPTY':
      return { status: 400, body: text }
    case 'BLOB_SIZE':
      return { status: 413, body: text }
    case 'COMMITMENT_FORM':
      return invalid(INVALID.parse)
    case 'CERTIFICATE_INVALID':
      return invalid(INVALID.cert)
    case 'BLOB_INCONSISTENT':
      return invalid(INVALID.decoding)
    case 'INPUT_UNKNOWN':
    case 'BLOB_EXPIRED':
      return { status: 404, body: text }
    case 'BLOB_UNKNOWN':
      return { status: 503, body: text }
  }
  const isAbort = error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError')
  if (TEMPORARY.has(code) || isAbort) return { status: 503, body: isAbort ? 'the time limit is over' : text }
  return { status: 500, body: text }
}
