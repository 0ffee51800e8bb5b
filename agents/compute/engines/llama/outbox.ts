import type { Reply } from './messages.ts'

/** Milliseconds that text of a running answer may wait for more of it. */
const INTERVAL_MS = 10

/**
 * Collects replies, so that a fast model does not pay for a message per token: what follows within 10 ms goes out together,
 * and pieces of one request that wait are joined. Beginning and end of an answer wait for nothing.
 */
export class Outbox {
  readonly #send: (replies: Reply[]) => void
  #replies: Reply[] = []
  readonly #pieces = new Map<number, Extract<Reply, { type: 'piece' }>>()
  readonly #hasText = new Set<number>()
  #timer: NodeJS.Timeout | undefined
  #immediate: NodeJS.Immediate | undefined
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
    const isFirst = reply.type === 'piece' && !this.#hasText.has(reply.id)
    if (isFirst) this.#hasText.add(reply.id)
    else if (reply.type === 'end' || reply.type === 'error') this.#hasText.delete(reply.id)
    const wait = INTERVAL_MS - (performance.now() - this.#sentAt)
    // The end of the event loop's turn still gathers what all sequences of a batch have to say.
    if (isFirst || reply.type !== 'piece' || wait <= 0) this.#immediate ??= setImmediate(this.#flush)
    else this.#timer ??= setTimeout(this.#flush, wait)
  }

  readonly #flush = (): void => {
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
    this.#timer = undefined
    this.#immediate = undefined
    this.#sentAt = performance.now()
    const replies = this.#replies
    this.#replies = []
    this.#pieces.clear()
    this.#send(replies)
  }
}
