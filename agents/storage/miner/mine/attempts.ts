import { randomFillSync } from 'node:crypto'
import { CHUNK_SEALS, PoraKernel, recallChunk } from '#kernels/pora.ts'
import type { Hit, MiningTask } from './mining-task.ts'

/** Attempts prepared at once. Their pads (16 KiB each) fit the second-level cache; sorting them saves reads. */
export const BATCH_ATTEMPTS = 32

/** Hits told of one batch: where the target is that easy, more would only be dropped. */
const MAX_BATCH_HITS = 8

const HASH_BYTES = 32
const SEAL_BYTES = 4096

/** Where attempts get sealed data. */
export interface SealedSource {
  /** Which seals of a chunk are sealed, one bit each. */
  held(chunk: number): bigint
  /** Puts a sealed chunk into `target`; false when it cannot be read. */
  read(chunk: number, target: Uint8Array): boolean
}

/** What one batch did. */
export interface BatchResult {
  attempts: number
  /** Seals hashed that could have won. */
  hashes: number
  hits: Hit[]
  /** Attempts that recalled a chunk which is not sealed here. */
  unsealed: number
  /** Attempts that recalled a chunk past the range, which a shard with few chunks draws now and then. */
  outOfRange: number
  reads: number
  unreadable: number[]
}

/** Runs batches of PoRA attempts on this thread. */
export class AttemptRunner {
  readonly #kernel = new PoraKernel({ attempts: BATCH_ATTEMPTS })
  readonly #source: SealedSource
  readonly #nonces = Array.from({ length: BATCH_ATTEMPTS }, () => new Uint8Array(HASH_BYTES))
  /** Chunk that lies in the kernel's memory from the attempt before. */
  #loaded = -1

  constructor(source: SealedSource) {
    this.#source = source
  }

  /** One batch with fresh nonces. */
  run(task: MiningTask): BatchResult {
    this.#drawNonces()
    this.#kernel.prepare({ ...task, nonces: this.#nonces })
    const result: BatchResult = {
      ...{ attempts: BATCH_ATTEMPTS, hashes: 0, hits: [], unsealed: 0, outOfRange: 0, reads: 0, unreadable: [] },
    }
    // By chunk, so that attempts that recall the same one read it once.
    const wanted = this.#nonces.map((_, attempt) => ({ attempt, segment: this.#recall(task, attempt) }))
    wanted.sort((a, b) => a.segment - b.segment)
    this.#loaded = -1
    for (const { attempt, segment } of wanted) {
      if (segment * 1024 >= task.mineLength) result.outOfRange += 1
      else this.#attempt({ task, attempt, segment, result })
    }
    return result
  }

  #attempt({ task, attempt, segment, result }: AttemptParameters): void {
    const chunk = (segment - Number(task.shardId)) / task.numShard
    const held = this.#source.held(chunk)
    if (held === 0n) {
      result.unsealed += 1
      return
    }
    if (chunk !== this.#loaded) {
      this.#loaded = -1
      result.reads += 1
      if (!this.#source.read(chunk, this.#kernel.chunk)) {
        result.unreadable.push(chunk)
        return
      }
      this.#loaded = chunk
    }
    const hashes = this.#kernel.sealHashes(attempt)
    const winning = findHits({ hashes, target: task.target, held })
    result.hashes += held === ALL_SEALS ? CHUNK_SEALS : countBits(held)
    for (const seal of winning) {
      if (result.hits.length >= MAX_BATCH_HITS) break
      result.hits.push({
        taskId: task.id,
        nonce: this.#nonces[attempt]?.slice() ?? new Uint8Array(HASH_BYTES),
        segment,
        seal,
        hash: hashes.slice(seal * HASH_BYTES, (seal + 1) * HASH_BYTES),
        sealed: this.#kernel.chunk.slice(seal * SEAL_BYTES, (seal + 1) * SEAL_BYTES),
      })
    }
  }

  #recall({ mineLength, shardId, shardMask }: MiningTask, attempt: number): number {
    const recallSeed = this.#kernel.recallSeed(attempt)
    return Number(recallChunk({ recallSeed, mineLengthSectors: mineLength, shardId, shardMask }))
  }

  /** Random once for the batch, then counted up: as good, and cheaper. */
  #drawNonces(): void {
    const [first, ...others] = this.#nonces
    if (!first) return
    randomFillSync(first)
    for (const [i, nonce] of others.entries()) {
      nonce.set(first)
      nonce[0] = ((first[0] ?? 0) + i + 1) & 0xff
    }
  }
}

interface AttemptParameters {
  task: MiningTask
  attempt: number
  segment: number
  result: BatchResult
}

const ALL_SEALS = 2n ** 64n - 1n

/** Seals among `held` whose hash (32 bytes each, big endian) does not exceed the target. */
export function findHits({ hashes, target, held }: { hashes: Uint8Array; target: Uint8Array; held: bigint }): number[] {
  const view = new DataView(hashes.buffer, hashes.byteOffset, hashes.byteLength)
  const top = new DataView(target.buffer, target.byteOffset, target.byteLength).getUint32(0)
  const hits: number[] = []
  for (let seal = 0; seal < CHUNK_SEALS; seal++) {
    // Nearly always decided by the first 32 bits.
    if (view.getUint32(seal * HASH_BYTES) > top) continue
    const hash = hashes.subarray(seal * HASH_BYTES, (seal + 1) * HASH_BYTES)
    if (Buffer.compare(hash, target) <= 0 && (held >> BigInt(seal)) & 1n) hits.push(seal)
  }
  return hits
}

/** How many bits are set. */
export function countBits(bits: bigint): number {
  let count = 0
  for (let left = bits; left > 0n; left &= left - 1n) count += 1
  return count
}
