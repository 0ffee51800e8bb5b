import http from 'node:http'
import https from 'node:https'
import { NodeUnreachableError } from './errors.ts'

/** Keep-alive HTTP to one server, for bodies too large for `fetch` to move without copies. */
export interface HttpConnection {
  readonly url: string
  /**
   * One request. Resolves with the head of the answer; the body is read from `response.body`.
   * @throws NodeUnreachableError when the connection fails or nothing moves for `idleTimeoutMs`.
   */
  request(parameters: HttpRequestParameters): Promise<HttpResponse>
  close(): void
}

export interface HttpRequestParameters {
  method: 'GET' | 'POST'
  /** Path with query, such as `/v1/files/0/missing`. */
  path: string
  headers?: Record<string, string>
  /** Parts of the body in order. A part may be reused by its owner once `onPartSent` named it. */
  body?: { parts: AsyncIterable<Uint8Array>; lengthBytes: number; onPartSent?: (part: Uint8Array) => void }
  signal?: AbortSignal | undefined
}

export interface HttpResponse {
  status: number
  headers: http.IncomingHttpHeaders
  body: http.IncomingMessage
}

/** Bytes that may wait in the socket's buffer before the sender pauses. */
const SEND_BUFFER_BYTES = 1 << 20

export function openHttpConnection({
  url,
  idleTimeoutMs = 30_000,
  maxSockets = 16,
}: {
  url: string
  idleTimeoutMs?: number
  maxSockets?: number
}): HttpConnection {
  const base = new URL(url)
  const transport = base.protocol === 'https:' ? https : http
  const agent = new transport.Agent({ keepAlive: true, maxSockets })
  const prefix = base.pathname.replace(/\/$/, '')

  const request = ({ method, path, headers, body, signal }: HttpRequestParameters): Promise<HttpResponse> =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      const outgoing = transport.request({
        agent,
        protocol: base.protocol,
        hostname: base.hostname.replace(/^\[|\]$/g, ''),
        port: base.port,
        method,
        path: `${prefix}${path}`,
        headers: { ...headers, ...(body === undefined ? {} : { 'content-length': String(body.lengthBytes) }) },
        highWaterMark: SEND_BUFFER_BYTES,
      } as http.RequestOptions)
      let answered = false
      let stalled: Error | undefined
      // Not the `signal` option: that one may hit the next request on a kept-alive socket.
      const onAbort = () => outgoing.destroy()
      signal?.addEventListener('abort', onAbort, { once: true })
      outgoing.on('close', () => signal?.removeEventListener('abort', onAbort))
      const stall = () => {
        stalled = new Error(`nothing moved for ${idleTimeoutMs} ms`)
        // Without an error: one given here would be raised on the socket, where nobody listens between two requests.
        outgoing.destroy()
      }
      outgoing.setTimeout(idleTimeoutMs, stall)
      // That limit begins with the connection; until then this one holds.
      const connecting = setTimeout(stall, idleTimeoutMs)
      const connected = () => clearTimeout(connecting)
      outgoing.on('socket', (socket) => (socket.connecting ? socket.once('connect', connected) : connected()))
      outgoing.on('close', connected)
      outgoing.on('response', (response) => {
        answered = true
        // Whoever reads the body hears of errors there; without a reader an error must not end the process.
        response.on('error', () => {})
        response.on('end', () => signal?.removeEventListener('abort', onAbort))
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response })
      })
      outgoing.on('error', (cause) => {
        if (signal?.aborted) reject(signal.reason)
        else
          reject(new NodeUnreachableError({ url, reason: describeFailure(stalled ?? cause), cause: stalled ?? cause }))
      })
      if (body === undefined) {
        outgoing.end()
        return
      }
      sendBody({ outgoing, body, stop: () => answered }).catch((cause: unknown) => {
        outgoing.destroy()
        reject(cause)
      })
    })

  return { url, request, close: () => agent.destroy() }
}

/** Sends the parts, pausing while the socket is full; stops early when the server has already answered. */
async function sendBody({
  outgoing,
  body,
  stop,
}: {
  outgoing: http.ClientRequest
  body: NonNullable<HttpRequestParameters['body']>
  stop: () => boolean
}): Promise<void> {
  for await (const part of body.parts) {
    if (stop() || outgoing.destroyed) break
    const room = outgoing.write(part, () => body.onPartSent?.(part))
    if (!room) await drained(outgoing)
  }
  outgoing.end()
}

function drained(outgoing: http.ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      outgoing.off('drain', done).off('close', done).off('response', done)
      resolve()
    }
    outgoing.on('drain', done).on('close', done).on('response', done)
  })
}

/** Read a whole body that must be small. */
export async function readText(response: HttpResponse, maxBytes = 1 << 20): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of response.body as AsyncIterable<Buffer>) {
    length += part.length
    if (length > maxBytes) {
      response.body.destroy()
      throw new RangeError(`answer is larger than ${maxBytes} bytes`)
    }
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

function describeFailure(cause: Error): string {
  const code = 'code' in cause ? String(cause.code) : ''
  if (code === 'ECONNREFUSED') return 'connection refused'
  if (code === 'ECONNRESET') return 'the connection broke'
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the host name does not resolve'
  return cause.message || code || 'the connection failed'
}
