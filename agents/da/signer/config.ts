import { z } from 'zod'
import { logFields } from '#kit/config/sections.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'

const wei = z
  .union([z.bigint(), z.number().int().min(0).max(Number.MAX_SAFE_INTEGER), z.string().regex(/^\d{1,30}$/)])
  .transform((value) => BigInt(value))
  .meta({ type: 'wei' })

const devAccount = z.number().int().min(0).max(19)

/** Every setting of a signer. In a file: TOML tables; in the environment `WEIGHTLESS_DA_SIGNER_CHAIN_RPC_URLS` and so on. */
export const signerConfigSchema = z.object({
  data: z
    .object({
      dir: z.string().min(1).default('./da-signer-data').describe('Folder of the rows and their tables'),
      maxBytes: configBytes({ min: 2 ** 20 })
        .default(64 * 2 ** 30)
        .describe('Largest space of all rows; uploads beyond it are refused'),
      minFreeBytes: configBytes()
        .default(2 ** 30)
        .describe('Uploads are refused when the disk would have less free space'),
      pruneIntervalMs: configDurationMs({ min: 50 })
        .default(60_000)
        .describe('How often rows whose retention is over are removed'),
      pruneGraceEpochs: z
        .number()
        .int()
        .min(0)
        .max(1_000)
        .default(1)
        .describe('Epochs that rows are kept after their retention, for late custody requests'),
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
      .min(0)
      .max(10_000)
      .default(3)
      .describe('Blocks on top of a submission before its rows are signed'),
    pageSizeBlocks: z.number().int().min(1).max(100_000).default(999).describe('Most blocks asked for at once'),
    pollIntervalMs: configDurationMs({ min: 20 }).default(1_000).describe('How often new blocks are looked for'),
    waitMs: configDurationMs().default(60_000).describe('How long the start waits for a chain that does not answer'),
  }),
  key: z
    .object({
      keystore: z.string().min(1).optional().describe('Keystore of the account that holds the stake and pays for gas'),
      passwordFile: z.string().min(1).optional().describe('File whose first line is its password'),
      devAccount: devAccount
        .optional()
        .describe('Use this publicly known account instead; on chain 31337 of this machine only'),
    })
    .prefault({}),
  bls: z
    .object({
      keystore: z
        .string()
        .min(1)
        .optional()
        .describe(
          'Keystore of the key that signs blobs; an account can never have another. Unset: beside the account’s keystore (NAME.bls.json), or bls.json in the data folder; made when missing',
        ),
      passwordFile: z
        .string()
        .min(1)
        .optional()
        .describe('File whose first line is its password. Unset: the account’s'),
      devAccount: devAccount
        .optional()
        .describe('Use a publicly known key made from this account’s; on chain 31337 of this machine only'),
    })
    .prefault({}),
  stake: z
    .object({
      register: z.boolean().default(true).describe('Register at the start when the account is no signer yet'),
      initialWei: wei.optional().describe('Stake given with the registration. Unset: the least the contract takes'),
    })
    .prefault({}),
  epochs: z
    .object({
      make: z
        .boolean()
        .default(false)
        .describe(
          'Put the event of each new epoch on the chain, for programs that wait for it; epochs begin without it',
        ),
      checkIntervalMs: configDurationMs({ min: 50 }).default(5_000).describe('How often membership is looked at'),
    })
    .prefault({}),
  sampling: z
    .object({
      enabled: z.boolean().default(true).describe('Take part in the sampling lottery'),
      pollIntervalMs: configDurationMs({ min: 50 }).default(3_000).describe('How often a new round is looked for'),
      minRewardWei: wei
        .default(1n)
        .describe('Answer only while a sample pays at least so much; the gas of an answer is a good choice'),
      maxRows: z
        .number()
        .int()
        .min(1)
        .max(10_000_000)
        .default(1_000_000)
        .describe('Rows looked at in one round; others wait for the next'),
    })
    .prefault({}),
  custody: z
    .object({
      answer: z.boolean().default(true).describe('Answer custody requests'),
      pollIntervalMs: configDurationMs({ min: 50 }).default(2_000).describe('Pause between two tries'),
      maxInFlight: z.number().int().min(1).max(64).default(8).describe('Answers under way at a time'),
    })
    .prefault({}),
  repair: z
    .object({
      enabled: z.boolean().default(true).describe('Fetch rows that were signed and are lost from the other signers'),
      intervalMs: configDurationMs({ min: 50 }).default(30_000).describe('Pause between two looks for lost rows'),
    })
    .prefault({}),
  uploads: z
    .object({
      maxConcurrent: z.number().int().min(1).max(1_000).default(16).describe('Uploads at a time; more are sent away'),
      stallTimeoutMs: configDurationMs({ min: 50 })
        .default(15_000)
        .describe('An upload that brings no byte for so long is cut'),
      minBytesPerSecond: configBytes({ min: 1 })
        .default(64 * 1024)
        .describe('An upload slower than this on the whole is cut'),
    })
    .prefault({}),
  verification: z
    .object({
      threads: z
        .number()
        .int()
        .min(1)
        .max(256)
        .optional()
        .describe('Threads that check rows. Unset: one for each core'),
      memoryBytes: configBytes({ min: 2 ** 24 })
        .default(192 * 2 ** 20)
        .describe('Memory for rows being checked or fetched anew; a blob of 32 MiB takes 98 MiB to be fetched'),
    })
    .prefault({}),
  downloads: z
    .object({
      maxConcurrent: z.number().int().min(1).max(10_000).default(64).describe('Answers with rows at a time'),
      rateLimitPerMinute: z
        .number()
        .int()
        .min(1)
        .optional()
        .describe('Requests per address and minute. Unset: no limit'),
    })
    .prefault({}),
  rewards: z
    .object({
      withdrawAboveWei: wei
        .optional()
        .describe('Withdraw earnings whenever so much is claimable. Unset: only on request'),
      checkIntervalMs: configDurationMs({ min: 50 }).default(30_000).describe('How often the balance is looked at'),
    })
    .prefault({}),
  submission: z
    .object({
      maxFeePerGasWei: wei.optional().describe('Never pay more per gas, replacements included'),
      maxPriorityFeePerGasWei: wei.optional().describe('Never tip more per gas'),
      legacy: z.boolean().default(false).describe('Send transactions with gasPrice'),
    })
    .prefault({}),
  listen: configListen()
    .default({ host: '127.0.0.1', port: 34_000 })
    .describe('Address of the row routes, /healthz, /metrics and /v1/status'),
  publicUrl: configUrl()
    .optional()
    .describe('Address under which others reach this signer; recorded on the chain. Unset: the listen address'),
  trustedProxies: z.array(z.string()).optional().describe('Proxies whose X-Forwarded-For is believed'),
  log: z
    .object({
      ...logFields,
      statusIntervalMs: configDurationMs({ min: 100 })
        .default(30_000)
        .describe('How often a line says what the signer does'),
    })
    .prefault({}),
})

/** The configuration after checks and defaults. */
export type SignerConfig = z.output<typeof signerConfigSchema>

/** What may be left out of it. */
export type SignerConfigInput = z.input<typeof signerConfigSchema>

/** Environment prefix of {@link signerConfigSchema}. */
export const SIGNER_ENV_PREFIX = 'WEIGHTLESS_DA_SIGNER'
