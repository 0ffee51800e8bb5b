import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { ProviderError } from '../error.ts'

export interface SseWriterParameters {
  response: ServerResponse
  headers: Readonly<Record<string, string>>
  /** A client that takes nothing for so long is given up. */
  stallMs: number
  /** Told how many tokens have been handed to the socket in all. */
  onDelivered: (tokens: number) => void
}

/**
 * Writes server-sent events. The first event of a turn of the event loop leaves at once; those that follow in the same
 * turn leave together in the next, as one write. Counts tokens as delivered when they are handed to the socket.
 */
export class SseWriter {
  readonly #parameters: SseWriterParameters
  readonly #hash = createHash('sha256')
  #pending = ''
  #pendingTokens = 0
  #tokens = 0
  #scheduled = false
  #begun = false
  #full = false

  constructor(parameters: SseWriterParameters) {
    this.#parameters = parameters
  }

  /** Whether the status line has left. */
  get begun(): boolean {
    return this.#begun
  }

  /** Writes one event: `data` is the text after `data: `. */
  event(data: string, tokens = 0): void {
    const text = `data: ${data}\n\n`
    if (this.#scheduled) {
      this.#pending += text
      this.#pendingTokens += tokens
      return
    }
    this.#write(text, tokens)
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.flush()
    })
  }

  /** Writes what waits. */
  flush(): void {
    if (this.#pending === '') return
    const text = this.#pending
    const tokens = this.#pendingTokens
    this.#pending = ''
    this.#pendingTokens = 0
    this.#write(text, tokens)
  }

  /**
   * Resolves when the client can take more.
   *
   * @throws ProviderError 408 `client_stalled`; the signal's reason
   */
  async ready(signal: AbortSignal): Promise<void> {
    if (!this.#full) return
    const { response, stallMs } = this.#parameters
    await new Promise<void>((resolve, reject) => {
      const done = (error?: unknown) => {
        clearTimeout(timer)
        response.off('drain', onDrain)
        signal.removeEventListener('abort', onAbort)
        if (error === undefined) resolve()
        else reject(error)
      }
      const onDrain = () => done()
      const onAbort = () => done(signal.reason)
      const timer = setTimeout(() => done(stalled(stallMs)), stallMs)
      response.once('drain', onDrain)
      signal.addEventListener('abort', onAbort, { once: true })
      if (signal.aborted) onAbort()
      else if (!response.writableNeedDrain) done()
    })
    this.#full = false
  }

  /** Ends the answer. Returns the SHA-256 of all bytes sent, in hex. */
  end(): string {
    this.flush()
    this.#parameters.response.end()
    return this.#hash.digest('hex')
  }

  #write(text: string, tokens: number): void {
    const { response, headers, onDelivered } = this.#parameters
    if (response.destroyed || response.writableEnded) return
    if (!this.#begun) {
      this.#begun = true
      response.writeHead(200, { ...headers, 'content-type': 'text/event-stream; charset=utf-8' })
      response.socket?.setNoDelay(true)
    }
    this.#hash.update(text)
    this.#full = !response.write(text)
    if (tokens === 0) return
    this.#tokens += tokens
    onDelivered(this.#tokens)
  }
}

function stalled(stallMs: number): ProviderError {
  return new ProviderError({
    ...{ statusCode: 408, type: 'invalid_request_error', code: 'client_stalled' },
    message: `the client took nothing for ${stallMs} ms`,
    fix: 'read the stream as it comes',
    details: { stallMs },
  })
}
