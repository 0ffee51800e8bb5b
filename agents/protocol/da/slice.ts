import { WeightlessError } from '../error.ts'
import type { BlobHeader } from './commitment.ts'
import { DATA_ROWS, HASH_BYTES, MAX_BLOB_BYTES, MAX_PATH_HASHES, TOTAL_ROWS } from './constants.ts'
import { rowPathHashes } from './row-proof.ts'

/** One row with its path to the row root. */
export interface RowSlice {
  /** Row, 0 to 3071. */
  index: number
  data: Uint8Array
  /** Siblings from the bottom up, 32 bytes each. */
  path: Uint8Array
}

/** Version of the wire form. */
const SLICE_VERSION = 1

/** Bytes before the row: u8 version ‖ u32 index ‖ u32 length of the row. */
const HEAD_BYTES = 9

/** Bytes of the largest slice: a row of 32 KiB with 12 hashes. */
export const MAX_SLICE_BYTES = HEAD_BYTES + MAX_BLOB_BYTES / DATA_ROWS + 1 + HASH_BYTES * MAX_PATH_HASHES

export type InvalidSliceCode =
  | 'SLICE_VERSION'
  | 'SLICE_INDEX'
  | 'SLICE_LENGTH'
  | 'SLICE_PATH'
  | 'SLICE_COUNT'
  | 'SLICE_TRUNCATED'

/** Bytes that are not slices of this blob. */
export class InvalidSliceError extends WeightlessError {
  override readonly code: InvalidSliceCode

  constructor({
    code,
    message,
    details,
  }: { code: InvalidSliceCode; message: string; details: Record<string, unknown> }) {
    super({ code, message, fix: 'send slices as encodeSlice writes them, each of a row of this blob', details })
    this.code = code
  }
}

/**
 * The wire form of a slice in pieces that need no copy of the row: u8 1 ‖ u32 index ‖ u32 row length ‖ row ‖ u8 hashes
 * in the path ‖ path, integers big-endian.
 */
export function encodeSlice({ index, data, path }: RowSlice): Uint8Array[] {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt8(SLICE_VERSION, 0)
  head.writeUInt32BE(index, 1)
  head.writeUInt32BE(data.length, 5)
  return [head, data, Uint8Array.of(path.length / HASH_BYTES), path]
}

/**
 * Writes the same at the start of `target`, which must have room for {@link sliceBytes}.
 *
 * @returns how many bytes
 */
export function writeSlice({ slice, target }: { slice: RowSlice; target: Uint8Array }): number {
  const { index, data, path } = slice
  const view = new DataView(target.buffer, target.byteOffset, target.length)
  view.setUint8(0, SLICE_VERSION)
  view.setUint32(1, index)
  view.setUint32(5, data.length)
  target.set(data, HEAD_BYTES)
  view.setUint8(HEAD_BYTES + data.length, path.length / HASH_BYTES)
  target.set(path, HEAD_BYTES + data.length + 1)
  return HEAD_BYTES + data.length + 1 + path.length
}

/** Bytes of a slice of row `index` on the wire. */
export function sliceBytes({ header, index }: { header: BlobHeader; index: number }): number {
  return HEAD_BYTES + header.rowBytes + 1 + HASH_BYTES * rowPathHashes(index)
}

/** All slices in `bytes`, at most 3072. @throws InvalidSliceError */
export function decodeSlices(bytes: Uint8Array, { header }: { header: BlobHeader }): RowSlice[] {
  const decoder = new SliceDecoder({ header })
  const slices = decoder.push(bytes)
  decoder.end()
  return slices
}

/**
 * Reads slices from pieces of a stream as they come. What a sender says is checked before anything is kept for it: at
 * most one slice is held, and no more than `maxSlices` are read.
 */
export class SliceDecoder {
  readonly #header: BlobHeader
  readonly #maxSlices: number
  readonly #head = new Uint8Array(HEAD_BYTES)
  readonly #free: ArrayBufferLike[] = []
  #headBytes = 0
  #slice: PartialSlice | undefined
  #count = 0

  /** @param maxSlices 3072 unless fewer are wanted */
  constructor({ header, maxSlices = TOTAL_ROWS }: { header: BlobHeader; maxSlices?: number | undefined }) {
    this.#header = header
    this.#maxSlices = maxSlices
  }

  /** Slices that end in this piece. The piece may be reused afterwards. @throws InvalidSliceError */
  push(piece: Uint8Array): RowSlice[] {
    const done: RowSlice[] = []
    for (let at = 0; at < piece.length; ) {
      if (this.#slice === undefined) {
        const part = piece.subarray(at, at + HEAD_BYTES - this.#headBytes)
        this.#head.set(part, this.#headBytes)
        this.#headBytes += part.length
        at += part.length
        if (this.#headBytes === HEAD_BYTES) this.#slice = this.#begin()
        continue
      }
      const slice = this.#slice
      const part = piece.subarray(at, at + slice.bytes.length - slice.filled)
      slice.bytes.set(part, slice.filled)
      slice.filled += part.length
      at += part.length
      if (slice.filled === slice.bytes.length) done.push(this.#finish(slice))
    }
    return done
  }

  /** Takes slices back that nobody reads any more: their memory is used for the next ones. */
  recycle(slices: readonly RowSlice[]): void {
    for (const { data } of slices) this.#free.push(data.buffer)
  }

  /** To be called after the last piece. @throws InvalidSliceError `SLICE_TRUNCATED` */
  end(): void {
    if (this.#slice === undefined && this.#headBytes === 0) return
    throw new InvalidSliceError({
      code: 'SLICE_TRUNCATED',
      message: 'the bytes end within a slice',
      details: { slices: this.#count, index: this.#slice?.index },
    })
  }

  #begin(): PartialSlice {
    const head = new DataView(this.#head.buffer)
    const [version, index, rowBytes] = [head.getUint8(0), head.getUint32(1), head.getUint32(5)]
    if (version !== SLICE_VERSION) throw wrong('SLICE_VERSION', 'a slice', { version, wanted: SLICE_VERSION })
    if (index >= TOTAL_ROWS) throw wrong('SLICE_INDEX', 'a slice', { index, limit: TOTAL_ROWS - 1 })
    if (rowBytes !== this.#header.rowBytes) {
      throw wrong('SLICE_LENGTH', `the slice of row ${index}`, { index, rowBytes, wanted: this.#header.rowBytes })
    }
    if (this.#count >= this.#maxSlices) {
      throw new InvalidSliceError({
        code: 'SLICE_COUNT',
        message: `there are more than ${this.#maxSlices} slices`,
        details: { limit: this.#maxSlices },
      })
    }
    const memory = this.#free.pop() ?? new ArrayBuffer(rowBytes + 1 + HASH_BYTES * MAX_PATH_HASHES)
    return { index, filled: 0, bytes: new Uint8Array(memory, 0, rowBytes + 1 + HASH_BYTES * rowPathHashes(index)) }
  }

  #finish({ index, bytes }: PartialSlice): RowSlice {
    const { rowBytes } = this.#header
    const hashes = bytes[rowBytes]
    if (hashes !== rowPathHashes(index)) {
      throw wrong('SLICE_PATH', `the slice of row ${index}`, { index, hashes, wanted: rowPathHashes(index) })
    }
    this.#slice = undefined
    this.#headBytes = 0
    this.#count += 1
    return { index, data: bytes.subarray(0, rowBytes), path: bytes.subarray(rowBytes + 1) }
  }
}

interface PartialSlice {
  index: number
  filled: number
  bytes: Uint8Array
}

function wrong(code: InvalidSliceCode, what: string, details: Record<string, unknown>): InvalidSliceError {
  const facts = Object.entries(details).map(([name, value]) => `${name} ${value}`)
  return new InvalidSliceError({ code, message: `${what} is not of this blob: ${facts.join(', ')}`, details })
}
