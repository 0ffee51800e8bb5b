import { readFileSync } from 'node:fs'
import type { Hash } from '#protocol/hex.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'
import type { SubmissionNode } from '#protocol/storage/submission.ts'

/** A case of test/vectors/storage-merkle.json. */
export interface MerkleCase {
  pattern: 'zeros' | 'mod256'
  size: number
  chunks: number
  paddedChunks: number
  segmentsData: number
  segmentsPadded: number
  root: Hash
  nodes: SubmissionNode[]
  identity: Hash
  segmentRoots?: Hash[]
  proofOfLastSegment?: SegmentProof
}

export interface MerkleVectors {
  zeroSubtreeRoots: Hash[]
  cases: MerkleCase[]
  nodeHeightsByChunkCount: Record<string, number[]>
  plainTreeOverShortLeaves: { rootByLeafCount: Record<string, Hash> }
}

/** A step of test/vectors/storage-flow-root.json: one submission to one growing flow. */
export interface FlowStep {
  pattern?: 'zeros' | 'mod256'
  size?: number
  nodeHeights: number[]
  nodeRoots?: Hash[]
  identity?: Hash
  fileRoot?: Hash
  startPos: number
  paddingSectors: number
  lengthAfter: number
  unstagedHeight: number
  flowRoot: Hash
}

export interface FlowVectors {
  files: FlowStep[]
  synthetic: FlowStep[]
}

export function readVectors<Vectors>(name: string): Vectors {
  return JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8')) as Vectors
}

/** The data of a case: `zeros`, or byte i = i mod 256. */
export function patternBytes({ pattern, size }: { pattern: 'zeros' | 'mod256'; size: number }): Uint8Array {
  const bytes = new Uint8Array(size)
  if (pattern === 'mod256') for (let i = 0; i < size; i++) bytes[i] = i
  return bytes
}

/** Bytes of storage-node §1.3: byte i = (7i + 3) mod 256. */
export function sevenBytes(size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = i * 7 + 3
  return bytes
}

/** Bytes that do not repeat, the same for the same seed (xorshift32). */
export function seededBytes(size: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4))
  let state = (seed * 0x9e3779b9) | 1
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return new Uint8Array(words.buffer, 0, size)
}
