import { type Hash, toHex } from '#protocol/hex.ts'
import { HASH_BYTES } from '#protocol/storage/constants.ts'
import { nextPowerOfTwo, paddedSegmentCount } from '#protocol/storage/padding.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'

/** Which way a leaf lies at each step of a left-full tree of so many leaves, bottom first: true for a left child. */
export function proofPath(index: number, leaves: number): boolean[] {
  const path: boolean[] = []
  let position = index
  for (let count = leaves; count > 1; ) {
    const left = nextPowerOfTwo(count) / 2
    const isLeft = position < left
    path.push(isLeft)
    if (!isLeft) position -= left
    count = isLeft ? left : count - left
  }
  return path.reverse()
}

/** The proof of a stored segment, from its root and siblings. */
export function segmentProof({
  root,
  sizeBytes,
  index,
  segmentRoot,
  siblings,
}: {
  root: Hash
  sizeBytes: number
  index: number
  segmentRoot: Uint8Array
  siblings: Uint8Array
}): SegmentProof {
  const leaves = paddedSegmentCount(sizeBytes)
  if (leaves === 1) return { lemma: [root], path: [] }
  const lemma = [toHex(segmentRoot)]
  for (let at = 0; at < siblings.length; at += HASH_BYTES) lemma.push(toHex(siblings.subarray(at, at + HASH_BYTES)))
  lemma.push(root)
  return { lemma, path: proofPath(index, leaves) }
}
