import type { KernelExports } from './bind.ts'
import { KernelError } from './error.ts'
import { FIRST_FREE_ADDRESS } from './memory.ts'
import { instantiateKernels, poraModules } from './wasm.ts'

/** Bytes of a mining chunk, which one attempt reads: 1 024 sectors. */
export const CHUNK_BYTES = 256 * 1024

/** Seals in a chunk. */
export const CHUNK_SEALS = 64

/** Bytes of a scratchpad. */
export const PAD_BYTES = 16 * 1024

/** Bytes of a pad seed. */
export const PAD_SEED_BYTES = 64

const HASH_BYTES = 32
const BLOCK_BYTES = 128

/** Attempts prepared at once: their pads stay in the cache of one core. */
const DEFAULT_ATTEMPTS = 16

/** What every attempt of a miner at a task hashes, 32 bytes each. */
export interface PoraTask {
  minerId: Uint8Array
  subtaskDigest: Uint8Array
  rangeDigest: Uint8Array
}

export interface PoraKernelParameters {
  /** Nonces that one batch may have, 1 to 1024; 16 unless given. */
  attempts?: number | undefined
  /** `poraModules()` of the main thread, handed to a mining thread by `workerData`. */
  modules?: WebAssembly.Module[] | undefined
}

/**
 * PoRA attempts on this thread, in memory of their own (storage-contracts §5.3). Attempts are prepared in batches,
 * because the pads of four nonces cost little more than one; then, for each attempt, the chunk it recalls is read into
 * {@link chunk} and hashed. About 6 000 attempts a second on one core. A thread that mines has its own.
 *
 * @example
 * const pora = new PoraKernel()
 * pora.prepare({ ...task, nonces })
 * for (let i = 0; i < nonces.length; i++) {
 *   const chunk = recallChunk({ recallSeed: pora.recallSeed(i), ...range })
 *   readSync(fd, pora.chunk, 0, CHUNK_BYTES, chunk * CHUNK_BYTES)
 *   const hashes = pora.sealHashes(i)
 * }
 */
export class PoraKernel {
  /** The sealed chunk to be hashed; to be filled in place, also by `fs.readSync`. */
  readonly chunk: Uint8Array
  /** Attempts one batch may have. */
  readonly attempts: number
  readonly #exports: KernelExports
  readonly #bytes: Uint8Array
  readonly #at: { chunk: number; hashes: number; blocks: number; seeds: number; recalls: number; pads: number }
  #prepared = 0

  constructor({ attempts = DEFAULT_ATTEMPTS, modules = poraModules() }: PoraKernelParameters = {}) {
    if (!Number.isInteger(attempts) || attempts < 1 || attempts > 1024) {
      throw inputError('a batch has 1 to 1024 attempts', { attempts })
    }
    const chunk = FIRST_FREE_ADDRESS
    const hashes = chunk + CHUNK_BYTES
    const blocks = hashes + CHUNK_SEALS * HASH_BYTES
    const seeds = blocks + attempts * BLOCK_BYTES
    const recalls = seeds + attempts * PAD_SEED_BYTES
    const pads = recalls + attempts * HASH_BYTES
    const freeBytes = pads + attempts * PAD_BYTES - FIRST_FREE_ADDRESS
    const { exports, bytes } = instantiateKernels({ freeBytes, modules })
    this.attempts = attempts
    this.#at = { chunk, hashes, blocks, seeds, recalls, pads }
    this.#exports = exports
    this.#bytes = bytes
    this.chunk = bytes.subarray(chunk, hashes)
  }

  /**
   * Pad seeds, scratchpads and recall seeds of a batch of nonces (32 bytes each). About 50 µs for each.
   *
   * @throws KernelError `KERNEL_INPUT`
   */
  prepare({ minerId, subtaskDigest, rangeDigest, nonces }: PoraTask & { nonces: readonly Uint8Array[] }): void {
    const count = nonces.length
    const fits = [minerId, subtaskDigest, rangeDigest, ...nonces].every(({ length }) => length === HASH_BYTES)
    if (!fits || count < 1 || count > this.attempts) {
      throw inputError('a batch takes values of 32 bytes, and no more nonces than it has room for', { count })
    }
    const { blocks, seeds, pads, recalls } = this.#at
    for (const [i, nonce] of nonces.entries()) {
      const block = blocks + i * BLOCK_BYTES
      this.#bytes.set(minerId, block)
      this.#bytes.set(nonce, block + 32)
      this.#bytes.set(subtaskDigest, block + 64)
      this.#bytes.set(rangeDigest, block + 96)
    }
    this.#exports.padSeeds(blocks, seeds, count)
    this.#exports.scratchpads(seeds, pads, recalls, count)
    this.#prepared = count
  }

  /** Pad seed of a prepared attempt, 64 bytes; a view that the next batch overwrites. */
  padSeed(attempt: number): Uint8Array {
    return this.#view({ attempt, first: this.#at.seeds, length: PAD_SEED_BYTES })
  }

  /** Scratchpad of a prepared attempt, 16 KiB; a view that the next batch overwrites. */
  scratchpad(attempt: number): Uint8Array {
    return this.#view({ attempt, first: this.#at.pads, length: PAD_BYTES })
  }

  /** Recall seed of a prepared attempt, 32 bytes; a view that the next batch overwrites. */
  recallSeed(attempt: number): Uint8Array {
    return this.#view({ attempt, first: this.#at.recalls, length: HASH_BYTES })
  }

  /**
   * The hashes of the 64 seals of {@link chunk} for a prepared attempt, 32 bytes each, big-endian numbers to be
   * compared with the target; a view that the next call overwrites. About 115 µs, 160 µs without wide kernels.
   *
   * @throws KernelError `KERNEL_INPUT`
   */
  sealHashes(attempt: number): Uint8Array {
    this.#check(attempt)
    const { chunk, hashes, pads, seeds } = this.#at
    this.#exports.sealHashes(chunk, pads + attempt * PAD_BYTES, seeds + attempt * PAD_SEED_BYTES, hashes)
    return this.#bytes.subarray(hashes, hashes + CHUNK_SEALS * HASH_BYTES)
  }

  #view({ attempt, first, length }: { attempt: number; first: number; length: number }): Uint8Array {
    this.#check(attempt)
    return this.#bytes.subarray(first + attempt * length, first + (attempt + 1) * length)
  }

  #check(attempt: number): void {
    if (Number.isInteger(attempt) && attempt >= 0 && attempt < this.#prepared) return
    throw inputError(`attempt ${attempt} is not prepared`, { attempt, prepared: this.#prepared })
  }
}

/**
 * The chunk of the mining range that a recall seed asks for: the seed modulo the number of chunks, with the bits of the
 * shard put in. The result may lie past the range when the shard has more bits than the range has chunks: such an
 * attempt cannot be proven.
 *
 * @throws KernelError `KERNEL_INPUT`
 */
export function recallChunk({ recallSeed, mineLengthSectors, shardId, shardMask }: RecallChunkParameters): bigint {
  const chunks = mineLengthSectors / 1024
  if (recallSeed.length !== HASH_BYTES || !Number.isInteger(chunks) || chunks < 1 || chunks > MAX_CHUNKS) {
    throw inputError('a range has whole chunks of 1024 sectors, at most 2^37 of them', { mineLengthSectors })
  }
  // 16 bits at a time: with a modulus up to 2^37 every step is exact below 2^53
  let position = 0
  for (let i = 0; i < HASH_BYTES; i += 2) {
    position = (position * 65536 + (recallSeed[i] ?? 0) * 256 + (recallSeed[i + 1] ?? 0)) % chunks
  }
  return (BigInt(position) & shardMask) | shardId
}

export interface RecallChunkParameters {
  /** 32 bytes. */
  recallSeed: Uint8Array
  /** Length of the mining range, a multiple of 1 024. */
  mineLengthSectors: number
  /** 64 bits, as in the range submitted to the contract. */
  shardId: bigint
  /** 64 bits. */
  shardMask: bigint
}

const MAX_CHUNKS = 2 ** 37

function inputError(message: string, details: Record<string, unknown>): KernelError {
  return new KernelError({ code: 'KERNEL_INPUT', message, details })
}
