import { setTimeout as delay } from 'node:timers/promises'
import { parseRpcUrl, type RpcCallOptions, RpcEndpoint } from './rpc-endpoint.ts'
import { ChainConfigError, ChainIdMismatchError, ChainRpcError, ChainUnavailableError } from './rpc-error.ts'

/** How one endpoint is doing. */
export interface EndpointHealth {
  /** The URL's host. */
  readonly name: string
  /** `up`: the last call worked; `down`: it did not; `wrong-chain`: never used; `unknown`: not asked yet. */
  readonly state: 'up' | 'down' | 'wrong-chain' | 'unknown'
  readonly consecutiveFailures: number
  /** How long it is left alone from now on; 0 when it may be asked. */
  readonly restMs: number
  /** Time of a call, averaged over the last ones; undefined before the first. */
  readonly latencyMs: number | undefined
  /** The highest block it has told of. */
  readonly head: number | undefined
  readonly lastError: string | undefined
}

/** Blocks behind the best endpoint from which one counts as lagging. */
const LAG_BLOCKS = 5
/** An observed head older than this says nothing. */
const HEAD_VALID_MS = 60_000
const REST_BASE_MS = 250
const REST_MAX_MS = 30_000
/** After so many failures in a row the chain id is checked again: the endpoint may have been replaced. */
const RECHECK_AFTER_FAILURES = 3
const PROBE_TIMEOUT_MS = 5_000

interface Slot {
  readonly endpoint: RpcEndpoint
  readonly index: number
  chainChecked: boolean
  wrongChain: boolean
  consecutiveFailures: number
  restUntil: number
  latencyMs: number | undefined
  head: number | undefined
  headAt: number
  answered: boolean
  lastError: string | undefined
}

/** One endpoint chosen by {@link RpcPool.pick}: calls go to it alone, once, and their outcome counts for its health. */
export interface PinnedEndpoint {
  readonly name: string
  call(method: string, params: readonly unknown[], options?: RpcCallOptions): Promise<unknown>
  /** Counts against the endpoint: its answer was well-formed and wrong. */
  blame(reason: string): void
}

/**
 * A list of endpoints of one chain, in order of preference. A call goes to the first healthy one; a failure moves it
 * on to the next, and lets the failed one rest (250 ms doubling to 30 s, or what `Retry-After` says). When all have
 * failed, the round is repeated after a pause, `retries` times.
 */
export class RpcPool {
  readonly names: readonly string[]
  readonly #slots: readonly Slot[]
  readonly #retries: number
  readonly #closed = new AbortController()
  #chainId: number | undefined

  constructor({ rpcUrls, chainId, timeoutMs, retries, maxResponseBytes }: RpcPoolParameters) {
    if (rpcUrls.length === 0 || rpcUrls.length > 64) {
      throw new ChainConfigError({
        code: 'CHAIN_URL_INVALID',
        message: `the list of RPC URLs holds ${rpcUrls.length} entries`,
        fix: 'give between 1 and 64 RPC URLs',
      })
    }
    const seen = new Map<string, number>()
    this.#slots = rpcUrls.map((url, index) => {
      const { host } = parseRpcUrl(url)
      const count = (seen.get(host) ?? 0) + 1
      seen.set(host, count)
      const name = count === 1 ? host : `${host}#${count}`
      return newSlot(new RpcEndpoint({ url, name, timeoutMs, maxResponseBytes }), index)
    })
    this.names = this.#slots.map((slot) => slot.endpoint.name)
    this.#retries = retries
    this.#chainId = chainId
  }

  get chainId(): number | undefined {
    return this.#chainId
  }

  /**
   * Asks every endpoint for its chain id. At least one must answer; those that answer must agree.
   *
   * @throws {@link ChainIdMismatchError}, {@link ChainUnavailableError}.
   */
  async identify(signal?: AbortSignal): Promise<number> {
    const results = await Promise.allSettled(this.#slots.map((slot) => this.#askChainId(slot, signal)))
    signal?.throwIfAborted()
    let identified: number | undefined = this.#chainId
    for (const [index, result] of results.entries()) {
      const slot = this.#slots[index]
      if (slot === undefined || result.status === 'rejected') continue
      identified ??= result.value
      if (result.value !== identified) {
        throw new ChainIdMismatchError({ expected: identified, actual: result.value, endpoint: slot.endpoint.name })
      }
      slot.chainChecked = true
    }
    if (identified === undefined || !this.#slots.some((slot) => slot.chainChecked)) {
      throw this.#unavailable('eth_chainId', firstFailure(results))
    }
    this.#chainId = identified
    return identified
  }

  /** One call with fail-over and retries. */
  async request(method: string, params: readonly unknown[], options: RpcCallOptions = {}): Promise<unknown> {
    let last: unknown
    for (let round = 0; ; round++) {
      for (const slot of this.#order()) {
        try {
          return await this.#callSlot(slot, method, params, options)
        } catch (error) {
          if (!(error instanceof ChainRpcError || error instanceof ChainIdMismatchError)) throw error
          if (error instanceof ChainRpcError && (error.kind === 'answer' || error.kind === 'too-large')) throw error
          last = error
        }
      }
      // What no endpoint has will not appear by asking again at once: the caller knows whether to wait for it.
      if (last instanceof ChainRpcError && last.kind === 'missing') throw last
      if (round >= this.#retries) throw this.#unavailable(method, last)
      await this.sleep(this.#pauseMs(round), options.signal)
    }
  }

  /** The endpoint to ask now; `avoid` names ones to pass over while another is fit. */
  pick({ avoid }: { avoid?: ReadonlySet<string> } = {}): PinnedEndpoint {
    const order = this.#order()
    const now = Date.now()
    const slot =
      order.find((candidate) => candidate.restUntil <= now && !avoid?.has(candidate.endpoint.name)) ?? order[0]
    if (slot === undefined) throw this.#unavailable('any call', undefined)
    return {
      name: slot.endpoint.name,
      call: (method, params, options = {}) => this.#callSlot(slot, method, params, options),
      blame: (reason) => this.#fail(slot, reason, undefined),
    }
  }

  /** Asks every endpoint for its head, so that lagging ones fall behind in the order. Never throws but on abort. */
  async probe(signal?: AbortSignal): Promise<void> {
    await Promise.allSettled(
      this.#slots.map((slot) => this.#callSlot(slot, 'eth_blockNumber', [], { signal, timeoutMs: PROBE_TIMEOUT_MS })),
    )
    signal?.throwIfAborted()
  }

  health(): EndpointHealth[] {
    const now = Date.now()
    return this.#slots.map((slot) => ({
      name: slot.endpoint.name,
      state: slot.wrongChain
        ? 'wrong-chain'
        : slot.consecutiveFailures > 0
          ? 'down'
          : slot.answered
            ? 'up'
            : ('unknown' as const),
      consecutiveFailures: slot.consecutiveFailures,
      restMs: Math.max(0, slot.restUntil - now),
      latencyMs: slot.latencyMs === undefined ? undefined : Math.round(slot.latencyMs),
      head: slot.head,
      lastError: slot.lastError,
    }))
  }

  /** Ends every call under way; later ones fail with `CHAIN_CLOSED`. */
  close(): void {
    if (this.#closed.signal.aborted) return
    this.#closed.abort(
      new ChainConfigError({ code: 'CHAIN_CLOSED', message: 'the chain connection has been closed', fix: undefined }),
    )
  }

  /** Waits; ends early with the signal's reason, or when the pool is closed. */
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const combined = this.#withClosed(signal)
    try {
      await delay(ms, undefined, { signal: combined })
    } catch {
      combined.throwIfAborted()
    }
  }

  async #callSlot(slot: Slot, method: string, params: readonly unknown[], options: RpcCallOptions): Promise<unknown> {
    await this.#checkChain(slot, options.signal)
    const startedAt = performance.now()
    try {
      const signal = this.#withClosed(options.signal)
      const result = await slot.endpoint.call(method, params, { ...options, signal })
      this.#succeed(slot, performance.now() - startedAt)
      noteHead(slot, method, params, result)
      return result
    } catch (error) {
      if (error instanceof ChainRpcError) {
        if (error.kind === 'endpoint' || error.kind === 'rate-limit')
          this.#fail(slot, error.message, error.retryAfterMs)
        else this.#succeed(slot, performance.now() - startedAt)
      }
      throw error
    }
  }

  /** An endpoint that was down at the start shows its chain id before its first answer counts. */
  async #checkChain(slot: Slot, signal: AbortSignal | undefined): Promise<void> {
    if (slot.chainChecked || this.#chainId === undefined) return
    const actual = await this.#askChainId(slot, signal)
    if (actual !== this.#chainId) {
      const expected = this.#chainId
      const error = new ChainIdMismatchError({ expected, actual, endpoint: slot.endpoint.name })
      slot.wrongChain = true
      slot.lastError = error.message
      slot.restUntil = Date.now() + REST_MAX_MS
      throw error
    }
    slot.wrongChain = false
    slot.chainChecked = true
  }

  async #askChainId(slot: Slot, signal: AbortSignal | undefined): Promise<number> {
    try {
      const result = await slot.endpoint.call('eth_chainId', [], { signal: this.#withClosed(signal) })
      const chainId = typeof result === 'string' && /^0x[0-9a-f]{1,13}$/i.test(result) ? Number(result) : 0
      if (chainId < 1) {
        throw new ChainRpcError({
          code: 'RPC_BAD_ANSWER',
          endpoint: slot.endpoint.name,
          method: 'eth_chainId',
          kind: 'endpoint',
          reason: 'not a chain id',
        })
      }
      slot.answered = true
      return chainId
    } catch (error) {
      if (error instanceof ChainRpcError) this.#fail(slot, error.message, error.retryAfterMs)
      throw error
    }
  }

  #succeed(slot: Slot, elapsedMs: number): void {
    slot.answered = true
    slot.consecutiveFailures = 0
    slot.restUntil = 0
    slot.latencyMs = slot.latencyMs === undefined ? elapsedMs : slot.latencyMs * 0.8 + elapsedMs * 0.2
  }

  #fail(slot: Slot, message: string, retryAfterMs: number | undefined): void {
    slot.consecutiveFailures++
    slot.lastError = message
    if (slot.consecutiveFailures >= RECHECK_AFTER_FAILURES) slot.chainChecked = false
    const restMs = Math.min(REST_MAX_MS, REST_BASE_MS * 2 ** Math.min(slot.consecutiveFailures - 1, 10))
    slot.restUntil = Date.now() + Math.max(restMs, retryAfterMs ?? 0)
  }

  /** Healthy ones in the order given, then lagging ones, then resting ones, the soonest first. */
  #order(): Slot[] {
    const now = Date.now()
    const heads = this.#slots.filter((slot) => now - slot.headAt < HEAD_VALID_MS).map((slot) => slot.head ?? 0)
    const best = Math.max(0, ...heads)
    const rank = (slot: Slot) => {
      if (slot.restUntil > now) return 2
      const lags = slot.head !== undefined && now - slot.headAt < HEAD_VALID_MS && slot.head + LAG_BLOCKS < best
      return lags ? 1 : 0
    }
    return this.#slots
      .filter((slot) => !slot.wrongChain || slot.restUntil <= now)
      .sort((a, b) => {
        const ranks = rank(a) - rank(b)
        if (ranks !== 0) return ranks
        return rank(a) === 2 && a.restUntil !== b.restUntil ? a.restUntil - b.restUntil : a.index - b.index
      })
  }

  /** Until the first endpoint has rested, but no less than the round's own back-off. */
  #pauseMs(round: number): number {
    const soonest = Math.min(...this.#slots.map((slot) => slot.restUntil)) - Date.now()
    return Math.min(REST_MAX_MS, Math.max(100 * 2 ** Math.min(round, 8), soonest, 0))
  }

  #withClosed(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#closed.signal : AbortSignal.any([signal, this.#closed.signal])
  }

  #unavailable(method: string, cause: unknown): ChainUnavailableError {
    const failures = Object.fromEntries(this.#slots.map((slot) => [slot.endpoint.name, slot.lastError ?? 'not asked']))
    const reason = cause instanceof Error ? `: ${cause.message}` : ''
    return new ChainUnavailableError({
      code: 'CHAIN_UNAVAILABLE',
      message: `no RPC endpoint of ${this.names.join(', ')} could answer ${method}${reason}`,
      fix: 'check that an endpoint is up and reachable, or add another RPC URL to the list',
      details: { method, failures },
      cause,
    })
  }
}

export interface RpcPoolParameters {
  rpcUrls: readonly string[]
  /** Learned from the endpoints where left out. */
  chainId?: number | undefined
  timeoutMs: number
  retries: number
  maxResponseBytes: number
}

function newSlot(endpoint: RpcEndpoint, index: number): Slot {
  return {
    endpoint,
    index,
    chainChecked: false,
    wrongChain: false,
    consecutiveFailures: 0,
    restUntil: 0,
    latencyMs: undefined,
    head: undefined,
    headAt: 0,
    answered: false,
    lastError: undefined,
  }
}

/** Heads are learned in passing, from calls that tell them anyway. */
function noteHead(slot: Slot, method: string, params: readonly unknown[], result: unknown): void {
  let quantity: unknown
  if (method === 'eth_blockNumber') quantity = result
  else if (
    method === 'eth_getBlockByNumber' &&
    params[0] === 'latest' &&
    typeof result === 'object' &&
    result !== null
  ) {
    quantity = 'number' in result ? result.number : undefined
  }
  if (typeof quantity !== 'string' || !/^0x[0-9a-f]{1,13}$/i.test(quantity)) return
  slot.head = Number(quantity)
  slot.headAt = Date.now()
}

function firstFailure(results: readonly PromiseSettledResult<unknown>[]): unknown {
  const failed = results.find((result) => result.status === 'rejected')
  return failed?.status === 'rejected' ? failed.reason : undefined
}
