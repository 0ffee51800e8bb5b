import type { AdapterEngine, Engine } from '#compute/engines/engine.ts'
import { EngineError } from '#compute/engines/engine-error.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import { isAdapterRoot } from '#protocol/compute/adapter-name.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { ProviderConfig } from '../config.ts'
import { ProviderError } from '../error.ts'
import { providerStopping } from '../serve/engine-run.ts'
import type { AdapterCache } from './adapter-cache.ts'
import { adapterMisfit, adaptersBusy, adapterUnavailable, adapterUnknown } from './adapter-errors.ts'
import type { AdapterSource } from './adapter-source.ts'
import type { KnownAdapter } from './configured-adapters.ts'
import { FetchShare } from './fetch-share.ts'

/** An adapter in use by one request. Release it once. */
export interface AdapterLease {
  /** Name that the engine knows it by, behind the model's. */
  readonly engineName: string
  readonly root: Hash
  release(): void
}

export interface ProviderAdaptersParameters {
  engine: Engine
  limits: ProviderConfig['adapterLimits']
  configured: ReadonlyMap<string, KnownAdapter>
  cache: AdapterCache | undefined
  source: AdapterSource | undefined
  log: Logger
  now: () => number
  metrics?: Metrics | undefined
}

interface Loaded {
  users: number
  usedAt: number
  /** It has a place in the engine, or is just given one. */
  isPlaced: boolean
  isReady: boolean
  ready: Promise<void>
}

/** Answers "no" remembered, the oldest forgotten first. */
const MAX_REFUSALS = 1_000
/** What cannot change: these bytes are no adapter of this model, or too many. */
const LASTING_MS = 3_600_000

/**
 * The adapters of a provider's model: which there are, and how they come into the engine.
 *
 * A request names one as `base:name` (of the configuration) or `base:0x…` (the storage root of any adapter). The first
 * request for a root has it fetched from storage, checked against its root and the base model, and loaded; all that come
 * meanwhile wait for the same fetch. It then stays until `loaded` others were used since, and its file until the cache's
 * bytes are needed. What was refused is remembered: for good where the bytes decide, briefly where the network does.
 *
 * Requests are admitted before they get here: who cannot pay causes no fetch.
 */
export class ProviderAdapters {
  readonly #parameters: ProviderAdaptersParameters
  readonly #engine: AdapterEngine | undefined
  readonly #loaded = new Map<Hash, Loaded>()
  readonly #refusals = new Map<Hash, { error: ProviderError; untilMs: number }>()
  readonly #share: FetchShare
  readonly #closing = new AbortController()
  readonly #work = new Set<Promise<unknown>>()
  readonly #count: (outcome: string) => void

  constructor(parameters: ProviderAdaptersParameters) {
    const { engine, limits, now, metrics } = parameters
    this.#parameters = parameters
    this.#engine = isAdapterEngine(engine) ? engine : undefined
    this.#share = new FetchShare({ atOnce: limits.fetches, perHour: limits.fetchesPerUserPerHour, now })
    const loads = metrics?.counter({
      ...{ name: 'adapter_loads_total', help: 'Adapters fetched and loaded, by outcome', labels: ['outcome'] },
    })
    this.#count = (outcome) => loads?.inc({ outcome })
  }

  /** Whether any adapter may be named by its storage root. */
  get takesRoots(): boolean {
    return this.#engine !== undefined && this.#parameters.source !== undefined
  }

  /** Largest adapter that is fetched. */
  get maxBytes(): number {
    return this.#parameters.limits.maxBytes
  }

  /** Adapters of the configuration, and those in the engine, each once. */
  list(): { name: string; root: Hash; state: 'loaded' | 'available' }[] {
    const { configured } = this.#parameters
    const state = (root: Hash) =>
      this.#engine === undefined || this.#loaded.get(root)?.isReady === true ? 'loaded' : 'available'
    const named = [...configured.values()].map(({ name, root }) => ({ name, root, state: state(root) }) as const)
    const roots = new Set(named.map(({ root }) => root))
    const others = [...this.#loaded].filter(([root, { isReady }]) => isReady && !roots.has(root))
    return [...named, ...others.map(([root]) => ({ name: root, root, state: 'loaded' as const }))]
  }

  /**
   * The adapter that a name means, whether it can be had or not; undefined for a name that is none.
   *
   * @throws ProviderError 404 `model_not_found` for a root where adapters are not fetched
   */
  find(name: string): KnownAdapter | undefined {
    const { configured } = this.#parameters
    const byName = configured.get(name)
    if (byName !== undefined || !isAdapterRoot(name)) return byName
    const root = name.toLowerCase() as Hash
    const byRoot = [...configured.values()].find((adapter) => adapter.root === root)
    if (byRoot !== undefined) return byRoot
    if (this.takesRoots || this.#loaded.has(root)) return { name: root, root, path: undefined }
    throw adapterUnknown(name, 'use another provider: this one fetches no adapters')
  }

  /**
   * The adapter in the engine, for one request of a user that was admitted.
   *
   * @throws ProviderError 400 `invalid_adapter`, 404 `model_not_found`, 413 `adapter_too_large`, 429
   * `adapter_fetch_limit`, 503 `adapter_unavailable`, `adapters_busy`; the signal's reason
   */
  async use(adapter: KnownAdapter, { user, signal }: { user: Hex; signal: AbortSignal }): Promise<AdapterLease> {
    const { root } = adapter
    // An upstream knows its adapters itself.
    if (this.#engine === undefined) return { engineName: adapter.name, root, release: () => undefined }
    signal.throwIfAborted()
    const loaded = this.#loaded.get(root) ?? this.#begin(adapter, user)
    loaded.users += 1
    loaded.usedAt = performance.now()
    let isHeld = true
    const release = () => {
      if (isHeld) loaded.users -= 1
      isHeld = false
    }
    try {
      await raced(loaded.ready, signal)
      return { engineName: root, root, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** The engine does not know it any more, whatever for: the next request has it loaded anew. */
  forget(root: Hash): void {
    if (this.#loaded.get(root)?.isReady === true) this.#loaded.delete(root)
  }

  /** Ends what is being fetched. */
  async close(): Promise<void> {
    this.#closing.abort(providerStopping())
    await Promise.allSettled(this.#work)
    await this.#parameters.source?.close()
  }

  /** One step, nothing in it waits: of two first requests only one begins. */
  #begin(adapter: KnownAdapter, user: Hex): Loaded {
    const { root } = adapter
    const { cache, now } = this.#parameters
    const refused = this.#refusals.get(root)
    if (refused !== undefined && refused.untilMs > now()) throw refused.error
    const isFetched = adapter.path === undefined && cache?.has(root) !== true
    if (isFetched) this.#share.charge(user)
    const work = this.#prepare(adapter)
    const loaded: Loaded = { users: 0, usedAt: 0, isPlaced: false, isReady: false, ready: work }
    this.#loaded.set(root, loaded)
    this.#work.add(work)
    const ended = (outcome: string) => {
      this.#work.delete(work)
      this.#count(outcome)
    }
    work.then(
      () => {
        loaded.isReady = true
        ended('loaded')
      },
      (error: unknown) => {
        if (this.#loaded.get(root) === loaded) this.#loaded.delete(root)
        if (isFetched && error instanceof ProviderError && error.statusCode >= 500) this.#share.refund(user)
        if (error instanceof ProviderError) this.#refuse(root, error)
        ended(error instanceof ProviderError ? error.code : 'failed')
      },
    )
    return loaded
  }

  async #prepare(adapter: KnownAdapter): Promise<void> {
    const { root, path } = adapter
    const { cache, log } = this.#parameters
    const startedMs = performance.now()
    try {
      // The map knows of it before anything happens.
      await Promise.resolve()
      if (path !== undefined) await this.#load(root, path)
      else if (cache !== undefined) await this.#fromStorage(adapter, cache)
      else throw adapterUnknown(root, 'use another provider: this one fetches no adapters')
      log.info({ adapter: root, seconds: (performance.now() - startedMs) / 1000 }, 'an adapter was loaded')
    } catch (error) {
      log.info({ adapter: root, err: error }, 'an adapter could not be loaded')
      if (error instanceof EngineError && error.code === 'ENGINE_ADAPTER') {
        await cache?.drop(root)
        throw adapterMisfit(root, error)
      }
      if (error instanceof ProviderError) throw error
      throw adapterUnavailable(root, 'the provider failed to load it', error)
    }
  }

  async #fromStorage({ root }: KnownAdapter, cache: AdapterCache): Promise<void> {
    const { source, limits } = this.#parameters
    const need = () => {
      if (source === undefined) throw adapterUnavailable(root, 'no storage network is configured')
      return source
    }
    const limit = AbortSignal.timeout(limits.fetchMs)
    const signal = AbortSignal.any([limit, this.#closing.signal])
    try {
      await this.#share.inTurn(() =>
        cache.use(
          root,
          {
            sizeOf: () => need().sizeOf(root, { maxBytes: limits.maxBytes, signal }),
            fetch: (to) => need().fetch(root, { to, signal }),
          },
          (path) => this.#load(root, path),
        ),
      )
    } catch (error) {
      if (!limit.aborted || error instanceof EngineError || this.#closing.signal.aborted) throw error
      throw adapterUnavailable(root, `it was not fetched within ${limits.fetchMs} ms`, error)
    }
  }

  /** Room is made when the file is here and sound, so that names of nothing push nothing out. */
  async #load(root: Hash, path: string): Promise<void> {
    const evicted = this.#place(root)
    if (evicted !== undefined) {
      this.#parameters.log.info({ adapter: evicted }, 'an adapter makes room')
      await this.#engine?.unloadAdapter(evicted).catch((error: unknown) => {
        this.#parameters.log.warn({ err: error, adapter: evicted }, 'the engine did not unload an adapter')
      })
    }
    await this.#engine?.loadAdapter({ name: root, path })
  }

  /**
   * Gives an adapter a place in the engine, in one step; returns the one that makes room for it.
   *
   * @throws ProviderError 503 `adapters_busy`
   */
  #place(root: Hash): Hash | undefined {
    const { loaded: most } = this.#parameters.limits
    const mine = this.#loaded.get(root)
    const placed = [...this.#loaded].filter(([other, { isPlaced }]) => other !== root && isPlaced)
    const [oldest] = placed
      .filter(([, { users, isReady }]) => users === 0 && isReady)
      .sort(([, a], [, b]) => a.usedAt - b.usedAt)
    const isFull = placed.length >= most
    if (isFull && oldest === undefined) throw adaptersBusy(most, 'in use')
    if (mine !== undefined) mine.isPlaced = true
    if (!isFull || oldest === undefined) return undefined
    this.#loaded.delete(oldest[0])
    return oldest[0]
  }

  #refuse(root: Hash, error: ProviderError): void {
    const { limits, now } = this.#parameters
    const lasting = error.statusCode === 400 || error.statusCode === 413
    // Lack of room passes at once; what the network lacks may come with the next block.
    if (error.code === 'adapters_busy') return
    this.#refusals.delete(root)
    this.#refusals.set(root, { error, untilMs: now() + (lasting ? LASTING_MS : limits.refusedMs) })
    const [first] = this.#refusals.size > MAX_REFUSALS ? this.#refusals.keys() : []
    if (first !== undefined) this.#refusals.delete(first)
  }
}

/** Whether an engine loads adapters. */
export function isAdapterEngine(engine: Engine): engine is AdapterEngine {
  return 'loadAdapter' in engine && 'unloadAdapter' in engine
}

async function raced(work: Promise<void>, signal: AbortSignal): Promise<void> {
  let onAbort: (() => void) | undefined
  try {
    await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        onAbort = () => reject(signal.reason)
        signal.addEventListener('abort', onAbort, { once: true })
      }),
    ])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
