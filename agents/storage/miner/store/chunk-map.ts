import { MAX_CHUNKS } from './layout.ts'

const ENTRY_BYTES = 8

/**
 * Which seals of which chunks are sealed: 64 bits for each chunk, in memory shared with the threads that mine. Grows
 * in place, so that they see new chunks without being told.
 */
export class ChunkMap {
  readonly buffer: SharedArrayBuffer
  readonly #bits: BigUint64Array
  #sealed = 0

  constructor(buffer = new SharedArrayBuffer(0, { maxByteLength: MAX_CHUNKS * ENTRY_BYTES })) {
    this.buffer = buffer
    this.#bits = new BigUint64Array(buffer)
  }

  /** Chunks that have at least one seal sealed, as counted by the thread that writes. */
  get sealed(): number {
    return this.#sealed
  }

  /** Bit i: seal i is sealed. */
  held(chunk: number): bigint {
    return chunk < this.#bits.length ? Atomics.load(this.#bits, chunk) : 0n
  }

  set(chunk: number, held: bigint): void {
    if (chunk >= this.#bits.length) {
      // In steps, because each growth is a system call.
      const wanted = Math.min(Math.max(chunk + 1, this.#bits.length * 2, 1_024), MAX_CHUNKS)
      this.buffer.grow(wanted * ENTRY_BYTES)
    }
    const before = Atomics.exchange(this.#bits, chunk, held)
    this.#sealed += (held === 0n ? 0 : 1) - (before === 0n ? 0 : 1)
  }
}
