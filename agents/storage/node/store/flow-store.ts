import { hashPair, ZERO_ROOTS } from '#kernels/merkle.ts'
import type { Database } from '#kit/sqlite.ts'
import { fromHex } from '#protocol/hex.ts'
import { placeSubmission } from '#protocol/storage/flow-tree.ts'
import type { SubmissionNode } from '#protocol/storage/submission.ts'
import { NodeError } from '../error.ts'

/** A completed subtree of the flow that covers a sector. */
export interface FlowUnit {
  level: number
  /** First sector of the subtree. */
  startSector: number
  hash: Uint8Array
}

/**
 * The flow's tree on disk (storage-contracts §2.6): every subtree that was ever completed, by its end and level, so
 * that any sector can be proved against any flow root there has been, and a reorganisation cuts the tree by deleting
 * what ends past its new length. Holds nothing in memory.
 */
export class FlowStore {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
    if (this.#node(1, 0) === undefined) this.#insert(1, 0, new Uint8Array(32))
  }

  /** Sectors in the flow; 1 when nothing was submitted. */
  get lengthSectors(): number {
    return this.#database.get<{ length: number }>('select max(end_sector) as length from flow_node')?.length ?? 1
  }

  /** Places and appends a submission's nodes. Call it inside a transaction. */
  append(nodes: readonly SubmissionNode[]): { startSector: number; endSector: number; root: Uint8Array } {
    let length = this.lengthSectors
    const { startSector, endSector } = placeSubmission({
      lengthSectors: length,
      heights: nodes.map(({ height }) => height),
    })
    while (length < startSector) {
      const level = lowestBit(length)
      length = this.#append(length, level, zeroRoot(level))
    }
    for (const { root, height } of nodes) length = this.#append(length, height, fromHex(root, { byteLength: 32 }))
    return { startSector, endSector, root: this.root(length) }
  }

  /** Cuts the flow to an earlier length. Call it inside a transaction. */
  truncate(lengthSectors: number): void {
    this.#database.run('delete from flow_node where end_sector > ?', lengthSectors)
  }

  /** The flow root at the present or an earlier length. */
  root(lengthSectors = this.lengthSectors): Uint8Array {
    const depth = depthOf(lengthSectors)
    let level = lowestBit(lengthSectors)
    let node = this.#needed(lengthSectors, level)
    for (; level < depth; level++) {
      const covered = Math.floor(lengthSectors / 2 ** level)
      // Even: the block at this level begins where the flow ends, so `node` is the left child of what comes.
      const left = covered % 2 === 1 && lengthSectors % 2 ** level !== 0
      node = left ? hashPair(this.#needed(covered * 2 ** level, level), node) : hashPair(node, zeroRoot(level))
    }
    return node
  }

  /** The smallest completed subtree that covers the sector, or undefined past the end of the flow. */
  unitAt(sector: number, lengthSectors = this.lengthSectors): FlowUnit | undefined {
    if (sector >= lengthSectors) return undefined
    for (let level = 0; 2 ** level <= lengthSectors; level++) {
      const start = Math.floor(sector / 2 ** level) * 2 ** level
      const hash = this.#node(start + 2 ** level, level)
      if (hash) return { level, startSector: start, hash }
    }
    return undefined
  }

  /**
   * Siblings from a unit up to the root of the flow at `lengthSectors`, bottom first; `path[i]` is true when the node
   * at that step is a left child.
   */
  proveUnit({ unit, lengthSectors }: { unit: FlowUnit; lengthSectors: number }): {
    siblings: Uint8Array[]
    path: boolean[]
  } {
    const siblings: Uint8Array[] = []
    const path: boolean[] = []
    for (let level = unit.level; level < depthOf(lengthSectors); level++) {
      const position = Math.floor(unit.startSector / 2 ** level)
      const isLeft = position % 2 === 0
      siblings.push(this.#subtree(level, isLeft ? position + 1 : position - 1, lengthSectors))
      path.push(isLeft)
    }
    return { siblings, path }
  }

  /** Root of any aligned subtree of the flow as it was at `lengthSectors`. */
  #subtree(level: number, position: number, lengthSectors: number): Uint8Array {
    const start = position * 2 ** level
    if (start >= lengthSectors) return zeroRoot(level)
    const end = start + 2 ** level
    if (end <= lengthSectors) {
      const whole = this.#node(end, level)
      if (whole) return whole
    }
    if (level === 0) return zeroRoot(0)
    return hashPair(
      this.#subtree(level - 1, 2 * position, lengthSectors),
      this.#subtree(level - 1, 2 * position + 1, lengthSectors),
    )
  }

  #append(length: number, height: number, root: Uint8Array): number {
    const end = length + 2 ** height
    let node = root
    this.#insert(end, height, node)
    for (let level = height; Math.floor(length / 2 ** level) % 2 === 1; level++) {
      node = hashPair(this.#needed(Math.floor(length / 2 ** level) * 2 ** level, level), node)
      this.#insert(end, level + 1, node)
    }
    return end
  }

  #insert(end: number, level: number, hash: Uint8Array): void {
    this.#database.run('insert or replace into flow_node (end_sector, level, hash) values (?, ?, ?)', end, level, hash)
  }

  #node(end: number, level: number): Uint8Array | undefined {
    const sql = 'select hash from flow_node where end_sector = ? and level = ?'
    return this.#database.get<{ hash: Uint8Array }>(sql, end, level)?.hash
  }

  #needed(end: number, level: number): Uint8Array {
    const hash = this.#node(end, level)
    if (hash) return hash
    throw new NodeError({
      code: 'FLOW_MISMATCH',
      message: `the stored flow tree lacks the subtree of level ${level} that ends at sector ${end}`,
      fix: 'move the data folder away and let the node sync again',
      details: { endSector: end, level },
    })
  }
}

function depthOf(lengthSectors: number): number {
  let depth = 0
  while (2 ** depth < lengthSectors) depth += 1
  return depth
}

function lowestBit(value: number): number {
  let bit = 0
  while (Math.floor(value / 2 ** bit) % 2 === 0) bit += 1
  return bit
}

function zeroRoot(level: number): Uint8Array {
  const root = ZERO_ROOTS[level]
  if (root) return root
  throw new NodeError({ code: 'FLOW_MISMATCH', message: `no subtree has level ${level}` })
}
