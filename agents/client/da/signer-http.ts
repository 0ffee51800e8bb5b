import { setTimeout as delay } from 'node:timers/promises'
import type { z } from 'zod'
import { type HttpConnection, type HttpResponse, openHttpConnection } from '#client/storage/http-connection.ts'
import { RLC_BYTES } from '#protocol/da/constants.ts'
import type { Hash } from '#protocol/hex.ts'
import { reasonOf, SignerFailedError } from './errors.ts'
import {
  type BlobState,
  blobStateSchema,
  decodeSubline,
  MAX_SUBLINE_BYTES,
  refusalSchema,
  signedSchema,
} from './signer-wire.ts'

/** A blob in one epoch, as the address line names it. */
export interface BlobAddress {
  dataRoot: Hash
  epoch: number
  quorumId: number
}

/** HTTP to one signer. Every call has a time limit; every failure is a {@link SignerFailedError}. */
export interface SignerHttp {
  readonly url: string
  /** What the signer thinks of a blob; it waits up to `waitMs` for the chain before it says `unknown`. */
  state(blob: BlobAddress, options: { waitMs: number; signal?: AbortSignal | undefined }): Promise<BlobState>
  /** Sends the signer's rows. Gives the signature, not verified. */
  upload(
    blob: BlobAddress,
    options: {
      parts: () => AsyncIterable<Uint8Array>
      lengthBytes: number
      limitMs: number
      signal?: AbortSignal | undefined
      /** The bytes of this part have left. */
      onPartSent?: ((part: Uint8Array) => void) | undefined
    },
  ): Promise<Hash>
  /** Rows `from` to `to` (not included) that the signer holds, as the bytes of the answer. Not verified. */
  rows(
    blob: BlobAddress,
    options: { from: number; to: number; signal?: AbortSignal | undefined },
  ): Promise<AsyncIterable<Uint8Array>>
  rlc(blob: BlobAddress, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array>
  subline(
    blob: BlobAddress,
    options: { row: number; subline: number; signal?: AbortSignal | undefined },
  ): Promise<{ data: Uint8Array; path: Uint8Array }>
  close(): void
}

const MAX_JSON_BYTES = 64 * 1024

/** Opens HTTP to a signer; nothing is sent before the first call. */
export function openSignerHttp(parameters: {
  url: string
  /** Of a small call. */
  callTimeoutMs: number
  /** Of a transfer in which nothing moves. */
  idleTimeoutMs: number
}): SignerHttp {
  return new Http(parameters)
}

class Http implements SignerHttp {
  readonly url: string
  readonly #callTimeoutMs: number
  readonly #idleTimeoutMs: number
  #connection: HttpConnection | undefined

  constructor({ url, callTimeoutMs, idleTimeoutMs }: { url: string; callTimeoutMs: number; idleTimeoutMs: number }) {
    this.url = url.replace(/\/+$/, '')
    this.#callTimeoutMs = callTimeoutMs
    this.#idleTimeoutMs = idleTimeoutMs
  }

  async state(blob: BlobAddress, { waitMs, signal }: { waitMs: number; signal?: AbortSignal | undefined }) {
    const path = `${pathOf(blob)}&waitMs=${waitMs}`
    return this.#within(this.#callTimeoutMs + waitMs, signal, async (limit) => {
      return this.#json(await this.#request({ method: 'GET', path, signal: limit }), blobStateSchema, limit)
    })
  }

  async upload(blob: BlobAddress, options: Parameters<SignerHttp['upload']>[1]): Promise<Hash> {
    const { parts, lengthBytes, limitMs, signal, onPartSent } = options
    return this.#within(limitMs, signal, async (limit) => {
      const response = await this.#request({
        method: 'POST',
        path: pathOf(blob, '/rows'),
        headers: { 'content-type': 'application/octet-stream' },
        body: { parts: parts(), lengthBytes, ...(onPartSent === undefined ? {} : { onPartSent }) },
        signal: limit,
      })
      return (await this.#json(response, signedSchema, limit)).signature
    })
  }

  async rows(blob: BlobAddress, options: Parameters<SignerHttp['rows']>[1]): Promise<AsyncIterable<Uint8Array>> {
    const { from, to, signal } = options
    const path = `${pathOf(blob, '/rows')}&from=${from}&to=${to}`
    const response = await this.#request({ method: 'GET', path, signal })
    if (response.status !== 200) throw await this.#refusal(response)
    return this.#body(response, signal)
  }

  async rlc(blob: BlobAddress, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Uint8Array> {
    const path = pathOf(blob, '/rlc')
    const bytes = await this.#bytes(path, RLC_BYTES, signal)
    if (bytes.length === RLC_BYTES) return bytes
    throw this.#failure('SIGNER_ANSWER', `sent ${bytes.length} bytes of combinations instead of ${RLC_BYTES}`)
  }

  async subline(blob: BlobAddress, { row, subline, signal }: Parameters<SignerHttp['subline']>[1]) {
    const path = `${pathOf(blob, '/subline')}&row=${row}&subline=${subline}`
    const bytes = await this.#bytes(path, MAX_SUBLINE_BYTES, signal)
    try {
      return decodeSubline(bytes)
    } catch (cause) {
      throw this.#failure('SIGNER_ANSWER', reasonOf(cause), { cause })
    }
  }

  close(): void {
    this.#connection?.close()
    this.#connection = undefined
  }

  async #bytes(path: string, maxBytes: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#within(this.#callTimeoutMs, signal, async (limit) => {
      const response = await this.#request({ method: 'GET', path, signal: limit })
      if (response.status !== 200) throw await this.#refusal(response)
      return this.#collect(response, maxBytes, limit)
    })
  }

  async #request(parameters: Parameters<HttpConnection['request']>[0]): Promise<HttpResponse> {
    try {
      this.#connection ??= openHttpConnection({ url: this.url, idleTimeoutMs: this.#idleTimeoutMs, maxSockets: 8 })
      return await this.#connection.request(parameters)
    } catch (cause) {
      if (parameters.signal?.aborted) throw parameters.signal.reason
      const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
      throw this.#failure('SIGNER_UNREACHABLE', reasonOf(inner) || 'the connection failed', { cause })
    }
  }

  /** The body, with errors of the connection as errors of this signer. */
  async *#body(response: HttpResponse, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for await (const part of response.body as AsyncIterable<Buffer>) yield part
    } catch (cause) {
      signal?.throwIfAborted()
      throw this.#failure('SIGNER_UNREACHABLE', `the answer broke off: ${reasonOf(cause)}`, { cause })
    } finally {
      if (!response.body.readableEnded) response.body.destroy()
    }
  }

  async #collect(response: HttpResponse, maxBytes: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    let length = 0
    for await (const part of this.#body(response, signal)) {
      length += part.length
      if (length > maxBytes) throw this.#failure('SIGNER_ANSWER', `its answer is larger than ${maxBytes} bytes`)
      parts.push(part)
    }
    return Buffer.concat(parts)
  }

  async #json<S extends z.ZodType>(
    response: HttpResponse,
    schema: S,
    signal: AbortSignal | undefined,
  ): Promise<z.output<S>> {
    if (response.status !== 200) throw await this.#refusal(response)
    const text = Buffer.from(await this.#collect(response, MAX_JSON_BYTES, signal)).toString('utf8')
    try {
      return schema.parse(JSON.parse(text))
    } catch (cause) {
      throw this.#failure('SIGNER_ANSWER', 'its answer is not what was asked for', { cause })
    }
  }

  async #refusal(response: HttpResponse): Promise<SignerFailedError> {
    const { status, headers } = response
    const seconds = Number(headers['retry-after'])
    const retryAfterMs = Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1_000, 60_000) : undefined
    try {
      const text = Buffer.from(await this.#collect(response, MAX_JSON_BYTES, undefined)).toString('utf8')
      const { code, message, details } = refusalSchema.parse(JSON.parse(text))
      return this.#failure(code, message, { status, retryAfterMs, details })
    } catch {
      return this.#failure('SIGNER_REFUSED', `it answered ${status}`, { status, retryAfterMs })
    }
  }

  /** Runs a call within its limit, whatever it hangs on. */
  async #within<T>(
    limitMs: number,
    signal: AbortSignal | undefined,
    work: (limit: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const timer = new AbortController()
    const limit = signal === undefined ? timer.signal : AbortSignal.any([timer.signal, signal])
    const done = new AbortController()
    const expiry = delay(limitMs, undefined, { signal: done.signal }).then(
      () => {
        const error = this.#failure('SIGNER_TIMEOUT', `no answer within ${limitMs} ms`)
        timer.abort(error)
        throw error
      },
      () => new Promise<never>(() => {}),
    )
    try {
      return await Promise.race([work(limit), expiry])
    } catch (error) {
      signal?.throwIfAborted()
      throw timer.signal.aborted ? timer.signal.reason : error
    } finally {
      done.abort()
    }
  }

  #failure(
    code: string,
    message: string,
    more: Partial<ConstructorParameters<typeof SignerFailedError>[0]> = {},
  ): SignerFailedError {
    const { details, ...rest } = more
    return new SignerFailedError({ code, message, ...rest, details: { ...details, url: this.url } })
  }
}

function pathOf({ dataRoot, epoch, quorumId }: BlobAddress, what = ''): string {
  return `/v1/blobs/${dataRoot}${what}?epoch=${epoch}&quorum=${quorumId}`
}
