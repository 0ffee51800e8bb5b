import { hashPair, segmentRoot, ZERO_ROOTS } from '#kernels/merkle.ts'
import { WeightlessError } from '../error.ts'
import { bytesEqual, fromHex, type Hash } from '../hex.ts'
import { HASH_BYTES, MAX_PROOF_STEPS, SEGMENT_HEIGHT } from './constants.ts'
import { nextPowerOfTwo, paddedSegmentCount, segmentCount, segmentDataBytes, segmentPaddedSectors } from './padding.ts'

/**
 * Proof that a segment is part of a file: `lemma` = segment root, siblings from the bottom up, file root; `path[i]` is
 * true when the node at step i is a left child. A file of one segment has `lemma = [root]` and an empty path.
 */
export interface SegmentProof {
  lemma: Hash[]
  path: boolean[]
}

export type InvalidSegmentCode =
  | 'SEGMENT_INDEX'
  | 'SEGMENT_LENGTH'
  | 'SEGMENT_PROOF_SHAPE'
  | 'SEGMENT_PROOF'
  | 'SEGMENT_PADDING'

/** A segment that is not what the file's root commits to. */
export class InvalidSegmentError extends WeightlessError {
  override readonly code: InvalidSegmentCode

  constructor(parameters: { code: InvalidSegmentCode; message: string; details?: Record<string, unknown> }) {
    super({ ...parameters, fix: 'send the segment and its proof as built from the whole file' })
    this.code = parameters.code
  }
}

/**
 * All checks of a received segment, in the order of storage-node §3.2: index, length, shape of the proof, hash of the
 * data, hash chain and position, and that nothing is planted in the padding. Hashes on this thread: about 0.6 ms for
 * a full segment; use {@link verifySegmentRoot} with a pool to keep an event loop free.
 *
 * @throws InvalidSegmentError; SizeError or InvalidHexError when `sizeBytes` or `root` is itself not valid
 */
export function verifySegment({ root, sizeBytes, index, data, proof }: VerifySegmentParameters): void {
  checkIndex(sizeBytes, index)
  const wantedBytes = segmentDataBytes(sizeBytes, index)
  if (data.length !== wantedBytes) {
    throw new InvalidSegmentError({
      code: 'SEGMENT_LENGTH',
      message: `segment ${index} must be ${wantedBytes} bytes, got ${data.length}`,
      details: { index, sizeBytes, wantedBytes, gotBytes: data.length },
    })
  }
  checkShape(index, proof)
  const hashed = segmentRoot(data, segmentPaddedSectors(sizeBytes, index))
  verifySegmentRoot({ root, sizeBytes, index, segmentRoot: hashed, proof })
}

export interface VerifySegmentParameters {
  /** File root. */
  root: Hash
  /** Bytes of the file, not padded. */
  sizeBytes: number
  /** Segment index in the file, from 0. */
  index: number
  /** The segment as on the wire: full, or the last one in whole sectors. */
  data: Uint8Array
  proof: SegmentProof
}

/**
 * The checks of {@link verifySegment} except the length of the data, for a segment root hashed elsewhere.
 *
 * @throws InvalidSegmentError
 */
export function verifySegmentRoot({ root, sizeBytes, index, segmentRoot, proof }: VerifySegmentRootParameters): void {
  checkIndex(sizeBytes, index)
  checkShape(index, proof)
  const rootBytes = fromHex(root, { byteLength: HASH_BYTES, field: 'root' })
  const lemma = proof.lemma.map((hash) => lemmaBytes(hash, index))
  const first = lemma[0]
  const last = lemma[lemma.length - 1]
  if (first === undefined || last === undefined || !bytesEqual(first, segmentRoot) || !bytesEqual(last, rootBytes)) {
    throw chainError(index, 'does not begin with the segment root and end with the file root')
  }
  let node = first
  for (const [step, isLeft] of proof.path.entries()) {
    const sibling = lemma[step + 1] ?? last
    node = isLeft ? hashPair(node, sibling) : hashPair(sibling, node)
  }
  if (!bytesEqual(node, rootBytes)) throw chainError(index, 'does not hash up to the file root')
  walkDown({ sizeBytes, index, path: proof.path, lemma })
}

export interface VerifySegmentRootParameters {
  root: Hash
  sizeBytes: number
  index: number
  segmentRoot: Uint8Array
  proof: SegmentProof
}

/**
 * From the root down: the path must lead to `index`, and siblings wholly past the data must be zero subtrees. Such a
 * sibling is always as large as its brother on the left: the padding is shorter than the smallest submission node.
 */
function walkDown({ sizeBytes, index, path, lemma }: WalkParameters): void {
  const dataSegments = segmentCount(sizeBytes)
  let leaves = paddedSegmentCount(sizeBytes)
  let position = 0
  let planted: number | undefined
  for (let step = path.length - 1; step >= 0; step--) {
    if (leaves === 1) throw chainError(index, 'is longer than the tree is high')
    const left = nextPowerOfTwo(leaves) / 2
    if (path[step] === true) {
      if (position + left >= dataSegments) {
        const sibling = lemma[step + 1]
        const zero = ZERO_ROOTS[Math.log2(left) + SEGMENT_HEIGHT]
        if (!sibling || !zero || !bytesEqual(sibling, zero)) planted = step
      }
      leaves = left
    } else {
      position += left
      leaves -= left
    }
  }
  if (leaves !== 1 || position !== index) throw chainError(index, `leads to position ${position}`)
  if (planted === undefined) return
  throw new InvalidSegmentError({
    code: 'SEGMENT_PADDING',
    message: `the proof of segment ${index} has a node in the padding that is not zero, at step ${planted}`,
    details: { index, step: planted },
  })
}

interface WalkParameters {
  sizeBytes: number
  index: number
  path: readonly boolean[]
  lemma: readonly Uint8Array[]
}

function checkIndex(sizeBytes: number, index: number): void {
  const count = segmentCount(sizeBytes)
  if (Number.isSafeInteger(index) && index >= 0 && index < count) return
  throw new InvalidSegmentError({
    code: 'SEGMENT_INDEX',
    message: `segment index ${index} is out of bound: the file has ${count} segments`,
    details: { index, sizeBytes, segments: count },
  })
}

function checkShape(index: number, { lemma, path }: SegmentProof): void {
  const wanted = path.length === 0 ? 1 : path.length + 2
  if (path.length <= MAX_PROOF_STEPS && lemma.length === wanted) return
  throw new InvalidSegmentError({
    code: 'SEGMENT_PROOF_SHAPE',
    message: `the proof of segment ${index} has ${path.length} steps and ${lemma.length} hashes`,
    details: { index, pathLength: path.length, lemmaLength: lemma.length, maxPathLength: MAX_PROOF_STEPS },
  })
}

function lemmaBytes(hash: Hash, index: number): Uint8Array {
  try {
    return fromHex(hash, { byteLength: HASH_BYTES, field: 'proof.lemma' })
  } catch {
    throw new InvalidSegmentError({
      code: 'SEGMENT_PROOF_SHAPE',
      message: `the proof of segment ${index} holds something that is not a 32-byte hash`,
      details: { index },
    })
  }
}

function chainError(index: number, what: string): InvalidSegmentError {
  return new InvalidSegmentError({
    code: 'SEGMENT_PROOF',
    message: `the proof of segment ${index} ${what}`,
    details: { index },
  })
}
