import type { FastifyInstance } from 'fastify'
import { RPC_CODE, RpcError } from '#kit/http/rpc-error.ts'
import { WorkLimit } from '../work-limit.ts'

const MAX_WAITING = 10_000
const MAX_WAIT_MS = 60_000

/**
 * Makes uploads to fronts wait before their body is read, so that thousands at once cost time and not memory: clients
 * send all segments of a file in parallel and give up when they are refused.
 */
export function queueBodies({ app, prefix, limitBytes, maxBodyBytes }: QueueBodiesParameters): void {
  const memory = new WorkLimit({
    what: 'upload bytes',
    limit: limitBytes,
    maxWaiting: MAX_WAITING,
    maxWaitMs: MAX_WAIT_MS,
  })
  app.addHook('onRequest', async (request, reply) => {
    if (request.method !== 'POST' || !isBelow(request.url, prefix)) return
    // Frames are passed on as they arrive; only JSON is held whole.
    if (request.headers['content-type']?.startsWith('application/octet-stream')) return
    const announced = Number(request.headers['content-length'] ?? Number.NaN)
    // A body of unknown length counts as the largest one allowed.
    const weight = Number.isFinite(announced) ? Math.min(announced, maxBodyBytes) : maxBodyBytes
    const gone = new AbortController()
    const leave = (): void => gone.abort(new Error('the caller went away'))
    reply.raw.once('close', leave)
    const release = await memory.acquire({ weight, signal: gone.signal }).catch((cause: unknown) => {
      throw new RpcError({
        rpcCode: RPC_CODE.limitExceeded,
        message: 'Server is busy',
        data: 'try again in 1 s',
        cause,
      })
    })
    reply.raw.off('close', leave)
    if (reply.raw.closed) release()
    else reply.raw.once('close', release)
  })
}

export interface QueueBodiesParameters {
  app: FastifyInstance
  /** Where the fronts are. */
  prefix: string
  /** Bodies in memory at once, all fronts together. */
  limitBytes: number
  /** Largest body. */
  maxBodyBytes: number
}

function isBelow(url: string, prefix: string): boolean {
  const [path = ''] = url.split('?')
  return path === prefix || path.startsWith(`${prefix}/`)
}
