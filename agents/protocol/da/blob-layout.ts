import { combinationScratchBytes, type Region, treeHashes } from '#kernels/erasure-pool.ts'
import { COSETS, DATA_ROWS, HASH_BYTES, MAX_PATH_HASHES, TOTAL_ROWS } from './constants.ts'

/** log2 of the data rows. */
export const LOG2_DATA_ROWS = Math.log2(DATA_ROWS)

/** The code, as the erasure pool wants to know it. */
export const CODE = { log2Data: LOG2_DATA_ROWS, cosets: COSETS }

/** Where everything about one blob lies in the memory of the pool: offsets in its region. */
export interface BlobLayout {
  /** Data rows, then parity rows. */
  rows: number
  /** Hashes of the rows, then all levels of their tree. */
  levels: number
  /** Coefficients of the combinations: 16 bytes a symbol. */
  coefficients: number
  /** Combinations of the data rows, and room for partial ones. */
  sums: number
  /** Hashes of the combinations, then all levels of their tree. */
  rlcLevels: number
  bytes: number
}

/** The layout for rows of `rowBytes`: 97 MiB at 32 KiB, the largest. */
export function blobLayout(rowBytes: number): BlobLayout {
  const rows = 0
  const levels = rows + TOTAL_ROWS * rowBytes
  const coefficients = levels + HASH_BYTES * treeHashes(TOTAL_ROWS)
  const sums = align(coefficients + 8 * rowBytes)
  const rlcLevels = sums + combinationScratchBytes({ count: DATA_ROWS, rowBytes })
  return { rows, levels, coefficients, sums, rlcLevels, bytes: rlcLevels + HASH_BYTES * treeHashes(DATA_ROWS) }
}

/** The path of row `index`, from the levels of the tree over all rows. A copy. */
export function pathOf({ index, levels }: { index: number; levels: Uint8Array }): Uint8Array {
  // From Node's pool of small buffers: a path of its own memory for each of 3072 rows keeps the collector busy.
  const { buffer, byteOffset } = Buffer.allocUnsafe(HASH_BYTES * MAX_PATH_HASHES)
  const path = new Uint8Array(buffer, byteOffset, HASH_BYTES * MAX_PATH_HASHES)
  let [filled, start] = [0, 0]
  for (let position = index, width = TOTAL_ROWS; width > 1; position >>= 1, width = Math.ceil(width / 2)) {
    const sibling = start + (position ^ 1) * HASH_BYTES
    start += width * HASH_BYTES
    if (sibling >= start) continue
    path.set(levels.subarray(sibling, sibling + HASH_BYTES), filled)
    filled += HASH_BYTES
  }
  return path.subarray(0, filled)
}

/** A copy of `length` bytes at `offset` of a region. */
export function copyOut({ bytes }: Region, offset: number, length: number): Uint8Array {
  return new Uint8Array(bytes.subarray(offset, offset + length))
}

function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64
}
