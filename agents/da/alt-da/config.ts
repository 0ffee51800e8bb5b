import { z } from 'zod'
import { devAccount } from '#kit/config/sections.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'
import { LOG_LEVELS } from '#kit/log.ts'
import { MAX_BLOB_BYTES } from '#protocol/da/constants.ts'
import { LAYER_BYTE } from './commitment.ts'

/** Every setting of an alt-DA server. In the environment `WEIGHTLESS_ALT_DA_CHAIN_RPC_URLS` and so on. */
export const altDaConfigSchema = z.object({
  data: z
    .object({
      dir: z.string().min(1).default('./alt-da-data').describe('Folder of commitments given and of keccak inputs'),
      maxBytes: configBytes({ min: 2 ** 20 })
        .default(16 * 2 ** 30)
        .describe('Largest space of inputs put in keccak mode'),
      minFreeBytes: configBytes()
        .default(2 ** 28)
        .describe('Such inputs are refused when the disk would have less free space'),
    })
    .prefault({}),
  chain: z.object({
    rpcUrls: z.array(configUrl()).min(1).describe('JSON-RPC endpoints of the DA chain, in order of preference'),
    id: z.number().int().positive().optional().describe('Chain id the endpoints must have. Unset: whatever they have'),
    signers: configAddress().describe('Address of the DASigners contract'),
    entrance: configAddress().describe('Address of the DAEntrance contract'),
    startBlock: z.number().int().min(0).default(0).describe('Block of the contracts’ deployment'),
    confirmations: z
      .number()
      .int()
      .min(1)
      .max(10_000)
      .default(6)
      .describe('Blocks, its own counted, before a commitment is given out'),
    pollIntervalMs: configDurationMs({ min: 20 }).default(500).describe('How often new blocks are looked for'),
  }),
  key: z
    .object({
      keystore: z
        .string()
        .min(1)
        .optional()
        .describe('Keystore of the account that pays for blobs. Unset: reading only'),
      passwordFile: z.string().min(1).optional().describe('File whose first line is its password'),
      devAccount,
    })
    .prefault({}),
  retentionEpochs: z
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .describe('Epochs that inputs are paid for. Unset: the shortest the contract takes'),
  layerByte: z
    .number()
    .int()
    .min(0)
    .max(255)
    .default(LAYER_BYTE)
    .describe('Byte that tells this DA layer in generic commitments'),
  putTimeoutMs: configDurationMs({ min: 1_000 }).default(60_000).describe('A put that takes longer answers 503'),
  getTimeoutMs: configDurationMs({ min: 1_000 }).default(60_000).describe('A get that takes longer answers 503'),
  maxInputBytes: configBytes({ min: 1, max: MAX_BLOB_BYTES }).default(MAX_BLOB_BYTES).describe('Largest input taken'),
  maxRequests: z.number().int().min(1).max(1_000).default(32).describe('Requests at a time; more answer 429'),
  listen: configListen().default({ host: '127.0.0.1', port: 3_100 }).describe('HTTP address, as host:port'),
  log: z
    .object({
      level: z.enum(LOG_LEVELS).default('info').describe('Least level written'),
      file: z.string().min(1).optional().describe('Write to this file instead of standard output'),
    })
    .prefault({}),
})

/** The configuration after checks and defaults. */
export type AltDaConfig = z.output<typeof altDaConfigSchema>

/** What may be left out of it. */
export type AltDaConfigInput = z.input<typeof altDaConfigSchema>

/** Environment prefix of {@link altDaConfigSchema}. */
export const ALT_DA_ENV_PREFIX = 'WEIGHTLESS_ALT_DA'
