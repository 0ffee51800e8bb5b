import { keccak256 } from '#kernels/keccak.ts'
import { hashPair } from '#kernels/merkle.ts'
import { WeightlessError } from '../error.ts'
import { fromHex, type Hash, type Hex, toHex } from '../hex.ts'
import { HASH_BYTES, MAX_FILE_BYTES, MAX_NODE_HEIGHT, MAX_SUBMISSION_NODES, SECTOR_BYTES } from './constants.ts'
import { nextPowerOfTwo, paddedSectors } from './padding.ts'

/** A run of 2^height sectors of the padded file and the root of their subtree. */
export interface SubmissionNode {
  root: Hash
  height: number
}

/** What goes on chain for one file: storage-contracts §2.2. */
export interface Submission {
  /** Bytes of the file, not padded. */
  sizeBytes: number
  /** Opaque to storage; the key-value layer puts stream ids here. */
  tags: Hex
  nodes: SubmissionNode[]
}

/** A submission the flow contract would reject. `details.rule` names the rule of storage-contracts §2.4. */
export class InvalidSubmissionError extends WeightlessError {}

/** The file root: node roots folded from the right, `root = keccak256(node ‖ root)`. */
export function submissionRoot(nodes: readonly SubmissionNode[]): Hash {
  const roots = rootsOf(nodes)
  return toHex(roots.reduceRight((folded, root) => hashPair(root, folded)))
}

/** keccak256 of the concatenated node roots, as the flow contract's `Submit` event carries it. Not the file root. */
export function submissionIdentity(nodes: readonly SubmissionNode[]): Hash {
  const roots = rootsOf(nodes)
  const joined = new Uint8Array(roots.length * HASH_BYTES)
  for (const [i, root] of roots.entries()) joined.set(root, i * HASH_BYTES)
  return toHex(keccak256(joined))
}

/** Sectors the nodes cover: the padded size, and what the fee is charged for. */
export function submissionSectors(nodes: readonly { height: number }[]): number {
  return nodes.reduce((sum, { height }) => sum + 2 ** height, 0)
}

/**
 * The checks of the flow contract (storage-contracts §2.4), so that a client learns before it pays. The `submitter`
 * is not part of the data and is not checked.
 *
 * @throws InvalidSubmissionError `INVALID_SUBMISSION`; InvalidHexError when a root is not 32 bytes of hex
 */
export function validateSubmission({ sizeBytes, tags, nodes }: Submission): void {
  fromHex(tags, { field: 'tags' })
  nodes.forEach(({ root }, i) => {
    fromHex(root, { byteLength: HASH_BYTES, field: `nodes[${i}].root` })
  })
  const broken = brokenRule({ sizeBytes, heights: nodes.map(({ height }) => height) })
  if (broken === undefined) return
  throw new InvalidSubmissionError({
    code: 'INVALID_SUBMISSION',
    message: `the flow contract would reject this submission: ${broken.text}`,
    fix: 'build the nodes with buildFileTree from the file itself',
    details: { rule: broken.rule, sizeBytes, heights: nodes.map(({ height }) => height) },
  })
}

/**
 * Whether the nodes are those of a file of this size: the padded size split into powers of two, largest first. The
 * contract accepts some submissions that no file has; a node gives them their place in the flow and stores no data.
 */
export function submissionIsFile({ sizeBytes, nodes }: Pick<Submission, 'sizeBytes' | 'nodes'>): boolean {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1 || sizeBytes > MAX_FILE_BYTES) return false
  const heights = nodeHeights(sizeBytes)
  return heights.length === nodes.length && heights.every((height, i) => nodes[i]?.height === height)
}

/** Heights of the nodes of a file, largest first. */
export function nodeHeights(sizeBytes: number): number[] {
  const heights: number[] = []
  let rest = paddedSectors(sizeBytes)
  for (let height = Math.log2(nextPowerOfTwo(rest)); rest > 0; height--) {
    if (rest < 2 ** height) continue
    heights.push(height)
    rest -= 2 ** height
  }
  return heights
}

function brokenRule({ sizeBytes, heights }: { sizeBytes: number; heights: number[] }) {
  const first = heights[0]
  const last = heights[heights.length - 1]
  if (first === undefined || last === undefined) return { rule: 'nodes', text: 'it has no nodes' }
  if (heights.some((height) => !Number.isInteger(height) || height < 0 || height > MAX_NODE_HEIGHT)) {
    return { rule: 'height', text: `a height is not a whole number from 0 to ${MAX_NODE_HEIGHT}` }
  }
  if (heights.some((height, i) => i > 0 && height >= (heights[i - 1] ?? 0))) {
    return { rule: 'order', text: 'heights are not strictly descending' }
  }
  if (first - last >= MAX_SUBMISSION_NODES) return { rule: 'span', text: 'heights span 4 or more' }

  const capacity = submissionSectors(heights.map((height) => ({ height })))
  const below = lowerBound({ capacity, count: heights.length, first })
  if (!Number.isSafeInteger(sizeBytes)) return { rule: 'size', text: 'its size is not a whole number below 2^53' }
  if (sizeBytes > capacity * SECTOR_BYTES) return { rule: 'size', text: 'its size does not fit into its nodes' }
  if (sizeBytes <= below * SECTOR_BYTES) return { rule: 'padding', text: 'its nodes hold more padding than needed' }
  return undefined
}

function lowerBound({ capacity, count, first }: { capacity: number; count: number; first: number }): number {
  if (capacity < 16) return capacity - 1
  if (count === 1) return capacity - capacity / 16
  return capacity - 2 ** (first - 3)
}

function rootsOf(nodes: readonly SubmissionNode[]): Uint8Array[] {
  if (nodes.length === 0 || nodes.length > 64) {
    throw new InvalidSubmissionError({
      code: 'INVALID_SUBMISSION',
      message: `a submission has 1 to 64 nodes, not ${nodes.length}`,
      details: { rule: 'nodes' },
    })
  }
  return nodes.map(({ root }, i) => fromHex(root, { byteLength: HASH_BYTES, field: `nodes[${i}].root` }))
}
