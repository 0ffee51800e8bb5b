import { decodeScratchBytes, ErasurePool, type Region } from '#kernels/erasure-pool.ts'
import { toHex } from '../hex.ts'
import { type BlobLayout, blobLayout, CODE, copyOut, pathOf } from './blob-layout.ts'
import { BlobRowVerifier, type RowVerifier, rlcRootOf } from './blob-verifier.ts'
import {
  type BlobCommitment,
  type BlobHeader,
  blobCommitment,
  blobHeader,
  checkCommitment,
  combinationCoefficients,
} from './commitment.ts'
import { DATA_ROWS, HASH_BYTES, RLC_BYTES, TOTAL_ROWS } from './constants.ts'
import { InvalidBlobError, InvalidRowError } from './error.ts'
import type { RowSlice } from './slice.ts'

export type { RowVerifier } from './blob-verifier.ts'

/** A blob with its parity rows, in memory of the codec until it is released. */
export interface EncodedBlob {
  readonly commitment: BlobCommitment
  /** Combinations of the data rows: 16 KiB, to be sent to who verifies rows. */
  readonly rlc: Uint8Array
  /**
   * Row `index` (0 to 3071), a view that is good until {@link EncodedBlob.release}. It is of a SharedArrayBuffer: copy it
   * for what refuses those, such as TextDecoder and bodies of `fetch`.
   *
   * @throws InvalidRowError `ROW_INDEX`; RangeError after the release
   */
  row(index: number): Uint8Array
  /** The same with its path. `data` is a view as in {@link EncodedBlob.row}. */
  slice(index: number): RowSlice
  /** Gives the memory back: at most a few large blobs have room at a time, and others wait. Further calls do nothing. */
  release(): void
}

/** A row from anywhere: the result is checked against the commitment in any case. */
export interface IndexedRow {
  index: number
  data: Uint8Array
}

export interface ReconstructParameters {
  commitment: BlobCommitment
  /** At least 1024 different rows; data rows are the fastest. More are not looked at. */
  rows: readonly IndexedRow[]
  signal?: AbortSignal | undefined
}

export interface BlobCodecParameters {
  /** Threads, 1 to 256: one for each core up to 16 unless given. */
  workers?: number | undefined
  /** Memory for blobs in flight: 320 MiB unless given, of which a blob of 32 MiB takes 98. */
  memoryBytes?: number | undefined
}

/**
 * Encodes, verifies and reconstructs blobs on a pool of threads. What does not fit the memory waits its turn, so that a
 * caller that holds encoded blobs and asks for more must release some.
 *
 * @example
 * const codec = await BlobCodec.create()
 * const blob = await codec.encode(bytes)
 * const slices = [0, 1, 2].map((index) => blob.slice(index))
 * const verifier = await codec.verifier(blob)
 * await verifier.verify(slices)
 * blob.release()
 * await codec.close()
 */
export class BlobCodec {
  readonly #pool: ErasurePool

  /** Takes about 50 ms: compiles kernels, starts a thread, fills tables. @throws KernelError */
  static async create({ workers, memoryBytes }: BlobCodecParameters = {}): Promise<BlobCodec> {
    return new BlobCodec(await ErasurePool.create({ workers, memoryBytes }))
  }

  private constructor(pool: ErasurePool) {
    this.#pool = pool
  }

  /** Bytes of memory that no blob holds. */
  get freeBytes(): number {
    return this.#pool.freeBytes
  }

  /**
   * Encodes 1 byte to 32 MiB. The data is read when its turn has come and must not change before.
   *
   * @throws InvalidBlobError `BLOB_SIZE`; KernelError; the reason of `signal`
   */
  async encode(data: Uint8Array, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<EncodedBlob> {
    const header = blobHeader(data.length)
    const layout = blobLayout(header.rowBytes)
    const region = await this.#pool.allocate({ bytes: layout.bytes, signal })
    try {
      region.bytes.set(data)
      region.bytes.fill(0, data.length, DATA_ROWS * header.rowBytes)
      const commitment = await this.#commit({ region, layout, header, signal })
      return encodedBlob({ commitment, region, layout })
    } catch (error) {
      region.release()
      throw error
    }
  }

  /**
   * What verifies rows of a blob: checks the commitment itself and that `rlc` (the combinations, from anywhere) is what it
   * commits to. Holds no memory of the codec between calls.
   *
   * @throws InvalidBlobError `BLOB_COMMITMENT`; InvalidRowError `RLC_ROOT`; KernelError
   */
  verifier({ commitment, rlc }: { commitment: BlobCommitment; rlc: Uint8Array }): Promise<RowVerifier> {
    return BlobRowVerifier.create({ pool: this.#pool, commitment, rlc })
  }

  /**
   * The payload from at least 1024 different rows. The result is encoded again and both roots are compared, so that all
   * readers get the same payload, or all of them `BLOB_INCONSISTENT`, whichever rows they have.
   *
   * @throws InvalidBlobError `BLOB_ROWS_MISSING`, `BLOB_INCONSISTENT`, `BLOB_COMMITMENT`; InvalidRowError `ROW_INDEX`,
   * `ROW_LENGTH`; KernelError; the reason of `signal`
   */
  async reconstruct({ commitment, rows, signal }: ReconstructParameters): Promise<Uint8Array> {
    checkCommitment(commitment)
    const { header } = commitment
    const { rowBytes, sizeBytes } = header
    const chosen = chooseRows({ rows, header })
    const layout = blobLayout(rowBytes)
    const region = await this.#pool.allocate({ bytes: layout.bytes + decodeScratchBytes(CODE), signal })
    try {
      const present = Array.from({ length: TOTAL_ROWS }, () => false)
      for (const { index, data } of chosen) {
        region.bytes.set(data, index * rowBytes)
        present[index] = true
      }
      const scratch = region.address + layout.bytes
      if (present.lastIndexOf(true) >= DATA_ROWS) {
        await this.#pool.decode({ ...CODE, address: region.address, rowBytes, present, scratch, signal })
      }
      const again = await this.#commit({ region, layout, header, signal })
      const padding = region.bytes.subarray(sizeBytes, DATA_ROWS * rowBytes)
      if (again.dataRoot !== commitment.dataRoot || !isZero(padding)) throw inconsistent(commitment)
      return copyOut(region, 0, sizeBytes)
    } finally {
      region.release()
    }
  }

  /** Refuses new work, lets running jobs end, then stops the threads. */
  close(): Promise<void> {
    return this.#pool.close()
  }

  /** Parity, tree, combinations and their tree, from the data rows in the region. */
  async #commit({ region, layout, header, signal }: CommitParameters): Promise<BlobCommitment> {
    const pool = this.#pool
    const { rowBytes, sizeBytes } = header
    const at = (offset: number) => region.address + offset
    const [address, levels, coefficients] = [at(layout.rows), at(layout.levels), at(layout.coefficients)]
    await pool.encode({ ...CODE, address, rowBytes, signal })
    await pool.hashRows({ address, rowBytes, count: TOTAL_ROWS, leaves: levels, signal })
    const rowRoot = hashAt(region, await pool.foldTree({ level: levels, count: TOTAL_ROWS, signal }))
    region.bytes.set(combinationCoefficients({ header, rowRoot }), layout.coefficients)
    const sums = at(layout.sums)
    await pool.combine({ address, rowBytes, count: DATA_ROWS, coefficients, sums, signal })
    const rlcRoot = await rlcRootOf({ pool, region, combinations: sums, levels: at(layout.rlcLevels), signal })
    return blobCommitment({ sizeBytes, rowRoot: toHex(rowRoot), rlcRoot: toHex(rlcRoot) })
  }
}

let shared: Promise<BlobCodec> | undefined

/** The codec of this process, made on first use. It need not be closed: idle threads do not keep the process alive. */
export function sharedBlobCodec(): Promise<BlobCodec> {
  shared ??= BlobCodec.create().catch((error: unknown) => {
    shared = undefined
    throw error
  })
  return shared
}

interface CommitParameters {
  region: Region
  layout: BlobLayout
  header: BlobHeader
  signal: AbortSignal | undefined
}

function encodedBlob({ commitment, region, layout }: EncodedBlobParameters): EncodedBlob {
  const { rowBytes } = commitment.header
  const levels = region.bytes.subarray(layout.levels)
  let released = false
  const row = (index: number) => {
    if (released) throw new RangeError('the blob has been released')
    if (Number.isInteger(index) && index >= 0 && index < TOTAL_ROWS) {
      return region.bytes.subarray(index * rowBytes, (index + 1) * rowBytes)
    }
    throw noSuchRow(index)
  }
  return {
    commitment,
    rlc: copyOut(region, layout.sums, RLC_BYTES),
    row,
    slice: (index) => ({ index, data: row(index), path: pathOf({ index, levels }) }),
    release: () => {
      released = true
      region.release()
    },
  }
}

interface EncodedBlobParameters {
  commitment: BlobCommitment
  region: Region
  layout: BlobLayout
}

/** As many different rows as are needed, data rows first: they need no decoding. */
function chooseRows({ rows, header }: { rows: readonly IndexedRow[]; header: BlobHeader }): IndexedRow[] {
  const chosen = new Map<number, IndexedRow>()
  for (const row of rows) {
    const { index, data } = row
    if (!Number.isInteger(index) || index < 0 || index >= TOTAL_ROWS) throw noSuchRow(index)
    if (data.length !== header.rowBytes) {
      throw new InvalidRowError({
        code: 'ROW_LENGTH',
        message: `row ${index} must have ${header.rowBytes} bytes, it has ${data.length}`,
        details: { index, wanted: header.rowBytes, got: data.length },
      })
    }
    chosen.set(index, row)
  }
  if (chosen.size < DATA_ROWS) {
    throw new InvalidBlobError({
      code: 'BLOB_ROWS_MISSING',
      message: `a blob needs ${DATA_ROWS} different rows, there are ${chosen.size}`,
      fix: `fetch ${DATA_ROWS - chosen.size} more from other signers`,
      details: { rows: chosen.size, limit: DATA_ROWS },
    })
  }
  return [...chosen.values()].sort((a, b) => a.index - b.index).slice(0, DATA_ROWS)
}

function noSuchRow(index: number): InvalidRowError {
  return new InvalidRowError({
    code: 'ROW_INDEX',
    message: `there is no row ${index}`,
    details: { index, limit: TOTAL_ROWS - 1 },
  })
}

function inconsistent({ dataRoot }: BlobCommitment): InvalidBlobError {
  return new InvalidBlobError({
    code: 'BLOB_INCONSISTENT',
    message: `the rows under ${dataRoot} are not the encoding of any payload`,
    fix: 'treat the blob as empty: every reader does, whichever rows it has',
    details: { dataRoot },
  })
}

function hashAt(region: Region, address: number): Uint8Array {
  return copyOut(region, address - region.address, HASH_BYTES)
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0)
}
