import type { ComputeConnection } from '#client/compute/connection.ts'
import { preferencesSchema } from '#client/compute/preferences.ts'
import { findProviders } from '#client/compute/route.ts'

/** A model of the list, in OpenAI's form with OpenRouter's additions. */
export interface ListedModel {
  readonly id: string
  readonly object: 'model'
  readonly created: number
  readonly owned_by: string
  readonly context_length: number | null
  /** Coins per token at the cheapest provider, as decimal text. */
  readonly pricing: { readonly prompt: string; readonly completion: string }
  /** Storage root of the adapter that is part of it; null for a plain model. */
  readonly adapter_root: string | null
  /** Whether any adapter may be asked for behind its name, as `id:0x<root>`. */
  readonly takes_adapters: boolean
  /** Who serves it, best first. */
  readonly providers: readonly string[]
}

/** Every model of every provider that answers, by name. */
export async function listModels(connection: ComputeConnection): Promise<ListedModel[]> {
  const { ranked } = await findProviders(connection, { preferences: preferencesSchema.parse({}) })
  const models = new Map<string, ListedModel & { priceWei: bigint }>()
  for (const { service, health } of ranked) {
    const priceWei = service.inputPriceWei + service.outputPriceWei
    for (const id of new Set([service.model, ...health.models.map((model) => model.id)])) {
      const known = models.get(id)
      const providers = [...(known?.providers ?? []), service.provider]
      const offer = health.models.find((model) => model.id === id)
      const takes = { takes_adapters: known?.takes_adapters === true || offer?.takesAdapters === true }
      if (known !== undefined && known.priceWei <= priceWei) {
        models.set(id, { ...known, ...takes, providers })
        continue
      }
      models.set(id, {
        ...{ id, object: 'model', created: service.updatedAtS, owned_by: 'weightless', providers, priceWei },
        ...{ context_length: offer?.contextTokens ?? null, adapter_root: offer?.adapterRoot ?? null, ...takes },
        pricing: { prompt: coins(service.inputPriceWei), completion: coins(service.outputPriceWei) },
      })
    }
  }
  return [...models.values()].map(({ priceWei: _, ...model }) => model).toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

/** Wei as coins, never in scientific notation. */
function coins(wei: bigint): string {
  const digits = wei.toString().padStart(19, '0')
  return `${digits.slice(0, -18)}.${digits.slice(-18)}`.replace(/\.?0+$/, '')
}
