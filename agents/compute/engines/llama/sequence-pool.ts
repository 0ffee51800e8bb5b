import type { LlamaContext, LlamaContextSequence, Token } from 'node-llama-cpp'

interface Waiting {
  tokens: readonly number[]
  give: (sequence: LlamaContextSequence) => void
}

/** The sequences of one context. Each serves one request at a time; who finds none waits in order of arrival. */
export class SequencePool {
  readonly context: LlamaContext
  /** Least recently used first. */
  readonly #free: LlamaContextSequence[] = []
  readonly #waiting: Waiting[] = []
  #busy = 0
  #isClosed = false
  readonly #ended = Promise.withResolvers<void>()
  usedAt = 0

  constructor(context: LlamaContext) {
    this.context = context
    for (let i = 0; i < context.totalSequences; i++) this.#free.push(context.getSequence())
  }

  get isIdle(): boolean {
    return this.#busy === 0 && this.#waiting.length === 0
  }

  /** Settles when the context has been freed, after {@link close}. */
  get closed(): Promise<void> {
    return this.#ended.promise
  }

  /** Frees the context, once whoever is served or waits has been served. Waits for none of them: see {@link closed}. */
  async close(): Promise<void> {
    this.#isClosed = true
    if (!this.isIdle) return
    try {
      if (!this.context.disposed) await this.context.dispose()
    } finally {
      this.#ended.resolve()
    }
  }

  /** The free sequence whose cache shares the longest beginning with `tokens`; waits for one where all are busy. */
  async acquire(tokens: readonly number[], signal: AbortSignal): Promise<LlamaContextSequence> {
    signal.throwIfAborted()
    const free = this.#takeBest(tokens)
    if (free !== undefined) return free
    return await new Promise<LlamaContextSequence>((resolve, reject) => {
      const waiting: Waiting = {
        tokens,
        give: (sequence) => {
          signal.removeEventListener('abort', leave)
          resolve(sequence)
        },
      }
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1)
        reject(signal.reason)
        if (this.#isClosed) void this.close()
      }
      signal.addEventListener('abort', leave, { once: true })
      this.#waiting.push(waiting)
    })
  }

  release(sequence: LlamaContextSequence): void {
    this.#busy -= 1
    this.#free.push(sequence)
    const next = this.#waiting.shift()
    if (next === undefined) {
      if (this.#isClosed) void this.close()
      return
    }
    const best = this.#takeBest(next.tokens)
    if (best !== undefined) next.give(best)
  }

  #takeBest(tokens: readonly number[]): LlamaContextSequence | undefined {
    let best: { sequence: LlamaContextSequence; shared: number } | undefined
    for (const sequence of this.#free) {
      const { firstDifferentIndex: shared } = sequence.compareContextTokens(tokens as Token[])
      if (best === undefined || shared > best.shared) best = { sequence, shared }
    }
    if (best === undefined) return undefined
    this.#free.splice(this.#free.indexOf(best.sequence), 1)
    this.#busy += 1
    return best.sequence
  }
}
