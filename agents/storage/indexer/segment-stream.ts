import { Readable } from 'node:stream'
import { IndexerError, SegmentUnavailableError } from './errors.ts'
import type { KnownNode } from './node-registry.ts'
import type { FileReference, SegmentReader, VerifiedSegment } from './segment-reader.ts'

/**
 * Segments `from` to `to` (not included) in order, each verified before it is given out, with `readAhead` of them
 * fetched meanwhile. Leaving the loop early stops the fetching.
 */
export async function* streamSegments({
  reader,
  file,
  nodes,
  from,
  to,
  readAhead,
  skipAbsent = false,
  signal,
}: StreamSegmentsParameters): AsyncGenerator<VerifiedSegment, void, undefined> {
  const over = new AbortController()
  const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal])
  const ahead: Promise<VerifiedSegment>[] = []
  let next = from
  try {
    while (next < to || ahead.length > 0) {
      while (next < to && ahead.length < Math.max(1, readAhead)) {
        const read = reader.read({ file, index: next, nodes, signal: either })
        // Its failure is seen when its turn comes; a stream that was left does not care.
        read.catch(() => {})
        ahead.push(read)
        next += 1
      }
      try {
        const segment = await ahead.shift()
        if (segment !== undefined) yield segment
      } catch (error) {
        if (!skipAbsent || !isAbsent(error)) throw error
      }
    }
  } finally {
    over.abort(new IndexerError({ code: 'READ_OVER', message: 'nobody reads on' }))
  }
}

export interface StreamSegmentsParameters {
  reader: SegmentReader
  file: FileReference
  nodes: readonly KnownNode[]
  /** First local segment index. */
  from: number
  /** The index after the last. */
  to: number
  /** Segments fetched ahead of the reader; each costs up to 256 KiB. */
  readAhead: number
  /** Leave out segments that no node holds instead of failing. */
  skipAbsent?: boolean | undefined
  signal?: AbortSignal | undefined
}

function isAbsent(error: unknown): boolean {
  return error instanceof SegmentUnavailableError && error.failures.every(({ absent }) => absent)
}

/**
 * A body of pieces made on demand. It is given up when the client takes nothing for `stallMs`; `controller` is aborted
 * as soon as the body ends for whatever reason, so that work under way for it stops.
 */
export function bodyStream({ pieces, controller, stallMs, onBytes }: BodyStreamParameters): Readable {
  let timer: NodeJS.Timeout | undefined
  async function* watched(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const piece of pieces) {
      onBytes?.(piece.byteLength)
      timer = setTimeout(() => {
        body.destroy(new IndexerError({ code: 'CLIENT_STALLED', message: `the client took nothing for ${stallMs} ms` }))
      }, stallMs)
      timer.unref()
      yield piece
      clearTimeout(timer)
    }
  }
  const body = Readable.from(watched(), { objectMode: false, highWaterMark: 256 * 1024 })
  body.once('close', () => {
    clearTimeout(timer)
    controller.abort(new IndexerError({ code: 'READ_OVER', message: 'nobody reads on' }))
  })
  return body
}

export interface BodyStreamParameters {
  pieces: AsyncIterable<Uint8Array>
  /** Its signal stops the making of pieces. */
  controller: AbortController
  /** How long a client may take nothing, in milliseconds. */
  stallMs: number
  onBytes?: ((bytes: number) => void) | undefined
}

/** The first piece made already, so that a failure shows before headers are sent; then the rest. */
export async function startPieces(pieces: AsyncGenerator<Uint8Array, void, undefined>) {
  const first = await pieces.next()
  async function* all(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      if (!first.done) yield first.value
      yield* pieces
    } finally {
      await pieces.return()
    }
  }
  return all()
}
