import { Agent as HttpAgent, type IncomingMessage, type OutgoingHttpHeaders, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { urlToHttpOptions } from 'node:url'
import { EngineError, type EngineErrorCode } from './engine-error.ts'

/** Most bytes of an upstream's error text that are read. */
const MAX_ERROR_BYTES = 64 * 1024
/** What follows the last event is read this long, and no further, so that its connection can serve the next request. */
const DRAIN_MS = 1_000
const DRAIN_BYTES = 64 * 1024
/** Idle connections kept. */
const MAX_IDLE = 256

export interface UpstreamCall {
  url: string
  apiKey: string | undefined
  method: 'GET' | 'POST'
  body?: unknown
  accept: string
  /** Limit until the answer's head is there. */
  headTimeoutMs: number
  /** Limit between two pieces of the answer. */
  idleTimeoutMs: number
  /** Each of them ends the call when it is aborted. */
  signals: readonly AbortSignal[]
}

export interface UpstreamAnswer {
  status: number
  contentType: string
  /** The body piece by piece, each within the limits. Read it, or drop the answer. */
  body: AsyncGenerator<Uint8Array, void, void>
  /** Lets go of an answer whose body nobody reads. */
  drop(): void
}

/**
 * Calls to one upstream over connections that are kept: a new one for each request would cost its first token a round
 * trip or more. The platform's plain client is used because it puts a request on its connection in the tick of the call,
 * at about half of what `fetch` takes.
 */
export class UpstreamConnections {
  readonly #options = { keepAlive: true, maxFreeSockets: MAX_IDLE }
  readonly #plain = new HttpAgent(this.#options)
  readonly #secure = new HttpsAgent(this.#options)
  /** Where the few paths that are called lie, taken apart once. */
  readonly #targets = new Map<string, ReturnType<typeof urlToHttpOptions>>()

  /**
   * One call. Redirects are refused, since they would carry the key and the prompt elsewhere.
   *
   * @throws EngineError `ENGINE_TIMEOUT`, `ENGINE_UPSTREAM`, and what the status means: see `statusError`; or the
   * signal's reason
   */
  async call(call: UpstreamCall): Promise<UpstreamAnswer> {
    for (const signal of call.signals) signal.throwIfAborted()
    const watch = new Watch(call.signals)
    try {
      watch.limit(call.headTimeoutMs)
      const response = await this.#send(call, watch)
      const { statusCode: status = 0, headers } = response
      const body = pieces(response, call, watch)
      if (status < 200 || status > 299) throw statusError(status, await readText(body, MAX_ERROR_BYTES).catch(() => ''))
      if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
        throw new EngineError({ code: 'ENGINE_UPSTREAM', message: 'the upstream compresses its answer unasked' })
      }
      const drop = () => watch.cut()
      return { status, contentType: headers['content-type'] ?? '', body, drop }
    } catch (error) {
      watch.cut()
      throw watch.explain(error)
    }
  }

  /** Closes what is idle; calls that run end by their signals. */
  close(): void {
    this.#plain.destroy()
    this.#secure.destroy()
  }

  async #send(call: UpstreamCall, watch: Watch): Promise<IncomingMessage> {
    const { url, apiKey, method, body, accept } = call
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers: OutgoingHttpHeaders = {
      // Whatever compresses would hold tokens back.
      ...{ accept, 'accept-encoding': 'identity', 'user-agent': 'weightless' },
      ...(text === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }),
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
    }
    for (let retried = false; ; retried = true) {
      const target = this.#target(url)
      const secure = target.protocol === 'https:'
      // The second time on a connection of its own: others that were kept may be closed, too.
      const options = { ...target, method, headers, agent: retried ? false : secure ? this.#secure : this.#plain }
      const request = secure ? requestHttps(options) : requestHttp(options)
      watch.holds(request)
      try {
        return await new Promise((resolve, reject) => {
          request.once('response', resolve)
          request.on('error', reject)
          request.end(text)
        })
      } catch (error) {
        // The upstream closed a kept connection just as it was used again: it has not seen the request.
        const code: unknown = Reflect.get(Object(error), 'code')
        const closed = request.reusedSocket && (code === 'ECONNRESET' || code === 'EPIPE')
        if (retried || !closed || watch.isOver) throw error
      }
    }
  }

  #target(url: string): ReturnType<typeof urlToHttpOptions> {
    const target = this.#targets.get(url) ?? urlToHttpOptions(new URL(url))
    this.#targets.set(url, target)
    return target
  }
}

/**
 * A body as text.
 *
 * @throws EngineError `ENGINE_UPSTREAM` above `maxBytes`
 */
export async function readText(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of body) {
    size += part.length
    if (size > maxBytes) {
      throw new EngineError({
        code: 'ENGINE_UPSTREAM',
        message: `the upstream sent more than ${maxBytes} bytes`,
        details: { limit: maxBytes },
      })
    }
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

/** What an upstream's status and text mean. The text is its own; it is cut to 500 characters. */
export function statusError(status: number, text: string): EngineError {
  const message = upstreamMessage(text)
  const code = statusCode(status, message, text)
  const fixes: Partial<Record<EngineErrorCode, string>> = {
    ENGINE_BUSY: 'try again later',
    ENGINE_CONTEXT: 'send a shorter prompt or ask for fewer tokens',
    ENGINE_MODEL: 'ask for a model that the upstream serves',
  }
  const isKey = status === 401 || status === 403
  return new EngineError({
    code,
    message: `the upstream answered ${status}${message === '' ? '' : `: ${message}`}`,
    fix: isKey ? 'check the API key of the upstream' : fixes[code],
    details: { status },
  })
}

function statusCode(status: number, message: string, text: string): EngineErrorCode {
  if (status === 429 || status === 503) return 'ENGINE_BUSY'
  if (status === 404) return 'ENGINE_MODEL'
  if (status === 408 || status === 504) return 'ENGINE_TIMEOUT'
  const isRequest = status === 400 || status === 413 || status === 422
  if (!isRequest) return 'ENGINE_UPSTREAM'
  const isContext = /context_length_exceeded|exceed_context|context (length|size|window)|maximum context/i
  return isContext.test(message) || isContext.test(text) ? 'ENGINE_CONTEXT' : 'ENGINE_REQUEST'
}

function upstreamMessage(text: string): string {
  let message: unknown = text
  try {
    const parsed: unknown = JSON.parse(text)
    const error: unknown = Reflect.get(Object(parsed), 'error') ?? parsed
    message = typeof error === 'string' ? error : (Reflect.get(Object(error), 'message') ?? text)
  } catch {
    // Not JSON: the text itself has to do.
  }
  return String(message).slice(0, 500)
}

async function* pieces(
  response: IncomingMessage,
  { idleTimeoutMs }: UpstreamCall,
  watch: Watch,
): AsyncGenerator<Uint8Array, void, void> {
  let failed = true
  try {
    watch.limit(idleTimeoutMs)
    for await (const piece of response.iterator({ destroyOnReturn: false })) {
      // No limit while the consumer holds the piece: only the upstream's silence counts.
      watch.pause()
      yield piece as Uint8Array
      watch.limit(idleTimeoutMs)
    }
    failed = false
  } catch (error) {
    throw watch.explain(error)
  } finally {
    // A consumer that has what it wants leaves before the end, and what is left is a few bytes.
    if (failed && !response.readableEnded && !response.destroyed && !watch.isOver) drain(response)
    watch.end()
  }
}

/** Reads the rest of an answer and throws it away, within limits; past them the connection is cut. */
function drain(response: IncomingMessage): void {
  let left = DRAIN_BYTES
  const timer = setTimeout(() => response.destroy(), DRAIN_MS)
  response.on('data', (piece: Buffer) => {
    left -= piece.length
    if (left < 0) response.destroy()
  })
  response.on('error', () => undefined)
  response.once('close', () => clearTimeout(timer))
}

/** Signals and a limit that is set anew with every piece: whichever comes first cuts the connection. */
class Watch {
  readonly #signals: readonly AbortSignal[]
  readonly #onAbort = () => this.cut()
  #held: { destroy(): unknown } | undefined
  #timer: NodeJS.Timeout | undefined
  #limitMs = 0
  #isLate = false

  constructor(signals: readonly AbortSignal[]) {
    this.#signals = signals
    for (const signal of signals) signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** Whether nobody wants the answer any more. */
  get isOver(): boolean {
    return this.#isLate || this.#signals.some(({ aborted }) => aborted)
  }

  /** What is destroyed when the watch ends badly. */
  holds(held: { destroy(): unknown }): void {
    this.#held = held
  }

  limit(ms: number): void {
    clearTimeout(this.#timer)
    this.#limitMs = ms
    this.#timer = setTimeout(() => {
      this.#isLate = true
      this.cut()
    }, ms)
  }

  pause(): void {
    clearTimeout(this.#timer)
  }

  /** Lets go of timer and signals. */
  end(): void {
    clearTimeout(this.#timer)
    for (const signal of this.#signals) signal.removeEventListener('abort', this.#onAbort)
  }

  /** Ends, and closes the connection. */
  cut(): void {
    this.end()
    this.#held?.destroy()
  }

  explain(error: unknown): unknown {
    const ended = this.#signals.find(({ aborted }) => aborted)
    if (ended !== undefined) return ended.reason
    if (error instanceof EngineError) return error
    if (this.#isLate) {
      return new EngineError({
        code: 'ENGINE_TIMEOUT',
        message: `the upstream sent nothing for ${this.#limitMs} ms`,
        fix: 'check the upstream, or allow more time',
        details: { limitMs: this.#limitMs },
      })
    }
    return new EngineError({
      code: 'ENGINE_UPSTREAM',
      message: 'the connection to the upstream failed',
      fix: 'check that the upstream runs and that its URL is right',
      cause: error,
    })
  }
}
