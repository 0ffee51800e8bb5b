import { HASH_BYTES, SECTOR_BYTES, SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import {
  decodeSegmentFrames,
  MAX_FRAME_HEADER_BYTES,
  type SegmentFrame,
  SegmentFrameError,
} from '#protocol/storage/segment-frame.ts'

/** A frame in a buffer that is used again once it is released. */
export interface LentFrame extends SegmentFrame {
  /** To be called once, when nobody looks at `data` any more. Without it the buffer is simply not used again. */
  release(): void
}

/** Segment buffers kept for later: fresh ones at hundreds a second keep the garbage collector busier than hashing does. */
const MAX_FREE = 64
const free: Uint8Array<ArrayBuffer>[] = []

/** Index, path length and path bits, before the lemma. */
const HEAD_BYTES = 9
const PATH_LENGTH_AT = 4
const LENGTH_BYTES = 4

/**
 * Reads frames (`#protocol/storage/segment-frame.ts`) from a stream in pieces of any size, copying each byte once. The
 * protocol's decoder reads the headers, with one sector standing in for the data.
 */
export class FrameReader {
  readonly #header = new Uint8Array(MAX_FRAME_HEADER_BYTES + SECTOR_BYTES)
  #headerBytes = 0
  #frame:
    | { head: Omit<SegmentFrame, 'data'>; buffer: Uint8Array<ArrayBuffer>; bytes: number; filled: number }
    | undefined;

  /** @throws SegmentFrameError as soon as the field at fault has arrived */
  *push(piece: Uint8Array): Generator<LentFrame, void, undefined> {
    let rest = piece
    while (rest.length > 0) {
      rest = rest.subarray(this.#frame === undefined ? this.#takeHeader(rest) : this.#takeData(this.#frame, rest))
      const frame = this.#frame
      if (frame === undefined || frame.filled < frame.bytes) continue
      this.#frame = undefined
      const { head, buffer, bytes } = frame
      const release = () => void (free.length < MAX_FREE && free.push(buffer))
      yield { ...head, data: buffer.subarray(0, bytes), release }
    }
  }

  /** @throws SegmentFrameError `FRAME_CUT_OFF` when the stream ended inside a frame */
  end(): void {
    if (this.#headerBytes === 0 && this.#frame === undefined) return
    throw new SegmentFrameError({ code: 'FRAME_CUT_OFF', message: 'the stream ended inside a frame' })
  }

  #takeData(frame: { buffer: Uint8Array; bytes: number; filled: number }, piece: Uint8Array): number {
    const part = piece.subarray(0, frame.bytes - frame.filled)
    frame.buffer.set(part, frame.filled)
    frame.filled += part.length
    return part.length
  }

  #takeHeader(piece: Uint8Array): number {
    const part = piece.subarray(0, this.#wantedBytes() - this.#headerBytes)
    this.#header.set(part, this.#headerBytes)
    this.#headerBytes += part.length
    if (this.#headerBytes > HEAD_BYTES && this.#headerBytes === this.#wantedBytes()) this.#begin()
    return part.length
  }

  #wantedBytes(): number {
    if (this.#headerBytes < HEAD_BYTES) return HEAD_BYTES
    const steps = this.#header[PATH_LENGTH_AT] ?? 0
    const wanted = HEAD_BYTES + (steps === 0 ? 1 : steps + 2) * HASH_BYTES + LENGTH_BYTES
    // Longer than any header can be: the decoder says what is wrong with it.
    if (wanted > MAX_FRAME_HEADER_BYTES) decodeSegmentFrames(this.#header.subarray(0, HEAD_BYTES))
    return wanted
  }

  #begin(): void {
    const lengthAt = this.#headerBytes - LENGTH_BYTES
    const view = new DataView(this.#header.buffer)
    const bytes = view.getUint32(lengthAt)
    if (bytes === 0 || bytes > SEGMENT_BYTES || bytes % SECTOR_BYTES !== 0) {
      throw new SegmentFrameError({
        code: 'FRAME_LENGTH',
        message: `${bytes} bytes are no segment`,
        details: { bytes },
      })
    }
    view.setUint32(lengthAt, SECTOR_BYTES)
    const [head] = decodeSegmentFrames(this.#header.subarray(0, this.#headerBytes + SECTOR_BYTES))
    if (head === undefined) return
    this.#headerBytes = 0
    const buffer = free.pop() ?? new Uint8Array(Buffer.allocUnsafeSlow(SEGMENT_BYTES).buffer as ArrayBuffer)
    this.#frame = { head: { index: head.index, proof: head.proof }, buffer, bytes, filled: 0 }
  }
}
