import { setTimeout as sleep } from 'node:timers/promises'
import { WeightlessError } from '#protocol/error.ts'
import { redactUrls } from '../redact.ts'
import { parseExactJson, toExactJson } from './exact-json.ts'

/** The server answered with a JSON-RPC error. `rpcCode`, `rpcMessage` and `data` are as they came. */
export class RpcResponseError extends WeightlessError {
  readonly rpcCode: number
  readonly rpcMessage: string
  readonly data: unknown

  constructor({
    url,
    method,
    error,
  }: { url: string; method: string; error: { code: number; message: string; data?: unknown } }) {
    const extra = typeof error.data === 'string' ? `: ${error.data.slice(0, 500)}` : ''
    super({
      code: 'RPC_RESPONSE',
      message: `${method} at ${url} answered ${error.code} ${error.message.slice(0, 500)}${extra}`,
      details: { url, method, rpcCode: error.code, data: error.data },
    })
    this.rpcCode = error.code
    this.rpcMessage = error.message
    this.data = error.data
  }
}

/** No valid answer came. Codes `RPC_CONNECTION`, `RPC_TIMEOUT`, `RPC_HTTP_STATUS`, `RPC_ANSWER` (not JSON-RPC),
 *  `RPC_ANSWER_SIZE`, `RPC_ABORTED`, `RPC_CLOSED`. The cause is kept. */
export class RpcTransportError extends WeightlessError {
  /** Whether asking again may help. */
  readonly retryable: boolean

  constructor({ retryable, ...parameters }: ConstructorParameters<typeof WeightlessError>[0] & { retryable: boolean }) {
    super(parameters)
    this.retryable = retryable
  }
}

export interface JsonRpcClientParameters {
  url: string
  /** Limit of one try. Default 30,000 ms. */
  timeoutMs?: number | undefined
  /** Further tries after connection failures, time-outs and HTTP 429, 502, 503, 504. Default 2. Answers are never retried. */
  retries?: number | undefined
  /** First pause between tries, doubled each time with jitter, at most 10 s. Default 250 ms. */
  retryPauseMs?: number | undefined
  /** Default 64 MiB. */
  maxResponseBytes?: number | undefined
  /** Default the platform's, which keeps connections alive. */
  fetch?: typeof fetch | undefined
}

export interface JsonRpcClient {
  readonly url: string
  /** The result. Integers beyond ±(2^53 − 1) come as bigints. @throws RpcResponseError, RpcTransportError */
  call(
    method: string,
    params?: readonly unknown[],
    options?: { signal?: AbortSignal; timeoutMs?: number },
  ): Promise<unknown>
  /** Aborts the calls under way; later ones fail with `RPC_CLOSED`. */
  close(): void
}

const MAX_PAUSE_MS = 10_000

/**
 * A client for one JSON-RPC 2.0 endpoint over HTTP.
 *
 * @throws RpcTransportError `RPC_URL` for an address that is not http(s).
 * @example
 * const client = createJsonRpcClient({ url: 'http://127.0.0.1:5678' })
 * const status = await client.call('zgs_getStatus')
 */
export function createJsonRpcClient(parameters: JsonRpcClientParameters): JsonRpcClient {
  const { url, timeoutMs = 30_000, retries = 2, retryPauseMs = 250 } = parameters
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) {
    const fix = 'give an address such as http://127.0.0.1:5678'
    throw new RpcTransportError({
      code: 'RPC_URL',
      message: `${redactUrls(url)} is not an http address`,
      fix,
      retryable: false,
    })
  }
  const closed = new AbortController()
  let nextId = 1

  return {
    url,
    async call(method, params = [], options = {}) {
      const id = nextId++
      const body = toExactJson({ jsonrpc: '2.0', id, method, params })
      const stop = options.signal === undefined ? closed.signal : AbortSignal.any([closed.signal, options.signal])
      for (let attempt = 0; ; attempt++) {
        try {
          return await tryOnce({ ...parameters, method, id, body, stop, timeoutMs: options.timeoutMs ?? timeoutMs })
        } catch (error) {
          if (stop.aborted) throw stopped({ url, method, closed: closed.signal.aborted, cause: stop.reason })
          if (!(error instanceof RpcTransportError) || !error.retryable || attempt >= retries) throw error
          const asked = Number(error.details.retryAfterMs ?? 0)
          const pause = Math.max(retryPauseMs * 2 ** attempt * (0.5 + Math.random() / 2), asked)
          await sleep(Math.min(pause, MAX_PAUSE_MS), undefined, { signal: stop }).catch(() => {})
          if (stop.aborted) throw stopped({ url, method, closed: closed.signal.aborted, cause: stop.reason })
        }
      }
    },
    close: () => closed.abort(),
  }
}

interface Try extends JsonRpcClientParameters {
  method: string
  id: number
  body: string
  stop: AbortSignal
  timeoutMs: number
}

async function tryOnce({
  url,
  method,
  id,
  body,
  stop,
  timeoutMs,
  maxResponseBytes,
  fetch: ask = fetch,
}: Try): Promise<unknown> {
  const shown = redactUrls(url)
  const limit = AbortSignal.timeout(timeoutMs)
  const signal = AbortSignal.any([stop, limit])
  let response: Response
  let bytes: Uint8Array
  try {
    const headers = { 'content-type': 'application/json', accept: 'application/json' }
    response = await ask(url, { method: 'POST', headers, body, signal, redirect: 'error' })
    bytes = await readCapped({ response, maxBytes: maxResponseBytes ?? 64 * 2 ** 20, url: shown, method })
  } catch (cause) {
    if (cause instanceof RpcTransportError) throw cause
    const late = limit.aborted && !stop.aborted
    throw new RpcTransportError({
      code: late ? 'RPC_TIMEOUT' : 'RPC_CONNECTION',
      message: late
        ? `${shown} did not answer ${method} within ${timeoutMs} ms`
        : `${shown} cannot be reached: ${reason(cause)}`,
      fix: late ? 'check that it is in good health, or allow more time' : 'check the address and that it is running',
      details: { url: shown, method, timeoutMs },
      cause,
      retryable: true,
    })
  }
  return readAnswer({ url: shown, method, id, response, bytes })
}

function readAnswer({
  url,
  method,
  id,
  response,
  bytes,
}: {
  url: string
  method: string
  id: number
  response: Response
  bytes: Uint8Array
}): unknown {
  const answer = parseAnswer(bytes)
  const retryable = [429, 502, 503, 504].includes(response.status)
  if (!response.ok && (retryable || answer?.error === undefined)) {
    const retryAfter = Number(response.headers.get('retry-after'))
    throw new RpcTransportError({
      code: 'RPC_HTTP_STATUS',
      message: `${url} answered ${method} with HTTP ${response.status}: ${excerpt(bytes)}`,
      fix: response.status === 429 ? 'ask more slowly' : 'check that the address is the JSON-RPC endpoint',
      details: { url, method, status: response.status, retryAfterMs: retryAfter > 0 ? retryAfter * 1000 : undefined },
      retryable,
    })
  }
  if (answer?.error !== undefined) throw new RpcResponseError({ url, method, error: answer.error })
  if (answer === undefined || answer.id !== id || !('result' in answer)) {
    throw new RpcTransportError({
      code: 'RPC_ANSWER',
      message: `${url} answered ${method} with something else than JSON-RPC: ${excerpt(bytes)}`,
      fix: 'check that the address is the JSON-RPC endpoint',
      details: { url, method, status: response.status },
      retryable: false,
    })
  }
  return answer.result
}

interface Answer {
  id: unknown
  result?: unknown
  error?: { code: number; message: string; data?: unknown } | undefined
}

function parseAnswer(bytes: Uint8Array): Answer | undefined {
  let value: unknown
  try {
    value = parseExactJson(bytes).value
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const { id, error, ...rest } = value as Record<string, unknown>
  if (error === undefined || error === null) return 'result' in rest ? { id, result: rest.result } : { id }
  if (typeof error !== 'object') return undefined
  const { code, message, data } = error as Record<string, unknown>
  if (typeof code !== 'number') return undefined
  return { id, error: { code, message: typeof message === 'string' ? message : '', data } }
}

async function readCapped({
  response,
  maxBytes,
  url,
  method,
}: {
  response: Response
  maxBytes: number
  url: string
  method: string
}): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  const reader = response.body?.getReader()
  for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
    length += part.value.length
    if (length > maxBytes) {
      await reader?.cancel().catch(() => {})
      throw new RpcTransportError({
        code: 'RPC_ANSWER_SIZE',
        message: `${url} answered ${method} with more than ${maxBytes} bytes`,
        fix: 'ask for less at once',
        details: { url, method, maxBytes },
        retryable: false,
      })
    }
    chunks.push(part.value)
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, length)
}

function stopped({ url, method, closed, cause }: { url: string; method: string; closed: boolean; cause: unknown }) {
  return new RpcTransportError({
    code: closed ? 'RPC_CLOSED' : 'RPC_ABORTED',
    message: closed ? `the client of ${redactUrls(url)} is closed` : `${method} was aborted`,
    details: { url: redactUrls(url), method },
    cause,
    retryable: false,
  })
}

function excerpt(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 200)).toString('utf8').replaceAll(/\s+/g, ' ').trim()
  return text === '' ? 'an empty body' : text
}

/** The innermost reason: fetch wraps the system's error in "fetch failed". */
function reason(error: unknown): string {
  let inner = error
  for (let depth = 0; depth < 5 && inner instanceof Error && inner.cause instanceof Error; depth++) inner = inner.cause
  return inner instanceof Error ? inner.message || inner.name : String(inner)
}
