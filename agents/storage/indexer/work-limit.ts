import { IndexerBusyError } from './errors.ts'

interface Waiter {
  weight: number
  admit(): void
}

/**
 * Admits work up to a total weight (bytes, requests) and lets the rest wait in order. Work heavier than the whole limit
 * is admitted alone. When `maxWaiting` are waiting already, or one has waited `maxWaitMs`, it is refused.
 */
export class WorkLimit {
  readonly #what: string
  readonly #limit: number
  readonly #maxWaiting: number
  readonly #maxWaitMs: number
  readonly #waiting: Waiter[] = []
  #used = 0

  constructor({ what, limit, maxWaiting, maxWaitMs }: WorkLimitParameters) {
    this.#what = what
    this.#limit = limit
    this.#maxWaiting = maxWaiting
    this.#maxWaitMs = maxWaitMs
  }

  /** Weight admitted now. */
  get used(): number {
    return this.#used
  }

  /** How many are waiting. */
  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * Waits for room and returns the function that gives it back; calling that twice is harmless.
   *
   * @throws IndexerBusyError when there is no room in time; the signal's reason when it fires first.
   */
  async acquire({
    weight = 1,
    signal,
  }: {
    weight?: number
    signal?: AbortSignal | undefined
  } = {}): Promise<() => void> {
    signal?.throwIfAborted()
    const size = Math.min(weight, this.#limit)
    if (this.#waiting.length === 0 && this.#used + size <= this.#limit) return this.#take(size)
    if (this.#waiting.length >= this.#maxWaiting) throw new IndexerBusyError({ what: this.#what, limit: this.#limit })
    return await new Promise((resolve, reject) => {
      const leave = (error: unknown): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
        done()
        reject(error)
        this.#admit()
      }
      const onAbort = (): void => leave(signal?.reason)
      const timer = setTimeout(
        () => leave(new IndexerBusyError({ what: this.#what, limit: this.#limit })),
        this.#maxWaitMs,
      )
      const done = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        weight: size,
        admit: () => {
          done()
          resolve(this.#take(size))
        },
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(waiter)
    })
  }

  #take(weight: number): () => void {
    this.#used += weight
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#used -= weight
      this.#admit()
    }
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#used + next.weight > this.#limit) return
      this.#waiting.shift()
      next.admit()
    }
  }
}

export interface WorkLimitParameters {
  /** What is limited, for the refusal's message: `segment reads`. */
  what: string
  /** Total weight admitted at once. */
  limit: number
  /** How many may wait. */
  maxWaiting: number
  /** How long one may wait, in milliseconds. */
  maxWaitMs: number
}
