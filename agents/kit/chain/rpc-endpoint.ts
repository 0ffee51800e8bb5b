import { ChainConfigError, ChainRpcError, classifyRpcError } from './rpc-error.ts'

/** What one call may cost. */
export interface RpcCallOptions {
  signal?: AbortSignal | undefined
  /** Default: the endpoint's. */
  timeoutMs?: number | undefined
  /** Default: the endpoint's. */
  maxResponseBytes?: number | undefined
}

/** A longer `Retry-After` than this is not honoured: an endpoint must not be able to park an agent for a day. */
const MAX_RETRY_AFTER_MS = 60_000
const MAX_QUOTED_CHARS = 200

/**
 * One JSON-RPC endpoint over HTTP: single calls, each limited in time and answer size, every failure a
 * {@link ChainRpcError}. Credentials in the URL (`https://user:password@host`) become a Basic header; nothing of the
 * URL but its host appears in a message.
 */
export class RpcEndpoint {
  /** The host, and port if there is one; `#2` and so on where a list has the same host twice. */
  readonly name: string
  readonly #url: string
  readonly #headers: Record<string, string>
  readonly #secrets: readonly string[]
  readonly #timeoutMs: number
  readonly #maxResponseBytes: number
  #id = 0

  constructor({ url, name, timeoutMs, maxResponseBytes }: RpcEndpointParameters) {
    const parsed = parseRpcUrl(url)
    this.name = name ?? parsed.host
    this.#headers = { 'content-type': 'application/json', accept: 'application/json' }
    if (parsed.username !== '' || parsed.password !== '') {
      const credentials = `${decodeURIComponent(parsed.username)}:${decodeURIComponent(parsed.password)}`
      this.#headers.authorization = `Basic ${Buffer.from(credentials).toString('base64')}`
    }
    this.#secrets = [parsed.username, parsed.password, parsed.search.slice(1), ...parsed.pathname.split('/')].filter(
      (part) => part.length >= 6,
    )
    parsed.username = ''
    parsed.password = ''
    this.#url = parsed.href
    this.#timeoutMs = timeoutMs
    this.#maxResponseBytes = maxResponseBytes
  }

  /**
   * One call, one attempt.
   *
   * @throws {@link ChainRpcError}; the signal's reason when aborted.
   */
  async call(method: string, params: readonly unknown[], options: RpcCallOptions = {}): Promise<unknown> {
    const { signal, timeoutMs = this.#timeoutMs, maxResponseBytes = this.#maxResponseBytes } = options
    signal?.throwIfAborted()
    const timeout = AbortSignal.timeout(timeoutMs)
    const id = ++this.#id
    let status: number
    let headers: Headers
    let text: string
    try {
      const response = await fetch(this.#url, {
        method: 'POST',
        headers: this.#headers,
        body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        redirect: 'follow',
      })
      status = response.status
      headers = response.headers
      text = await this.#readText(response, method, maxResponseBytes)
    } catch (cause) {
      if (cause instanceof ChainRpcError) throw cause
      signal?.throwIfAborted()
      if (timeout.aborted) throw this.#failure(method, { code: 'RPC_TIMEOUT', reason: `no answer in ${timeoutMs} ms` })
      throw this.#failure(method, { code: 'RPC_CONNECT', reason: connectionReason(cause), cause })
    }
    return this.#interpret(method, id, status, headers, text)
  }

  #interpret(method: string, id: number, status: number, headers: Headers, text: string): unknown {
    let answer: unknown
    try {
      answer = JSON.parse(text)
    } catch {
      // The parser's own error would quote the text as it came, secrets and all.
      this.#throwHttp(method, status, headers, text)
      throw this.#failure(method, { code: 'RPC_BAD_ANSWER', reason: `not JSON: ${this.#quote(text)}` })
    }
    if (!isRecord(answer) || (!('result' in answer) && !isRecord(answer.error))) {
      this.#throwHttp(method, status, headers, text)
      throw this.#failure(method, { code: 'RPC_BAD_ANSWER', reason: `not a JSON-RPC answer: ${this.#quote(text)}` })
    }
    if (isRecord(answer.error)) {
      const { code, message, data } = answer.error
      const body = {
        code: typeof code === 'number' ? code : -32603,
        message: this.#quote(typeof message === 'string' ? message : 'no message'),
        data,
      }
      // Some gateways put a plain JSON-RPC error under status 429.
      const kind = status === 429 ? 'rate-limit' : classifyRpcError(body)
      throw this.#failure(method, {
        code: kind === 'rate-limit' ? 'RPC_RATE_LIMIT' : 'RPC_ERROR',
        kind,
        reason: `${body.message} (code ${body.code})`,
        rpcCode: body.code,
        rpcMessage: body.message,
        rpcData: data,
        retryAfterMs: retryAfter(headers),
      })
    }
    this.#throwHttp(method, status, headers, text)
    // An answer to somebody else's question: a confused proxy.
    if (String(answer.id) !== String(id)) {
      throw this.#failure(method, { code: 'RPC_BAD_ANSWER', reason: 'the answer carries the id of another call' })
    }
    return answer.result
  }

  #throwHttp(method: string, status: number, headers: Headers, text: string): void {
    if (status >= 200 && status < 300) return
    if (status === 429) {
      throw this.#failure(method, {
        code: 'RPC_RATE_LIMIT',
        kind: 'rate-limit',
        reason: 'HTTP 429: too many requests',
        retryAfterMs: retryAfter(headers),
      })
    }
    throw this.#failure(method, {
      code: 'RPC_HTTP_STATUS',
      kind: status === 413 ? 'too-large' : 'endpoint',
      reason: `HTTP ${status}: ${this.#quote(text)}`,
      retryAfterMs: retryAfter(headers),
    })
  }

  async #readText(response: Response, method: string, maxResponseBytes: number): Promise<string> {
    const tooLarge = () =>
      this.#failure(method, {
        code: 'RPC_RESPONSE_TOO_LARGE',
        kind: 'too-large',
        reason: `the answer is larger than ${maxResponseBytes} bytes`,
      })
    if (Number(response.headers.get('content-length') ?? 0) > maxResponseBytes) {
      await response.body?.cancel()
      throw tooLarge()
    }
    if (response.body === null) return ''
    const chunks: Uint8Array[] = []
    let size = 0
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      size += chunk.byteLength
      if (size > maxResponseBytes) throw tooLarge()
      chunks.push(chunk)
    }
    return Buffer.concat(chunks, size).toString('utf8')
  }

  #failure(
    method: string,
    parameters: Omit<ConstructorParameters<typeof ChainRpcError>[0], 'endpoint' | 'method' | 'kind'> & {
      kind?: ChainRpcError['kind']
    },
  ): ChainRpcError {
    return new ChainRpcError({ kind: 'endpoint', ...parameters, endpoint: this.name, method })
  }

  /** A short piece of foreign text without the URL's secrets: gateways like to echo the path they were asked for. */
  #quote(text: string): string {
    let quoted = text.slice(0, 4 * MAX_QUOTED_CHARS)
    for (const secret of this.#secrets) quoted = quoted.replaceAll(secret, '…')
    return quoted.replaceAll(/\s+/g, ' ').trim().slice(0, MAX_QUOTED_CHARS)
  }
}

export interface RpcEndpointParameters {
  url: string
  name?: string | undefined
  timeoutMs: number
  maxResponseBytes: number
}

/** @throws {@link ChainConfigError} `CHAIN_URL_INVALID`, without quoting the URL. */
export function parseRpcUrl(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')) {
    throw new ChainConfigError({
      code: 'CHAIN_URL_INVALID',
      message: parsed === undefined ? 'an RPC URL is not a URL' : `RPC URLs are http or https, not ${parsed.protocol}`,
      fix: 'give the endpoint as http://host:port or https://host/path',
    })
  }
  return parsed
}

function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after')
  if (value === null) return undefined
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS) : undefined
}

/** Why fetch failed. undici says "fetch failed" and keeps the reason in the cause. */
function connectionReason(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  if (!(inner instanceof Error)) return 'the connection failed'
  return 'code' in inner && typeof inner.code === 'string' ? `the connection failed (${inner.code})` : inner.message
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
