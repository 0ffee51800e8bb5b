import { combineTwin, decodeTwin, encodeTwin } from '#kernels/reed-solomon-twin.ts'
import { bytesEqual, fromHex, toHex } from '../hex.ts'
import {
  type BlobCommitment,
  blobCommitment,
  blobHeader,
  checkCommitment,
  combinationCoefficients,
} from './commitment.ts'
import { COMBINATION_BYTES, COSETS, DATA_ROWS, RLC_BYTES, TOTAL_ROWS } from './constants.ts'
import { InvalidBlobError, InvalidRowError } from './error.ts'
import { leafHash, nodeHash, rowLeaf, treeRoot, verifyRowPath } from './row-proof.ts'
import type { RowSlice } from './slice.ts'

export interface EncodedBlob {
  commitment: BlobCommitment
  rlc: Uint8Array
  row(index: number): Uint8Array
  slice(index: number): RowSlice
  release(): void
}

export interface RowVerifier {
  verify(rows: readonly RowSlice[]): Promise<void>
  release(): void
}

export class BlobCodec {
  static async create(_: { workers?: number | undefined } = {}): Promise<BlobCodec> {
    return new BlobCodec()
  }

  async encode(data: Uint8Array, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<EncodedBlob> {
    signal?.throwIfAborted()
    const header = blobHeader(data.length)
    const { rowBytes } = header
    const padded = new Uint8Array(rowBytes * DATA_ROWS)
    padded.set(data)
    const dataRows = Array.from({ length: DATA_ROWS }, (_, i) => padded.subarray(i * rowBytes, (i + 1) * rowBytes))
    const rows = [...dataRows, ...encodeTwin(dataRows, COSETS)]
    const levels = [rows.map((row) => rowLeaf(row))]
    for (let level = levels[0] ?? []; level.length > 1; ) {
      const below = level
      level = Array.from({ length: Math.ceil(below.length / 2) }, (_, i) => {
        const left = below[2 * i] ?? new Uint8Array()
        const right = below[2 * i + 1]
        return right ? nodeHash(left, right) : left
      })
      levels.push(level)
    }
    const rowRoot = levels[levels.length - 1]?.[0] ?? new Uint8Array()
    const coefficients = words(combinationCoefficients({ header, rowRoot }))
    const rlc = Buffer.concat(dataRows.map((row) => new Uint8Array(combineTwin(row, coefficients).buffer)))
    const commitment = blobCommitment({ sizeBytes: data.length, rowRoot: toHex(rowRoot), rlcRoot: rlcRootOf(rlc) })
    const row = (index: number) => {
      const found = rows[index]
      if (found === undefined) throw new RangeError(`row ${index}`)
      return found
    }
    const path = (index: number) => {
      const siblings: Uint8Array[] = []
      for (const [height, level] of levels.entries()) {
        const sibling = level[(index >> height) ^ 1]
        if (sibling && level.length > 1) siblings.push(sibling)
      }
      return Buffer.concat(siblings)
    }
    return {
      commitment,
      rlc,
      row,
      slice: (index) => ({ index, data: row(index), path: path(index) }),
      release: () => {},
    }
  }

  async verifier({ commitment, rlc }: { commitment: BlobCommitment; rlc: Uint8Array }): Promise<RowVerifier> {
    checkCommitment(commitment)
    const { header, rowRoot } = commitment
    if (rlc.length !== RLC_BYTES || rlcRootOf(rlc) !== commitment.rlcRoot) {
      throw new InvalidRowError({ code: 'RLC_ROOT', message: 'the combinations are not those of the commitment' })
    }
    const coefficients = words(combinationCoefficients({ header, rowRoot: fromHex(rowRoot) }))
    const expected = extend(rlc)
    return {
      verify: async (slices) => {
        const seen = new Set<number>()
        for (const { index, data, path } of slices) {
          const details = { index }
          if (!Number.isInteger(index) || index < 0 || index >= TOTAL_ROWS || seen.has(index)) {
            throw new InvalidRowError({
              code: 'ROW_INDEX',
              message: `row ${index} is not there or comes twice`,
              details,
            })
          }
          seen.add(index)
          if (data.length !== header.rowBytes) {
            throw new InvalidRowError({ code: 'ROW_LENGTH', message: `row ${index} has ${data.length} bytes`, details })
          }
          if (!verifyRowPath({ rowRoot, index, leaf: rowLeaf(data), path })) {
            throw new InvalidRowError({ code: 'ROW_PATH', message: `row ${index} is not under the row root`, details })
          }
          const combination = new Uint8Array(combineTwin(data, coefficients).buffer)
          if (!bytesEqual(combination, expected[index] ?? new Uint8Array())) {
            throw new InvalidRowError({ code: 'ROW_COMBINATION', message: `row ${index} is not of the code`, details })
          }
        }
      },
      release: () => {},
    }
  }

  async reconstruct({ commitment, rows, signal }: ReconstructParameters): Promise<Uint8Array> {
    checkCommitment(commitment)
    const { sizeBytes } = commitment.header
    const given: (Uint8Array | undefined)[] = Array.from({ length: TOTAL_ROWS }, () => undefined)
    for (const { index, data } of rows) given[index] = data
    if (given.filter((row) => row !== undefined).length < DATA_ROWS) {
      throw new InvalidBlobError({ code: 'BLOB_ROWS_MISSING', message: `fewer than ${DATA_ROWS} rows` })
    }
    const dataRows = given.slice(0, DATA_ROWS)
    const all = dataRows.every((row) => row !== undefined) ? dataRows : decodeTwin(given, DATA_ROWS)
    const padded = Buffer.concat(all.map((row) => row ?? new Uint8Array()))
    const encoded = await this.encode(padded.subarray(0, sizeBytes), { signal })
    const same = encoded.commitment.dataRoot === commitment.dataRoot
    if (!same || padded.subarray(sizeBytes).some((byte) => byte !== 0)) {
      throw new InvalidBlobError({ code: 'BLOB_INCONSISTENT', message: 'the rows are not the encoding of any payload' })
    }
    return new Uint8Array(padded.subarray(0, sizeBytes))
  }

  async close(): Promise<void> {}
}

export interface ReconstructParameters {
  commitment: BlobCommitment
  rows: readonly { index: number; data: Uint8Array }[]
  signal?: AbortSignal | undefined
}

function rlcRootOf(rlc: Uint8Array) {
  const leaves = Array.from({ length: DATA_ROWS }, (_, i) =>
    leafHash(rlc.subarray(i * COMBINATION_BYTES, (i + 1) * COMBINATION_BYTES)),
  )
  return toHex(treeRoot(leaves))
}

function words(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.slice().buffer)
}

/** The combinations of all rows: those of the data rows, extended by the code. */
function extend(rlc: Uint8Array): Uint8Array[] {
  const spread = Array.from({ length: DATA_ROWS }, (_, i) => {
    const row = new Uint8Array(64)
    for (let k = 0; k < 8; k++) {
      row[k] = rlc[16 * i + 2 * k] ?? 0
      row[32 + k] = rlc[16 * i + 2 * k + 1] ?? 0
    }
    return row
  })
  return [...spread, ...encodeTwin(spread, COSETS)].map((row) =>
    Uint8Array.from({ length: 16 }, (_, b) => row[(b >> 1) + 32 * (b & 1)] ?? 0),
  )
}
