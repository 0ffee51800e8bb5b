import { ProviderError } from './errors.ts'
import { readStreamEvent, readText, readUsage, SseParser, type StreamUsage } from './sse.ts'

/** Bytes without a token after which an answer counts as none. */
const MAX_BEFORE_TOKEN_BYTES = 2 ** 20

/**
 * Reads an answer: first up to its first token (held back), then piece by piece. A stream must end with `[DONE]`, and
 * an error in it is thrown instead of handed on; an answer that is no stream is held back until it is whole.
 */
export class AnswerReader {
  readonly #provider: string
  readonly #body: ReadableStreamDefaultReader<Uint8Array> | undefined
  readonly #streamed: boolean
  readonly #maxBytes: number
  readonly #onBytes: () => void
  readonly #parser = new SseParser()
  readonly #held: Uint8Array[] = []
  #size = 0
  #ended = false
  #done = false
  #usage: StreamUsage | undefined
  #plain = true
  readonly #texts: string[] = []

  constructor(parameters: {
    provider: string
    body: ReadableStream<Uint8Array> | null
    streamed: boolean
    maxBytes: number
    /** Told whenever bytes come. */
    onBytes: () => void
  }) {
    this.#provider = parameters.provider
    this.#body = parameters.body?.getReader()
    this.#streamed = parameters.streamed
    this.#maxBytes = parameters.maxBytes
    this.#onBytes = parameters.onBytes
  }

  /** Tokens as the answer tells them; known at its end. */
  get usage(): StreamUsage | undefined {
    return this.#usage
  }

  /** The text, known at the end; undefined where the answer is more than plain text of one choice. */
  get text(): string | undefined {
    return this.#plain ? this.#texts.join('') : undefined
  }

  /** @throws ProviderError `PROVIDER_FAILED`, `PROVIDER_ANSWER`: the answer has an error or no token */
  async untilFirstToken(): Promise<void> {
    for (;;) {
      const bytes = await this.#read()
      if (bytes === undefined) break
      this.#held.push(bytes)
      if (!this.#streamed) continue
      if (this.#look(bytes)) return
      if (this.#size > MAX_BEFORE_TOKEN_BYTES) throw this.#error('PROVIDER_ANSWER', 'sent much and no token')
    }
    if (!this.#streamed) this.#lookAtWhole()
    else if (!this.#done) throw this.#error('PROVIDER_FAILED', 'ended its answer before the first token')
  }

  /** All bytes from the first one on. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const held = this.#held.shift()
      if (held === undefined) break
      yield held
    }
    for (;;) {
      const bytes = await this.#read()
      if (bytes === undefined) break
      this.#look(bytes)
      yield bytes
    }
    if (this.#streamed && !this.#done) throw this.#error('PROVIDER_FAILED', 'the stream ended without [DONE]')
  }

  async #read(): Promise<Uint8Array | undefined> {
    if (this.#ended || this.#body === undefined) return undefined
    const { done, value } = await this.#body.read()
    if (done) {
      this.#ended = true
      return undefined
    }
    this.#onBytes()
    this.#size += value.length
    if (this.#size <= this.#maxBytes) return value
    await this.#body.cancel().catch(() => {})
    throw this.#error('PROVIDER_ANSWER', `its answer is longer than ${this.#maxBytes} bytes`)
  }

  /** Whether these bytes hold a token, or the end. */
  #look(bytes: Uint8Array): boolean {
    let found = false
    for (const data of this.#parser.feed(bytes)) {
      const event = readStreamEvent(data)
      if (event?.type === 'error') {
        const text = event.error.message
        throw this.#error('PROVIDER_FAILED', typeof text === 'string' ? text.slice(0, 300) : 'it sent an error')
      }
      if (event?.type === 'done') this.#done = true
      if (event?.type === 'chunk') {
        this.#usage = event.usage ?? this.#usage
        this.#plain &&= !event.other
        this.#texts.push(event.text)
      }
      found ||= event?.type === 'done' || (event?.type === 'chunk' && event.hasToken)
    }
    return found
  }

  #lookAtWhole(): void {
    let json: unknown
    try {
      json = JSON.parse(Buffer.concat(this.#held).toString('utf8'))
    } catch {
      throw this.#error('PROVIDER_ANSWER', 'sent no JSON')
    }
    if (typeof json !== 'object' || json === null) throw this.#error('PROVIDER_ANSWER', 'sent no JSON object')
    if (Reflect.get(json, 'error') != null) throw this.#error('PROVIDER_FAILED', 'sent an error with status 200')
    this.#usage = readUsage(json)
    const text = readText(json)
    this.#plain = text !== undefined
    this.#texts.push(text ?? '')
  }

  #error(code: string, reason: string): ProviderError {
    const provider = this.#provider
    return new ProviderError({
      code,
      message: `provider ${provider}: ${reason}`,
      fix: 'use another provider',
      provider,
    })
  }
}
