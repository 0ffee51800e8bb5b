import type { IncomingMessage } from 'node:http'
import { SignerError } from '../error.ts'

/** Of a refused request so much is still read, so that the caller is done writing when the answer comes. */
const DRAIN_BYTES = 1 * 2 ** 20
const DRAIN_MS = 500

/** How long an upload may take. */
export interface UploadPace {
  /** Without a byte for so long it is cut. */
  stallTimeoutMs: number
  /** Slower than this on the whole it is cut. */
  minBytesPerSecond: number
}

/** Reads a request's body piece by piece, never more than it announced. */
export class UploadBody {
  readonly lengthBytes: number
  readonly #iterator: AsyncIterator<unknown>
  readonly #pace: UploadPace
  readonly #startedAt = performance.now()
  #received = 0
  #rest: Uint8Array | undefined

  /** @throws SignerError `BODY_INVALID` without a length, `BODY_TOO_LARGE` */
  constructor({ request, maxBytes, pace }: { request: IncomingMessage; maxBytes: number; pace: UploadPace }) {
    const announced = request.headers['content-length']
    const length = Number(announced)
    if (announced === undefined || !Number.isSafeInteger(length) || length < 0) {
      throw invalid('the upload does not say its length', { field: 'content-length' })
    }
    if (length > maxBytes) {
      throw new SignerError({
        code: 'BODY_TOO_LARGE',
        message: `the upload has ${length} bytes, the largest has ${maxBytes}`,
        fix: 'send this signer’s rows of one blob',
        details: { lengthBytes: length, limitBytes: maxBytes },
      })
    }
    this.lengthBytes = length
    this.#pace = pace
    this.#iterator = request.iterator({ destroyOnReturn: false })
  }

  /** Exactly so many bytes. @throws SignerError `BODY_INVALID` when the body ends before */
  async take(length: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    let have = 0
    while (have < length) {
      const part = await this.#next()
      if (part === undefined) throw invalid('the upload ends early', { received: this.#received, wanted: length })
      const use = part.subarray(0, length - have)
      if (use.length < part.length) this.#rest = part.subarray(use.length)
      parts.push(use)
      have += use.length
    }
    return Buffer.concat(parts)
  }

  /** What is left, in pieces as they come. */
  async *pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const part = await this.#next()
      if (part === undefined) return
      yield part
    }
  }

  /** Gives the stream free, so that it can be drained. */
  release(): void {
    void this.#iterator.return?.()
  }

  async #next(): Promise<Uint8Array | undefined> {
    const rest = this.#rest
    if (rest !== undefined) {
      this.#rest = undefined
      return rest
    }
    const { done, value } = await this.#withinStall(this.#iterator.next())
    if (done || !(value instanceof Uint8Array)) return undefined
    this.#received += value.length
    if (this.#received > this.lengthBytes)
      throw invalid('the upload is longer than it said', { limit: this.lengthBytes })
    const { stallTimeoutMs, minBytesPerSecond } = this.#pace
    const elapsedMs = performance.now() - this.#startedAt
    if (elapsedMs > stallTimeoutMs + (this.#received / minBytesPerSecond) * 1_000) {
      throw stalled(`it is slower than ${minBytesPerSecond} bytes a second`)
    }
    return value
  }

  async #withinStall<T>(work: Promise<T>): Promise<T> {
    const limitMs = this.#pace.stallTimeoutMs
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(stalled(`no byte came for ${limitMs} ms`)), limitMs)
    })
    try {
      return await Promise.race([work, limit])
    } finally {
      clearTimeout(timer)
    }
  }
}

function invalid(message: string, details: Record<string, unknown>): SignerError {
  return new SignerError({
    code: 'BODY_INVALID',
    message,
    fix: 'send size, roots and combinations, then this signer’s rows, with a Content-Length',
    details,
  })
}

function stalled(reason: string): SignerError {
  return new SignerError({
    code: 'REQUEST_STALLED',
    message: `the upload was cut: ${reason}`,
    fix: 'send it again over a better connection',
  })
}

/** Reads on for a while after a refusal, so that the caller does not take the answer for a broken connection. */
export async function drain(request: IncomingMessage): Promise<void> {
  if (request.readableEnded || request.destroyed) return
  await new Promise<void>((resolve) => {
    let left = DRAIN_BYTES
    const timer = setTimeout(done, DRAIN_MS)
    function take(piece: Buffer): void {
      left -= piece.length
      if (left < 0) done()
    }
    function done(): void {
      clearTimeout(timer)
      request.off('data', take).off('end', done).off('close', done)
      request.pause()
      resolve()
    }
    request.on('data', take)
    request.once('end', done)
    request.once('close', done)
    request.resume()
  })
}
