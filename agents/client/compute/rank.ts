import { adaptedModel } from '#protocol/compute/adapter-name.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { ProviderPerformance } from './book.ts'
import type { ProviderAttempt } from './errors.ts'
import type { OfferedModel, ProviderHealth } from './health.ts'
import type { ProviderPreferences, ProviderSort } from './preferences.ts'
import type { ComputeService } from './services.ts'

/** A provider with all that choosing needs. */
export interface Candidate {
  readonly service: ComputeService
  readonly health: ProviderHealth
  /** Own experience; undefined without any. */
  readonly performance: ProviderPerformance | undefined
}

export interface RankParameters {
  readonly candidates: readonly Candidate[]
  /** Model asked for; undefined for any. */
  readonly model?: string | undefined
  /** Parameters the request uses, for `require_parameters`. */
  readonly parameters?: readonly string[] | undefined
  readonly preferences: ProviderPreferences
  /** The paying user: nobody may be his own provider. */
  readonly user?: Hex | undefined
  readonly nowMs: number
}

/** A provider that failed this recently is put behind all others. */
const RECENT_FAILURE_MS = 30_000
/** Figures assumed of a provider nobody has tried: middling, so that newcomers are tried. */
const UNTRIED = { firstTokenMs: 1_000, tokensPerSecond: 20 }

/**
 * Providers that may serve, best first, and why the others may not. Without wishes: those in good health first, then
 * the least of price ÷ √speed, made worse by past failures; equals stay in the order given.
 */
export function rankProviders(parameters: RankParameters): { ranked: Candidate[]; left: ProviderAttempt[] } {
  const { preferences, nowMs } = parameters
  const left: ProviderAttempt[] = []
  const fit = parameters.candidates.filter((candidate) => {
    const reason = unfit(candidate, parameters)
    if (reason !== undefined) left.push({ provider: candidate.service.provider, ...reason })
    return reason === undefined
  })
  const figure = preferences.sort === undefined ? overall : FIGURES[preferences.sort]
  const order = preferences.order ?? []
  const place = ({ service }: Candidate) => {
    const at = order.findIndex((name) => isNamed(service, name))
    return at < 0 ? order.length : at
  }
  const recent = ({ performance }: Candidate) =>
    performance?.lastFailureMs !== undefined && nowMs - performance.lastFailureMs < RECENT_FAILURE_MS ? 1 : 0
  const ranked = fit.toSorted((a, b) => place(a) - place(b) || recent(a) - recent(b) || figure(a) - figure(b))
  // Without fall-backs: those named, or else the best one.
  if (preferences.allow_fallbacks) return { ranked, left }
  const named = ranked.filter((candidate) => place(candidate) < order.length)
  return { ranked: order.length > 0 ? named : ranked.slice(0, 1), left }
}

/** Whether a service goes by this name: address, host (with or without port), or identity. */
export function isNamed({ provider, url, info }: ComputeService, name: string): boolean {
  const wanted = name.toLowerCase()
  if (wanted === provider.toLowerCase()) return true
  const { host, hostname } = URL.parse(url) ?? { host: '', hostname: '' }
  const identity = typeof info.ProviderIdentity === 'string' ? info.ProviderIdentity.toLowerCase() : undefined
  return wanted === host || wanted === hostname || wanted === identity
}

/**
 * Whether a provider has the model, and under which name: its own on the chain, or one of its list. A model with an
 * adapter, `base:0x<root>`, is had from whoever has the base and either loads any adapter or lists this one.
 */
export function findModel({ service, health }: Candidate, model: string | undefined): string | undefined {
  if (model === undefined) return service.model
  const ids = [service.model, ...health.models.map(({ id }) => id)]
  const adapted = adaptedModel(model)
  if (adapted === undefined) return named(ids, model)
  const { base, root } = adapted
  const id = named(ids, base)
  const takes = health.models.some(
    (offer) => offer.adapterRoot === root || (offer.takesAdapters === true && offer.id === id),
  )
  return id !== undefined && takes ? `${id}:${root}` : undefined
}

/** What a provider says of a model under the name that {@link findModel} found; for an adapter that of its base. */
export function offerOf({ health }: Candidate, name: string): OfferedModel | undefined {
  const base = adaptedModel(name)?.base
  return health.models.find(({ id }) => id === name) ?? health.models.find(({ id }) => id === base)
}

/** The adapter that must take part in an answer under this name; undefined for the plain model. */
export function adapterOf(candidate: Candidate, name: string): Hash | undefined {
  return adaptedModel(name)?.root ?? candidate.health.models.find(({ id }) => id === name)?.adapterRoot
}

function named(ids: readonly string[], model: string): string | undefined {
  return ids.find((id) => id === model) ?? ids.find((id) => shortName(id) === shortName(model))
}

function unfit(candidate: Candidate, parameters: RankParameters): Omit<ProviderAttempt, 'provider'> | undefined {
  const { service, health } = candidate
  const { preferences, model, user } = parameters
  if (user !== undefined && service.provider === user.toLowerCase()) return out('OWN', 'the paying account itself')
  const { only, ignore, max_price: maxPrice } = preferences
  if (only !== undefined && !only.some((name) => isNamed(service, name))) return out('NOT_ONLY', 'not among `only`')
  if (ignore?.some((name) => isNamed(service, name))) return out('IGNORED', 'among `ignore`')
  if (!health.up) return out('PROVIDER_UNREACHABLE', health.reason ?? 'is down')
  if (findModel(candidate, model) === undefined) {
    const base = adaptedModel(model ?? '')?.base
    const hasBase = base !== undefined && findModel(candidate, base) !== undefined
    return hasBase
      ? out('NO_ADAPTERS', `serves ${base}, but loads no adapters`)
      : out('NO_MODEL', `does not serve ${model}`)
  }
  if (above(service.inputPriceWei, maxPrice?.prompt)) return out('PRICE', 'prompt price above max_price')
  if (above(service.outputPriceWei, maxPrice?.completion)) return out('PRICE', 'completion price above max_price')
  if (!preferences.require_parameters) return undefined
  const offered = offerOf(candidate, findModel(candidate, model) ?? '')?.supportedParameters
  const missing = (parameters.parameters ?? []).find((name) => !(offered ?? []).includes(name))
  return missing === undefined ? undefined : out('PARAMETERS', `does not say that it supports ${missing}`)
}

function out(code: string, reason: string) {
  return { code, reason }
}

/** Compares wei per token with coins per million tokens; a millionth of the bound is forgiven to floating point. */
function above(priceWei: bigint, coinsPerMillion: number | undefined): boolean {
  return coinsPerMillion !== undefined && Number(priceWei) > coinsPerMillion * 1e12 * (1 + 1e-6)
}

/** One prompt token for each answer token: what most chats come near to. */
function priceOf({ service }: Candidate): number {
  return Number(service.inputPriceWei) + Number(service.outputPriceWei)
}

const FIGURES: Readonly<Record<ProviderSort, (candidate: Candidate) => number>> = {
  price: priceOf,
  throughput: ({ performance }) => -(performance?.tokensPerSecond ?? UNTRIED.tokensPerSecond),
  latency: ({ performance, health }) => performance?.firstTokenMs ?? health.latencyMs ?? UNTRIED.firstTokenMs,
}

function overall(candidate: Candidate): number {
  const { performance } = candidate
  const tokensPerSecond = performance?.tokensPerSecond ?? UNTRIED.tokensPerSecond
  const firstTokenMs = performance?.firstTokenMs ?? UNTRIED.firstTokenMs
  // Time of an answer of 200 tokens: waiting counts as much as streaming.
  const speed = 200 / (firstTokenMs / 1_000 + 200 / Math.max(0.01, tokensPerSecond))
  const { failures = 0, successes = 0 } = performance ?? {}
  const failureRate = failures / (failures + successes + 5)
  return ((priceOf(candidate) + 1) / Math.sqrt(speed)) * (1 + 4 * failureRate)
}

function shortName(model: string): string {
  return model.slice(model.lastIndexOf('/') + 1).toLowerCase()
}
