import { combinationScratchBytes, type ErasurePool, type Region, treeHashes } from '#kernels/erasure-pool.ts'
import { bytesEqual, fromHex, toHex } from '../hex.ts'
import { CODE, copyOut } from './blob-layout.ts'
import { type BlobCommitment, type BlobHeader, checkCommitment, combinationCoefficients } from './commitment.ts'
import {
  COMBINATION_BYTES,
  DATA_ROWS,
  HASH_BYTES,
  MAX_PATH_HASHES,
  RLC_BYTES,
  ROW_UNIT_BYTES,
  TOTAL_ROWS,
} from './constants.ts'
import { InvalidRowError } from './error.ts'
import { directions, rowPathHashes } from './row-proof.ts'
import type { RowSlice } from './slice.ts'

/** Verifies rows of one blob. */
export interface RowVerifier {
  /**
   * Whether all rows stand in the tree under the row root and are of the code. The more rows at once, the faster each.
   *
   * @throws InvalidRowError for the first row that is not valid: `ROW_INDEX` (no such row, or twice), `ROW_LENGTH`,
   * `ROW_PATH`, `ROW_PADDING`, `ROW_COMBINATION`; KernelError
   */
  verify(rows: readonly RowSlice[]): Promise<void>
  /** Lets go of what it keeps (0.3 MiB); no rows can be verified afterwards. */
  release(): void
}

/** Rows in the memory of the pool at a time: up to 16 MiB of them. */
const CHUNK_BYTES = 16 * 1024 * 1024

const PATH_BYTES = MAX_PATH_HASHES * HASH_BYTES

/** In the smallest row the low bytes of its symbols come first, the high ones from here on. */
const HIGH_BYTES = ROW_UNIT_BYTES / 2

/** 16-bit symbols of a combination. */
const SYMBOLS = COMBINATION_BYTES / 2

/** See {@link RowVerifier}. */
export class BlobRowVerifier implements RowVerifier {
  readonly #pool: ErasurePool
  readonly #commitment: BlobCommitment
  readonly #rowRoot: Uint8Array
  #coefficients: Uint8Array
  /** Combinations of all rows. */
  #expected: Uint8Array
  #released = false

  /** @throws InvalidBlobError `BLOB_COMMITMENT`; InvalidRowError `RLC_ROOT`; KernelError */
  static async create({ pool, commitment, rlc }: CreateParameters): Promise<BlobRowVerifier> {
    checkCommitment(commitment)
    if (rlc.length !== RLC_BYTES) throw wrongCombinations({ bytes: rlc.length, wanted: RLC_BYTES })
    const levels = TOTAL_ROWS * ROW_UNIT_BYTES
    const region = await pool.allocate({ bytes: levels + HASH_BYTES * treeHashes(DATA_ROWS) })
    try {
      region.bytes.set(rlc)
      const at = { combinations: region.address, levels: region.address + levels }
      const rlcRoot = toHex(await rlcRootOf({ pool, region, ...at }))
      if (rlcRoot !== commitment.rlcRoot.toLowerCase()) throw wrongCombinations({ rlcRoot, wanted: commitment.rlcRoot })
      const expected = await extend({ pool, region, rlc })
      return new BlobRowVerifier({ pool, commitment, expected })
    } finally {
      region.release()
    }
  }

  private constructor({ pool, commitment, expected }: VerifierParts) {
    this.#pool = pool
    this.#commitment = commitment
    this.#rowRoot = fromHex(commitment.rowRoot, { byteLength: HASH_BYTES, field: 'rowRoot' })
    this.#coefficients = combinationCoefficients({ header: commitment.header, rowRoot: this.#rowRoot })
    this.#expected = expected
  }

  async verify(rows: readonly RowSlice[]): Promise<void> {
    if (this.#released) throw new RangeError('the verifier has been released')
    const { header } = this.#commitment
    checkShapes({ rows, header })
    const chunkRows = Math.max(1, Math.floor(CHUNK_BYTES / header.rowBytes))
    for (let start = 0; start < rows.length; start += chunkRows) {
      await this.#verifyChunk(rows.slice(start, start + chunkRows))
    }
  }

  release(): void {
    this.#released = true
    this.#coefficients = new Uint8Array()
    this.#expected = new Uint8Array()
  }

  async #verifyChunk(rows: readonly RowSlice[]): Promise<void> {
    const pool = this.#pool
    const { rowBytes } = this.#commitment.header
    const count = rows.length
    const coefficients = rowBytes * count
    const leaves = coefficients + 8 * rowBytes
    const turns = leaves + HASH_BYTES * count
    const paths = align(turns + 4 * count)
    const sums = paths + PATH_BYTES * count
    const bytes = sums + combinationScratchBytes({ count, rowBytes })
    const region = await pool.allocate({ bytes })
    try {
      const turnWords = new Uint32Array(region.bytes.buffer, region.address + turns, count)
      region.bytes.set(this.#coefficients, coefficients)
      for (const [i, { index, data, path }] of rows.entries()) {
        region.bytes.set(data, i * rowBytes)
        region.bytes.set(path, paths + i * PATH_BYTES)
        turnWords[i] = turnsOf(index)
      }
      const at = (offset: number) => region.address + offset
      const stored = { address: region.address, rowBytes, count }
      // Both at once, and both to their end before the region goes back.
      const hashing = pool.hashRows({ ...stored, leaves: at(leaves) }).then(() => {
        return pool.climb({ nodes: at(leaves), count, paths: at(paths), pathBytes: PATH_BYTES, turns: at(turns) })
      })
      const combining = pool.combine({ ...stored, coefficients: at(coefficients), sums: at(sums) })
      for (const end of await Promise.allSettled([hashing, combining])) if (end.status === 'rejected') throw end.reason
      for (const [i, row] of rows.entries()) {
        this.#check(row, copyOut(region, leaves + i * HASH_BYTES, HASH_BYTES), copyOut(region, sums + i * 16, 16))
      }
    } finally {
      region.release()
    }
  }

  #check({ index, data }: RowSlice, root: Uint8Array, combination: Uint8Array): void {
    const details = { index }
    if (!bytesEqual(root, this.#rowRoot)) {
      throw new InvalidRowError({ code: 'ROW_PATH', message: `row ${index} is not under the row root`, details })
    }
    const { sizeBytes, rowBytes } = this.#commitment.header
    const filled = Math.min(rowBytes, Math.max(0, sizeBytes - index * rowBytes))
    if (index < DATA_ROWS && data.subarray(filled).some((byte) => byte !== 0)) {
      throw new InvalidRowError({ code: 'ROW_PADDING', message: `row ${index} goes on behind the payload`, details })
    }
    const expected = this.#expected.subarray(index * COMBINATION_BYTES, (index + 1) * COMBINATION_BYTES)
    if (!bytesEqual(combination, expected)) {
      throw new InvalidRowError({ code: 'ROW_COMBINATION', message: `row ${index} is not of the code`, details })
    }
  }
}

interface CreateParameters {
  pool: ErasurePool
  commitment: BlobCommitment
  rlc: Uint8Array
}

interface VerifierParts {
  pool: ErasurePool
  commitment: BlobCommitment
  expected: Uint8Array
}

/** Root over the combinations of the data rows at `combinations`; `levels` has room for their tree. Addresses. */
export async function rlcRootOf({
  pool,
  region,
  combinations,
  levels,
  signal,
}: RlcRootParameters): Promise<Uint8Array> {
  await pool.hashCombinations({ address: combinations, count: DATA_ROWS, leaves: levels, signal })
  const root = await pool.foldTree({ level: levels, count: DATA_ROWS, signal })
  return copyOut(region, root - region.address, HASH_BYTES)
}

export interface RlcRootParameters {
  pool: ErasurePool
  /** Holds both addresses. */
  region: Region
  combinations: number
  levels: number
  signal?: AbortSignal | undefined
}

/**
 * Combinations of all rows from those of the data rows. Coding and combining are both linear, one down the rows and one
 * along them, so that the code itself extends the combinations, each taken as a row of eight symbols.
 */
async function extend({
  pool,
  region,
  rlc,
}: {
  pool: ErasurePool
  region: Region
  rlc: Uint8Array
}): Promise<Uint8Array> {
  const { bytes } = region
  bytes.fill(0, 0, DATA_ROWS * ROW_UNIT_BYTES)
  for (let at = 0, row = 0; at < rlc.length; row += ROW_UNIT_BYTES) {
    for (let symbol = row; symbol < row + SYMBOLS; symbol++) {
      bytes[symbol] = rlc[at++] ?? 0
      bytes[symbol + HIGH_BYTES] = rlc[at++] ?? 0
    }
  }
  await pool.encode({ ...CODE, address: region.address, rowBytes: ROW_UNIT_BYTES })
  const all = new Uint8Array(TOTAL_ROWS * COMBINATION_BYTES)
  for (let at = 0, row = 0; at < all.length; row += ROW_UNIT_BYTES) {
    for (let symbol = row; symbol < row + SYMBOLS; symbol++) {
      all[at++] = bytes[symbol] ?? 0
      all[at++] = bytes[symbol + HIGH_BYTES] ?? 0
    }
  }
  return all
}

/** Directions of the path of a row for the kernel: bit s for step s, the number of steps from bit 16 on. */
function turnsOf(index: number): number {
  const left = directions({ index, count: TOTAL_ROWS })
  return left.reduce((turns, isLeft, step) => turns | (isLeft ? 1 << step : 0), left.length << 16)
}

function checkShapes({ rows, header }: { rows: readonly RowSlice[]; header: BlobHeader }): void {
  const seen = new Set<number>()
  for (const { index, data, path } of rows) {
    if (!Number.isInteger(index) || index < 0 || index >= TOTAL_ROWS || seen.has(index)) {
      const message = seen.has(index) ? `row ${index} is there twice` : `there is no row ${index}`
      throw new InvalidRowError({ code: 'ROW_INDEX', message, details: { index, limit: TOTAL_ROWS - 1 } })
    }
    seen.add(index)
    if (data.length !== header.rowBytes) {
      throw new InvalidRowError({
        code: 'ROW_LENGTH',
        message: `row ${index} must have ${header.rowBytes} bytes, it has ${data.length}`,
        details: { index, wanted: header.rowBytes, got: data.length },
      })
    }
    if (path.length !== HASH_BYTES * rowPathHashes(index)) {
      throw new InvalidRowError({
        code: 'ROW_PATH',
        message: `the path of row ${index} must have ${rowPathHashes(index)} hashes, it has ${path.length} bytes`,
        details: { index, wanted: HASH_BYTES * rowPathHashes(index), got: path.length },
      })
    }
  }
}

function wrongCombinations(details: Record<string, unknown>): InvalidRowError {
  return new InvalidRowError({
    code: 'RLC_ROOT',
    message: 'the combinations are not those of the commitment',
    details,
  })
}

function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64
}
