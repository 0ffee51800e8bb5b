import { segmentRoot } from '#kernels/merkle.ts'
import type { MerklePool } from '#kernels/merkle-pool.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { HASH_BYTES, MAX_PROOF_STEPS } from '#protocol/storage/constants.ts'
import { segmentCount, segmentDataBytes, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import { InvalidSegmentError, type SegmentProof, verifySegmentRoot } from '#protocol/storage/segment-proof.ts'

/** Computes a segment's root; full segments cost about 0.6 ms of somebody's time. */
export interface SegmentHasher {
  segmentRoot(data: Uint8Array, paddedSectors: number): Promise<Uint8Array>
}

/** Hashes where it is called: for machines with one core, and for small pieces. */
export const thisThread: SegmentHasher = {
  segmentRoot: async (data, paddedSectors) => segmentRoot(data, paddedSectors),
}

/** Below this the way to another thread costs more than the hashing (kernels.md §5). */
const POOL_FROM_BYTES = 16_384

/** Hashes on a pool, small segments on this thread. */
export function poolHasher(pool: MerklePool): SegmentHasher {
  return {
    segmentRoot: async (data, paddedSectors) =>
      data.length < POOL_FROM_BYTES ? segmentRoot(data, paddedSectors) : pool.segmentRoot(data, paddedSectors),
  }
}

export interface SegmentToCheck {
  root: Hash
  sizeBytes: number
  index: number
  data: Uint8Array
  proof: SegmentProof
}

/** What a checked segment is stored with. */
export interface CheckedSegment {
  root: Uint8Array
  /** Siblings of the proof, bottom first, 32 bytes each. */
  siblings: Uint8Array
}

/**
 * All checks of storage-node §3.2 in order, the hashing done by `hasher`.
 *
 * @throws InvalidSegmentError; SizeError when no file has such a size
 */
export async function checkSegment(segment: SegmentToCheck, hasher: SegmentHasher): Promise<CheckedSegment> {
  const { root, sizeBytes, index, data, proof } = segment
  const segments = segmentCount(sizeBytes)
  if (!Number.isInteger(index) || index < 0 || index >= segments) {
    throw new InvalidSegmentError({
      code: 'SEGMENT_INDEX',
      message: `segment index ${index} is out of bound: the file has ${segments} segments`,
      details: { index, limit: segments },
    })
  }
  const wantedBytes = segmentDataBytes(sizeBytes, index)
  if (data.length !== wantedBytes) {
    throw new InvalidSegmentError({
      code: 'SEGMENT_LENGTH',
      message: `segment ${index} must be ${wantedBytes} bytes, got ${data.length}`,
      details: { index, sizeBytes, wantedBytes, gotBytes: data.length },
    })
  }
  const { lemma, path } = proof
  if (path.length > MAX_PROOF_STEPS || lemma.length !== (path.length === 0 ? 1 : path.length + 2)) {
    throw new InvalidSegmentError({
      code: 'SEGMENT_PROOF_SHAPE',
      message: `the proof of segment ${index} has ${path.length} steps and ${lemma.length} hashes`,
      details: { index, pathLength: path.length, lemmaLength: lemma.length },
    })
  }
  const hashed = await hasher.segmentRoot(data, segmentPaddedSectors(sizeBytes, index))
  verifySegmentRoot({ root, sizeBytes, index, segmentRoot: hashed, proof })
  const siblings = new Uint8Array(path.length * HASH_BYTES)
  for (const [step] of path.entries()) {
    siblings.set(fromHex(lemma[step + 1] ?? '', { byteLength: HASH_BYTES }), step * HASH_BYTES)
  }
  return { root: hashed, siblings }
}
