import { z } from 'zod'

const names = z.array(z.string().min(1).max(256)).max(100)
const price = z.union([z.number().min(0).finite(), z.string().regex(/^\d+(\.\d+)?$/)]).transform(Number)

/** By which figure providers are put in order. */
export const SORTS = ['price', 'throughput', 'latency'] as const
export type ProviderSort = (typeof SORTS)[number]

/**
 * Wishes about providers, in the form OpenRouter gave them (`provider` in a chat request). Providers are named by
 * address, by host, or by the name in their service's `ProviderIdentity`.
 */
export const preferencesSchema = z
  .strictObject({
    order: names.optional().describe('Try these first, in this order'),
    only: names.optional().describe('Use none but these'),
    ignore: names.optional().describe('Never use these'),
    sort: z
      .union([z.enum(SORTS), z.looseObject({ by: z.enum(SORTS) }).transform(({ by }) => by)])
      .optional()
      .describe('Put providers in order by this figure alone'),
    max_price: z
      .looseObject({ prompt: price.optional(), completion: price.optional() })
      .optional()
      .describe('Coins (10^18 wei) per million tokens at most'),
    allow_fallbacks: z.boolean().default(true).describe('Go on with another provider when one fails'),
    require_parameters: z.boolean().default(false).describe('Only providers that support every parameter sent'),
    data_collection: z.literal('allow').optional(),
  })
  .prefault({})

/** Parsed wishes. */
export type ProviderPreferences = z.output<typeof preferencesSchema>
/** Wishes as they are sent. */
export type ProviderPreferencesInput = z.input<typeof preferencesSchema>
