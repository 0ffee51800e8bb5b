import type { FastifyInstance } from 'fastify'
import { HttpError } from '#kit/http/http-error.ts'
import { PeerRecordError } from '#protocol/storage/peer-record.ts'
import { NodeError } from '../error.ts'
import type { PeerExchange } from '../sync/peer-exchange.ts'
import { signedRecordSchema } from '../sync/record-schema.ts'
import { toHttpError } from './http-errors.ts'

/**
 * How nodes find each other: `GET /v1/peers` tells the signed records of nodes that this one has reached itself, and
 * `POST /v1/peers` takes the record of the caller.
 */
export function registerPeerRoutes({ app, exchange }: { app: FastifyInstance; exchange: PeerExchange }): void {
  app.get('/v1/peers', async () => ({ records: exchange.told() }))

  app.post('/v1/peers', { bodyLimit: 4_096 }, async (request) => {
    const read = signedRecordSchema.safeParse(request.body)
    if (!read.success) {
      const [issue] = read.error.issues
      const field = issue?.path.join('.') ?? ''
      throw toHttpError(
        new NodeError({
          code: 'REQUEST_INVALID',
          message: `the peer record's ${field || 'form'} is wrong: ${issue?.message ?? 'not an object'}`,
          fix: 'send { nodeId, url, chainId, flow, shard: { shardId, numShard }, issuedAtS, signature }',
          details: { field },
        }),
      )
    }
    try {
      exchange.take(read.data)
    } catch (error) {
      if (!(error instanceof PeerRecordError)) throw error
      const { code, message, fix, details } = error
      throw new HttpError({ statusCode: 422, code, message, fix, details, cause: error })
    }
    return { taken: true }
  })
}
