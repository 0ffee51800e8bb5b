import { z } from 'zod'
import { devAccount, logSection, trustedProxies } from '#kit/config/sections.ts'

const httpUrl = z
  .string()
  .max(2048)
  .regex(/^https?:\/\/[^\s]+$/, 'expected an http(s) address such as http://127.0.0.1:8545')
  .transform((url) => url.replace(/\/+$/, ''))
const durationMs = z
  .number()
  .int()
  .min(1)
  .max(7 * 86_400_000)
const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/, 'expected 20 bytes in 0x hex')
const hash = z.string().regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes in 0x hex')
const wei = z
  .union([z.string().regex(/^\d{1,39}$/, 'expected a whole number of wei'), z.number().int().min(0)])
  .transform((value) => BigInt(value))
const count = (max: number) => z.number().int().min(1).max(max)

/** A base model on offer. */
export const baseModelSchema = z.object({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'expected letters, digits, ., _ and -'),
  path: z.string().min(1).describe('GGUF file'),
  aliases: z.array(hash).max(16).default([]).describe('Hashes by which public clients ask for it, beside its root'),
  description: z.string().max(1_000).default(''),
  coefficientMilli: count(1_000_000).default(1_000).describe('Thousandths of the price per token'),
  recipe: z
    .record(z.string(), z.unknown())
    .default({})
    .describe('Settings of the trainer that tasks do not set: rank, alpha, targets, heldOutShare …'),
})

/** Configuration of a fine-tuning provider; every key with its meaning, limits and default. */
export const fineTuningConfigSchema = z.object({
  host: z.string().min(1).max(255).default('127.0.0.1').describe('Address to listen on; 0.0.0.0 for every interface'),
  port: z.number().int().min(0).max(65_535).default(8090).describe('Port to listen on; 0 lets the system choose'),
  dataDir: z.string().min(1).default('.weightless/fine-tuning').describe('Folder of tasks, artefacts and signing key'),
  key: z
    .object({
      keystore: z.string().min(1).optional().describe("Keystore of the provider's wallet"),
      passwordFile: z.string().min(1).optional().describe("File with the keystore's password"),
      devAccount,
    })
    .prefault({}),
  models: z.array(baseModelSchema).min(1).max(64).describe('Base models on offer'),
  trainer: z
    .object({
      command: z.array(z.string()).min(1).max(64).optional().describe('An external trainer; default the own one'),
      device: z.enum(['wasm', 'webgpu']).default('wasm').describe('Device of the own trainer'),
      threads: count(64).default(1).describe('Threads of the own trainer'),
      devices: count(64).default(1).describe('Tasks trained at once: one for each device'),
      silenceMs: durationMs.default(600_000).describe('A trainer that says nothing for so long is stopped'),
      stopMs: durationMs
        .default(60_000)
        .describe('Time for a checkpoint between asking a trainer to stop and killing it'),
      crashes: count(100).default(3).describe('Crashes after which a task is given up'),
    })
    .prefault({}),
  limits: z
    .object({
      datasetBytes: count(2 ** 28)
        .default(100 * 2 ** 20)
        .describe('Largest dataset'),
      datasetsPerUser: count(1_000)
        .default(4)
        .describe('Sent datasets of one user that are kept; the oldest gives way'),
      uploads: count(64).default(2).describe('Datasets received at once'),
      queued: count(10_000).default(5).describe('Tasks waiting; more are refused'),
      prepareMs: durationMs.default(600_000).describe('Limit for reading and counting a dataset'),
      requestsPerMinute: count(1e6).default(600).describe('Of one address'),
    })
    .prefault({}),
  publicProgress: z
    .boolean()
    .default(true)
    .describe("Tell who asks without a session token, as 0G's clients do, a task's id and progress, and nothing else"),
  chain: z.object({
    rpcUrls: z.array(httpUrl).min(1).max(16).default(['http://127.0.0.1:8545']).describe('RPC endpoints of the chain'),
    id: z.number().int().positive().optional().describe('Refuse endpoints of another chain'),
    fineTuning: address.describe('The FineTuningServing contract'),
    waitMs: durationMs.default(60_000).describe('How long to wait at the start for the chain to come up'),
    pollIntervalMs: durationMs.default(500).describe('Pause between two looks for a receipt'),
  }),
  storage: z
    .object({
      indexerUrl: httpUrl.optional().describe('Indexer of the storage network; without it artefacts stay here'),
      nodes: z.array(httpUrl).max(64).default([]).describe('Storage nodes to use instead'),
      flow: address.optional().describe('Flow contract; default the one the nodes follow'),
      replicas: count(16).default(1).describe('Times that artefacts and records are stored'),
      attempts: count(1_000).default(20).describe('Tries to deliver before a task is given up'),
      retryMs: durationMs.default(5_000).describe('Pause after the first failed try; doubles'),
      timeoutMs: durationMs.default(180_000).describe('Limit of each wait for the storage network'),
    })
    .prefault({}),
  fees: z.object({ storageWei: wei.default(0n).describe('Added to each task for storing its result') }).prefault({}),
  settlement: z
    .object({
      intervalMs: durationMs.default(5_000).describe('Pause between two looks for acknowledgements'),
      acknowledgeMs: durationMs
        .default(6 * 3_600_000)
        .describe('After so long (at most half of the lock time) an unacknowledged deliverable is settled for a part'),
      retryMs: durationMs.default(60_000).describe('Pause before a refused settlement is tried again'),
    })
    .prefault({}),
  artefactDays: z.number().min(0.001).max(365).default(3).describe('How long artefacts can be fetched here'),
  queueUrl: z
    .string()
    .regex(/^(redis|rediss|postgres|postgresql):\/\//, 'expected redis://… or postgres://…')
    .optional()
    .describe('Queue of the jobs. Default: QUEUE_URL, else an embedded one (about 550 MB)'),
  attestation: z
    .object({
      kind: z
        .enum(['none', 'simulated', 'dstack'])
        .default('none')
        .describe('Where the signing key lives: no TEE, a simulated one (chain 31337 only), a dstack TDX guest'),
      dstackSocket: z.string().min(1).default('/var/run/dstack.sock').describe("Socket of dstack's guest agent"),
    })
    .prefault({}),
  trustedProxies,
  log: logSection,
})
export type FineTuningConfig = z.output<typeof fineTuningConfigSchema>
