/** Speed of something that only grows, over the last while. */
export class Rate {
  readonly #spanMs: number
  readonly #now: () => number
  readonly #samples: { atMs: number; value: number }[] = []

  constructor({ spanMs = 15_000, now = Date.now }: { spanMs?: number; now?: () => number } = {}) {
    this.#spanMs = spanMs
    this.#now = now
  }

  add(value: number): void {
    const atMs = this.#now()
    this.#samples.push({ atMs, value })
    while (this.#samples.length > 2 && (this.#samples[1]?.atMs ?? 0) < atMs - this.#spanMs) this.#samples.shift()
  }

  /** Per second; 0 before there are two samples. */
  get perSecond(): number {
    const [first] = this.#samples
    const last = this.#samples.at(-1)
    if (!first || !last || last.atMs <= first.atMs) return 0
    return ((last.value - first.value) / (last.atMs - first.atMs)) * 1000
  }
}
