import { z } from 'zod'
import { logSection, trustedProxies } from '#kit/config/sections.ts'

const httpUrl = z
  .string()
  .max(2048)
  .regex(/^https?:\/\/[^\s]+$/, 'expected an http(s) address such as http://127.0.0.1:5678')
  .transform((url) => url.replace(/\/+$/, ''))
const durationMs = z.number().int().min(1).max(86_400_000)

/** Configuration of the indexer; every key with its meaning, limits and default. */
export const indexerConfigSchema = z.object({
  host: z.string().min(1).max(255).default('127.0.0.1').describe('Address to listen on; 0.0.0.0 for every interface'),
  port: z.number().int().min(0).max(65_535).default(12_345).describe('Port to listen on; 0 lets the system choose'),
  publicUrl: httpUrl
    .optional()
    .describe('Where clients reach this indexer; needed behind a proxy. Default: the address it listens on'),
  nodes: z
    .array(httpUrl)
    .max(1024)
    .default([])
    .describe('Trusted storage nodes by URL. Uploads go to these, and what they say of files is believed'),
  chainId: z
    .number()
    .int()
    .positive()
    .optional()
    .describe('Refuse nodes of another chain. Default: that of the first trusted node'),
  flowAddress: z
    .string()
    .regex(/^0x[0-9a-fA-F]{40}$/, 'expected 20 bytes in 0x hex')
    .optional()
    .describe('Refuse nodes that follow another Flow contract. Goes with chainId'),
  updateIntervalMs: durationMs.default(10_000).describe('Pause between two probes of a node that answers'),
  requestTimeoutMs: durationMs.default(5_000).describe('Limit of a short call to a node'),
  segmentTimeoutMs: durationMs.default(15_000).describe('Limit of one node for one segment'),
  hedgeMs: durationMs.default(1_500).describe('After how long the next node is asked for the same segment as well'),
  maxSegmentReads: z
    .number()
    .int()
    .min(1)
    .max(4096)
    .default(64)
    .describe('Segments (256 KiB each) fetched from nodes at once, over all clients'),
  discovery: z
    .object({
      adminUrl: httpUrl
        .optional()
        .describe('Admin port of a storage node that tells of its peers; without it nothing is discovered'),
      intervalMs: durationMs.default(600_000).describe('Pause between two looks for new peers'),
      ports: z
        .array(z.number().int().min(1).max(65_535))
        .min(1)
        .max(16)
        .default([5678])
        .describe('Ports tried at the IP address of a peer'),
      allowPrivate: z.boolean().default(false).describe('Also try peers on private and loopback addresses'),
      maxNodes: z.number().int().min(0).max(10_000).default(1_000).describe('Discovered nodes kept at most'),
    })
    .prefault({}),
  front: z
    .object({
      list: z
        .enum(['auto', 'always', 'never'])
        .default('auto')
        .describe(
          'List the front node first among trusted nodes: when none of them is unsharded (auto), always, never',
        ),
      maxInFlightBytes: z
        .number()
        .int()
        .min(2 ** 20)
        .max(2 ** 34)
        .default(2 ** 28)
        .describe('Bytes of upload bodies in memory at once; more wait their turn'),
      retryMs: durationMs
        .default(20_000)
        .describe('How long an upload to a shard that is busy or unreachable is tried again'),
    })
    .prefault({}),
  gateway: z
    .object({
      enabled: z.boolean().default(true).describe('Serve files over plain HTTP under /file'),
      readAhead: z.number().int().min(1).max(64).default(4).describe('Segments fetched ahead of a downloading client'),
      maxDownloads: z.number().int().min(1).max(10_000).default(128).describe('Downloads served at once; more wait'),
      stallMs: durationMs.default(60_000).describe('A client that takes nothing for so long is cut off'),
      maxFileBytes: z
        .number()
        .int()
        .min(0)
        .max(2 ** 43)
        .default(0)
        .describe('Largest file served; 0 for no limit'),
    })
    .prefault({}),
  rateLimit: z
    .object({
      requests: z.number().int().min(0).default(0).describe('Requests of one address in each window; 0 for no limit'),
      windowMs: durationMs.default(60_000).describe('Length of the window'),
    })
    .prefault({}),
  trustedProxies,
  log: logSection,
})
export type IndexerConfig = z.output<typeof indexerConfigSchema>
