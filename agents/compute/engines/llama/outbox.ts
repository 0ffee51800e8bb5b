import type { Reply } from './messages.ts'

/** Least milliseconds between two messages to the parent. */
const INTERVAL_MS = 10

/**
 * Collects replies, so that a fast model does not pay for a message per token: the first goes out at once, those that
 * follow within 10 ms together. Pieces of one request that wait are joined.
 */
export class Outbox {
  readonly #send: (replies: Reply[]) => void
  #replies: Reply[] = []
  readonly #pieces = new Map<number, Extract<Reply, { type: 'piece' }>>()
  #isScheduled = false
  #sentAt = 0

  constructor(send: (replies: Reply[]) => void) {
    this.#send = send
  }

  push(reply: Reply): void {
    if (reply.type === 'piece') {
      const waiting = this.#pieces.get(reply.id)
      if (waiting !== undefined) {
        waiting.text += reply.text
        for (const id of reply.tokenIds) waiting.tokenIds.push(id)
        if (reply.logprobs !== undefined) waiting.logprobs = [...(waiting.logprobs ?? []), ...reply.logprobs]
        return
      }
      this.#pieces.set(reply.id, reply)
    } else this.#pieces.delete(reply.id)
    this.#replies.push(reply)
    if (this.#isScheduled) return
    this.#isScheduled = true
    const wait = INTERVAL_MS - (performance.now() - this.#sentAt)
    if (wait > 0) setTimeout(this.#flush, wait)
    else setImmediate(this.#flush)
  }

  readonly #flush = (): void => {
    this.#isScheduled = false
    this.#sentAt = performance.now()
    const replies = this.#replies
    this.#replies = []
    this.#pieces.clear()
    this.#send(replies)
  }
}
