/**
 * How many blocks to ask for at once: halves when an endpoint says "too large", and creeps up again, more carefully
 * past a size that failed before.
 */
export class PageSize {
  readonly #max: number
  #blocks: number
  #failedAt = Number.POSITIVE_INFINITY
  #successes = 0

  constructor(maxBlocks: number) {
    this.#max = Math.max(1, Math.floor(maxBlocks))
    this.#blocks = this.#max
  }

  get blocks(): number {
    return this.#blocks
  }

  /** A page of `asked` blocks was too large. False when it was a single block already. */
  tooLarge(asked: number): boolean {
    this.#failedAt = Math.min(this.#failedAt, asked)
    this.#successes = 0
    this.#blocks = Math.max(1, Math.floor(Math.min(this.#blocks, asked) / 2))
    return asked > 1
  }

  /** A page of `asked` blocks worked. Pages smaller than the size say nothing. */
  worked(asked: number): void {
    if (asked < this.#blocks || this.#blocks >= this.#max) return
    this.#successes++
    const next = Math.min(this.#max, Math.ceil(this.#blocks * 1.5))
    if (this.#successes < (next >= this.#failedAt ? 64 : 4)) return
    this.#successes = 0
    this.#failedAt = next >= this.#failedAt ? Number.POSITIVE_INFINITY : this.#failedAt
    this.#blocks = next
  }
}
