import type { FastifyInstance } from 'fastify'
import type { Logger } from '#kit/log.ts'
import type { IndexerConfig } from '../config.ts'
import type { FileLocator } from '../file-locator.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import type { NodeRegistry } from '../node-registry.ts'
import type { SegmentReader } from '../segment-reader.ts'
import type { WorkLimit } from '../work-limit.ts'
import { registerDownloadRoutes } from './download-routes.ts'
import { failureOf, sendFailure } from './envelope.ts'
import { registerInfoRoutes } from './info-routes.ts'
import { registerUploadRoute } from './upload-route.ts'

/** Files over plain HTTP (storage-node §8.5), with the statuses HTTP means and the envelope clients read. */
export function registerGateway(parameters: GatewayParameters): void {
  const { app, log } = parameters
  app.register(async (scope) => {
    scope.setErrorHandler((error, request, reply) => {
      if (failureOf(error).kind === 'internal')
        log.error({ err: error, route: request.routeOptions.url }, 'request failed')
      return sendFailure({ reply, error })
    })
    registerDownloadRoutes(scope, parameters)
    registerInfoRoutes(scope, parameters)
    registerUploadRoute(scope, parameters)
  })
}

export interface GatewayParameters {
  app: FastifyInstance
  registry: NodeRegistry
  locator: FileLocator
  reader: SegmentReader
  /** Downloads at once. */
  downloads: WorkLimit
  settings: IndexerConfig['gateway']
  metrics: IndexerMetrics
  log: Logger
}
