import { keccak256 } from './keccak.ts'

/**
 * The plain TypeScript twin of the Merkle kernels: the same results from the plainest code, as an oracle for tests and
 * to read what the kernels compute. About twenty times slower.
 *
 * Source of the rules: leaf = keccak256(256-byte sector, zero-filled), node = keccak256(left ‖ right), an odd last node
 * moves up unchanged.
 */

const HASH_BYTES = 32
const SECTOR_BYTES = 256

/** `Z[0..63]`: the root of 2^h zero sectors. */
export function zeroRootsTwin(): Uint8Array[] {
  const roots = [keccak256(new Uint8Array(SECTOR_BYTES))]
  while (roots.length < 64) {
    const below = roots[roots.length - 1] ?? new Uint8Array(HASH_BYTES)
    roots.push(hashPairTwin(below, below))
  }
  return roots
}

/** keccak256(left ‖ right) of two hashes. */
export function hashPairTwin(left: Uint8Array, right: Uint8Array): Uint8Array {
  const input = new Uint8Array(2 * HASH_BYTES)
  input.set(left)
  input.set(right, HASH_BYTES)
  return keccak256(input)
}

/** The hashes of the sectors of `data`, then those of zero sectors up to `paddedSectors`. */
export function leafHashesTwin(data: Uint8Array, paddedSectors: number): Uint8Array {
  const hashes = new Uint8Array(paddedSectors * HASH_BYTES)
  for (let i = 0; i < paddedSectors; i++) {
    const sector = new Uint8Array(SECTOR_BYTES)
    sector.set(data.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES))
    hashes.set(keccak256(sector), i * HASH_BYTES)
  }
  return hashes
}

/** One level up: n hashes become ceil(n / 2). */
export function foldLevelTwin(hashes: Uint8Array): Uint8Array {
  const count = hashes.length / HASH_BYTES
  const above = new Uint8Array(Math.ceil(count / 2) * HASH_BYTES)
  for (let i = 0; i + 1 < count; i += 2) {
    above.set(keccak256(hashes.subarray(i * HASH_BYTES, (i + 2) * HASH_BYTES)), (i / 2) * HASH_BYTES)
  }
  if (count % 2 === 1) above.set(hashes.subarray((count - 1) * HASH_BYTES), above.length - HASH_BYTES)
  return above
}

/** The root of the left-full tree over `hashes`. */
export function foldRootsTwin(hashes: Uint8Array): Uint8Array {
  let level = hashes
  while (level.length > HASH_BYTES) level = foldLevelTwin(level)
  return level.slice()
}
