import { HASH_BYTES, SECTOR_BYTES, SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import {
  decodeSegmentFrames,
  MAX_FRAME_HEADER_BYTES,
  type SegmentFrame,
  SegmentFrameError,
} from '#protocol/storage/segment-frame.ts'
import type { SegmentBuffers } from './segment-buffers.ts'

/** A frame whose data lies in a borrowed buffer. */
export interface BorrowedFrame extends SegmentFrame {
  /** Gives the buffer back. To be called once, when nobody looks at `data` any more. */
  release(): void
}

/** Index, path length and path bits. */
const HEAD_BYTES = 9
const PATH_LENGTH_AT = 4
const LENGTH_BYTES = 4

/**
 * Reads frames (`#protocol/storage/segment-frame.ts`) out of a stream into buffers that are used again. Refuses a bad
 * frame as soon as the field at fault has arrived.
 */
export class FrameReader {
  readonly #buffers: SegmentBuffers
  /** Header of the frame at hand, and room for one sector, so that the protocol's decoder can read the header. */
  readonly #header = new Uint8Array(MAX_FRAME_HEADER_BYTES + SECTOR_BYTES)
  #headerBytes = 0
  #body: { frame: Omit<SegmentFrame, 'data'>; buffer: Buffer<ArrayBuffer>; bytes: number; filled: number } | undefined
  #offset = 0

  constructor(buffers: SegmentBuffers) {
    this.#buffers = buffers
  }

  /**
   * The frames that `piece` completes; each must be released.
   *
   * @throws SegmentFrameError `FRAME_PROOF`, `FRAME_LENGTH`
   */
  *push(piece: Uint8Array): Generator<BorrowedFrame, void, undefined> {
    let rest = piece
    while (rest.length > 0) {
      const taken = this.#body ? this.#takeData(this.#body, rest) : this.#takeHeader(rest)
      this.#offset += taken
      rest = rest.subarray(taken)
      if (!this.#body || this.#body.filled < this.#body.bytes) continue
      const { frame, buffer, bytes } = this.#body
      this.#body = undefined
      yield { ...frame, data: buffer.subarray(0, bytes), release: () => this.#buffers.give(buffer) }
    }
  }

  /** @throws SegmentFrameError `FRAME_CUT_OFF` when the stream ended inside a frame */
  end(): void {
    if (this.#headerBytes === 0 && !this.#body) return
    throw new SegmentFrameError({
      code: 'FRAME_CUT_OFF',
      message: `the stream ended inside a frame, after ${this.#offset} bytes`,
      fix: 'send the frames again; those that were complete are stored',
      details: { offset: this.#offset },
    })
  }

  /** Gives back what an unfinished frame has borrowed. */
  dispose(): void {
    if (this.#body) this.#buffers.give(this.#body.buffer)
    this.#body = undefined
  }

  #takeData(body: { buffer: Buffer<ArrayBuffer>; bytes: number; filled: number }, bytes: Uint8Array): number {
    const part = bytes.subarray(0, body.bytes - body.filled)
    body.buffer.set(part, body.filled)
    body.filled += part.length
    return part.length
  }

  #takeHeader(bytes: Uint8Array): number {
    const part = bytes.subarray(0, this.#wantedHeaderBytes() - this.#headerBytes)
    this.#header.set(part, this.#headerBytes)
    this.#headerBytes += part.length
    if (this.#headerBytes > HEAD_BYTES && this.#headerBytes === this.#wantedHeaderBytes()) this.#beginData()
    return part.length
  }

  #wantedHeaderBytes(): number {
    if (this.#headerBytes < HEAD_BYTES) return HEAD_BYTES
    const steps = this.#header[PATH_LENGTH_AT] ?? 0
    const wanted = HEAD_BYTES + (steps === 0 ? 1 : steps + 2) * HASH_BYTES + LENGTH_BYTES
    // Longer than any header: the decoder says what is wrong with it.
    if (wanted > MAX_FRAME_HEADER_BYTES) decodeSegmentFrames(this.#header.subarray(0, HEAD_BYTES))
    return wanted
  }

  #beginData(): void {
    const header = this.#header.subarray(0, this.#headerBytes + SECTOR_BYTES)
    const view = new DataView(header.buffer)
    const lengthAt = this.#headerBytes - LENGTH_BYTES
    const bytes = view.getUint32(lengthAt)
    if (bytes === 0 || bytes > SEGMENT_BYTES || bytes % SECTOR_BYTES !== 0) {
      throw new SegmentFrameError({
        code: 'FRAME_LENGTH',
        message: `${bytes} bytes are no segment: 256 to ${SEGMENT_BYTES} bytes in whole sectors`,
        fix: 'send frames as encodeSegmentFrame makes them',
        details: { dataBytes: bytes, limit: SEGMENT_BYTES, offset: this.#offset },
      })
    }
    // The header is decoded by the protocol's own decoder, with one sector standing in for the data.
    view.setUint32(lengthAt, SECTOR_BYTES)
    const [frame] = decodeSegmentFrames(header)
    if (!frame) return
    this.#headerBytes = 0
    this.#body = { frame: { index: frame.index, proof: frame.proof }, buffer: this.#buffers.take(), bytes, filled: 0 }
  }
}
