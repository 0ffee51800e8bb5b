import { WeightlessError } from '#protocol/error.ts'
import { HASH_BYTES, SEGMENT_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'

/** A subtree inside a segment whose hash stands for its sectors: data that is not here, or the reserved sector 0. */
export interface FlowCover {
  /** First sector, counted in the segment; a multiple of 2^height. */
  sector: number
  /** Below 10. */
  height: number
  hash: Uint8Array
}

/**
 * One segment of the flow as a node gives it to a miner: 1,024 sectors, with zeros where the flow is padded and where
 * data is not here. With the covers put in place of what is not here, its Merkle root and `siblings` lead to the flow
 * root asked for.
 */
export interface FlowSegment {
  /** Global number of the segment: it begins at sector `segment × 1024`. */
  segment: number
  /** Bit i is set when all 16 sectors of seal i (4 KiB) are here. Bit 0 of segment 0 never is. */
  held: bigint
  covers: FlowCover[]
  /** From the segment's root up, bottom first; empty when no flow root was asked for. */
  siblings: Uint8Array[]
  /** 256 KiB. */
  data: Uint8Array
}

/** All 64 seals of a segment. */
export const ALL_SEALS = 2n ** 64n - 1n

/** Bytes that are no frames. Code `FLOW_FRAME`. */
export class FlowFrameError extends WeightlessError {}

const FIXED_BYTES = 19
const COVER_BYTES = 3 + HASH_BYTES
const MAX_SIBLINGS = 64

/**
 * `u64 segment | u64 held | u8 steps | u16 covers | steps × hash | covers × (u16 sector, u8 height, hash) | data`, big
 * endian. The data is not copied.
 */
export function encodeFlowSegment({ segment, held, covers, siblings, data }: FlowSegment): Uint8Array[] {
  const header = new Uint8Array(FIXED_BYTES + siblings.length * HASH_BYTES + covers.length * COVER_BYTES)
  const view = new DataView(header.buffer)
  view.setBigUint64(0, BigInt(segment))
  view.setBigUint64(8, held)
  view.setUint8(16, siblings.length)
  view.setUint16(17, covers.length)
  let at = FIXED_BYTES
  for (const sibling of siblings) {
    header.set(sibling, at)
    at += HASH_BYTES
  }
  for (const { sector, height, hash } of covers) {
    view.setUint16(at, sector)
    view.setUint8(at + 2, height)
    header.set(hash, at + 3)
    at += COVER_BYTES
  }
  return [header, data]
}

/**
 * Reads frames off a stream of bytes. Holds at most one frame.
 *
 * @throws FlowFrameError `FLOW_FRAME` for counts that cannot be, or a stream that ends inside a frame
 */
export async function* decodeFlowSegments(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<FlowSegment> {
  const reader = new ByteReader(chunks)
  try {
    while (await reader.more()) yield await decodeOne(reader)
  } finally {
    await reader.close()
  }
}

async function decodeOne(reader: ByteReader): Promise<FlowSegment> {
  const head = viewOf(await reader.take(FIXED_BYTES))
  const segment = Number(head.getBigUint64(0))
  const held = head.getBigUint64(8)
  const steps = head.getUint8(16)
  const coverCount = head.getUint16(17)
  if (!Number.isSafeInteger(segment) || steps > MAX_SIBLINGS || coverCount > SEGMENT_SECTORS) {
    throw bad(`segment ${segment} with ${steps} steps and ${coverCount} covers`)
  }
  const rest = await reader.take(steps * HASH_BYTES + coverCount * COVER_BYTES)
  const siblings = Array.from({ length: steps }, (_, i) => rest.slice(i * HASH_BYTES, (i + 1) * HASH_BYTES))
  const view = viewOf(rest)
  const covers = Array.from({ length: coverCount }, (_, i): FlowCover => {
    const at = steps * HASH_BYTES + i * COVER_BYTES
    const cover = {
      sector: view.getUint16(at),
      height: view.getUint8(at + 2),
      hash: rest.slice(at + 3, at + COVER_BYTES),
    }
    const fits = cover.height < SEGMENT_HEIGHT && cover.sector % 2 ** cover.height === 0
    if (!fits || cover.sector >= SEGMENT_SECTORS) throw bad(`a cover of height ${cover.height} at ${cover.sector}`)
    return cover
  })
  return { segment, held, covers, siblings, data: await reader.take(SEGMENT_BYTES) }
}

/** Takes exact numbers of bytes off a stream of pieces. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>
  #piece: Uint8Array = new Uint8Array()
  #at = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** Whether there is another byte. */
  async more(): Promise<boolean> {
    while (this.#at === this.#piece.length) {
      const { done, value } = await this.#source.next()
      if (done) return false
      this.#piece = value
      this.#at = 0
    }
    return true
  }

  async take(length: number): Promise<Uint8Array> {
    const taken = new Uint8Array(length)
    for (let done = 0; done < length; ) {
      if (!(await this.more())) throw bad('the answer ends inside a frame')
      const part = this.#piece.subarray(this.#at, this.#at + length - done)
      taken.set(part, done)
      done += part.length
      this.#at += part.length
    }
    return taken
  }

  async close(): Promise<void> {
    await this.#source.return?.()
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength)
}

function bad(what: string): FlowFrameError {
  return new FlowFrameError({
    code: 'FLOW_FRAME',
    message: `not an answer of /v1/flow/segments: ${what}`,
    fix: 'check that the address is that of a storage node of this project',
  })
}
