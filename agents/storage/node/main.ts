import { randomUUID } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { MerklePool } from '#kernels/merkle-pool.ts'
import { connectChain } from '#kit/chain/client.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { formatShard } from '#protocol/storage/shard.ts'
import { FlowCheck } from './chain/flow-check.ts'
import { LogSync } from './chain/log-sync.ts'
import type { NodeConfig } from './config.ts'
import { NodeError } from './error.ts'
import { Intake } from './ingest/intake.ts'
import { SegmentBuffers } from './ingest/segment-buffers.ts'
import { poolHasher, type SegmentHasher, thisThread } from './ingest/segment-check.ts'
import { Semaphore } from './ingest/semaphore.ts'
import { createNodeMetrics } from './metrics.ts'
import { FileReader } from './serve/file-reader.ts'
import { openServers } from './servers.ts'
import { NodeStore } from './store/node-store.ts'
import type { BulkDisk } from './store/slot-files.ts'
import { loadNodeKey } from './sync/node-key.ts'
import { PeerBook } from './sync/peer-book.ts'
import { PeerExchange } from './sync/peer-exchange.ts'
import { SyncService } from './sync/sync-service.ts'
import { dropExpired } from './upkeep/expiry.ts'
import { repeat } from './upkeep/loop.ts'
import { Pruner } from './upkeep/pruner.ts'
import { SCRUB_TICK_MS, Scrubber } from './upkeep/scrubber.ts'

export {
  NODE_ALIAS_ENV_PREFIX,
  NODE_CONFIG_ALIASES,
  NODE_ENV_PREFIX,
  type NodeConfig,
  type NodeConfigInput,
  nodeConfigSchema,
} from './config.ts'

/** What a node is given from outside; everything but the log may be left out. */
export interface NodeContext {
  log: Logger
  /** Stops the start while it waits for the chain. */
  signal?: AbortSignal | undefined
  /** Asked for by `admin_shutdown`; without it the node closes itself. */
  stop?: ((reason: string) => void) | undefined
  metrics?: Metrics | undefined
  /** The edge to the data disk, for tests. */
  disk?: BulkDisk | undefined
  now?: (() => number) | undefined
  random?: (() => number) | undefined
}

/** A node that serves. */
export interface RunningNode {
  /** Public address: `zgs_*` and the binary path. */
  readonly url: string
  /** Address of `admin_*`. */
  readonly adminUrl: string
  readonly store: NodeStore
  readonly scrubber: Scrubber
  /** Set when the own flow contradicts the chain: the node serves no more. */
  halted(): NodeError | undefined
  /** Looks at the chain now. */
  wake(): void
  /** Takes no new requests, finishes what is under way, and closes everything. Repeatable. */
  close(): Promise<void>
}

const METRICS_MS = 5_000
const FLOW_CHECK_MS = 1_000
const EXPIRY_MS = 30_000

/**
 * Starts a storage node: follows the flow contract's log, takes segments in, serves them, fetches from peers what it
 * lacks. Resolves when it serves; a chain that does not answer within `chain.waitMs` fails the start.
 *
 * @throws NodeError `DATA_DIR_IN_USE`, `DATA_DIR_FOREIGN`; chain, database and HTTP errors
 * @example
 * const node = await startNode(nodeConfigSchema.parse({ chain: { rpcUrls: ['http://127.0.0.1:8545'], flow } }), { log })
 */
export async function startNode(config: NodeConfig, context: NodeContext): Promise<RunningNode> {
  const { log } = context
  const stack = createCloseStack({ log, limitMs: 15_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(
  config: NodeConfig,
  context: NodeContext,
  stack: ReturnType<typeof createCloseStack>,
): Promise<RunningNode> {
  const { log, now = Date.now } = context
  const instance = randomUUID()
  const metrics = context.metrics ?? createMetrics('weightless_node')
  const counters = createNodeMetrics(metrics)
  const ending = new AbortController()
  const { signal } = ending

  const chain = await connectChain({
    rpcUrls: config.chain.rpcUrls,
    chainId: config.chain.id,
    timeoutMs: config.chain.timeoutMs,
    waitMs: config.chain.waitMs,
    signal: context.signal,
  })
  stack.defer('chain', () => chain.close())
  const identity = { chainId: chain.id, flow: config.chain.flow }

  const hasher = await openHasher(config.rpc.hashThreads, stack)
  const store = NodeStore.open({
    dataDir: config.data.dir,
    identity,
    shard: config.data.shard,
    log,
    minFreeBytes: config.data.minFreeBytes,
    disk: context.disk,
    now,
    events: {
      onFinalized: (seq) => {
        counters.finalized()
        log.info({ seq }, 'file finalized')
      },
      onUnfinalized: (seq) => {
        counters.damaged()
        log.warn({ seq }, 'file is no longer complete: a damaged segment is to be fetched again')
      },
      onCommit: counters.committed,
    },
  })
  stack.defer('store', () => store.close())

  let halted: NodeError | undefined
  function halt(cause: NodeError): void {
    if (halted) return
    halted = new NodeError({
      code: 'NODE_HALTED',
      message: `the node takes nothing: ${cause.message}`,
      fix: cause.fix,
      details: cause.details,
      cause,
    })
    log.fatal({ err: cause }, 'the own flow contradicts the chain: the node takes no more segments')
  }

  const closed = new NodeError({ code: 'NODE_CLOSED', message: 'the node is stopping', fix: 'try another node' })
  const intake = new Intake({
    store,
    hasher,
    maxCachedFileBytes: config.cache.maxFileBytes,
    maxCachedBytes: config.cache.maxBytes,
    refusal: () => (signal.aborted ? closed : halted),
  })
  const buffers = new SegmentBuffers()
  const memory = new Semaphore(config.rpc.maxWriteMemoryBytes)
  const reader = new FileReader({ store, buffers })

  const flowCheck = new FlowCheck({ store, chain, flow: identity.flow, log, signal, onMismatch: halt })
  const logSync = new LogSync({
    store,
    chain,
    flow: identity.flow,
    startBlock: config.chain.startBlock,
    confirmations: config.chain.confirmations,
    pageSizeBlocks: config.chain.pageSizeBlocks,
    pollIntervalMs: config.chain.pollIntervalMs,
    log,
    metrics,
    signal,
    onSubmissions: () => void flowCheck.look({ synced: logSync.status().synced }),
    onMismatch: halt,
  })
  stack.defer('log sync', () => logSync.done)

  const peers = new PeerBook({
    peers: config.sync.peers,
    indexerUrls: config.sync.indexerUrls,
    publicUrl: config.sync.publicUrl,
    instance,
    identity,
    refreshMs: config.sync.peerRefreshMs,
    stallTimeoutMs: config.sync.stallTimeoutMs,
    banMs: config.sync.peerBanMs,
    buffers,
    log,
    signal,
    now,
  })
  const sync = new SyncService({
    ...config.sync,
    store,
    intake,
    peers,
    memory,
    logSynced: () => logSync.status().synced && !halted,
    log,
    signal,
    now,
    onStored: counters.fetched,
  })
  stack.defer('peers', () => peers.stopped())
  stack.defer('sync', () => sync.stopped())

  const exchange = new PeerExchange({
    ...{ key: await loadNodeKey(config.data.dir), identity, publicUrl: config.sync.publicUrl, peers, log, now },
    shard: () => store.shard,
    random: context.random,
  })

  const servers = await openServers({
    config,
    log,
    metrics,
    store,
    intake,
    reader,
    buffers,
    memory,
    logSync,
    peers,
    exchange,
    sync,
    identity,
    instance,
    halted: () => halted,
    shutdown: () => (context.stop ? context.stop('admin_shutdown') : void close()),
  })
  stack.defer('servers', () => servers.close())
  const { url, adminUrl } = await servers.listen()

  const scrubber = new Scrubber({ store, hasher, log, intervalMs: config.data.scrubIntervalMs })
  const pruner = new Pruner({
    store,
    log,
    maxSectors: config.data.maxSectors,
    batchSectors: config.data.pruneBatchSectors,
    batchPauseMs: config.data.pruneBatchPauseMs,
    chain,
    reward: config.chain.reward,
    signal,
    random: context.random,
  })
  const tasks = [
    { name: 'pruning', intervalMs: config.data.pruneIntervalMs, task: () => pruner.run() },
    {
      name: 'expiry',
      intervalMs: Math.min(EXPIRY_MS, Math.ceil(config.cache.expiryMs / 4)),
      task: () => dropExpired({ store, log, now, ...expiryOf(config) }),
    },
    { name: 'scrubbing', intervalMs: SCRUB_TICK_MS, task: () => scrubber.tick(SCRUB_TICK_MS, signal) },
    {
      name: 'metrics',
      intervalMs: METRICS_MS,
      task: async () => {
        const spareBytes = await store.objects.spareBytes()
        counters.observe({ store, peers, sync, spareBytes, halted: halted !== undefined })
      },
    },
    {
      name: 'self-check',
      intervalMs: FLOW_CHECK_MS,
      task: () => flowCheck.look({ synced: logSync.status().synced }),
    },
  ]
  const loops = tasks.map((task) => repeat({ ...task, log, signal }))
  stack.defer('upkeep', () => Promise.all(loops))
  // First of all: nobody needs to wait for an answer of the chain any more.
  stack.defer('chain calls', () => chain.close())
  peers.start(exchange)
  sync.start()
  log.info(
    { url, adminUrl, chainId: chain.id, flow: identity.flow, shard: formatShard(store.shard) },
    'storage node serves',
  )

  async function close(): Promise<void> {
    ending.abort(closed)
    await stack.close()
  }
  return { url, adminUrl, store, scrubber, halted: () => halted, wake: () => logSync.wake(), close }
}

/** One thread stays for the event loop where there is more than one. */
async function openHasher(
  threads: number | undefined,
  stack: ReturnType<typeof createCloseStack>,
): Promise<SegmentHasher> {
  const workers = threads ?? Math.min(4, availableParallelism() - 1)
  if (workers < 1) return thisThread
  const pool = await MerklePool.create({ workers })
  stack.defer('hashing', () => pool.close())
  return poolHasher(pool)
}

function expiryOf({ cache }: NodeConfig) {
  return {
    cacheExpiryMs: cache.expiryMs,
    revertedExpiryMs: cache.revertedExpiryMs,
    maxRevertedBytes: cache.maxRevertedBytes,
  }
}
