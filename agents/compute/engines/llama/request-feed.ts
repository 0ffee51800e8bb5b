import { randomUUID } from 'node:crypto'
import type { EngineEvent, OpenAiStreamChoice } from '../engine.ts'
import type { EngineError } from '../engine-error.ts'
import type { Reply, TokenLogprob } from './messages.ts'

/**
 * The events of one request on their way to whoever asked. What waits is bounded by the context: an answer has no more
 * tokens than that.
 */
export class RequestFeed {
  readonly #kind: 'chat' | 'complete'
  #events: EngineEvent[] = []
  #error: unknown
  #isEnded = false
  #wake: (() => void) | undefined
  #hasRole = false
  /** The child works on it: it has a sequence. */
  isStarted = false
  lastReplyAt = performance.now()

  constructor(kind: 'chat' | 'complete') {
    this.#kind = kind
  }

  push(reply: Reply): void {
    this.lastReplyAt = performance.now()
    if (reply.type === 'started') this.isStarted = true
    else if (reply.type === 'prompt') {
      const { tokenIds, cachedTokens } = reply
      this.#events.push({ type: 'prompt', promptTokens: tokenIds.length, cachedTokens, promptTokenIds: tokenIds })
    } else if (reply.type === 'piece') {
      this.#events.push({ type: 'chunk', choices: [this.#choice(reply)], tokenIds: reply.tokenIds })
    } else if (reply.type === 'end') this.#end(reply)
    this.#wake?.()
  }

  fail(error: EngineError | unknown): void {
    if (this.#isEnded) return
    this.#error = error
    this.#isEnded = true
    this.#wake?.()
  }

  async *read(): AsyncGenerator<EngineEvent, void, void> {
    for (;;) {
      const events = this.#events
      this.#events = []
      yield* events
      if (this.#events.length > 0) continue
      if (this.#error !== undefined) throw this.#error
      if (this.#isEnded) return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  #choice({ text, logprobs }: Extract<Reply, { type: 'piece' }>): OpenAiStreamChoice {
    if (this.#kind === 'complete') {
      return {
        index: 0,
        text,
        finish_reason: null,
        ...(logprobs === undefined ? {} : { logprobs: completionLogprobs(logprobs) }),
      }
    }
    const role = this.#hasRole ? {} : { role: 'assistant' }
    this.#hasRole = true
    return {
      index: 0,
      delta: { ...role, content: text },
      finish_reason: null,
      ...(logprobs === undefined ? {} : { logprobs: chatLogprobs(logprobs) }),
    }
  }

  #end({ finishReason, toolCalls, usage, outputTokenIds, profile, settings }: Extract<Reply, { type: 'end' }>): void {
    const calls = toolCalls.map((call, index) => ({
      index,
      id: `call_${randomUUID().replaceAll('-', '')}`,
      type: 'function' as const,
      function: { name: call.name, arguments: call.arguments },
    }))
    const role = this.#hasRole ? {} : { role: 'assistant' }
    const last: OpenAiStreamChoice =
      this.#kind === 'complete'
        ? { index: 0, text: '', finish_reason: finishReason }
        : {
            index: 0,
            delta: { ...role, ...(calls.length > 0 ? { tool_calls: calls } : {}) },
            finish_reason: finishReason,
          }
    this.#events.push({ type: 'chunk', choices: [last], tokenIds: [] })
    this.#events.push({ type: 'end', finishReason, usage, outputTokenIds, profile, settings })
    this.#isEnded = true
  }
}

function chatLogprobs(logprobs: readonly TokenLogprob[]) {
  const entry = ({ text, logprob }: { text: string; logprob: number }) => ({
    token: text,
    logprob,
    bytes: [...Buffer.from(text, 'utf8')],
  })
  return { content: logprobs.map((token) => ({ ...entry(token), top_logprobs: token.top.map(entry) })) }
}

function completionLogprobs(logprobs: readonly TokenLogprob[]) {
  return {
    tokens: logprobs.map(({ text }) => text),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) => Object.fromEntries(top.map(({ text, logprob }) => [text, logprob]))),
  }
}
