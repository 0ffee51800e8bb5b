import { type Known, readCached } from './cached-read.ts'
import type { ComputeConnection } from './connection.ts'
import type { ProviderAttempt } from './errors.ts'
import { ComputeFundsError, mayFailOver, NoProviderError, ProviderError, reasonOf } from './errors.ts'
import { type Exchange, type ExchangePath, openExchange } from './exchange.ts'
import type { FundingEvent } from './fund-provider.ts'
import { forgetHealth, probeProviders } from './health.ts'
import type { ProviderPreferences } from './preferences.ts'
import { adapterOf, type Candidate, findModel, rankProviders } from './rank.ts'
import { type ComputeService, getService, listServices } from './services.ts'

/** What happens while a provider is looked for. */
export type RouteEvent =
  | FundingEvent
  /** A provider is about to be asked, for at most so much. */
  | { readonly type: 'ask'; readonly service: ComputeService; readonly model: string; readonly body: RoutedBody }
  /** It failed before the first token; the next one is asked. */
  | { readonly type: 'fail-over'; readonly service: ComputeService; readonly reason: string }

/** A request made for one provider. */
export interface RoutedBody {
  readonly bytes: Uint8Array
  /** All choices together. */
  readonly maxTokens: number
  readonly seed?: number | undefined
}

export interface RouteParameters {
  path: ExchangePath
  stream: boolean
  /** Model asked for; undefined for any. */
  model?: string | undefined
  preferences: ProviderPreferences
  /** Parameters that the request uses, for `require_parameters`. */
  parameters?: readonly string[] | undefined
  /** Makes the request for a provider, under the name that it has for the model. */
  bodyFor: (candidate: Candidate, model: string) => RoutedBody
  onEvent?: ((event: RouteEvent) => void | Promise<void>) | undefined
  signal?: AbortSignal | undefined
}

/** Providers asked for one request, at most. */
const MAX_ATTEMPTS = 8

const listed = new WeakMap<ComputeConnection, Known<ComputeService[]>>()

/** Services as read this long ago are read again when none of them fits. */
const STALE_MS = 1_000

/** The approved services, as read from the chain within `maxAgeMs` (default: the connection's `cacheMs`). */
export async function knownServices(
  connection: ComputeConnection,
  { maxAgeMs }: { maxAgeMs?: number } = {},
): Promise<readonly ComputeService[]> {
  const read = () => listServices(connection)
  const known = await readCached(connection, { known: listed.get(connection), read, maxAgeMs })
  listed.set(connection, known)
  return known.value
}

/** Providers as {@link rankProviders} puts them, with everything it goes by. */
export async function findProviders(
  connection: ComputeConnection,
  parameters: Pick<RouteParameters, 'model' | 'preferences' | 'parameters' | 'signal'>,
): Promise<{ ranked: Candidate[]; left: ProviderAttempt[] }> {
  const found = await findAmong(connection, parameters, await knownServices(connection))
  if (found.ranked.length > 0) return found
  const services = await knownServices(connection, { maxAgeMs: STALE_MS })
  return await findAmong(connection, parameters, services)
}

async function findAmong(
  connection: ComputeConnection,
  parameters: Pick<RouteParameters, 'model' | 'preferences' | 'parameters' | 'signal'>,
  services: readonly ComputeService[],
): Promise<{ ranked: Candidate[]; left: ProviderAttempt[] }> {
  const { model, preferences, signal } = parameters
  const health = await probeProviders(connection, { services, signal })
  const candidates = services.flatMap((service) => {
    const of = health.get(service.provider)
    return of === undefined ? [] : [{ service, health: of, performance: connection.book.performance(service.provider) }]
  })
  const user = connection.account().address
  return rankProviders({ candidates, model, preferences, parameters: parameters.parameters, user, nowMs: Date.now() })
}

/**
 * Asks the best provider, and the next when one fails before its first token. Resolves at the first token.
 *
 * @throws NoProviderError when none serves; ProviderError when the request itself is refused, or when there was but one
 * provider; ComputeFundsError; ComputeChainError
 */
export async function routeExchange(connection: ComputeConnection, parameters: RouteParameters): Promise<Exchange> {
  return await routeOnce(connection, parameters, { mayReprice: true })
}

async function routeOnce(
  connection: ComputeConnection,
  parameters: RouteParameters,
  { mayReprice }: { mayReprice: boolean },
): Promise<Exchange> {
  const { path, stream, model, preferences, bodyFor, onEvent, signal } = parameters
  const { ranked, left } = await findProviders(connection, parameters)
  const attempts: ProviderAttempt[] = []
  let last: unknown
  for (const candidate of ranked.slice(0, MAX_ATTEMPTS)) {
    const { service } = candidate
    const name = findModel(candidate, model) ?? service.model
    const body = bodyFor(candidate, name)
    await onEvent?.({ type: 'ask', service, model: name, body })
    const { bytes, maxTokens, seed } = body
    try {
      return await openExchange(connection, {
        ...{ service, path, body: bytes, stream, maxTokens, seed, signal, model: name },
        adapter: adapterOf(candidate, name),
        onFunding: onEvent,
      })
    } catch (error) {
      signal?.throwIfAborted()
      // Another provider may have an account already: lack of money here is no lack there.
      if (!mayFailOver(error) && !(error instanceof ComputeFundsError)) throw error
      // It may ask for more because it costs more by now: then everything is weighed, quoted and bounded anew.
      const { code } = error
      if (code === 'VOUCHER_UNJUSTIFIED' && mayReprice && (await hasNewPrice(connection, service))) {
        return await routeOnce(connection, parameters, { mayReprice: false })
      }
      if (error instanceof ProviderError) forgetHealth(connection, service)
      if (last === undefined || error instanceof ComputeFundsError) last = error
      const reason = reasonOf(error)
      attempts.push({ provider: service.provider, code: error.code, reason })
      if (!preferences.allow_fallbacks && preferences.order === undefined) break
      await onEvent?.({ type: 'fail-over', service, reason })
    }
  }
  if (attempts.length === 1 || last instanceof ComputeFundsError) throw last
  throw new NoProviderError({
    message:
      attempts.length > 0
        ? 'no provider could answer'
        : model === undefined
          ? 'no provider fits'
          : `no provider serves ${model}`,
    attempts: attempts.length > 0 ? attempts : left.slice(0, 20),
    cause: last,
  })
}

/** Whether the chain has another price for a service than the one used. What was known is forgotten then. */
async function hasNewPrice(connection: ComputeConnection, used: ComputeService): Promise<boolean> {
  const now = await getService(connection, used).catch(() => used)
  const changed = now.inputPriceWei !== used.inputPriceWei || now.outputPriceWei !== used.outputPriceWei
  if (changed) listed.delete(connection)
  return changed
}
