import { z } from 'zod'
import { devAccount } from '#kit/config/sections.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'
import { LOG_LEVELS } from '#kit/log.ts'

const wei = z
  .union([z.bigint(), z.number().int().min(0).max(Number.MAX_SAFE_INTEGER), z.string().regex(/^\d{1,30}$/)])
  .transform((value) => BigInt(value))
  .meta({ type: 'wei' })

/** Every setting of a disperser. In a file: TOML tables; in the environment `WEIGHTLESS_DISPERSER_CHAIN_RPC_URLS` … */
export const disperserConfigSchema = z.object({
  data: z
    .object({
      dir: z.string().min(1).default('./disperser-data').describe('Folder of accepted blobs, their states and jobs'),
      maxBytes: configBytes({ min: 2 ** 25 })
        .default(16 * 2 ** 30)
        .describe('Largest space of kept blobs; when it is full, no further ones are taken'),
      minFreeBytes: configBytes()
        .default(2 ** 30)
        .describe('Blobs are refused when the disk would have less free space'),
      keepMs: configDurationMs({ min: 1_000 })
        .default(86_400_000)
        .describe('How long a final blob stays here, for readers; afterwards it comes from the signers'),
    })
    .prefault({}),
  chain: z.object({
    rpcUrls: z.array(configUrl()).min(1).describe('JSON-RPC endpoints of the chain, in order of preference'),
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
      .describe('Blocks, its own counted, after which a confirmation is final'),
    pollIntervalMs: configDurationMs({ min: 20 }).default(1_000).describe('How often new blocks are looked for'),
  }),
  key: z
    .object({
      keystore: z.string().min(1).optional().describe('Keystore of the account that pays for blobs and gas'),
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
    .describe('Epochs that blobs are paid for. Unset: the shortest the contract takes'),
  fees: z
    .object({
      accounts: configAddress()
        .optional()
        .describe('Address of the DispersalAccounts contract, where users deposit. Unset: blobs are free'),
      mode: z
        .enum(['required', 'optional', 'free'])
        .default('required')
        .describe(
          'Whether blobs need a voucher of their user: required; optional (who sends none pays nothing, as clients of 0G’s protocol do); free (vouchers are not looked at)',
        ),
      marginBps: z
        .number()
        .int()
        .min(0)
        .max(1_000_000)
        .default(1_000)
        .describe('Added to what the chain asks for a blob, in hundredths of a percent of it'),
      gasFeeWei: wei.default(0n).describe('Added for each blob, for the disperser’s gas, wei'),
      minVoucherLifetimeMs: configDurationMs({ min: 60_000 })
        .default(3_600_000)
        .describe('Vouchers that end sooner are refused'),
      claimIntervalMs: configDurationMs({ min: 100 })
        .default(60_000)
        .describe('How often it is looked what to claim; much shorter than the contract’s lock time'),
      earnOverGas: z
        .number()
        .min(1)
        .max(1_000)
        .default(10)
        .describe(
          'A claim waits until it brings so many times its gas, unless it is about to be withdrawn or to expire',
        ),
      maxUnclaimedMs: configDurationMs({ min: 1_000 })
        .default(7 * 86_400_000)
        .describe('After this a claim need only be worth its gas'),
    })
    .prefault({}),
  jobs: z
    .object({
      queueUrl: z
        .string()
        .regex(/^(redis|rediss|postgres|postgresql):\/\//, 'expected redis://… or postgres://…')
        .optional()
        .describe('Queue of the jobs. Default: QUEUE_URL, else an embedded one in the data folder'),
      concurrency: z.number().int().min(1).max(64).default(4).describe('Blobs worked on at a time'),
      attempts: z.number().int().min(1).max(100).default(6).describe('Tries before a blob is reported as failed'),
      batchMs: configDurationMs({ min: 0, max: 60_000 })
        .default(100)
        .describe('How long blobs wait for others to share a transaction with'),
    })
    .prefault({}),
  listen: configListen().default({ host: '127.0.0.1', port: 51_002 }).describe('HTTP address, as host:port'),
  listenGrpc: configListen().default({ host: '127.0.0.1', port: 51_001 }).describe('gRPC address, as host:port'),
  rateLimitPerMinute: z
    .number()
    .int()
    .min(0)
    .max(1_000_000)
    .default(0)
    .describe('HTTP requests per address; 0 for any'),
  maxUploads: z
    .number()
    .int()
    .min(1)
    .max(1_000)
    .default(16)
    .describe('Blobs received at a time; more wait or are refused'),
  log: z
    .object({
      level: z.enum(LOG_LEVELS).default('info').describe('Least level written'),
      file: z.string().min(1).optional().describe('Write to this file instead of standard output'),
    })
    .prefault({}),
})

/** The configuration after checks and defaults. */
export type DisperserConfig = z.output<typeof disperserConfigSchema>

/** What may be left out of it. */
export type DisperserConfigInput = z.input<typeof disperserConfigSchema>

/** Environment prefix of {@link disperserConfigSchema}. */
export const DISPERSER_ENV_PREFIX = 'WEIGHTLESS_DISPERSER'
