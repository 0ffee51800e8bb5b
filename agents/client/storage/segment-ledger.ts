/** Who fetches which segment, and what failed where. Pure bookkeeping: no I/O, no clock of its own but `now`. */
export class SegmentLedger {
  readonly #indexes: readonly number[]
  readonly #state: Map<number, 'wanted' | 'done' | Flight>
  readonly #failures = new Map<number, Map<string, { reason: string; times: number; final: boolean }>>()
  readonly #now: () => number
  /** Position in `#indexes` before which nothing is wanted. */
  #cursor = 0
  #wanted: number
  #done = 0

  constructor(indexes: readonly number[], now: () => number = () => performance.now()) {
    this.#indexes = indexes
    this.#state = new Map(indexes.map((index) => [index, 'wanted']))
    this.#wanted = indexes.length
    this.#now = now
  }

  /** Segments nobody is fetching. */
  get wanted(): number {
    return this.#wanted
  }

  get inFlight(): number {
    return this.#indexes.length - this.#wanted - this.#done
  }

  get complete(): boolean {
    return this.#done === this.#indexes.length
  }

  isDone(index: number): boolean {
    return this.#state.get(index) === 'done'
  }

  /**
   * Up to `limit` segments for the node at `url`, such that asking for everything its shard keeps between the first and
   * the last gives exactly these. Where there is none for it: one that another node has made no progress with.
   */
  take({ url, limit, hedgeAfterMs, mayStart, owns, nextOwned }: TakeParameters): number[] {
    const taken: number[] = []
    let expected = -1
    for (let at = this.#firstWantedAt(); at < this.#indexes.length && taken.length < limit; at++) {
      const index = this.#indexes[at] as number
      if (!mayStart(index)) break
      if (!owns(index)) continue
      const free = this.#state.get(index) === 'wanted' && this.#mayAsk(url, index)
      if (free && (taken.length === 0 || index === expected)) {
        taken.push(index)
        expected = nextOwned(index + 1)
      } else if (taken.length > 0) break
    }
    if (taken.length === 0) {
      const slow = this.#slowest({ url, hedgeAfterMs, owns })
      if (slow !== undefined) taken.push(slow)
    }
    for (const index of taken) this.#start(url, index)
    return taken
  }

  /** Whether `take` could ever give this node something of what is wanted now. */
  canTake({ url, owns }: Pick<TakeParameters, 'url' | 'owns'>): boolean {
    for (let at = this.#firstWantedAt(); at < this.#indexes.length; at++) {
      const index = this.#indexes[at] as number
      if (this.#state.get(index) === 'wanted' && owns(index) && this.#mayAsk(url, index)) return true
    }
    return false
  }

  /** The node's request moves: none of its segments is slow. */
  progress(url: string, indexes: readonly number[]): void {
    const now = this.#now()
    for (const index of indexes) {
      const flight = this.#state.get(index)
      if (typeof flight === 'object' && flight.urls.has(url)) flight.movedAt = now
    }
  }

  /** The segment is here and verified. False when another node was first. */
  finish(index: number): boolean {
    const state = this.#state.get(index)
    if (state === undefined || state === 'done') return false
    if (state === 'wanted') this.#wanted -= 1
    this.#state.set(index, 'done')
    this.#done += 1
    return true
  }

  /** The node did not give the segment: it is wanted again. `final`: do not ask this node for it any more. */
  giveBack({ url, index, reason, final }: { url: string; index: number; reason: string; final: boolean }): void {
    const flight = this.#state.get(index)
    if (typeof flight !== 'object') return
    const failures = this.#failures.get(index) ?? new Map()
    const before = failures.get(url)
    failures.set(url, { reason, times: (before?.times ?? 0) + 1, final: final || before?.final === true })
    this.#failures.set(index, failures)
    flight.urls.delete(url)
    if (flight.urls.size > 0) return
    this.#state.set(index, 'wanted')
    this.#wanted += 1
    this.#cursor = 0
  }

  firstWanted(): number {
    return this.#indexes[this.#firstWantedAt()] ?? -1
  }

  /** What each node said about a segment. */
  attempts(index: number): Map<string, string> {
    return new Map([...(this.#failures.get(index) ?? [])].map(([url, { reason }]) => [url, reason]))
  }

  #firstWantedAt(): number {
    while (this.#cursor < this.#indexes.length && this.#state.get(this.#indexes[this.#cursor] as number) !== 'wanted') {
      this.#cursor += 1
    }
    return this.#cursor
  }

  #mayAsk(url: string, index: number): boolean {
    return this.#failures.get(index)?.get(url)?.final !== true
  }

  #slowest({ url, hedgeAfterMs, owns }: Pick<TakeParameters, 'url' | 'hedgeAfterMs' | 'owns'>): number | undefined {
    const before = this.#now() - hedgeAfterMs
    for (const index of this.#indexes) {
      const flight = this.#state.get(index)
      if (typeof flight !== 'object' || flight.urls.has(url) || flight.urls.size > 1) continue
      if (flight.movedAt < before && owns(index) && this.#mayAsk(url, index)) return index
    }
    return undefined
  }

  #start(url: string, index: number): void {
    const state = this.#state.get(index)
    if (typeof state === 'object') {
      state.urls.add(url)
      return
    }
    this.#state.set(index, { urls: new Set([url]), movedAt: this.#now() })
    this.#wanted -= 1
  }
}

interface Flight {
  urls: Set<string>
  movedAt: number
}

export interface TakeParameters {
  url: string
  limit: number
  hedgeAfterMs: number
  mayStart: (index: number) => boolean
  owns: (index: number) => boolean
  /** The first index from the given one on that the node's shard keeps. */
  nextOwned: (index: number) => number
}
