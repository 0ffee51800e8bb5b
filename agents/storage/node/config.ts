import { z } from 'zod'
import type { ConfigAlias } from '#kit/config/load.ts'
import { logSection } from '#kit/config/sections.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'
import { SECTOR_BYTES } from '#protocol/storage/constants.ts'
import { isShard, parseShard } from '#protocol/storage/shard.ts'

const shardText = z
  .string({ error: 'expected id/count, as 0/1 or 3/4' })
  .transform((text, context) => {
    const [, id, count] = /^\s*(\d{1,8})\/(\d{1,8})\s*$/.exec(text) ?? []
    const shard = { shardId: Number(id), numShard: Number(count) }
    if (isShard(shard)) return parseShard(text)
    context.addIssue({ code: 'custom', message: 'expected id/count with a power of two as count, as 0/1 or 3/4' })
    return z.NEVER
  })
  .meta({ type: 'id/count' })

const dataSection = z.object({
  dir: z.string().min(1).default('./node-data').describe('Folder of the node: database and stored segments'),
  minFreeBytes: configBytes()
    .default(256 * 2 ** 20)
    .describe('Segments are refused when the disk has less free space than this'),
  maxSectors: z
    .number()
    .int()
    .min(1)
    .optional()
    .describe('Capacity in sectors of 256 bytes; at 90 % the node halves its shard. Unset: no limit'),
  shard: shardText.prefault('0/1').describe('Shard of a new data folder; an existing one keeps its own'),
  scrubIntervalMs: configDurationMs({ min: 1_000, max: Number.MAX_SAFE_INTEGER })
    .default(30 * 86_400_000)
    .describe('Every stored segment is read and hashed again once in this time'),
  pruneIntervalMs: configDurationMs({ min: 10 })
    .default(60_000)
    .describe('How often capacity and rewards are looked at'),
  pruneBatchSectors: z
    .number()
    .int()
    .min(1_024)
    .default(16_384)
    .describe('Sectors removed at a time when data is given up'),
  pruneBatchPauseMs: configDurationMs().default(1_000).describe('Pause between such batches'),
})

const chainSection = z.object({
  rpcUrls: z.array(configUrl()).min(1).describe('JSON-RPC endpoints of the chain, in order of preference'),
  id: z.number().int().positive().optional().describe('Chain id the endpoints must have. Unset: whatever they have'),
  flow: configAddress().describe('Address of the Flow contract'),
  reward: configAddress().optional().describe('Address of the reward contract; data it no longer pays for is pruned'),
  startBlock: z.number().int().min(0).default(0).describe('Block of the deployment of Flow: sync begins there'),
  confirmations: z
    .number()
    .int()
    .min(0)
    .max(10_000)
    .default(3)
    .describe('Blocks on top before a submission counts; 0 or 1 on a chain that does not fork'),
  pageSizeBlocks: z.number().int().min(1).max(100_000).default(999).describe('Most blocks asked for at once'),
  pollIntervalMs: configDurationMs({ min: 10 }).default(500).describe('How often the chain is looked at'),
  timeoutMs: configDurationMs({ min: 100 }).default(15_000).describe('Limit of one call to an endpoint'),
  waitMs: configDurationMs().default(60_000).describe('How long the start waits for a chain that does not answer yet'),
})

const rpcSection = z.object({
  listen: configListen().prefault('0.0.0.0:5678').describe('Public address: zgs_* methods and the binary segment path'),
  listenAdmin: configListen()
    .prefault('127.0.0.1:5679')
    .describe('Address of admin_* methods; the same as `listen` puts all on one port'),
  maxRequestBodyBytes: configBytes({ min: 2 ** 20 })
    .default(100 * 2 ** 20)
    .describe('Largest JSON-RPC request'),
  maxBodyMemoryBytes: configBytes({ min: 2 ** 20 })
    .default(32 * 2 ** 20)
    .describe('Memory for JSON-RPC requests under way; more wait their turn'),
  maxUploads: z.number().int().min(1).default(64).describe('Binary uploads served at a time; more wait their turn'),
  maxWriteMemoryBytes: configBytes({ min: 2 ** 20 })
    .default(8 * 2 ** 20)
    .describe('Memory for segments being checked and written; more wait their turn'),
  stallTimeoutMs: configDurationMs({ min: 100 })
    .default(30_000)
    .describe('A request or answer that moves no byte for so long is cut off'),
  rateLimitPerMinute: z
    .number()
    .int()
    .min(1)
    .optional()
    .describe('Requests allowed per address and minute. Unset: no limit'),
  trustedProxies: z.array(z.string()).optional().describe('Proxies whose X-Forwarded-For is believed'),
  hashThreads: z
    .number()
    .int()
    .min(0)
    .max(64)
    .optional()
    .describe('Threads that hash segments; 0 hashes on the main thread. Unset: one less than the cores, at most 4'),
})

const cacheSection = z.object({
  maxFileBytes: configBytes()
    .default(10 * 2 ** 20)
    .describe('Largest file taken before its submission is known'),
  maxBytes: configBytes()
    .default(2 ** 30)
    .describe('All such files together, on disk'),
  expiryMs: configDurationMs({ min: 10 })
    .default(300_000)
    .describe('Such a file is dropped when no submission and no segment came for so long'),
  maxRevertedBytes: configBytes()
    .default(2 ** 30)
    .describe('Data kept of submissions that a reorganisation took back'),
  revertedExpiryMs: configDurationMs({ min: 10 }).default(3_600_000).describe('How long such data is kept'),
})

const syncSection = z.object({
  auto: z.boolean().default(true).describe('Fetch missing files from peers without being asked'),
  byRpc: z.boolean().default(true).describe('Allow admin_startSyncFile and admin_startSyncChunks'),
  peers: z.array(configUrl()).default([]).describe('Addresses of other nodes; one that knows others is enough'),
  indexerUrls: z.array(configUrl()).default([]).describe('Indexers that know further nodes'),
  publicUrl: configUrl()
    .optional()
    .describe('Address under which others reach this node. With it the node makes itself known to them'),
  peerRefreshMs: configDurationMs({ min: 50 }).default(30_000).describe('How often peers are asked how they are'),
  graceMs: configDurationMs()
    .default(20_000)
    .describe('A new file, or one still being uploaded, is left to its uploader for so long'),
  maxFiles: z.number().int().min(1).max(1_024).default(16).describe('Files fetched at a time'),
  maxRequestsPerFile: z.number().int().min(1).max(64).default(4).describe('Requests to peers at a time for one file'),
  segmentsPerRequest: z.number().int().min(1).max(1_024).default(16).describe('Segments asked for at once'),
  stallTimeoutMs: configDurationMs({ min: 50 })
    .default(15_000)
    .describe('A peer that sends no byte for so long is left for another'),
  retryMinMs: configDurationMs({ min: 10 }).default(2_000).describe('First pause before a failed file is tried again'),
  retryMaxMs: configDurationMs({ min: 10 }).default(600_000).describe('Longest such pause'),
  peerBanMs: configDurationMs({ min: 10 })
    .default(600_000)
    .describe('How long a peer that sent false data is left out; doubles each time'),
})

/** Every setting of a storage node. In a file: TOML tables, or `rpc_listen` at the top; in the environment `WEIGHTLESS_NODE_RPC_LISTEN`. */
export const nodeConfigSchema = z.object({
  data: dataSection.prefault({}),
  chain: chainSection,
  rpc: rpcSection.prefault({}),
  cache: cacheSection.prefault({}),
  sync: syncSection.prefault({}),
  log: logSection,
})

/** The configuration after checks and defaults. */
export type NodeConfig = z.output<typeof nodeConfigSchema>

/** What may be left out of it. */
export type NodeConfigInput = z.input<typeof nodeConfigSchema>

/** Environment prefix of {@link nodeConfigSchema}. */
export const NODE_ENV_PREFIX = 'WEIGHTLESS_NODE'

/** Environment prefix of the names in {@link NODE_CONFIG_ALIASES}. */
export const NODE_ALIAS_ENV_PREFIX = 'ZGS_NODE__'

const P2P = 'nodes of this project meet over HTTP: see sync.peers and sync.indexerUrls'
const CHAIN = 'the log follower adapts by itself'
const MINING = 'mining is a separate agent'
const TASKS = 'see sync.maxFiles and sync.maxRequestsPerFile'
const METRICS = 'metrics are always served at /metrics'

const asList = (value: unknown): unknown => (typeof value === 'string' ? value.split(/[\s,]+/).filter(Boolean) : value)
const chunksToBytes = (value: unknown): unknown =>
  typeof value === 'number' || typeof value === 'bigint' ? Number(value) * SECTOR_BYTES : value
const secondsToMs = (value: unknown): unknown =>
  typeof value === 'number' || typeof value === 'bigint' ? Number(value) * 1_000 : value
const ignored = (names: readonly string[], reason: string): Record<string, ConfigAlias> =>
  Object.fromEntries(names.map((name) => [name, { ignored: reason }]))

/** Names of 0G's `zgs_node` configuration, so that its files work here (storage-node §10.1). */
export const NODE_CONFIG_ALIASES: Readonly<Record<string, ConfigAlias>> = {
  db_dir: 'data.dir',
  db_max_num_sectors: 'data.maxSectors',
  db_max_num_chunks: 'data.maxSectors',
  shard_position: 'data.shard',
  prune_check_time_s: { key: 'data.pruneIntervalMs', convert: secondsToMs },
  prune_batch_size: 'data.pruneBatchSectors',
  prune_batch_wait_time_ms: 'data.pruneBatchPauseMs',
  blockchain_rpc_endpoint: { key: 'chain.rpcUrls', convert: asList },
  log_contract_address: 'chain.flow',
  reward_contract_address: 'chain.reward',
  log_sync_start_block_number: 'chain.startBlock',
  confirmation_block_count: 'chain.confirmations',
  log_page_size: 'chain.pageSizeBlocks',
  watch_loop_wait_time_ms: 'chain.pollIntervalMs',
  blockchain_rpc_timeout_secs: { key: 'chain.timeoutMs', convert: secondsToMs },
  listen_address: 'rpc.listen',
  listen_address_admin: 'rpc.listenAdmin',
  rpc_listen_address: 'rpc.listen',
  rpc_listen_address_admin: 'rpc.listenAdmin',
  'rpc.listen_address': 'rpc.listen',
  'rpc.listen_address_admin': 'rpc.listenAdmin',
  'rpc.max_request_body_size': 'rpc.maxRequestBodyBytes',
  'rpc.max_cache_file_size': 'cache.maxFileBytes',
  max_request_body_size: 'rpc.maxRequestBodyBytes',
  max_cache_file_size: 'cache.maxFileBytes',
  chunk_pool_max_cached_chunks_all: { key: 'cache.maxBytes', convert: chunksToBytes },
  chunk_pool_expiration_time_secs: { key: 'cache.expiryMs', convert: secondsToMs },
  max_cache_data_size: 'cache.maxRevertedBytes',
  'sync.auto_sync_enabled': 'sync.auto',
  'sync.max_sync_files': 'sync.maxFiles',
  'sync.sync_file_by_rpc_enabled': 'sync.byRpc',
  'sync.peer_chunks_download_timeout': 'sync.stallTimeoutMs',
  auto_sync_enabled: 'sync.auto',
  max_sync_files: 'sync.maxFiles',
  sync_file_by_rpc_enabled: 'sync.byRpc',
  peer_chunks_download_timeout: 'sync.stallTimeoutMs',
  log_directory: { ignored: 'set log.file' },
  log_config_file: { ignored: 'set log.level and log.file' },
  ...ignored(
    [
      'network_dir',
      'network_listen_address',
      'network_enr_address',
      'network_enr_tcp_port',
      'network_enr_udp_port',
      'network_libp2p_port',
      'network_discovery_port',
      'network_target_peers',
      'network_boot_nodes',
      'network_libp2p_nodes',
      'network_private',
      'network_disable_discovery',
    ],
    P2P,
  ),
  ...ignored(
    [
      'force_log_sync_from_start_block_number',
      'cache_tx_seq_ttl',
      'rate_limit_retries',
      'timeout_retries',
      'initial_backoff',
      'recover_query_delay',
      'default_finalized_block_count',
      'remove_finalized_block_interval_minutes',
    ],
    CHAIN,
  ),
  ...ignored(
    [
      'mine_contract_address',
      'miner_key',
      'miner_id',
      'miner_cpu_percentage',
      'mine_iter_batch_size',
      'mine_context_query_seconds',
      'submission_config',
    ],
    MINING,
  ),
  ...ignored(
    [
      'sync.max_request_failures',
      'sync.peer_connect_timeout',
      'sync.peer_disconnect_timeout',
      'sync.peer_find_timeout',
      'sync.max_bandwidth_bytes',
      'sync.max_sequential_workers',
      'sync.max_random_workers',
      'sync.sequential_find_peer_timeout',
      'sync.random_find_peer_timeout',
      'sync.neighbors_only',
    ],
    TASKS,
  ),
  ...ignored(['chunk_pool_write_window_size', 'chunk_pool_max_writings'], 'writes wait their turn instead'),
  ...ignored(['merkle_node_cache_capacity'], 'the flow tree lives on disk'),
  ...ignored(
    ['rpc.enabled', 'rpc.listen_address_grpc', 'rpc.chunks_per_segment', 'listen_address_grpc', 'chunks_per_segment'],
    'this node speaks JSON-RPC and HTTP, with segments of 1,024 sectors',
  ),
  ...ignored(['router', 'file_location_cache'], P2P),
  ...ignored(['metrics'], METRICS),
}
