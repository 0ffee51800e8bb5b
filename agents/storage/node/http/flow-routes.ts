import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { HttpError } from '#kit/http/http-error.ts'
import type { Hash } from '#protocol/hex.ts'
import { nextOwnedSegment } from '#protocol/storage/shard.ts'
import { NodeError } from '../error.ts'
import { lengthAtRoot, readFlowSegment } from '../serve/flow-segment.ts'
import type { NodeStore } from '../store/node-store.ts'
import { encodeFlowSegment } from './flow-frame.ts'
import { toHttpError } from './http-errors.ts'

export interface FlowRoutesParameters {
  app: FastifyInstance
  store: NodeStore
  stallTimeoutMs: number
}

/** Segments one request may span, held or not. */
export const MAX_FLOW_SEGMENTS = 65_536
const READ_AHEAD = 4

const count = z.coerce
  .number()
  .int()
  .min(0)
  .max(2 ** 43)
const query = z.object({
  from: count,
  to: count,
  flowRoot: z
    .string()
    .regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes as 0x and 64 hex digits')
    .transform((text) => text.toLowerCase() as Hash)
    .optional(),
})

/**
 * What a miner reads: `GET /v1/flow/segments?from=G&to=H[&flowRoot=R]` streams the global segments `[G, H)` that the
 * node's shard owns and holds at least in part, as frames of {@link encodeFlowSegment}; with a flow root (present or
 * past) each with its proof.
 */
export function registerFlowRoutes({ app, store, stallTimeoutMs }: FlowRoutesParameters): void {
  app.get('/v1/flow/segments', async (request, reply) => {
    const { from, to, flowRoot } = readQuery(request.query)
    let lengthSectors: number
    try {
      lengthSectors = flowRoot === undefined ? store.flow.lengthSectors : lengthAtRoot(store, flowRoot)
    } catch (error) {
      throw toHttpError(error)
    }
    reply.raw.setTimeout(stallTimeoutMs, () => reply.raw.destroy())
    const frames = framesOf(store, { from, to, lengthSectors, bare: flowRoot === undefined })
    const body = Readable.from(frames, { objectMode: false, highWaterMark: 1 << 20 })
    return reply.type('application/octet-stream').send(body)
  })
}

async function* framesOf(
  store: NodeStore,
  { from, to, lengthSectors, bare }: { from: number; to: number; lengthSectors: number; bare: boolean },
): AsyncGenerator<Uint8Array> {
  const reads: ReturnType<typeof readFlowSegment>[] = []
  let next = nextOwnedSegment(store.shard, from)
  try {
    for (;;) {
      while (next < to && reads.length < READ_AHEAD) {
        const read = readFlowSegment({ store, segment: next, lengthSectors, bare })
        read.catch(() => {})
        reads.push(read)
        next = nextOwnedSegment(store.shard, next + 1)
      }
      const first = reads.shift()
      if (!first) return
      const segment = await first
      if (segment) yield* encodeFlowSegment(segment)
    }
  } finally {
    await Promise.allSettled(reads)
  }
}

function readQuery(given: unknown): z.output<typeof query> {
  const read = query.safeParse(given)
  if (!read.success) {
    const [issue] = read.error.issues
    const field = issue?.path.join('.') ?? ''
    throw new HttpError({
      statusCode: 400,
      code: 'REQUEST_INVALID',
      message: `${field}: ${issue?.message ?? 'not valid'}`,
      fix: 'give from and to as numbers of segments, and flowRoot as a hash',
      details: { field },
    })
  }
  const { from, to } = read.data
  if (from < to && to - from <= MAX_FLOW_SEGMENTS) return read.data
  throw toHttpError(
    new NodeError({
      code: 'RANGE_INVALID',
      message: `${from} to ${to} is no range of segments`,
      fix: `give from < to, at most ${MAX_FLOW_SEGMENTS} apart`,
      details: { from, to, limit: MAX_FLOW_SEGMENTS },
    }),
  )
}
