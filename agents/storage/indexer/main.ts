import { registerJsonRpc } from '#kit/http/json-rpc.ts'
import { createHttpServer, type HealthReport } from '#kit/http/server.ts'
import { createLog, type Logger } from '#kit/log.ts'
import { createMetrics } from '#kit/metrics.ts'
import type { IndexerConfig } from './config.ts'
import { Discovery } from './discovery.ts'
import { FileLocator } from './file-locator.ts'
import { registerFrontBinary } from './front/binary.ts'
import { queueBodies } from './front/body-queue.ts'
import { FrontNode } from './front/front-node.ts'
import { frontMethods } from './front/rpc.ts'
import { registerGateway } from './gateway/gateway.ts'
import { createIndexerMetrics } from './indexer-metrics.ts'
import { coversOf, frontPath } from './node-lists.ts'
import { NodeRegistry } from './node-registry.ts'
import { indexerMethods } from './rpc.ts'
import { SegmentReader } from './segment-reader.ts'
import { WorkLimit } from './work-limit.ts'

export { type IndexerConfig, indexerConfigSchema } from './config.ts'

/** Fronts served: one for each replica that clients may ask for. */
const FRONTS = 4
/** Binary uploads at once; each holds a few MiB. */
const FRONT_UPLOADS = 32
const FRONT_BODY_BYTES = 100 * 2 ** 20
const FRONT_CALL_TIMEOUT_MS = 90_000

/** What the indexer needs from whoever starts it. */
export interface IndexerContext {
  log?: Logger | undefined
  /** Closes the indexer when it fires. */
  signal?: AbortSignal | undefined
}

/** An indexer that serves. */
export interface RunningIndexer {
  /** Where it listens. */
  readonly url: string
  /** Where clients reach it. */
  readonly publicUrl: string
  /** The front node: a storage node without shards, made of the trusted ones. */
  readonly frontUrl: string
  health(): HealthReport
  /** Looks for peers now, where discovery is configured. */
  discover(): Promise<void>
  close(): Promise<void>
}

/**
 * Starts an indexer: `indexer_*` over JSON-RPC at `/`, a front node at `/node`, the file gateway under `/file`. It does
 * not wait for any storage node: those that are down are tried again in the background.
 *
 * @throws HttpError `HTTP_LISTEN` when the port is taken.
 * @example
 * const indexer = await startIndexer(indexerConfigSchema.parse({ nodes: ['http://127.0.0.1:5678'], port: 0 }))
 */
export async function startIndexer(config: IndexerConfig, context: IndexerContext = {}): Promise<RunningIndexer> {
  const log = context.log ?? createLog({ name: 'indexer', ...config.log })
  const registryOfMetrics = createMetrics('weightless_indexer')
  const metrics = createIndexerMetrics(registryOfMetrics)
  const registry = new NodeRegistry({
    trusted: [...new Set(config.nodes)],
    network: networkOf(config),
    updateIntervalMs: config.updateIntervalMs,
    timeoutMs: config.requestTimeoutMs,
    maxDiscovered: config.discovery.maxNodes,
    log,
    metrics,
  })
  const discovery = discoveryOf({ config, registry, log })
  const locator = new FileLocator({ registry, discovery, log, metrics })
  const { segmentTimeoutMs, hedgeMs, maxSegmentReads } = config
  const reader = new SegmentReader({ registry, metrics, segmentTimeoutMs, hedgeMs, maxReads: maxSegmentReads })
  const downloads = new WorkLimit({
    what: 'downloads',
    limit: config.gateway.maxDownloads,
    maxWaiting: config.gateway.maxDownloads,
    maxWaitMs: 30_000,
  })
  const uploads = new WorkLimit({
    what: 'uploads',
    limit: FRONT_UPLOADS,
    maxWaiting: FRONT_UPLOADS * 16,
    maxWaitMs: 60_000,
  })
  const health = (): HealthReport => healthOf(registry)
  const server = await createHttpServer({
    name: 'indexer',
    host: config.host,
    port: config.port,
    log,
    metrics: registryOfMetrics,
    bodyLimitBytes: 2 ** 20,
    rateLimit: config.rateLimit.requests > 0 ? config.rateLimit : undefined,
    cors: true,
    trustedProxies: config.trustedProxies.length > 0 ? config.trustedProxies : undefined,
    health,
  })
  const { app } = server
  let publicUrl = config.publicUrl ?? ''

  registerJsonRpc({
    app,
    methods: indexerMethods({ registry, locator, publicUrl: () => publicUrl, listing: config.front.list }),
    bodyLimitBytes: 2 ** 20,
    log,
    metrics: registryOfMetrics,
    fallbackHelp: helpFor,
  })
  const { maxInFlightBytes } = config.front
  queueBodies({ app, prefix: frontPath(0), limitBytes: maxInFlightBytes, maxBodyBytes: FRONT_BODY_BYTES })
  for (let ordinal = 0; ordinal < FRONTS; ordinal += 1) {
    const front = new FrontNode({ ordinal, registry })
    const path = frontPath(ordinal)
    registerJsonRpc({
      app,
      path,
      methods: frontMethods({ front, reader, metrics, retryMs: config.front.retryMs }),
      bodyLimitBytes: FRONT_BODY_BYTES,
      // The queue above keeps the sum below this.
      inFlightLimitBytes: maxInFlightBytes + FRONT_BODY_BYTES,
      callTimeoutMs: FRONT_CALL_TIMEOUT_MS,
      log,
      metrics: registryOfMetrics,
    })
    const { readAhead, stallMs } = config.gateway
    registerFrontBinary({ app, prefix: path, front, reader, metrics, downloads, uploads, readAhead, stallMs })
  }
  if (config.gateway.enabled) {
    registerGateway({ app, registry, locator, reader, downloads, settings: config.gateway, metrics, log })
  }

  const { url } = await server.listen()
  if (publicUrl === '') {
    publicUrl = url
    if (config.host === '0.0.0.0' || config.host === '::') {
      log.warn({ url }, 'clients elsewhere are told of the front at this address: set publicUrl to one they can reach')
    }
  }
  registry.start()
  discovery?.start()
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => {
    closing ??= (async () => {
      discovery?.stop()
      await server.close()
      registry.stop()
    })()
    return closing
  }
  context.signal?.addEventListener('abort', () => void close(), { once: true })
  return {
    url,
    publicUrl,
    frontUrl: `${publicUrl}${frontPath(0)}`,
    health,
    discover: async () => await discovery?.discover(),
    close,
  }
}

function networkOf({ chainId, flowAddress }: IndexerConfig) {
  return chainId === undefined || flowAddress === undefined ? undefined : { chainId, flowAddress }
}

function discoveryOf({ config, registry, log }: { config: IndexerConfig; registry: NodeRegistry; log: Logger }) {
  const { adminUrl, intervalMs, ports, allowPrivate } = config.discovery
  if (adminUrl === undefined) return undefined
  return new Discovery({ adminUrl, intervalMs, ports, allowPrivate, registry, log })
}

/** `ok`: every trusted node answers. `degraded`: some do not, but the rest cover the flow. `down`: they do not. */
function healthOf(registry: NodeRegistry): HealthReport {
  const nodes = registry.report()
  const replicas = coversOf(registry.trusted()).length
  const allUp = nodes.every(({ trusted, usable }) => usable || !trusted)
  return {
    status: replicas === 0 ? 'down' : allUp ? 'ok' : 'degraded',
    checks: {
      replicas,
      trusted: nodes
        .filter(({ trusted }) => trusted)
        .map(({ url, usable, shard, lastError }) => ({ url, usable, shard, lastError })),
      discovered: nodes.filter(({ trusted, usable }) => !trusted && usable).length,
    },
  }
}

function helpFor(method: string): string | undefined {
  if (method.startsWith('zgs_')) return 'this is an indexer; it speaks as a storage node at /node'
  if (method.startsWith('kv_')) return 'this is an indexer; send it to a KV node'
  return undefined
}
