import type { Hex } from '../hex.ts'
import type { G1, G2 } from './bls.ts'
import { TOTAL_ROWS } from './constants.ts'

/** Most signers of an epoch. */
export const MAX_SIGNERS = 256

/** One signer of an epoch. `index` is its position in the epoch's order and its bit in a bitmap. */
export interface QuorumSigner {
  address: Hex
  index: number
  stakeWei: bigint
  socket: string
  pk1: G1
  pk2: G2
  /** It holds the rows `firstRow` … `firstRow + rowCount - 1`; a very small stake may hold none. */
  firstRow: number
  rowCount: number
}

/** The signers of an epoch, `signers[i].index === i`. */
export interface Quorum {
  epoch: number
  signers: readonly QuorumSigner[]
  totalStakeWei: bigint
}

/** Rows `firstRow` … `firstRow + rowCount - 1`. */
export interface RowRange {
  firstRow: number
  rowCount: number
}

/**
 * Which rows each signer holds, as `DASigners` computes it: the stakes are laid one after the other, and row r belongs to
 * the one at the point (2r + 1) · total / 6144. Whole numbers only, so both always agree. No stake at all: no rows.
 */
export function assignRows(stakesWei: readonly bigint[]): RowRange[] {
  const total = stakesWei.reduce((sum, stake) => sum + stake, 0n)
  let below = 0n
  let firstRow = 0
  return stakesWei.map((stake) => {
    below += stake
    const end = rowsBelow(below, total)
    const range = { firstRow, rowCount: end - firstRow }
    firstRow = end
    return range
  })
}

/** The index of the signer that holds a row; -1 if there is none. */
export function signerOfRow(quorum: Quorum, row: number): number {
  return quorum.signers.findIndex(({ firstRow, rowCount }) => row >= firstRow && row < firstRow + rowCount)
}

/** Stake behind the signers of `signed`, in wei. Repeated and unknown indexes count nothing. */
export function signedStakeWei({ quorum, signed }: SignedParameters): bigint {
  const indexes = new Set(signed)
  return quorum.signers.reduce((sum, { index, stakeWei }) => (indexes.has(index) ? sum + stakeWei : sum), 0n)
}

/** Whether the signers of `signed` have at least two thirds of the stake. */
export function meetsQuorum({ quorum, signed }: SignedParameters): boolean {
  return quorum.totalStakeWei > 0n && 3n * signedStakeWei({ quorum, signed }) >= 2n * quorum.totalStakeWei
}

export interface SignedParameters {
  quorum: Quorum
  signed: readonly number[]
}

/**
 * One bit for each signer, bit i in byte ⌊i / 8⌋ at 2^(i mod 8), in ⌈count / 8⌉ bytes.
 *
 * @throws RangeError for an index that is not below `count`.
 */
export function encodeBitmap({ count, signed }: { count: number; signed: readonly number[] }): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(count / 8))
  for (const index of signed) {
    if (!Number.isInteger(index) || index < 0 || index >= count) throw new RangeError(`no signer ${index} of ${count}`)
    bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7))
  }
  return bytes
}

/** The indexes in a bitmap as the contract returns it (`signedBitmap`), ascending. */
export function indexesOf(signedBitmap: bigint): number[] {
  return Array.from({ length: MAX_SIGNERS }, (_, i) => i).filter((i) => (signedBitmap >> BigInt(i)) & 1n)
}

/** How many rows r have their point (2r + 1) · total / 6144 below `weight`. */
function rowsBelow(weight: bigint, total: bigint): number {
  if (total === 0n) return 0
  return Number((2n * BigInt(TOTAL_ROWS) * weight + total - 1n) / (2n * total))
}
