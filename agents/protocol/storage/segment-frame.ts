import { WeightlessError } from '../error.ts'
import { fromHex, type Hash, toHex } from '../hex.ts'
import { HASH_BYTES, MAX_PROOF_STEPS, SECTOR_BYTES, SEGMENT_BYTES } from './constants.ts'
import type { SegmentProof } from './segment-proof.ts'

/**
 * Binary framing of segments between our own clients and nodes, where base64 in JSON would cost a third more bytes and
 * most of the time. A stream is frames one after the other; every number is big-endian:
 *
 * | bytes | field |
 * |---|---|
 * | 4 | segment index in the file |
 * | 1 | path length n, at most 32 |
 * | 4 | path, bit i = `path[i]` |
 * | 32 × (n = 0 ? 1 : n + 2) | lemma |
 * | 4 | data length, a multiple of 256, 256 to 262 144 |
 * | … | data |
 */
export interface SegmentFrame {
  index: number
  proof: SegmentProof
  data: Uint8Array
}

/** Bytes before the lemma. */
const HEAD_BYTES = 9

/** Bytes of the data length. */
const LENGTH_BYTES = 4

/** Longest header: everything before the data. */
export const MAX_FRAME_HEADER_BYTES = HEAD_BYTES + (MAX_PROOF_STEPS + 2) * HASH_BYTES + LENGTH_BYTES

/** Longest frame. */
export const MAX_FRAME_BYTES = MAX_FRAME_HEADER_BYTES + SEGMENT_BYTES

/** Bytes that are no frames, or a segment that fits into none. `details` carries the field, the value and the limit. */
export class SegmentFrameError extends WeightlessError {}

/**
 * A frame as header and data; the data is not copied.
 *
 * @throws SegmentFrameError `FRAME_INDEX`, `FRAME_PROOF` or `FRAME_LENGTH`
 */
export function encodeSegmentFrame({ index, proof, data }: SegmentFrame): Uint8Array[] {
  const { lemma, path } = proof
  if (!Number.isInteger(index) || index < 0 || index >= 2 ** 32) {
    throw frameError('FRAME_INDEX', `segment index ${index} does not fit into 32 bits`, { index })
  }
  if (path.length > MAX_PROOF_STEPS || lemma.length !== lemmaLength(path.length)) {
    throw frameError('FRAME_PROOF', `a proof of ${path.length} steps and ${lemma.length} hashes fits no frame`, {
      pathLength: path.length,
      lemmaLength: lemma.length,
      limit: MAX_PROOF_STEPS,
    })
  }
  checkDataLength(data.length)
  const header = new Uint8Array(HEAD_BYTES + lemma.length * HASH_BYTES + LENGTH_BYTES)
  const view = new DataView(header.buffer)
  view.setUint32(0, index)
  view.setUint8(4, path.length)
  view.setUint32(
    5,
    path.reduce((bits, isLeft, i) => bits + (isLeft ? 2 ** i : 0), 0),
  )
  lemma.forEach((hash, i) => {
    header.set(fromHex(hash, { byteLength: HASH_BYTES, field: `lemma[${i}]` }), HEAD_BYTES + i * HASH_BYTES)
  })
  view.setUint32(header.length - LENGTH_BYTES, data.length)
  return [header, data]
}

/**
 * Frames out of a stream, in pieces of any size. Holds at most one frame (about 257 KiB) and refuses a bad one as soon
 * as the field at fault has arrived. After an error the decoder is of no more use.
 *
 * @example
 * const decoder = new SegmentFrameDecoder()
 * for await (const piece of body) for (const frame of decoder.push(piece)) store(frame)
 * decoder.end()
 */
export class SegmentFrameDecoder {
  readonly #header = new Uint8Array(MAX_FRAME_HEADER_BYTES)
  #headerBytes = 0
  #frame: { index: number; proof: SegmentProof; data: Uint8Array; filled: number } | undefined
  #offset = 0

  /**
   * To be called when the stream has ended.
   *
   * @throws SegmentFrameError `FRAME_CUT_OFF` when it ended inside a frame
   */
  end(): void {
    if (this.#headerBytes === 0 && !this.#frame) return
    throw frameError('FRAME_CUT_OFF', `the stream ended inside a frame, after ${this.#offset} bytes`, {
      offset: this.#offset,
    })
  }

  /**
   * The frames that `piece` completes. Their data is fresh memory, owned by the caller.
   *
   * @throws SegmentFrameError `FRAME_PROOF` or `FRAME_LENGTH`
   */
  *push(piece: Uint8Array): Generator<SegmentFrame, void, undefined> {
    let rest = piece
    while (rest.length > 0) {
      const taken = this.#frame ? this.#takeData(this.#frame, rest) : this.#takeHeader(rest)
      this.#offset += taken
      rest = rest.subarray(taken)
      if (this.#frame && this.#frame.filled === this.#frame.data.length) {
        const { index, proof, data } = this.#frame
        this.#frame = undefined
        yield { index, proof, data }
      }
    }
  }

  #takeData(frame: { data: Uint8Array; filled: number }, bytes: Uint8Array): number {
    const part = bytes.subarray(0, frame.data.length - frame.filled)
    frame.data.set(part, frame.filled)
    frame.filled += part.length
    return part.length
  }

  #takeHeader(bytes: Uint8Array): number {
    const part = bytes.subarray(0, this.#wantedHeaderBytes() - this.#headerBytes)
    this.#header.set(part, this.#headerBytes)
    this.#headerBytes += part.length
    const pathLength = this.#header[4] ?? 0
    if (this.#headerBytes >= 5 && pathLength > MAX_PROOF_STEPS) {
      throw frameError('FRAME_PROOF', `a proof of ${pathLength} steps is longer than ${MAX_PROOF_STEPS}`, {
        pathLength,
        limit: MAX_PROOF_STEPS,
        offset: this.#offset,
      })
    }
    if (this.#headerBytes === this.#wantedHeaderBytes() && this.#headerBytes > HEAD_BYTES) this.#beginFrame(pathLength)
    return part.length
  }

  /** Bytes to collect before the next decision: the head, then the whole header. */
  #wantedHeaderBytes(): number {
    if (this.#headerBytes < HEAD_BYTES) return HEAD_BYTES
    return HEAD_BYTES + lemmaLength(this.#header[4] ?? 0) * HASH_BYTES + LENGTH_BYTES
  }

  #beginFrame(pathLength: number): void {
    const view = new DataView(this.#header.buffer)
    const bits = view.getUint32(5)
    if (bits >= 2 ** pathLength) {
      throw frameError('FRAME_PROOF', 'the path has bits past its length', { pathLength, bits, offset: this.#offset })
    }
    const dataBytes = view.getUint32(this.#headerBytes - LENGTH_BYTES)
    checkDataLength(dataBytes)
    const path = Array.from({ length: pathLength }, (_, i) => Math.floor(bits / 2 ** i) % 2 === 1)
    const lemma: Hash[] = Array.from({ length: lemmaLength(pathLength) }, (_, i) => {
      const at = HEAD_BYTES + i * HASH_BYTES
      return toHex(this.#header.subarray(at, at + HASH_BYTES))
    })
    this.#frame = { index: view.getUint32(0), proof: { lemma, path }, data: new Uint8Array(dataBytes), filled: 0 }
    this.#headerBytes = 0
  }
}

/**
 * All frames of a whole message.
 *
 * @throws SegmentFrameError
 */
export function decodeSegmentFrames(bytes: Uint8Array): SegmentFrame[] {
  const decoder = new SegmentFrameDecoder()
  const frames = [...decoder.push(bytes)]
  decoder.end()
  return frames
}

function lemmaLength(pathLength: number): number {
  return pathLength === 0 ? 1 : pathLength + 2
}

function checkDataLength(dataBytes: number): void {
  if (dataBytes > 0 && dataBytes <= SEGMENT_BYTES && dataBytes % SECTOR_BYTES === 0) return
  throw frameError(
    'FRAME_LENGTH',
    `${dataBytes} bytes are no segment: 256 to ${SEGMENT_BYTES} bytes in whole sectors`,
    {
      dataBytes,
      limit: SEGMENT_BYTES,
    },
  )
}

function frameError(code: string, message: string, details: Record<string, unknown>): SegmentFrameError {
  return new SegmentFrameError({ code, message, fix: 'send frames as encodeSegmentFrame makes them', details })
}
