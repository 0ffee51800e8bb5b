import { EngineError, type EngineErrorCode } from './engine-error.ts'

/** Most bytes of an upstream's error text that are read. */
const MAX_ERROR_BYTES = 64 * 1024

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
  signal: AbortSignal
}

export interface UpstreamAnswer {
  status: number
  contentType: string
  /** The body piece by piece, each within the limits. */
  body: AsyncGenerator<Uint8Array, void, void>
}

/**
 * One HTTP call to an upstream. Redirects are refused, since they would carry the key and the prompt elsewhere.
 *
 * @throws EngineError `ENGINE_TIMEOUT`, `ENGINE_UPSTREAM`, and what the status means: see `statusError`; or the signal's reason
 */
export async function callUpstream(call: UpstreamCall): Promise<UpstreamAnswer> {
  const { url, apiKey, method, body, accept, signal } = call
  const watch = new Watch(signal)
  watch.limit(call.headTimeoutMs)
  try {
    const response = await fetch(url, {
      method,
      redirect: 'error',
      headers: {
        accept,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: watch.signal,
    })
    const stream = pieces(response, call, watch)
    if (response.ok) {
      return { status: response.status, contentType: response.headers.get('content-type') ?? '', body: stream }
    }
    const text = await readText(stream, MAX_ERROR_BYTES).catch(() => '')
    throw statusError(response.status, text)
  } catch (error) {
    watch.end()
    throw watch.explain(error)
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
  response: Response,
  { idleTimeoutMs }: UpstreamCall,
  watch: Watch,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    if (response.body === null) return
    watch.limit(idleTimeoutMs)
    const reader = response.body.getReader()
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      // No limit while the consumer holds the piece: only the upstream's silence counts.
      watch.pause()
      yield part.value
      watch.limit(idleTimeoutMs)
    }
  } catch (error) {
    throw watch.explain(error)
  } finally {
    watch.end()
  }
}

/** The caller's signal and a limit that is set anew with every piece, as one signal. */
class Watch {
  readonly #controller = new AbortController()
  readonly #outer: AbortSignal
  readonly #onAbort = () => this.#controller.abort()
  #timer: NodeJS.Timeout | undefined
  #limitMs = 0
  #isLate = false

  constructor(outer: AbortSignal) {
    this.#outer = outer
    if (outer.aborted) this.#controller.abort()
    outer.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  limit(ms: number): void {
    clearTimeout(this.#timer)
    this.#limitMs = ms
    this.#timer = setTimeout(() => {
      this.#isLate = true
      this.#controller.abort()
    }, ms)
  }

  pause(): void {
    clearTimeout(this.#timer)
  }

  /** Lets go of timer and signal, and of the connection if it is still open. */
  end(): void {
    clearTimeout(this.#timer)
    this.#outer.removeEventListener('abort', this.#onAbort)
    this.#controller.abort()
  }

  explain(error: unknown): unknown {
    if (this.#outer.aborted) return this.#outer.reason
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
