import { createHash } from 'node:crypto'
import { bytesEqual, fromHex, type Hash } from '../hex.ts'
import type { BlobHeader } from './commitment.ts'
import { DATA_ROWS, HASH_BYTES, MAX_PATH_HASHES, SUBLINE_BYTES, TOTAL_ROWS } from './constants.ts'

/**
 * Trees are those of RFC 6962: leaf SHA-256(0x00 ‖ data), node SHA-256(0x01 ‖ left ‖ right), n > 1 leaves split at the
 * largest power of two below n. A row is a tree over its sub-lines; its root takes the place of a leaf hash in the tree
 * over all rows. Paths list siblings from the bottom up, 32 bytes each.
 */

const LEAF = Uint8Array.of(0)
const NODE = Uint8Array.of(1)

/** SHA-256(0x00 ‖ data). */
export function leafHash(data: Uint8Array): Uint8Array {
  return createHash('sha256').update(LEAF).update(data).digest()
}

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash('sha256').update(NODE).update(left).update(right).digest()
}

/** Root over hashes of leaves, by folding pairs and carrying an odd last one up, which gives the shape of RFC 6962. */
export function treeRoot(hashes: readonly Uint8Array[]): Uint8Array {
  let level = hashes
  while (level.length > 1) level = foldPairs(level)
  const [root] = level
  if (root === undefined) throw new RangeError('a tree needs a leaf')
  return root
}

/** Hashes in the path of row `index`: 12, or 11 for the last third of the rows. */
export function rowPathHashes(index: number): number {
  return index < 2 * DATA_ROWS ? MAX_PATH_HASHES : MAX_PATH_HASHES - 1
}

/** Hash of a row (any multiple of 64 bytes) as a child in the tree over rows: the root over its sub-lines. */
export function rowLeaf(row: Uint8Array): Uint8Array {
  return treeRoot(sublineHashes(row))
}

/** Whether `path` leads from the row hash `leaf` at `index` to the row root. Its length must be exactly right. */
export function verifyRowPath({ rowRoot, index, leaf, path }: VerifyRowPathParameters): boolean {
  return climb({ root: rowRoot, index, count: TOTAL_ROWS, leaf, path })
}

export interface VerifyRowPathParameters {
  rowRoot: Hash
  /** Row, 0 to 3071. */
  index: number
  /** {@link rowLeaf} of the row. */
  leaf: Uint8Array
  path: Uint8Array
}

/** A sub-line of a row and its path to the {@link rowLeaf}; followed by the row's path it proves the sub-line. */
export function sublineProof({ row, subline }: { row: Uint8Array; subline: number }): {
  data: Uint8Array
  path: Uint8Array
} {
  const data = row.subarray(subline * SUBLINE_BYTES, (subline + 1) * SUBLINE_BYTES)
  if (!Number.isInteger(subline) || subline < 0 || data.length === 0) {
    throw new RangeError(`a row of ${row.length} bytes has no sub-line ${subline}`)
  }
  const path: Uint8Array[] = []
  let level = sublineHashes(row)
  for (let position = subline; level.length > 1; position >>= 1) {
    const sibling = level[position ^ 1]
    if (sibling) path.push(sibling)
    level = foldPairs(level)
  }
  return { data, path: Buffer.concat(path) }
}

/** Whether `data` is sub-line `subline` of row `row`; `path` is the path of the sub-line, then that of the row. */
export function verifySubline({ rowRoot, header, row, subline, data, path }: VerifySublineParameters): boolean {
  const count = Math.ceil(header.rowBytes / SUBLINE_BYTES)
  if (!Number.isInteger(subline) || subline < 0 || subline >= count) return false
  if (data.length !== Math.min(SUBLINE_BYTES, header.rowBytes - subline * SUBLINE_BYTES)) return false
  const steps = HASH_BYTES * directions({ index: subline, count }).length
  const leaf = ascend({ index: subline, count, leaf: leafHash(data), path: path.subarray(0, steps) })
  return leaf !== undefined && verifyRowPath({ rowRoot, index: row, leaf, path: path.subarray(steps) })
}

export interface VerifySublineParameters {
  rowRoot: Hash
  header: BlobHeader
  row: number
  subline: number
  data: Uint8Array
  path: Uint8Array
}

/**
 * For each hash of the path of leaf `index` among `count`, from the bottom up: true when it stands on the left. Levels
 * where the node is an odd last one take no hash.
 */
export function directions({ index, count }: { index: number; count: number }): boolean[] {
  const left: boolean[] = []
  for (let position = index, width = count; width > 1; position >>= 1, width = Math.ceil(width / 2)) {
    if ((position ^ 1) < width) left.push((position & 1) === 1)
  }
  return left
}

function climb({ root, index, count, leaf, path }: ClimbParameters & { root: Hash }): boolean {
  if (!Number.isInteger(index) || index < 0 || index >= count) return false
  const node = ascend({ index, count, leaf, path })
  return node !== undefined && bytesEqual(node, fromHex(root, { byteLength: HASH_BYTES, field: 'rowRoot' }))
}

/** The root that a path leads to, undefined when its length is wrong. */
function ascend({ index, count, leaf, path }: ClimbParameters): Uint8Array | undefined {
  const left = directions({ index, count })
  if (path.length !== HASH_BYTES * left.length || leaf.length !== HASH_BYTES) return undefined
  return left.reduce((node, isLeft, step) => {
    const sibling = path.subarray(step * HASH_BYTES, (step + 1) * HASH_BYTES)
    return isLeft ? nodeHash(sibling, node) : nodeHash(node, sibling)
  }, leaf)
}

interface ClimbParameters {
  index: number
  count: number
  leaf: Uint8Array
  path: Uint8Array
}

function sublineHashes(row: Uint8Array): Uint8Array[] {
  const count = Math.ceil(row.length / SUBLINE_BYTES)
  return Array.from({ length: count }, (_, i) => leafHash(row.subarray(i * SUBLINE_BYTES, (i + 1) * SUBLINE_BYTES)))
}

function foldPairs(level: readonly Uint8Array[]): Uint8Array[] {
  return Array.from({ length: Math.ceil(level.length / 2) }, (_, i) => {
    const left = level[2 * i]
    const right = level[2 * i + 1]
    if (left === undefined) throw new RangeError('a level has no holes')
    return right === undefined ? left : nodeHash(left, right)
  })
}
