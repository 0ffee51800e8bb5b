import { keccak256 } from './keccak.ts'
import { foldLevelTwin, foldRootsTwin, hashPairTwin, leafHashesTwin, zeroRootsTwin } from './merkle-twin.ts'

/** `ZERO_ROOTS[h]` is the root of a subtree of 2^h zero sectors, h = 0..63. */
export const ZERO_ROOTS: readonly Uint8Array[] = zeroRootsTwin()

/** keccak256 of each 256-byte sector of `data` (at most 256 KiB, any length, zero-filled), then zero sectors up to `paddedSectors`. */
export function leafHashes(data: Uint8Array, paddedSectors: number): Uint8Array {
  return leafHashesTwin(data, paddedSectors)
}

/** The root of the left-full tree over hashes of 32 bytes each; an odd last one moves up. */
export function foldRoots(hashes: Uint8Array): Uint8Array {
  return foldRootsTwin(hashes)
}

/** One level of the tree: n hashes become ceil(n / 2); an odd last one moves up. */
export function foldLevel(hashes: Uint8Array): Uint8Array {
  return foldLevelTwin(hashes)
}

/** keccak256(left ‖ right) of two hashes. */
export function hashPair(left: Uint8Array, right: Uint8Array): Uint8Array {
  return hashPairTwin(left, right)
}

/** The root of one segment: `data` (at most 256 KiB) zero-filled to `paddedSectors` sectors. */
export function segmentRoot(data: Uint8Array, paddedSectors: number): Uint8Array {
  return foldRoots(leafHashes(data, paddedSectors))
}

export { keccak256 }
