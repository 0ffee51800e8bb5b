import { z } from 'zod'
import { logSection } from '#kit/config/sections.ts'
import { configDurationMs, configUrl } from '#kit/config/values.ts'
import type { Hex } from '#protocol/hex.ts'

const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'expected 20 bytes in 0x hex')
  .transform((text) => text.toLowerCase() as Hex)

/** Configuration of the gateway; every key with its meaning, limits and default. */
export const gatewayConfigSchema = z.object({
  host: z
    .string()
    .min(1)
    .max(255)
    .default('127.0.0.1')
    .describe('Address to listen on. Whoever reaches it spends your deposit: beyond this machine set apiKey'),
  port: z.number().int().min(0).max(65_535).default(11_435).describe('Port to listen on; 0 lets the system choose'),
  apiKey: z
    .string()
    .min(16)
    .max(256)
    .meta({ secret: true })
    .optional()
    .describe('Clients must send this as their API key. Unset: any key will do, on loopback alone'),
  chain: z.object({
    rpcUrls: z.array(configUrl()).min(1).describe('JSON-RPC endpoints of the chain, in order of preference'),
    ledger: address.describe('Address of LedgerManager'),
    inference: address.optional().describe('Address of InferenceServing. Unset: the one that the ledger recommends'),
  }),
  key: z
    .object({
      keystore: z.string().min(1).optional().describe('Keystore of the account that pays'),
      passwordFile: z.string().min(1).optional().describe('File whose first line is its password'),
    })
    .prefault({}),
  dataDir: z
    .string()
    .min(1)
    .optional()
    .describe('Folder of vouchers and receipts. Default ~/.local/share/weightless/compute, shared with the commands'),
  modelFiles: z
    .array(z.string().min(1))
    .max(64)
    .default([])
    .describe('Weights (GGUF files): answers of these models are compared with the tokens of their receipts'),
  maxRequests: z.number().int().min(1).max(1_000).default(32).describe('Requests under way at once; more answer 429'),
  firstTokenTimeoutMs: configDurationMs({ min: 10 })
    .default(60_000)
    .describe('A provider that has not begun to answer by then is left for the next'),
  idleTimeoutMs: configDurationMs({ min: 10 })
    .default(60_000)
    .describe('A provider that sends nothing for so long in the middle of an answer has failed'),
  log: logSection,
})
export type GatewayConfig = z.output<typeof gatewayConfigSchema>
