import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { MAX_SLICE_BYTES, sliceBytes, writeSlice } from '#protocol/da/slice.ts'

/** Bytes that are handed to the socket at a time: small rows travel together, a write for each would cost more. */
const PART_BYTES = 256 * 1024

/** Rows of a blob on the wire. */
export interface SliceParts {
  readonly lengthBytes: number
  parts(): AsyncGenerator<Uint8Array, void, undefined>
  /** Gives a part back whose bytes have left: its memory is used again. */
  sent(part: Uint8Array): void
}

/**
 * The rows `firstRow` to `firstRow + rowCount - 1`, written into a few buffers that are used again and again: at 100 MB/s
 * of fresh ones the collector would run all the time.
 */
export function sliceParts(parameters: {
  blob: EncodedBlob
  firstRow: number
  rowCount: number
  head: Uint8Array
}): SliceParts {
  const { blob, firstRow, rowCount, head } = parameters
  const { header } = blob.commitment
  const free: ArrayBufferLike[] = []
  const end = firstRow + rowCount
  let lengthBytes = head.length
  for (let index = firstRow; index < end; index++) lengthBytes += sliceBytes({ header, index })
  return {
    lengthBytes,
    async *parts() {
      yield head
      for (let index = firstRow; index < end; ) {
        const part = new Uint8Array(free.pop() ?? new ArrayBuffer(PART_BYTES + MAX_SLICE_BYTES))
        let filled = 0
        for (; index < end && filled < PART_BYTES; index++) {
          filled += writeSlice({ slice: blob.slice(index), target: part.subarray(filled) })
        }
        yield part.subarray(0, filled)
      }
    },
    sent({ buffer }) {
      if (buffer.byteLength === PART_BYTES + MAX_SLICE_BYTES) free.push(buffer)
    },
  }
}
