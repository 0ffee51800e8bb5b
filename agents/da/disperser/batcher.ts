/** What is waiting to be done with others. */
interface Waiting<Item, Result> {
  item: Item
  resolve: (result: Result) => void
  reject: (error: unknown) => void
}

export interface BatcherParameters<Item, Result> {
  /** Does all of them at once; results in the same order. */
  run: (items: readonly Item[]) => Promise<readonly Result[]>
  /** Tried one by one when doing all at once failed, so that a bad one does not take the others with it. */
  runAlone: (item: Item) => Promise<Result>
  /** How long the first one waits for others. */
  waitMs: number
  maxItems: number
}

/** Collects things for a moment, so that they share a transaction. */
export class Batcher<Item, Result> {
  readonly #parameters: BatcherParameters<Item, Result>
  #waiting: Waiting<Item, Result>[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(parameters: BatcherParameters<Item, Result>) {
    this.#parameters = parameters
  }

  add(item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    this.#waiting.push({ item, resolve, reject })
    const { waitMs, maxItems } = this.#parameters
    if (this.#waiting.length >= maxItems) this.#flush()
    else this.#timer ??= setTimeout(() => this.#flush(), waitMs)
    return promise
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const batch = this.#waiting
    this.#waiting = []
    void this.#run(batch)
  }

  async #run(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    const { run, runAlone } = this.#parameters
    try {
      const results = await run(batch.map(({ item }) => item))
      for (const [index, { resolve, reject }] of batch.entries()) {
        const result = results[index]
        if (result === undefined) reject(new RangeError('a batch gave too few results'))
        else resolve(result)
      }
    } catch (error) {
      const [only] = batch
      if (batch.length === 1) only?.reject(error)
      else for (const { item, resolve, reject } of batch) await runAlone(item).then(resolve, reject)
    }
  }
}
