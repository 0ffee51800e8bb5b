interface Waiter {
  units: number
  resolve: () => void
  reject: (reason: unknown) => void
}

/**
 * A fair budget of units (bytes, requests): those who want more than is free wait their turn, first come first served.
 */
export class Semaphore {
  readonly #capacity: number
  #free: number
  #waiters: Waiter[] = []

  constructor(capacity: number) {
    this.#capacity = capacity
    this.#free = capacity
  }

  /** Units out at present. */
  get used(): number {
    return this.#capacity - this.#free
  }

  get waiting(): number {
    return this.#waiters.length
  }

  /** Waits for `units` (at most the capacity is asked for) and gives them back by the returned function, once. */
  async acquire(units: number, signal?: AbortSignal): Promise<() => void> {
    const wanted = Math.min(units, this.#capacity)
    signal?.throwIfAborted()
    if (this.#waiters.length > 0 || this.#free < wanted) await this.#wait(wanted, signal)
    else this.#free -= wanted
    let released = false
    return () => {
      if (released) return
      released = true
      this.#free += wanted
      this.#wake()
    }
  }

  #wait(units: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter)
        reject(signal?.reason)
        this.#wake()
      }
      const waiter: Waiter = {
        units,
        resolve: () => {
          signal?.removeEventListener('abort', stop)
          resolve()
        },
        reject,
      }
      this.#waiters.push(waiter)
      signal?.addEventListener('abort', stop, { once: true })
    })
  }

  #wake(): void {
    for (let next = this.#waiters[0]; next && next.units <= this.#free; next = this.#waiters[0]) {
      this.#waiters.shift()
      this.#free -= next.units
      next.resolve()
    }
  }
}
