import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { type DaConnection, openDaConnection } from '#client/da/connection.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { claimFolder } from '#kit/folder-identity.ts'
import { createHttpServer, type HealthReport } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { openQueue } from '#kit/queue/queue.ts'
import type { Hash } from '#protocol/hex.ts'
import { BlobFiles } from '../blob-files.ts'
import type { DisperserConfig } from './config.ts'
import { type DisperseJob, Disperser, type DisperserStep } from './disperser.ts'
import { ClaimJob } from './fees/claim-job.ts'
import { FeeBook } from './fees/fee-book.ts'
import { FeeDesk } from './fees/fee-desk.ts'
import { createGrpcServer } from './grpc.ts'
import { registerDisperserRoutes } from './http.ts'
import { RequestStore } from './request-store.ts'

export {
  DISPERSER_ENV_PREFIX,
  type DisperserConfig,
  type DisperserConfigInput,
  disperserConfigSchema,
} from './config.ts'

/** What a disperser is given from outside. */
export interface DisperserContext {
  log: Logger
  account: LocalAccount
  /** `QUEUE_URL` of the environment, where the configuration names no queue. */
  queueUrl?: string | undefined
  metrics?: Metrics | undefined
  /** For tests that end the process between two steps. */
  onStep?: ((step: DisperserStep | 'claiming' | 'claimed') => void) | undefined
}

/** A disperser that serves. */
export interface RunningDisperser {
  /** HTTP. */
  readonly url: string
  /** gRPC, as `host:port`. */
  readonly grpcAddress: string
  readonly disperser: Disperser
  readonly book: FeeBook
  /** Undefined where blobs are free. */
  readonly claims: ClaimJob | undefined
  close(): Promise<void>
}

/**
 * Starts a disperser: takes blobs over gRPC and HTTP, pays for them, brings their rows to the signers and puts the
 * signatures on the chain.
 *
 * @throws QueueError, HttpError, WeightlessError `GRPC_LISTEN`, `CHAIN_UNREACHABLE`
 */
export async function startDisperser(config: DisperserConfig, context: DisperserContext): Promise<RunningDisperser> {
  const stack = createCloseStack({ log: context.log, limitMs: 20_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(
  config: DisperserConfig,
  { log, account, queueUrl, ...context }: DisperserContext,
  stack: ReturnType<typeof createCloseStack>,
): Promise<RunningDisperser> {
  const { dir } = config.data
  const metrics = context.metrics ?? createMetrics('weightless_disperser')
  const changes = metrics.counter({ name: 'blobs_total', help: 'Blobs by the state they reached', labels: ['state'] })
  const bytes = metrics.counter({ name: 'confirmed_bytes_total', help: 'Bytes of confirmed blobs' })
  const ending = new AbortController()

  const connection = openDaConnection({
    rpcUrl: config.chain.rpcUrls,
    chainId: config.chain.id,
    contracts: { signers: config.chain.signers, entrance: config.chain.entrance, accounts: config.fees.accounts },
    account,
    startBlock: config.chain.startBlock,
    journalDir: join(dir, 'payments'),
    limits: { pollIntervalMs: Math.min(250, config.chain.pollIntervalMs) },
  })
  stack.defer('chain and signers', () => connection.close())
  const address = account.address.toLowerCase() as Hash
  const { entrance } = config.chain
  await claimFolder({ dir, identity: { ...(await chainIdentity(connection)), entrance, disperser: address } })
  const store = openStore(dir, stack)
  const files = new BlobFiles({ ...config.data, dir: join(dir, 'blobs') })
  const queue = await openQueue<DisperseJob, null>({
    url: config.jobs.queueUrl ?? queueUrl,
    dataDir: dir,
    name: 'disperse',
    log,
  })
  stack.defer('queue', () => queue.close())
  const book = new FeeBook({ database: store.database, disperser: address })
  const desk = new FeeDesk({ connection, book, disperser: address, config, now: Date.now })
  const claims =
    config.fees.accounts === undefined
      ? undefined
      : new ClaimJob({
          ...{ connection, book, disperser: address, config, log, onStep: context.onStep },
          ...{ now: Date.now, signal: ending.signal },
        })
  const disperser = new Disperser({
    ...{ connection, store, files, queue, desk, book, config, log, onStep: context.onStep },
    signal: ending.signal,
    onChange: (state, request) => {
      changes.inc({ state })
      if (state === 'confirmed') bytes.inc(request.sizeBytes)
    },
  })
  stack.defer('work', () => disperser.stopped())

  const health = async (): Promise<HealthReport> => {
    const facts = { requests: store.counts(), keptBytes: files.bytes, queue: queue.backend }
    try {
      return { status: 'ok', checks: { epoch: await disperser.epoch(), ...facts } }
    } catch (error) {
      return { status: 'degraded', checks: { chain: error instanceof Error ? error.message : String(error), ...facts } }
    }
  }
  const { rateLimitPerMinute, maxUploads } = config
  const server = await createHttpServer({
    name: 'disperser',
    ...config.listen,
    ...{ log, metrics, health },
    bodyLimitBytes: 2 ** 20,
    ...(rateLimitPerMinute > 0 ? { rateLimit: { requests: rateLimitPerMinute, windowMs: 60_000 } } : {}),
  })
  registerDisperserRoutes({ app: server.app, disperser, desk, book, claims, address, maxUploads })
  stack.defer('http', () => server.close())
  const grpc = createGrpcServer({ disperser, ...config.listenGrpc, maxCalls: maxUploads, log })
  stack.defer('grpc', () => grpc.close())
  const { url } = await server.listen()
  const { host, port } = await grpc.listen()
  await disperser.start()
  // Also where blobs are free by now: what was charged before is still claimed.
  const claiming = claims?.run()
  stack.defer('claims', async () => claiming)
  log.info({ url, grpc: `${host}:${port}`, account: account.address, queue: queue.backend }, 'the disperser serves')
  return {
    url,
    grpcAddress: `${host}:${port}`,
    disperser,
    book,
    claims,
    close: async () => {
      ending.abort()
      await stack.close()
    },
  }
}

/** Nothing while the chain is out of reach: a disperser starts without it, and does nothing until it is back. */
async function chainIdentity(connection: DaConnection): Promise<{ chainId?: number; genesis?: Hash }> {
  try {
    const chain = await connection.chain()
    return { chainId: chain.id, genesis: await genesisOf(chain) }
  } catch {
    return {}
  }
}

function openStore(dir: string, stack: ReturnType<typeof createCloseStack>): RequestStore {
  const store = RequestStore.open(dir)
  stack.defer('requests', () => store.close())
  return store
}
