import { createHash } from 'node:crypto'
import { fromHex, type Hash, toHex } from '../hex.ts'
import { DATA_ROWS, HASH_BYTES, MAX_BLOB_BYTES, PARITY_ROWS, ROW_UNIT_BYTES } from './constants.ts'
import { InvalidBlobError } from './error.ts'

const TAG = Buffer.from('weightless-da-1', 'ascii')

/** Version of the format. */
const VERSION = 1

/** The shape of a blob, which its size decides. */
export interface BlobHeader {
  version: 1
  /** Bytes of a row: a multiple of 64. */
  rowBytes: number
  /** Bytes of the payload, not padded. */
  sizeBytes: number
}

/** What stands for a blob: on chain X is the row root and Y the root of the combinations. */
export interface BlobCommitment {
  header: BlobHeader
  /** Root of the tree over all rows. */
  rowRoot: Hash
  /** Root of the tree over the combinations of the data rows. */
  rlcRoot: Hash
  /** The name of the blob: a hash over everything above. */
  dataRoot: Hash
}

/**
 * The header of a payload of `sizeBytes` (1 to 32 MiB).
 *
 * @throws InvalidBlobError `BLOB_SIZE`
 */
export function blobHeader(sizeBytes: number): BlobHeader {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1 || sizeBytes > MAX_BLOB_BYTES) {
    throw new InvalidBlobError({
      code: 'BLOB_SIZE',
      message: `a blob cannot have ${sizeBytes} bytes`,
      fix: `give 1 to ${MAX_BLOB_BYTES} bytes; split what is larger`,
      details: { sizeBytes, limit: MAX_BLOB_BYTES },
    })
  }
  return { version: VERSION, rowBytes: ROW_UNIT_BYTES * Math.ceil(sizeBytes / (ROW_UNIT_BYTES * DATA_ROWS)), sizeBytes }
}

/**
 * The commitment of a payload of `sizeBytes` with these roots: computes the data root.
 *
 * @throws InvalidBlobError `BLOB_SIZE`; InvalidHexError when a root is not 32 bytes
 */
export function blobCommitment({ sizeBytes, rowRoot, rlcRoot }: BlobCommitmentParameters): BlobCommitment {
  const header = blobHeader(sizeBytes)
  const rows = fromHex(rowRoot, { byteLength: HASH_BYTES, field: 'rowRoot' })
  const combinations = fromHex(rlcRoot, { byteLength: HASH_BYTES, field: 'rlcRoot' })
  const hash = createHash('sha256').update(TAG).update(Uint8Array.of(VERSION)).update(shape(header))
  const dataRoot = toHex(hash.update(rows).update(combinations).digest())
  return { header, rowRoot: toHex(rows), rlcRoot: toHex(combinations), dataRoot }
}

export interface BlobCommitmentParameters {
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
}

/**
 * Refuses a commitment whose data root or row length is not what its other parts give.
 *
 * @throws InvalidBlobError `BLOB_COMMITMENT`, `BLOB_SIZE`; InvalidHexError
 */
export function checkCommitment({ header, rowRoot, rlcRoot, dataRoot }: BlobCommitment): void {
  const right = blobCommitment({ sizeBytes: header.sizeBytes, rowRoot, rlcRoot })
  const same = header.version === VERSION && header.rowBytes === right.header.rowBytes
  if (same && dataRoot.toLowerCase() === right.dataRoot) return
  throw new InvalidBlobError({
    code: 'BLOB_COMMITMENT',
    message: `the data root ${dataRoot} does not stand for this size and these roots`,
    fix: 'take size and roots from where the data root was recorded',
    details: { dataRoot, wanted: right.dataRoot, rowBytes: header.rowBytes, wantedRowBytes: right.header.rowBytes },
  })
}

/**
 * Coefficients of the combinations, 16 bytes (eight 16-bit words, little-endian) for every symbol of a row, drawn by
 * SHAKE256 from a seed that binds rows and shape (Fiat–Shamir): whoever makes the rows cannot choose them.
 */
export function combinationCoefficients({ header, rowRoot }: { header: BlobHeader; rowRoot: Uint8Array }): Uint8Array {
  const seed = createHash('sha256').update(TAG).update(rowRoot).update(shape(header)).digest()
  const outputLength = 16 * (header.rowBytes / 2)
  return createHash('shake256', { outputLength }).update(seed).digest()
}

/** u32 K, u32 N, u32 rowBytes, u64 sizeBytes, all big-endian. */
function shape({ rowBytes, sizeBytes }: BlobHeader): Uint8Array {
  const bytes = Buffer.alloc(20)
  bytes.writeUInt32BE(DATA_ROWS, 0)
  bytes.writeUInt32BE(PARITY_ROWS, 4)
  bytes.writeUInt32BE(rowBytes, 8)
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 12)
  return bytes
}
