import { availableParallelism } from 'node:os'
import { z } from 'zod'
import type { ConfigAlias } from '#kit/config/load.ts'
import { devAccount, logFields } from '#kit/config/sections.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'
import { isShard, parseShard, type ShardConfig } from '#protocol/storage/shard.ts'

const shard = z
  .string()
  .transform((text, context): ShardConfig => {
    try {
      return parseShard(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
      return z.NEVER
    }
  })
  .refine(isShard)
  .meta({ type: 'id/count' })

const hash = z
  .string()
  .regex(/^(0x)?[0-9a-fA-F]{64}$/, 'expected 32 bytes: 0x and 64 hex digits')
  .transform((text): `0x${string}` => `0x${text.replace(/^0x/, '').toLowerCase()}`)
  .meta({ type: 'hash' })

const wei = z
  .union([z.bigint(), z.number().int().min(0).max(Number.MAX_SAFE_INTEGER), z.string().regex(/^\d{1,30}$/)])
  .transform((value) => BigInt(value))
  .meta({ type: 'wei' })

const address = configAddress()
const threads = z.number().int().min(1).max(256)

/** Every setting of a miner. In a file: TOML tables; in the environment `WEIGHTLESS_MINER_CHAIN_RPC_URLS` and so on. */
export const minerConfigSchema = z.object({
  data: z
    .object({
      dir: z.string().min(1).default('./miner-data').describe('Folder of the sealed copy and its tables'),
      shard: shard
        .prefault('0/1')
        .describe('Part of the flow that is mined; the nodes below must hold it. Fixed for a data folder'),
      maxSealedBytes: configBytes({ min: 2 ** 18 })
        .optional()
        .describe('Largest sealed copy; the earliest data is sealed first. Unset: all of the shard'),
      minFreeBytes: configBytes()
        .default(2 ** 30)
        .describe('Sealing stops when the disk has less free space'),
    })
    .prefault({}),
  chain: z.object({
    rpcUrls: z.array(configUrl()).min(1).describe('JSON-RPC endpoints of the chain, in order of preference'),
    id: z.number().int().positive().optional().describe('Chain id the endpoints must have. Unset: whatever they have'),
    flow: address.describe('Address of the Flow contract'),
    mine: address.describe('Address of the mining contract'),
    reward: address.describe('Address of the reward contract'),
    pollIntervalMs: configDurationMs({ min: 20 })
      .default(2_000)
      .describe('How often the chain is asked for its context'),
    waitMs: configDurationMs().default(60_000).describe('How long the start waits for a chain that does not answer'),
    recordContexts: z
      .boolean()
      .default(true)
      .describe('Call makeContext when an epoch with data of this shard is not recorded by anybody else'),
  }),
  nodes: z.object({
    urls: z.array(configUrl()).min(1).describe('Storage nodes that hold the shard, in order of preference'),
    stallTimeoutMs: configDurationMs({ min: 50 })
      .default(20_000)
      .describe('A node that sends no byte for so long is left for another'),
    retryIntervalMs: configDurationMs({ min: 10 })
      .default(15_000)
      .describe('Pause before data that no node had is asked for again'),
    refreshIntervalMs: configDurationMs({ min: 100 })
      .default(600_000)
      .describe('How often segments that were only partly there are asked for again'),
  }),
  key: z
    .object({
      keystore: z.string().min(1).optional().describe('Keystore of the account that pays for gas'),
      passwordFile: z.string().min(1).optional().describe('File whose first line is its password'),
      devAccount,
    })
    .prefault({}),
  mining: z
    .object({
      enabled: z.boolean().default(true).describe('False seals only'),
      minerId: hash.optional().describe('Use this id. Unset: the one of the data folder, else a new one is registered'),
      seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0).describe('Seed of a new id'),
      beneficiary: address
        .optional()
        .describe('Account that earns; need not be the one that pays for gas. Unset: the same'),
      threads: threads.default(Math.max(1, availableParallelism() - 1)).describe('Threads that mine'),
      cpuPercent: z
        .number()
        .min(1)
        .max(100)
        .default(100)
        .describe('Part of their time that mining threads work, in per cent'),
    })
    .prefault({}),
  sealing: z.object({ threads: threads.default(1).describe('Threads that seal') }).prefault({}),
  submission: z
    .object({
      maxFeePerGasWei: wei.optional().describe('Never pay more per gas, replacements included'),
      maxPriorityFeePerGasWei: wei.optional().describe('Never tip more per gas'),
      maxGas: wei.optional().describe('Refuse to send an answer that needs more gas'),
      bumpPercent: z
        .number()
        .min(10)
        .max(1_000)
        .default(15)
        .describe('How much more a replacement offers, in per cent'),
      stuckAfterMs: configDurationMs({ min: 100 }).default(15_000).describe('Replace when not mined for so long'),
      maxReplacements: z.number().int().min(0).max(100).default(5).describe('Replacements of one transaction'),
      legacy: z.boolean().default(false).describe('Send transactions with gasPrice'),
      maxQueued: z.number().int().min(1).max(1_000).default(20).describe('Answers that wait; further ones are dropped'),
      maxInFlight: z.number().int().min(1).max(16).default(4).describe('Answers sent and not settled at a time'),
      marginBlocks: z
        .number()
        .int()
        .min(0)
        .max(1_000)
        .default(1)
        .describe('An answer is not sent when its window ends within so many blocks'),
      confirmations: z
        .number()
        .int()
        .min(1)
        .max(1_000)
        .default(1)
        .describe('Blocks until an answer counts as accepted'),
      recheckIntervalMs: configDurationMs({ min: 50 })
        .default(30_000)
        .describe('How often it is checked that accepted answers are still on the chain'),
    })
    .prefault({}),
  rewards: z
    .object({
      withdrawAboveWei: wei
        .optional()
        .describe('Withdraw to the beneficiary whenever so much is claimable. Unset: only on request'),
      checkIntervalMs: configDurationMs({ min: 50 }).default(30_000).describe('How often the balance is looked at'),
    })
    .prefault({}),
  listen: configListen()
    .default({ host: '127.0.0.1', port: 5680 })
    .describe('Address of /healthz, /metrics and /v1/status'),
  log: z
    .object({
      ...logFields,
      statusIntervalMs: configDurationMs({ min: 100 })
        .default(5_000)
        .describe('How often a line says what the miner does'),
    })
    .prefault({}),
})

/** The configuration after checks and defaults. */
export type MinerConfig = z.output<typeof minerConfigSchema>

/** What may be left out of it. */
export type MinerConfigInput = z.input<typeof minerConfigSchema>

/** Environment prefix of {@link minerConfigSchema}. */
export const MINER_ENV_PREFIX = 'WEIGHTLESS_MINER'

/** Environment prefix of the names in {@link MINER_CONFIG_ALIASES}. */
export const MINER_ALIAS_ENV_PREFIX = 'ZGS_NODE__'

const asList = (value: unknown): unknown => (typeof value === 'string' ? value.split(/[\s,]+/).filter(Boolean) : value)
const secondsToMs = (value: unknown): unknown =>
  typeof value === 'number' || typeof value === 'bigint' ? Number(value) * 1_000 : value
const KEY = 'keys are not taken from here: weightless key import FILE, then set key.keystore'
const NODE = 'a setting of the storage node, which is a program of its own'

/** Names of 0G's `zgs_node` configuration, so that its mining settings work here (storage-node §10.1). */
export const MINER_CONFIG_ALIASES: Readonly<Record<string, ConfigAlias>> = {
  blockchain_rpc_endpoint: { key: 'chain.rpcUrls', convert: asList },
  log_contract_address: 'chain.flow',
  mine_contract_address: 'chain.mine',
  reward_contract_address: 'chain.reward',
  mine_context_query_seconds: { key: 'chain.pollIntervalMs', convert: secondsToMs },
  miner_id: 'mining.minerId',
  miner_cpu_percentage: 'mining.cpuPercent',
  shard_position: 'data.shard',
  'submission_config.max_gas_price': 'submission.maxFeePerGasWei',
  'submission_config.max_gas': 'submission.maxGas',
  'submission_config.max_retries': 'submission.maxReplacements',
  'submission_config.interval_secs': { key: 'submission.stuckAfterMs', convert: secondsToMs },
  'submission_config.initial_gas_price': { ignored: 'the first price follows the chain' },
  'submission_config.gas_increase_factor': { ignored: 'set submission.bumpPercent' },
  miner_key: { ignored: KEY },
  mine_iter_batch_size: { ignored: 'batches are of a fixed size' },
  db_dir: { ignored: 'set data.dir: the sealed copy is apart from the node’s data' },
  network_dir: { ignored: NODE },
  log_sync_start_block_number: { ignored: NODE },
  confirmation_block_count: { ignored: NODE },
  log_config_file: { ignored: 'set log.level and log.file' },
  log_directory: { ignored: 'set log.file' },
}
