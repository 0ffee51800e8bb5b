import { z } from 'zod'
import type { ConfigAlias } from '#kit/config/load.ts'
import { logSection } from '#kit/config/sections.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'

const streamId = z
  .string()
  .regex(/^(0x)?[0-9a-fA-F]{64}$/, 'expected a stream id of 64 hex digits')
  .transform((text): `0x${string}` => `0x${text.replace(/^0x/, '').toLowerCase()}`)

/** Every setting of a key-value node. */
export const kvConfigSchema = z.object({
  streamIds: z.array(streamId).max(10_000).default([]).describe('Streams to replay; adding one replays from the start'),
  allStreams: z
    .object({
      enabled: z
        .boolean()
        .default(false)
        .describe('Also replay every stream that anybody writes, from its first write'),
      maxStreams: z
        .number()
        .int()
        .min(1)
        .max(1_000_000)
        .default(10_000)
        .describe('Streams replayed in all; later ones are passed over'),
      maxBytes: configBytes({ min: 1 })
        .default(16 * 2 ** 30)
        .describe('Stream data on the chain after which no further stream is taken'),
    })
    .prefault({}),
  encryption: z
    .object({
      keyFile: z
        .string()
        .min(1)
        .optional()
        .describe('File with the key of 64 hex digits that the streams are encrypted with'),
      key: z.string().min(1).meta({ secret: true }).optional().describe('That key itself, in place of keyFile'),
      keystore: z.string().min(1).optional().describe('Keystore of the account that the streams are encrypted for'),
      passwordFile: z.string().min(1).optional().describe('File whose first line is its password'),
      walletKey: z
        .string()
        .min(1)
        .meta({ secret: true })
        .optional()
        .describe('Its private key, in place of a keystore'),
    })
    .refine(
      ({ keyFile, key, keystore, walletKey }) =>
        [keyFile, key, keystore, walletKey].filter((given) => given !== undefined).length <= 1,
      'give one of keyFile, key, keystore and walletKey',
    )
    .describe('Set when the streams are encrypted: then everything else in them is refused')
    .prefault({}),
  data: z
    .object({ dir: z.string().min(1).default('./kv-data').describe('Folder of the node: tables and values') })
    .prefault({}),
  chain: z.object({
    rpcUrls: z.array(configUrl()).min(1).describe('JSON-RPC endpoints of the chain, in order of preference'),
    id: z.number().int().positive().optional().describe('Chain id the endpoints must have. Unset: whatever they have'),
    flow: configAddress().describe('Address of the Flow contract'),
    startBlock: z.number().int().min(0).default(0).describe('Block of the deployment of Flow: replay begins there'),
    confirmations: z.number().int().min(0).max(10_000).default(1).describe('Blocks on top before a write counts'),
    pollIntervalMs: configDurationMs({ min: 10 }).default(500).describe('How often the chain is looked at'),
    waitMs: configDurationMs().default(60_000).describe('How long the start waits for a chain that does not answer'),
  }),
  storage: z
    .object({
      indexerUrl: configUrl().optional().describe('Indexer that knows the storage nodes'),
      nodes: z.array(configUrl()).default([]).describe('Storage nodes to use instead of the indexer’s'),
    })
    .refine(({ indexerUrl, nodes }) => indexerUrl !== undefined || nodes.length > 0, 'give indexerUrl or nodes')
    .describe('Where the data of writes are fetched'),
  rpc: z
    .object({
      listen: configListen().default({ host: '127.0.0.1', port: 6789 }).describe('Address of the kv_* methods'),
      maxQueryBytes: configBytes({ min: 1 })
        .default(256 * 1024)
        .describe('Longest piece of a value that one call gives'),
    })
    .prefault({}),
  download: z
    .object({
      tries: z.number().int().min(1).max(10_000).default(20).describe('Tries before a write is passed over'),
      timeoutMs: configDurationMs({ min: 10 }).default(300_000).describe('Limit of one try'),
      retryIntervalMs: configDurationMs({ min: 1 }).default(3_000).describe('Pause between tries'),
      repairIntervalMs: configDurationMs({ min: 10 })
        .default(60_000)
        .describe('How often a write that was passed over is tried again'),
    })
    .prefault({}),
  log: logSection,
})

/** The configuration after checks and defaults. */
export type KvConfig = z.output<typeof kvConfigSchema>

/** Environment prefix of {@link kvConfigSchema}. */
export const KV_ENV_PREFIX = 'WEIGHTLESS_KV'

const asList = (value: unknown): unknown => (typeof value === 'string' ? value.split(/[\s,]+/).filter(Boolean) : value)
/** Names of 0G's `zgs_kv` configuration, so that its files work here (storage-node §7.7). */
export const KV_CONFIG_ALIASES: Readonly<Record<string, ConfigAlias>> = {
  db_dir: 'data.dir',
  blockchain_rpc_endpoint: { key: 'chain.rpcUrls', convert: asList },
  log_contract_address: 'chain.flow',
  log_sync_start_block_number: 'chain.startBlock',
  confirmation_block_count: 'chain.confirmations',
  watch_loop_wait_time_ms: 'chain.pollIntervalMs',
  rpc_listen_address: 'rpc.listen',
  max_query_len_in_bytes: 'rpc.maxQueryBytes',
  indexer_url: 'storage.indexerUrl',
  zgs_node_urls: { key: 'storage.nodes', convert: asList },
  download_timeout_ms: 'download.timeoutMs',
  download_retry_interval_ms: 'download.retryIntervalMs',
  encryption_key: 'encryption.key',
  wallet_private_key: 'encryption.walletKey',
}
