import type { FastifyInstance } from 'fastify'
import { liveStatus } from '../front/status.ts'
import type { FileInfo } from '../wire.ts'
import { GatewayError, sendSuccess } from './envelope.ts'
import type { GatewayParameters } from './gateway.ts'
import { stateOf } from './gateway-file.ts'
import { type FileId, readCid, readCids } from './requests.ts'

/** `GET /file/info/{cid}`, `/files/info?cid=…` and `/node/status`. */
export function registerInfoRoutes(scope: FastifyInstance, parameters: GatewayParameters): void {
  scope.get<{ Params: { cid: string } }>('/file/info/:cid', async (request, reply) => {
    const info = await infoOf(parameters, readCid(request.params.cid))
    if (info === null) throw new GatewayError({ kind: 'fileNotFound' })
    return sendSuccess({ reply, data: info })
  })

  scope.get('/files/info', async (request, reply) => {
    const data = await Promise.all(
      readCids(request.query).map(async (id) => {
        if (id instanceof GatewayError) return String(id.data)
        try {
          return await infoOf(parameters, id)
        } catch (error) {
          return error instanceof Error ? error.message : 'the lookup failed'
        }
      }),
    )
    return sendSuccess({ reply, data })
  })

  scope.get('/node/status', async (_, reply) => {
    await parameters.registry.settled()
    const status = await liveStatus({ nodes: parameters.registry.trusted() })
    if (status === undefined) throw new GatewayError({ kind: 'unavailable', data: 'no trusted storage node answers' })
    return sendSuccess({ reply, data: status })
  })
}

/** What is known of a file: finalized when the nodes together hold all of it. */
async function infoOf({ locator }: GatewayParameters, id: FileId): Promise<FileInfo | null> {
  const state = await stateOf({ locator, id })
  if (state.state === 'unknown') return null
  // One shard that says "finalized" speaks of its own share only.
  return { ...state.info, finalized: state.state === 'available' }
}
