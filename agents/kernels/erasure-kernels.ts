import { readFileSync } from 'node:fs'
import { FIRST_FREE_ADDRESS } from './memory.ts'
import { ERASURE_FILE, ERASURE_WIDE_FILE } from './sources.ts'
import { ensureBuilt } from './wasm.ts'
import { compileWide, mayBeWide, type WideTrial } from './wide.ts'

/**
 * What the erasure module offers: addresses in its memory, counts and lengths in bytes. Rows are multiples of 64 bytes;
 * codes have K = 2^log2Data data rows. Nothing is kept at fixed addresses, so that instances may share a memory.
 */
export interface ErasureExports {
  /** (field 256 KiB, tables, count, bits 2 KiB): everything the others look up; 128 bytes of table for a label. */
  initErasure(field: number, tables: number, count: number, bits: number): void
  /** (field, labels, count, tables): multiplication tables of the u16 labels listed. */
  buildTablesOf(field: number, labels: number, count: number, tables: number): void
  /** (data, parity, log2Data, cosets, rowBytes, from, to, width, scratch, tables): parity of the columns [from, to). */
  encodeColumns(...values: number[]): void
  /** (rows, out, log2Data, points, log2Points, from, to, width, weights, scratch, tables): missing data rows. */
  decodeColumns(...values: number[]): void
  /** (bits, coefficients, rows, stride, count, from, to, sums, scratch): combinations over the groups [from, to). */
  combineRows(...values: number[]): void
  /** (rows, rowBytes, count, leaves, scratch): the root over the sub-lines of each row. */
  hashRows(rows: number, rowBytes: number, count: number, leaves: number, scratch: number): void
  /** (src, count, leaves, scratch): hashes of leaves of 16 bytes. */
  hashCombinations(src: number, count: number, leaves: number, scratch: number): void
  /** (level, count, scratch): all levels above, each behind the one below. */
  foldTree(level: number, count: number, scratch: number): void
  /** (nodes, count, paths, pathStride, turns, scratch): replaces hashes by the roots their paths lead to. */
  climb(nodes: number, count: number, paths: number, pathStride: number, turns: number, scratch: number): void
}

/** Name of a kernel of data availability. */
export type ErasureKernelName = keyof ErasureExports

let compiled: WebAssembly.Module[] | undefined

/**
 * The compiled erasure kernels, read once: the portable ones and, where they are faster, the wide trees. Built on the
 * spot where they are missing, as `kernelModules()` does.
 *
 * @throws KernelError `KERNELS_NOT_BUILT`
 */
export function erasureModules(): WebAssembly.Module[] {
  compiled ??= compile()
  return compiled
}

function compile(): WebAssembly.Module[] {
  ensureBuilt()
  const portable = new WebAssembly.Module(Uint8Array.from(readFileSync(ERASURE_FILE)))
  if (!mayBeWide()) return [portable]
  const wide = compileWide({ bytes: Uint8Array.from(readFileSync(ERASURE_WIDE_FILE)), portable, trial: TREE_TRIAL })
  return wide ? [portable, wide] : [portable]
}

const DATA = FIRST_FREE_ADDRESS + 64
const LEAVES = DATA + 11 * 3008
const TURNS = LEAVES + 65536
const SCRATCH = TURNS + 4096

/** Rows of several sub-lines, of one and of a short one; trees with odd levels; paths. */
const TREE_TRIAL: WideTrial<ErasureExports> = {
  bytes: 3 * 65536,
  timed: ({ hashRows }) => hashRows(DATA, 1024, 32, LEAVES, SCRATCH),
  rest: ({ hashRows, hashCombinations, foldTree, climb }) => {
    hashRows(DATA, 64, 13, LEAVES + 2048, SCRATCH)
    hashRows(DATA, 3008, 11, LEAVES + 4096, SCRATCH)
    hashCombinations(DATA, 19, LEAVES + 8192, SCRATCH)
    foldTree(LEAVES, 27, LEAVES + 16384)
    climb(LEAVES + 8192, 5, DATA, 384, TURNS, SCRATCH)
  },
}
