import { hashPair, ZERO_ROOTS } from '#kernels/merkle.ts'
import { WeightlessError } from '../error.ts'
import { fromHex, type Hash, toHex } from '../hex.ts'
import { HASH_BYTES, SEGMENT_SECTORS } from './constants.ts'
import { nextPowerOfTwo } from './padding.ts'
import { type SubmissionNode, submissionSectors } from './submission.ts'

/** A misuse of the flow tree: an append off its alignment, or a state that cannot be restored. */
export class FlowTreeError extends WeightlessError {}

/** Where a submission goes. */
export interface Placement {
  /** First sector of the first node. */
  startSector: number
  /** Sector after the last node: the new length of the flow. */
  endSector: number
  /** Sectors skipped before the start, all zero. */
  paddingSectors: number
}

/**
 * Where the flow contract places nodes of these heights when its length is `lengthSectors` (storage-contracts §2.5):
 * aligned to the first node, moved to the next segment when it would otherwise straddle two.
 */
export function placeSubmission({ lengthSectors, heights }: PlaceSubmissionParameters): Placement {
  const sectors = submissionSectors(heights.map((height) => ({ height })))
  let startSector = alignUp(lengthSectors, 2 ** (heights[0] ?? 0))
  const lastSector = startSector + sectors - 1
  const straddles = Math.floor(startSector / SEGMENT_SECTORS) !== Math.floor(lastSector / SEGMENT_SECTORS)
  if (startSector % SEGMENT_SECTORS !== 0 && straddles) startSector = alignUp(startSector, SEGMENT_SECTORS)
  startSector = alignUp(startSector, 2 ** (heights[0] ?? 0))
  let endSector = startSector
  for (const height of heights) endSector = alignUp(endSector, 2 ** height) + 2 ** height
  if (!Number.isSafeInteger(endSector)) {
    throw new FlowTreeError({
      code: 'FLOW_TOO_LONG',
      message: 'the flow would grow past 2^53 sectors',
      details: { lengthSectors, heights },
    })
  }
  return { startSector, endSector, paddingSectors: startSector - lengthSectors }
}

export interface PlaceSubmissionParameters {
  lengthSectors: number
  /** Heights of the nodes, strictly descending. */
  heights: readonly number[]
}

/** A {@link FlowTree} at one moment: plain values, ready for JSON. */
export interface FlowTreeSnapshot {
  lengthSectors: number
  /** Roots of the completed blocks, one for each 1 bit of the length, lowest first. */
  branches: { height: number; root: Hash }[]
}

/**
 * The root of the flow as the contract computes it: a binary counter that keeps one root for each 1 bit of the length
 * (storage-contracts §2.6). Not a store: it cannot prove sectors. To truncate after a reorganisation, restore the
 * snapshot taken before the first submission that is gone.
 */
export class FlowTree {
  #lengthSectors = 1
  /** `#branches[h]` has a meaning only where bit h of the length is 1. */
  #branches: Uint8Array[] = [new Uint8Array(HASH_BYTES)]

  /** The state kept in a snapshot. */
  static restore({ lengthSectors, branches }: FlowTreeSnapshot): FlowTree {
    const tree = new FlowTree()
    const heights = Number.isSafeInteger(lengthSectors) ? oneBits(lengthSectors) : []
    if (
      heights.length === 0 ||
      heights.length !== branches.length ||
      heights.some((height, i) => branches[i]?.height !== height)
    ) {
      throw new FlowTreeError({
        code: 'FLOW_SNAPSHOT',
        message: 'the snapshot does not hold one root for each 1 bit of its length',
        fix: 'rebuild the flow from the chain',
        details: { lengthSectors, heights: branches.map(({ height }) => height) },
      })
    }
    tree.#lengthSectors = lengthSectors
    for (const { height, root } of branches) {
      tree.#branches[height] = fromHex(root, { byteLength: HASH_BYTES, field: 'branches.root' })
    }
    return tree
  }

  /** Sectors in the flow, 1 at the start: sector 0 is reserved. */
  get lengthSectors(): number {
    return this.#lengthSectors
  }

  /**
   * Appends a subtree of 2^height sectors at the end.
   *
   * @throws FlowTreeError `FLOW_ALIGNMENT` when the length is not a multiple of 2^height
   */
  append({ root, height }: SubmissionNode): void {
    this.#append(fromHex(root, { byteLength: HASH_BYTES, field: 'root' }), height)
  }

  /** Appends zero sectors up to `sector`. */
  padTo(sector: number): void {
    while (this.#lengthSectors < sector) {
      const height = lowestBit(this.#lengthSectors)
      this.#append(zeroRoot(height), height)
    }
  }

  /** Places and appends a submission's nodes as the contract does. */
  submit(nodes: readonly SubmissionNode[]): Placement {
    const placement = placeSubmission({
      lengthSectors: this.#lengthSectors,
      heights: nodes.map(({ height }) => height),
    })
    const roots = nodes.map(({ root }) => fromHex(root, { byteLength: HASH_BYTES, field: 'root' }))
    this.padTo(placement.startSector)
    nodes.forEach(({ height }, i) => {
      this.#append(roots[i] ?? zeroRoot(height), height)
    })
    return placement
  }

  /** The flow root: the tree is filled up to the next power of two with zero sectors. */
  root(): Hash {
    const depth = Math.log2(nextPowerOfTwo(this.#lengthSectors))
    const lowest = lowestBit(this.#lengthSectors)
    let node = this.#branch(lowest)
    for (let height = lowest; height < depth; height++) {
      const isRight = height > lowest && hasBit(this.#lengthSectors, height)
      node = isRight ? hashPair(this.#branch(height), node) : hashPair(node, zeroRoot(height))
    }
    return toHex(node)
  }

  /** The state as plain values. */
  snapshot(): FlowTreeSnapshot {
    const branches = oneBits(this.#lengthSectors).map((height) => ({ height, root: toHex(this.#branch(height)) }))
    return { lengthSectors: this.#lengthSectors, branches }
  }

  #append(root: Uint8Array, height: number): void {
    const length = this.#lengthSectors
    if (length % 2 ** height !== 0) {
      throw new FlowTreeError({
        code: 'FLOW_ALIGNMENT',
        message: `a subtree of height ${height} cannot begin at sector ${length}`,
        fix: 'pad the flow to the alignment first',
        details: { height, lengthSectors: length },
      })
    }
    let node = root
    let at = height
    for (; hasBit(length, at); at++) node = hashPair(this.#branch(at), node)
    this.#branches[at] = node
    this.#lengthSectors = length + 2 ** height
  }

  #branch(height: number): Uint8Array {
    return this.#branches[height] ?? zeroRoot(height)
  }
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}

/** Bit tests by division: lengths pass 2^32. */
function hasBit(value: number, bit: number): boolean {
  return Math.floor(value / 2 ** bit) % 2 === 1
}

function lowestBit(value: number): number {
  let bit = 0
  while (!hasBit(value, bit)) bit++
  return bit
}

function oneBits(value: number): number[] {
  const bits: number[] = []
  for (let bit = 0; 2 ** bit <= value; bit++) if (hasBit(value, bit)) bits.push(bit)
  return bits
}

function zeroRoot(height: number): Uint8Array {
  const root = ZERO_ROOTS[height]
  if (root) return root
  throw new FlowTreeError({
    code: 'FLOW_TOO_LONG',
    message: `there is no subtree of height ${height}`,
    details: { height },
  })
}
