/** A bounded map whose entries are forgotten after a time, and the least recently used first when it is full. */
export class ExpiringCache<K, V> {
  readonly #entries = new Map<K, { value: V; expiresAtMs: number }>()
  readonly #limit: number
  readonly #ttlMs: number
  readonly #now: () => number

  constructor({ limit, ttlMs, now = Date.now }: { limit: number; ttlMs: number; now?: (() => number) | undefined }) {
    this.#limit = limit
    this.#ttlMs = ttlMs
    this.#now = now
  }

  /** How many entries are held, expired ones not yet dropped included. */
  get size(): number {
    return this.#entries.size
  }

  /** The live entry, marked as used just now. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    if (entry.expiresAtMs <= this.#now()) return undefined
    this.#entries.set(key, entry)
    return entry.value
  }

  /** Stores for `ttlMs` (default the cache's). */
  set(key: K, value: V, { ttlMs = this.#ttlMs }: { ttlMs?: number } = {}): void {
    this.#entries.delete(key)
    this.#entries.set(key, { value, expiresAtMs: this.#now() + ttlMs })
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limit) break
      this.#entries.delete(oldest)
    }
  }

  delete(key: K): void {
    this.#entries.delete(key)
  }
}
