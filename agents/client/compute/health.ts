import { z } from 'zod'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { ComputeConnection } from './connection.ts'
import { reasonOf } from './errors.ts'
import { getProviderJson } from './provider-http.ts'
import type { ComputeService } from './services.ts'

/** What a provider says of one of its models. */
export interface OfferedModel {
  readonly id: string
  readonly contextTokens: number | undefined
  readonly maxCompletionTokens: number | undefined
  /** Undefined where the provider does not say. */
  readonly supportedParameters: readonly string[] | undefined
  /** Storage root of the adapter that this name includes. */
  readonly adapterRoot?: Hash | undefined
  /** It can be asked for with any adapter behind it, as `id:0x<root>`. */
  readonly takesAdapters?: boolean | undefined
}

/** How a provider answered a probe. */
export interface ProviderHealth {
  readonly up: boolean
  /** Time to answer the probe. */
  readonly latencyMs: number | undefined
  /** Empty where it is down or names none. */
  readonly models: readonly OfferedModel[]
  /** Why it is down. */
  readonly reason: string | undefined
  readonly checkedMs: number
}

const modelsSchema = z.looseObject({
  data: z
    .array(
      z.looseObject({
        id: z.string().max(256),
        context_length: z.number().positive().nullish().catch(undefined),
        max_completion_tokens: z.number().positive().nullish().catch(undefined),
        supported_parameters: z.array(z.string().max(64)).max(256).nullish().catch(undefined),
        adapter_root: z
          .string()
          .regex(/^0x[0-9a-f]{64}$/)
          .nullish()
          .catch(undefined),
        adapters: z.looseObject({ by_root: z.boolean() }).nullish().catch(undefined),
      }),
    )
    .max(1_000),
})

/** Probes at once. */
const PROBES = 16
const known = new WeakMap<ComputeConnection, Map<string, Promise<ProviderHealth>>>()

/**
 * Asks providers for their model lists, each within `probeTimeoutMs`, 16 at a time. Answers count for `cacheMs`.
 *
 * @example
 * const health = await probeProviders(connection, { services })
 * health.get(service.provider)?.up
 */
export async function probeProviders(
  connection: ComputeConnection,
  { services, signal }: { services: readonly ComputeService[]; signal?: AbortSignal | undefined },
): Promise<Map<Hex, ProviderHealth>> {
  const found = new Map<Hex, ProviderHealth>()
  const queue = [...services]
  const work = async () => {
    for (let service = queue.pop(); service !== undefined; service = queue.pop()) {
      found.set(service.provider, await probe(connection, service))
      signal?.throwIfAborted()
    }
  }
  await Promise.all(Array.from({ length: Math.min(PROBES, services.length) }, work))
  return found
}

/** Forgets what is known of a provider, so that it is probed anew. */
export function forgetHealth(connection: ComputeConnection, { provider, url }: ComputeService): void {
  known.get(connection)?.delete(`${provider} ${url}`)
}

async function probe(connection: ComputeConnection, service: ComputeService): Promise<ProviderHealth> {
  const cache = known.get(connection) ?? new Map<string, Promise<ProviderHealth>>()
  known.set(connection, cache)
  const key = `${service.provider} ${service.url}`
  const cached = await cache.get(key)
  if (cached !== undefined && Date.now() - cached.checkedMs < connection.limits.cacheMs) return cached
  const fresh = ask(connection, service)
  cache.set(key, fresh)
  return await fresh
}

async function ask(connection: ComputeConnection, { provider, url }: ComputeService): Promise<ProviderHealth> {
  const startedMs = performance.now()
  try {
    const call = { provider, url: `${url}/v1/models`, timeoutMs: connection.limits.probeTimeoutMs }
    const { data } = modelsSchema.parse(await getProviderJson(call))
    const latencyMs = performance.now() - startedMs
    const models = data.map((model) => ({
      id: model.id,
      contextTokens: model.context_length ?? undefined,
      maxCompletionTokens: model.max_completion_tokens ?? undefined,
      supportedParameters: model.supported_parameters ?? undefined,
      adapterRoot: (model.adapter_root ?? undefined) as Hash | undefined,
      takesAdapters: model.adapters?.by_root,
    }))
    return { up: true, latencyMs, models, reason: undefined, checkedMs: Date.now() }
  } catch (error) {
    const reason = error instanceof z.ZodError ? 'its model list is malformed' : reasonOf(error)
    return { up: false, latencyMs: undefined, models: [], reason, checkedMs: Date.now() }
  }
}
