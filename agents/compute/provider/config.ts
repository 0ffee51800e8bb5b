import { z } from 'zod'
import { devAccount, logSection, trustedProxies } from '#kit/config/sections.ts'

const httpUrl = z
  .string()
  .max(2048)
  .regex(/^https?:\/\/[^\s]+$/, 'expected an http(s) address such as http://127.0.0.1:8000')
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

/** Configuration of an inference provider; every key with its meaning, limits and default. */
export const providerConfigSchema = z.object({
  host: z.string().min(1).max(255).default('127.0.0.1').describe('Address to listen on; 0.0.0.0 for every interface'),
  port: z.number().int().min(0).max(65_535).default(8080).describe('Port to listen on; 0 lets the system choose'),
  dataDir: z.string().min(1).default('.weightless/provider').describe('Folder of the usage log and the signing key'),
  key: z
    .object({
      keystore: z.string().min(1).optional().describe("Keystore of the provider's wallet"),
      passwordFile: z.string().min(1).optional().describe("File with the keystore's password"),
      devAccount,
    })
    .prefault({}),
  model: z.string().min(1).optional().describe('GGUF file to serve from this process, instead of an upstream'),
  modelName: z
    .string()
    .min(1)
    .max(256)
    .optional()
    .describe('Name the model is asked for by; default that of the service'),
  modelRoot: z
    .string()
    .regex(/^0x[0-9a-fA-F]{64}$/)
    .optional()
    .describe("Storage root of the model's weights, for receipts"),
  upstream: httpUrl.optional().describe('OpenAI-compatible server to serve from instead: vLLM, llama-server, Ollama'),
  upstreamModel: z.string().min(1).max(256).optional().describe('Name of the model at the upstream; default its first'),
  upstreamTokenIds: z.boolean().default(false).describe('Ask the upstream for token ids (vLLM), for receipts'),
  upstreamKeyFile: z.string().min(1).optional().describe("File with the upstream's API key"),
  contextTokens: z
    .number()
    .int()
    .min(0)
    .max(2 ** 24)
    .default(0)
    .describe('Tokens that prompt and answer may have together; 0 for what the engine says'),
  engine: z
    .object({
      sequences: z
        .number()
        .int()
        .min(1)
        .max(256)
        .default(8)
        .describe('Requests the model answers at the same time; each takes the memory of one context'),
      threads: z
        .number()
        .int()
        .min(0)
        .max(1024)
        .default(0)
        .describe('Threads per evaluation; 0 for every core, and one for models below 100 MiB'),
      gpuLayers: z.number().int().min(0).max(1e4).optional().describe('Layers on the GPU; default as many as fit'),
      promptCache: z
        .boolean()
        .default(true)
        .describe(
          'Read again only what a prompt does not share with one before it; users can tell that somebody asked the same',
        ),
    })
    .prefault({})
    .describe('How a model file is served; an upstream has its own settings'),
  adapters: z
    .array(
      z.object({
        name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, 'expected letters, digits, _, . and -'),
        path: z.string().min(1).optional().describe('LoRA adapter in GGUF'),
        root: hash.optional().describe('Storage root, instead of a file or to be compared with it'),
        upstreamModel: z.string().min(1).max(256).optional().describe('Name at the upstream; default its name here'),
      }),
    )
    .max(256)
    .default([])
    .describe('LoRA adapters of the model that are asked for by name, as MODEL:NAME'),
  storage: z
    .object({
      indexerUrl: httpUrl
        .optional()
        .describe('Indexer of the storage network that adapters are fetched from when asked for as MODEL:0xROOT'),
      nodes: z.array(httpUrl).max(64).default([]).describe('Storage nodes to use instead'),
      timeoutMs: durationMs.default(20_000).describe('Limit of a fetch in which no byte moves'),
    })
    .prefault({}),
  adapterLimits: z
    .object({
      maxBytes: z
        .number()
        .int()
        .min(1)
        .max(2 ** 36)
        .default(2 ** 30)
        .describe('Largest adapter that is loaded'),
      cacheBytes: z
        .number()
        .int()
        .min(0)
        .max(2 ** 44)
        .default(8 * 2 ** 30)
        .describe('Adapters kept on this disk; the least recently used give way'),
      loaded: z.number().int().min(1).max(48).default(16).describe('Adapters in memory at the same time'),
      contexts: z
        .number()
        .int()
        .min(1)
        .max(48)
        .default(4)
        .describe('Adapters that answer at the same time; each takes the memory of its sequences'),
      sequences: z.number().int().min(1).max(256).default(2).describe('Requests one adapter answers at the same time'),
      fetchMs: durationMs.default(90_000).describe('Limit of fetching one adapter'),
      fetches: z.number().int().min(1).max(64).default(2).describe('Adapters fetched at the same time'),
      fetchesPerUserPerHour: z
        .number()
        .int()
        .min(0)
        .max(1e6)
        .default(60)
        .describe('Adapters fetched for one user; 0 for no limit'),
      refusedMs: durationMs.default(5_000).describe('A root that could not be had is not looked for again so soon'),
    })
    .prefault({}),
  freeUsers: z.array(address).max(1_000).default([]).describe('Users served without charge'),
  waitForDisk: z
    .boolean()
    .default(false)
    .describe(
      'Let no token leave before its charge would survive a power cut; the end of the process it always survives',
    ),
  minimumReserveWei: wei
    .default(10n ** 18n)
    .describe('What must stay free in an account that pays by session token; 0G uses one coin'),
  voucherMinLifeS: z
    .number()
    .int()
    .min(0)
    .max(30 * 86_400)
    .default(3_600)
    .describe('A voucher must be good for at least so long'),
  limits: z
    .object({
      requestsPerMinute: z
        .number()
        .int()
        .min(0)
        .max(1e9)
        .default(600)
        .describe('Of one user, over time; 0 for no limit'),
      burst: z.number().int().min(1).max(1e6).default(60).describe('Requests a user may send at once after a pause'),
      concurrentPerUser: z.number().int().min(1).max(1e5).default(16).describe('Requests of one user under way'),
      concurrent: z.number().int().min(1).max(1e5).default(256).describe('Requests under way in all'),
      bodyBytes: z
        .number()
        .int()
        .min(1024)
        .max(2 ** 28)
        .default(32 * 2 ** 20)
        .describe('Largest request body'),
      addressRequestsPerMinute: z
        .number()
        .int()
        .min(0)
        .max(1e9)
        .default(6_000)
        .describe('Of one address, before anybody is identified; 0 for no limit'),
    })
    .prefault({}),
  firstTokenTimeoutMs: durationMs.default(300_000).describe('Limit for the engine to begin an answer'),
  stallTimeoutMs: durationMs.default(60_000).describe('Limit between two tokens of an answer'),
  clientStallMs: durationMs.default(60_000).describe('A client that takes nothing for so long is cut off'),
  chain: z.object({
    rpcUrls: z
      .array(httpUrl)
      .min(1)
      .max(16)
      .default(['http://127.0.0.1:8545'])
      .describe('RPC endpoints of the chain, in order of preference'),
    id: z.number().int().positive().optional().describe('Refuse endpoints of another chain'),
    inference: address.describe('The InferenceServing contract'),
    waitMs: durationMs.default(60_000).describe('How long to wait at the start for the chain to come up'),
    pollIntervalMs: durationMs.default(500).describe('Pause between two looks for revocations and deposits'),
    readTimeoutMs: durationMs.default(5_000).describe('Limit of one look at an account'),
    maxAgeMs: durationMs.default(60_000).describe('Accounts are read again when older than this'),
    staleLimitMs: durationMs
      .default(900_000)
      .describe('While the chain cannot be reached, known accounts are served for so long'),
  }),
  settlement: z
    .object({
      enabled: z.boolean().default(true).describe('Settle fees from this process'),
      intervalMs: durationMs.default(300_000).describe('Pause between two looks at what can be settled'),
      queueUrl: z
        .string()
        .regex(/^(redis|rediss|postgres|postgresql):\/\//, 'expected redis://… or postgres://…')
        .optional()
        .describe('Queue of settlement jobs that several workers share. Default: QUEUE_URL, else an embedded one'),
      embeddedQueue: z
        .boolean()
        .default(true)
        .describe('Without a queue URL, keep jobs in an embedded queue (about 550 MB); false sends them directly'),
      earnOverGas: z
        .number()
        .min(1)
        .max(1_000)
        .default(2)
        .describe('Settle a batch when its fees are so many times the gas it costs'),
      maxItems: z
        .number()
        .int()
        .min(1)
        .max(100)
        .default(100)
        .describe('Users in one transaction; by session token no more than 50'),
      maxUnsettledMs: durationMs
        .default(86_400_000)
        .describe('Fees older than this are settled as soon as they are worth their gas at all'),
      retryMs: durationMs.default(3_600_000).describe('Pause before an item the contract refused is tried again'),
    })
    .prefault({}),
  receipts: z
    .object({
      enabled: z.boolean().default(true).describe('Keep what receipts and response signatures are made of'),
      days: z.number().min(0.01).max(365).default(7).describe('How long it is kept'),
    })
    .prefault({}),
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
export type ProviderConfig = z.output<typeof providerConfigSchema>
