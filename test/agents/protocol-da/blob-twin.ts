import { createHash } from 'node:crypto'
import { combineTwin, encodeTwin } from '#kernels/reed-solomon-twin.ts'
import { type Hash, toHex } from '#protocol/hex.ts'

/** A blob encoded by plain TypeScript and node:crypto: the oracle of the codec, written from the format alone. */
export interface TwinBlob {
  rowRoot: Hash
  rlcRoot: Hash
  dataRoot: Hash
  rlc: Uint8Array
  rows: Uint8Array[]
  path(index: number): Uint8Array
}

const K = 1024
const N = 2048

/** About 0.1 s for 64 KiB, growing with the size. */
export function encodeBlobTwin(data: Uint8Array): TwinBlob {
  const rowBytes = 64 * Math.ceil(data.length / 65_536)
  const padded = new Uint8Array(K * rowBytes)
  padded.set(data)
  const dataRows = Array.from({ length: K }, (_, i) => padded.subarray(i * rowBytes, (i + 1) * rowBytes))
  return commitTwin({ rows: [...dataRows, ...encodeTwin(dataRows, 3)], sizeBytes: data.length })
}

/** Commits to any 3072 rows as an honest encoder does to its own: also to rows that are of no code. */
export function commitTwin({ rows, sizeBytes }: { rows: Uint8Array[]; sizeBytes: number }): TwinBlob {
  const dataRows = rows.slice(0, K)
  const rowBytes = dataRows[0]?.length ?? 0
  const leaves = rows.map(rowHash)
  const rowRoot = tree(leaves)

  const shape = Buffer.alloc(20)
  shape.writeUInt32BE(K, 0)
  shape.writeUInt32BE(N, 4)
  shape.writeUInt32BE(rowBytes, 8)
  shape.writeBigUInt64BE(BigInt(sizeBytes), 12)
  const tag = Buffer.from('weightless-da-1', 'ascii')
  const seed = sha256(tag, rowRoot, shape)
  const stream = createHash('shake256', { outputLength: 8 * rowBytes })
    .update(seed)
    .digest()
  const coefficients = Uint16Array.from({ length: stream.length / 2 }, (_, i) => stream.readUInt16LE(2 * i))
  const combinations = dataRows.map((row) => {
    const words = combineTwin(row, coefficients)
    return Uint8Array.from({ length: 16 }, (_, i) => (words[i >> 1] ?? 0) >> (8 * (i & 1)))
  })
  const rlcRoot = tree(combinations.map(leafHash))
  const dataRoot = sha256(tag, Uint8Array.of(1), shape, rowRoot, rlcRoot)
  return {
    rowRoot: toHex(rowRoot),
    rlcRoot: toHex(rlcRoot),
    dataRoot: toHex(dataRoot),
    rlc: new Uint8Array(Buffer.concat(combinations)),
    rows,
    path: (index) => new Uint8Array(Buffer.concat(auditPath(leaves, index))),
  }
}

/** Bytes that everybody can make again: SHAKE256 over the text `weightless-da-codec-<sizeBytes>`. */
export function vectorPayload(sizeBytes: number): Uint8Array {
  const digest = createHash('shake256', { outputLength: sizeBytes }).update(`weightless-da-codec-${sizeBytes}`).digest()
  return new Uint8Array(digest)
}

/** Root of a row over its sub-lines of 1 KiB. */
export function rowHash(row: Uint8Array): Uint8Array {
  const sublines = Array.from({ length: Math.ceil(row.length / 1024) }, (_, i) =>
    row.subarray(i * 1024, (i + 1) * 1024),
  )
  return tree(sublines.map(leafHash))
}

/** RFC 6962, section 2.1, as it stands there: by recursion. */
export function tree(leaves: readonly Uint8Array[]): Uint8Array {
  const [first] = leaves
  if (first === undefined) throw new RangeError('an empty tree')
  if (leaves.length === 1) return first
  const k = split(leaves.length)
  return sha256(Uint8Array.of(1), tree(leaves.slice(0, k)), tree(leaves.slice(k)))
}

/** RFC 6962, section 2.1.1: the path of leaf `index`, from the bottom up. */
export function auditPath(leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  if (leaves.length === 1) return []
  const k = split(leaves.length)
  return index < k
    ? [...auditPath(leaves.slice(0, k), index), tree(leaves.slice(k))]
    : [...auditPath(leaves.slice(k), index - k), tree(leaves.slice(0, k))]
}

export function leafHash(data: Uint8Array): Uint8Array {
  return sha256(Uint8Array.of(0), data)
}

export function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** The largest power of two below n. */
function split(n: number): number {
  return 2 ** Math.floor(Math.log2(n - 1))
}
