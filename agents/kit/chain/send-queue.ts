import { raceAbort } from './abortable.ts'
import { TransactionRejectedError } from './transaction-error.ts'

const MAX_WAITING = 10_000

/** Keeps the number of transactions under way bounded, and the giving out of nonces to one at a time. */
export class SendQueue {
  readonly #maxInFlight: number
  readonly #waiting: (() => void)[] = []
  #turn: Promise<unknown> = Promise.resolve()
  #inFlight = 0

  constructor(maxInFlight: number) {
    this.#maxInFlight = maxInFlight
  }

  /** Runs one task at a time, in the order of the calls. A task that has begun is not interrupted by the limit. */
  async locked(task: () => Promise<void>, limit: AbortSignal): Promise<void> {
    const before = this.#turn
    const done = Promise.withResolvers<void>()
    this.#turn = before.then(() => done.promise)
    try {
      await raceAbort(before, limit)
      await task()
    } finally {
      done.resolve()
    }
  }

  /** Waits for a place among the transactions under way. */
  async enter(limit: AbortSignal): Promise<void> {
    limit.throwIfAborted()
    if (this.#inFlight < this.#maxInFlight) {
      this.#inFlight++
      return
    }
    if (this.#waiting.length >= MAX_WAITING) {
      throw new TransactionRejectedError({
        code: 'SENDER_BUSY',
        message: `${MAX_WAITING} transactions are waiting to be sent`,
        fix: 'send fewer at a time',
      })
    }
    const place = Promise.withResolvers<void>()
    this.#waiting.push(place.resolve)
    try {
      await raceAbort(place.promise, limit)
    } catch (error) {
      const index = this.#waiting.indexOf(place.resolve)
      if (index >= 0) this.#waiting.splice(index, 1)
      // The place came at the last moment: it goes to the next one.
      else this.leave()
      throw error
    }
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#inFlight--
    else next()
  }
}
