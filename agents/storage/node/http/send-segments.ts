import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { BorrowedSegment } from '../serve/file-reader.ts'
import { toHttpError } from './http-errors.ts'

export interface SendSegmentsParameters {
  reply: FastifyReply
  segments: AsyncGenerator<BorrowedSegment, void, undefined>
  /** What goes on the wire for a segment. */
  parts: (segment: BorrowedSegment) => readonly Uint8Array[]
  /** A reader that takes no byte for so long is cut off: it would hold its buffers for ever. */
  stallTimeoutMs: number
}

/** Segments handed to the socket and not yet taken by it. */
const UNSENT_SEGMENTS = 4

/**
 * Streams segments at the reader's pace, each buffer given back once the socket has taken it. A failure before the
 * first segment is answered as an error, a later one cuts the connection, so that nobody takes a part for the whole.
 */
export async function sendSegments({
  reply,
  segments,
  parts,
  stallTimeoutMs,
}: SendSegmentsParameters): Promise<FastifyReply> {
  let next: IteratorResult<BorrowedSegment, void>
  try {
    next = await segments.next()
  } catch (error) {
    throw toHttpError(error)
  }
  const { raw } = reply
  reply.type('application/octet-stream').hijack()
  raw.writeHead(200, reply.getHeaders() as Record<string, string>)
  raw.setTimeout(stallTimeoutMs, () => raw.destroy())
  const unsent = new Set<Promise<void>>()
  const gone = new Promise<void>((resolve) => raw.once('close', resolve))
  try {
    for (; !next.done; next = await segments.next()) {
      const segment = next.value
      const sent = Promise.race([write(raw, parts(segment)), gone]).finally(() => {
        segment.release()
        unsent.delete(sent)
      })
      unsent.add(sent)
      if (raw.destroyed) break
      while (unsent.size >= UNSENT_SEGMENTS) await Promise.race(unsent)
    }
    await Promise.all(unsent)
    raw.end()
  } catch {
    raw.destroy()
  } finally {
    await segments.return()
  }
  return reply
}

/** Resolves when the socket has taken all of it. */
function write(raw: ServerResponse, parts: readonly Uint8Array[]): Promise<void> {
  return new Promise((resolve) => {
    raw.cork()
    parts.forEach((part, i) => {
      raw.write(part, i === parts.length - 1 ? () => resolve() : undefined)
    })
    process.nextTick(() => raw.uncork())
  })
}
