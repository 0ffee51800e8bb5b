import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'

/**
 * Buffers of one segment, used again and again: fresh ones at hundreds a second keep the garbage collector busier than
 * the hashing does. Gives as many as are asked for and keeps some for later; how many are out is bounded elsewhere.
 */
export class SegmentBuffers {
  readonly #free: Buffer<ArrayBuffer>[] = []
  readonly #keep: number

  constructor({ keep = 64 }: { keep?: number } = {}) {
    this.#keep = keep
  }

  /** A buffer of 256 KiB with whatever was in it. */
  take(): Buffer<ArrayBuffer> {
    return this.#free.pop() ?? (Buffer.allocUnsafeSlow(SEGMENT_BYTES) as Buffer<ArrayBuffer>)
  }

  /** Takes a buffer back: nobody may look at it any more. */
  give(buffer: Buffer<ArrayBuffer>): void {
    if (this.#free.length < this.#keep) this.#free.push(buffer)
  }
}
