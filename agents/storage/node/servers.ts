import type { FastifyInstance } from 'fastify'
import { type RpcMethod, registerJsonRpc } from '#kit/http/json-rpc.ts'
import { createHttpServer, type HttpServer, LOOPBACK_HOSTS } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { Hex } from '#protocol/hex.ts'
import type { LogSync } from './chain/log-sync.ts'
import type { NodeConfig } from './config.ts'
import type { NodeError } from './error.ts'
import { checkHealth } from './health.ts'
import { registerFlowRoutes } from './http/flow-routes.ts'
import { registerPeerRoutes } from './http/peer-routes.ts'
import { registerSegmentRoutes } from './http/segment-routes.ts'
import type { Intake } from './ingest/intake.ts'
import type { SegmentBuffers } from './ingest/segment-buffers.ts'
import { Semaphore } from './ingest/semaphore.ts'
import { adminMethods } from './rpc/admin.ts'
import { zgsMethods } from './rpc/zgs.ts'
import type { FileReader } from './serve/file-reader.ts'
import type { NodeStore } from './store/node-store.ts'
import type { PeerBook } from './sync/peer-book.ts'
import type { PeerExchange } from './sync/peer-exchange.ts'
import type { SyncService } from './sync/sync-service.ts'

export interface ServersParameters {
  config: NodeConfig
  log: Logger
  metrics: Metrics
  store: NodeStore
  intake: Intake
  reader: FileReader
  buffers: SegmentBuffers
  /** Bytes of segments that may be on their way to the disk. */
  memory: Semaphore
  logSync: LogSync
  peers: PeerBook
  exchange: PeerExchange
  sync: SyncService
  identity: { chainId: number; flow: Hex }
  /** Of this run. */
  instance: string
  halted: () => NodeError | undefined
  shutdown: () => void
}

export interface Servers {
  listen(): Promise<{ url: string; adminUrl: string }>
  close(): Promise<void>
}

const MIB = 2 ** 20
const REQUEST_TIMEOUT_MS = 1_800_000
const NAME = 'storage-node'

/** The public and the admin server; one and the same when both have one address. */
export async function openServers(parameters: ServersParameters): Promise<Servers> {
  const { config, log, metrics, store, intake, reader, logSync, peers, identity, instance, halted } = parameters
  const { listen, listenAdmin } = config.rpc
  const shared = listen.host === listenAdmin.host && listen.port === listenAdmin.port && listen.port !== 0
  const health = (): ReturnType<typeof checkHealth> => checkHealth({ ...parameters })
  const addresses: string[] = []

  const zgs = zgsMethods({ store, intake, reader, logSync, identity, connectedPeers: () => peers.connected })
  const admin = adminMethods({
    ...parameters,
    listenAddresses: () => [...addresses],
    logSynced: () => logSync.status().synced,
  })

  const server = await createHttpServer({
    name: NAME,
    ...listen,
    log,
    metrics,
    bodyLimitBytes: config.rpc.maxRequestBodyBytes,
    // 64 MiB over a slow line; what stalls is cut off much sooner.
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
    cors: true,
    health,
    ...(config.rpc.rateLimitPerMinute
      ? { rateLimit: { requests: config.rpc.rateLimitPerMinute, windowMs: 60_000 } }
      : {}),
    ...(config.rpc.trustedProxies ? { trustedProxies: config.rpc.trustedProxies } : {}),
  })
  serveJsonRpc(server.app, shared ? { ...zgs, ...admin } : zgs, parameters)
  registerSegmentRoutes({
    app: server.app,
    store,
    intake,
    reader,
    buffers: parameters.buffers,
    maxUploads: config.rpc.maxUploads,
    memory: parameters.memory,
    stallTimeoutMs: config.rpc.stallTimeoutMs,
    status: () => ({
      instance,
      nodeId: parameters.exchange.nodeId,
      ...identity,
      shard: store.shard,
      nextTxSeq: store.transactions.nextSeq,
      logSync: logSync.status(),
      accepting: halted() === undefined,
    }),
  })

  registerPeerRoutes({ app: server.app, exchange: parameters.exchange })
  registerFlowRoutes({ app: server.app, store, stallTimeoutMs: config.rpc.stallTimeoutMs })

  const adminServer = shared ? undefined : await openAdminServer(parameters, health)
  if (adminServer) serveJsonRpc(adminServer.app, admin, parameters)

  return {
    async listen() {
      const { url } = await server.listen()
      addresses.push(url)
      const adminUrl = adminServer ? (await adminServer.listen()).url : url
      return { url, adminUrl }
    },
    async close() {
      await Promise.all([server.close(), adminServer?.close()])
    },
  }
}

/** Nothing on the admin port is for strangers: on a loopback address it does not answer for other names either. */
function openAdminServer(
  { config, log, metrics }: ServersParameters,
  health: () => ReturnType<typeof checkHealth>,
): Promise<HttpServer> {
  const { listenAdmin, maxRequestBodyBytes } = config.rpc
  const local = ['127.0.0.1', '::1', 'localhost'].includes(listenAdmin.host)
  return createHttpServer({
    name: `${NAME} admin`,
    ...listenAdmin,
    log,
    metrics,
    bodyLimitBytes: maxRequestBodyBytes,
    health,
    ...(local ? { allowedHosts: LOOPBACK_HOSTS } : {}),
  })
}

function serveJsonRpc(app: FastifyInstance, methods: Record<string, RpcMethod>, parameters: ServersParameters): void {
  const { maxRequestBodyBytes, maxBodyMemoryBytes } = parameters.config.rpc
  queueBodies(app, { maxRequestBodyBytes, maxBodyMemoryBytes })
  registerJsonRpc({
    app,
    methods,
    log: parameters.log,
    metrics: parameters.metrics,
    bodyLimitBytes: maxRequestBodyBytes,
    // The queue above keeps the sum below this.
    inFlightLimitBytes: maxBodyMemoryBytes + maxRequestBodyBytes + MIB,
    fallbackHelp: (method) => {
      if (method.startsWith('admin_')) return 'admin_* methods are served on the admin address (rpc.listenAdmin)'
      if (method.startsWith('zgs_')) return 'zgs_* methods are served on the public address (rpc.listen)'
      return undefined
    },
  })
}

/** Bodies wait their turn before they are read, so that many large uploads at once cost time and not memory. */
function queueBodies(
  app: FastifyInstance,
  { maxRequestBodyBytes, maxBodyMemoryBytes }: { maxRequestBodyBytes: number; maxBodyMemoryBytes: number },
): void {
  const memory = new Semaphore(maxBodyMemoryBytes)
  app.addHook('onRequest', async (request, reply) => {
    if (request.method !== 'POST' || request.url.split('?')[0] !== '/') return
    const announced = Number(request.headers['content-length'] ?? Number.NaN)
    const units = Number.isFinite(announced) ? Math.min(announced, maxRequestBodyBytes) : maxRequestBodyBytes
    const gone = new AbortController()
    const leave = (): void => gone.abort(new Error('the caller went away'))
    reply.raw.once('close', leave)
    const release = await memory.acquire(units, gone.signal)
    reply.raw.off('close', leave)
    if (reply.raw.closed) release()
    else reply.raw.once('close', release)
  })
}
