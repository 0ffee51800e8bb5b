import type { IncomingMessage } from 'node:http'
import { NodeError } from '../error.ts'
import { type BorrowedFrame, FrameReader } from '../ingest/frame-reader.ts'
import type { Intake, IntakeResult } from '../ingest/intake.ts'
import type { SegmentBuffers } from '../ingest/segment-buffers.ts'
import type { Semaphore } from '../ingest/semaphore.ts'
import type { FileTransaction } from '../store/transaction-record.ts'

/** Bytes one request may bring. */
export const MAX_UPLOAD_BYTES = 64 * 2 ** 20

/** Of a refused request so much is still read, so that the caller is done writing when the answer comes. */
const DRAIN_BYTES = 8 * 2 ** 20
const DRAIN_MS = 5_000

export interface ReceiveSegmentsParameters {
  request: IncomingMessage
  tx: FileTransaction
  intake: Intake
  /** Memory for segments between socket and disk, shared by all requests. */
  memory: Semaphore
  buffers: SegmentBuffers
  stallTimeoutMs: number
  /** Counts what was stored, also when the request fails later. */
  onStored: () => void
}

/**
 * Reads frames off a request, each checked and stored as it arrives. Reads no faster than segments are stored, and
 * resolves when all of them are durable. Segments of other shards and those that are here already are passed over.
 *
 * @throws NodeError `REQUEST_STALLED`, `REQUEST_TOO_LARGE`; SegmentFrameError; InvalidSegmentError; disk errors
 */
export async function receiveSegments(parameters: ReceiveSegmentsParameters): Promise<void> {
  const { tx, intake, memory, buffers, onStored } = parameters
  const reader = new FrameReader(buffers)
  const writes = new Set<Promise<void>>()
  let failure: { error: unknown } | undefined
  const fail = (error: unknown): void => {
    failure ??= { error }
  }

  async function store(frame: BorrowedFrame, done: () => void): Promise<void> {
    try {
      const { index, proof, data } = frame
      const segment = { root: tx.root, sizeBytes: tx.sizeBytes, index, proof, data }
      const result: IntakeResult = await intake.take(segment, tx)
      if (result === 'stored') onStored()
    } catch (error) {
      fail(error)
    } finally {
      frame.release()
      done()
    }
  }

  const pieces = chunksOf(parameters)
  try {
    for await (const piece of pieces) {
      for (const frame of reader.push(piece)) {
        const done = await memory.acquire(frame.data.length)
        if (failure) {
          frame.release()
          done()
          break
        }
        const write = store(frame, done).finally(() => writes.delete(write))
        writes.add(write)
      }
      if (failure) break
    }
    if (!failure) reader.end()
  } catch (error) {
    fail(error)
  }
  reader.dispose()
  await Promise.all(writes)
  if (failure) throw failure.error
}

/** The body in pieces. Leaving early does not cut the connection, so that an answer can still be given. */
async function* chunksOf({
  request,
  stallTimeoutMs,
}: ReceiveSegmentsParameters): AsyncGenerator<Buffer, void, undefined> {
  const iterator = request.iterator({ destroyOnReturn: false })
  let received = 0
  try {
    for (;;) {
      const next = await withinStall(iterator.next(), stallTimeoutMs)
      if (next.done) return
      const piece: unknown = next.value
      if (!(piece instanceof Buffer)) return
      received += piece.length
      if (received > MAX_UPLOAD_BYTES) throw tooLarge(received)
      yield piece
    }
  } finally {
    // Gives the stream free for draining. Not waited for: after a stall a read is still pending.
    void iterator.return?.()
  }
}

/** An upload that says, or turns out, to be larger than one request may be. */
export function tooLarge(bytes: number): NodeError {
  return new NodeError({
    code: 'REQUEST_TOO_LARGE',
    message: `the request brings ${bytes} bytes or more, the limit is ${MAX_UPLOAD_BYTES}`,
    fix: 'send the segments in several requests',
    details: { bytes, limit: MAX_UPLOAD_BYTES },
  })
}

async function withinStall<T>(work: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new NodeError({
          code: 'REQUEST_STALLED',
          message: `no byte of the request came for ${limitMs} ms`,
          fix: 'send it again over a better connection; what was stored stays',
          details: { limitMs },
        }),
      )
    }, limitMs)
  })
  try {
    return await Promise.race([work, stalled])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Reads on for a while after a refusal, so that the caller has done writing when the answer comes and does not take it
 * for a broken connection.
 */
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
      request.off('data', take)
      request.off('end', done)
      request.off('close', done)
      request.pause()
      resolve()
    }
    request.on('data', take)
    request.once('end', done)
    request.once('close', done)
    request.resume()
  })
}
