import type { Hex } from '#protocol/hex.ts'
import { adaptersBusy, tooManyFetches } from './adapter-errors.ts'

const HOUR_MS = 3_600_000
/** Users remembered; the one that was longest idle is forgotten. */
const MAX_USERS = 10_000
/** Fetches that may wait for their turn. */
const MAX_WAITING = 32

/**
 * How many adapters may be fetched: so many at a time, and for one user so many an hour, however small its requests are.
 * A fetch is paid by the request that caused it, so the bound is what keeps a request of one token from buying gigabytes.
 */
export class FetchShare {
  readonly #atOnce: number
  readonly #perHour: number
  readonly #now: () => number
  readonly #users = new Map<Hex, { left: number; atMs: number }>()
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor({ atOnce, perHour, now }: { atOnce: number; perHour: number; now: () => number }) {
    this.#atOnce = atOnce
    this.#perHour = perHour
    this.#now = now
  }

  /** @throws ProviderError 429 `adapter_fetch_limit` */
  charge(user: Hex): void {
    if (this.#perHour === 0) return
    const nowMs = this.#now()
    const known = this.#users.get(user) ?? { left: this.#perHour, atMs: nowMs }
    const grown = Math.max(0, nowMs - known.atMs) * (this.#perHour / HOUR_MS)
    const left = Math.min(this.#perHour, known.left + grown)
    if (left < 1) throw tooManyFetches(this.#perHour, Math.ceil(((1 - left) * HOUR_MS) / this.#perHour / 1000))
    this.#users.delete(user)
    this.#users.set(user, { left: left - 1, atMs: nowMs })
    const [oldest] = this.#users.size > MAX_USERS ? this.#users.keys() : []
    if (oldest !== undefined) this.#users.delete(oldest)
  }

  /** Gives back what a fetch took that the network failed. */
  refund(user: Hex): void {
    const known = this.#users.get(user)
    if (known !== undefined) known.left = Math.min(this.#perHour, known.left + 1)
  }

  /**
   * Runs `work` when its turn comes.
   *
   * @throws ProviderError 503 `adapters_busy`
   */
  async inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#atOnce) {
      if (this.#waiting.length >= MAX_WAITING) throw adaptersBusy(MAX_WAITING, 'waiting to be fetched')
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    } else this.#running += 1
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      // The place goes on to whoever waits longest.
      if (next === undefined) this.#running -= 1
      else next()
    }
  }
}
