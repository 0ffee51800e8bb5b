import { z } from 'zod'
import { RLC_BYTES } from '#protocol/da/constants.ts'
import { WeightlessError } from '#protocol/error.ts'
import { type Hash, toHex } from '#protocol/hex.ts'

/** Bytes before the slices of an upload: u64 BE size ‖ row root ‖ combinations root ‖ combinations. */
export const UPLOAD_HEAD_BYTES = 8 + 32 + 32 + RLC_BYTES

/** The head of an upload. Its root is in the address, so a signer can check that both belong together. */
export interface UploadHead {
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
  rlc: Uint8Array
}

/** A message of the signers' wire that is not what it should be. Code `WIRE_INVALID`. */
export class WireError extends WeightlessError {
  constructor(message: string, cause?: unknown) {
    super({ code: 'WIRE_INVALID', message, fix: 'use a program of the same version', cause })
  }
}

/** The head as bytes. */
export function encodeUploadHead({ sizeBytes, rowRoot, rlcRoot, rlc }: UploadHead): Uint8Array {
  const bytes = Buffer.alloc(UPLOAD_HEAD_BYTES)
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0)
  bytes.write(rowRoot.slice(2), 8, 'hex')
  bytes.write(rlcRoot.slice(2), 40, 'hex')
  bytes.set(rlc, 72)
  return bytes
}

/** The head out of exactly {@link UPLOAD_HEAD_BYTES} bytes. @throws WireError when the size is beyond 2^53 */
export function decodeUploadHead(bytes: Uint8Array): UploadHead {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const sizeBytes = view.readBigUInt64BE(0)
  if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw new WireError(`the blob's size ${sizeBytes} is out of range`)
  return {
    sizeBytes: Number(sizeBytes),
    rowRoot: toHex(bytes.subarray(8, 40)),
    rlcRoot: toHex(bytes.subarray(40, 72)),
    rlc: new Uint8Array(bytes.subarray(72, UPLOAD_HEAD_BYTES)),
  }
}

const hash = z
  .string()
  .regex(/^0x[0-9a-f]{64}$/)
  .transform((text) => text as Hash)
const signature = z
  .string()
  .regex(/^0x[0-9a-f]{128}$/)
  .transform((text) => text as Hash)

/** What a signer says about a blob: whether it waits for its rows, or has signed. */
export const blobStateSchema = z.object({
  /** `unknown`: no paid submission seen; `wanted`: rows are taken; `signed`: done; `expired`; `foreign`: no rows here. */
  state: z.enum(['unknown', 'wanted', 'signed', 'expired', 'foreign']),
  /** Of `signed`: 64 bytes, X ‖ Y big-endian. */
  signature: signature.optional(),
  /** Last block this signer has read, and how many it wants on top of a submission. */
  block: z.number().int().optional(),
  confirmations: z.number().int().optional(),
})

/** The answer to `GET /v1/blobs/{root}`. */
export type BlobState = z.output<typeof blobStateSchema>

/** The answer to an upload. */
export const signedSchema = z.object({ signature })

/** What every refusal looks like. */
export const refusalSchema = z.object({
  code: z.string().max(100),
  message: z.string().max(2_000),
  details: z.record(z.string(), z.unknown()).optional(),
})

/** The part of `GET /v1/status` that clients use. */
export const signerIdentitySchema = z.looseObject({
  signer: z.string(),
  chainId: z.number().int(),
  entrance: z.string(),
  epoch: z.number().int().optional(),
})

/** A sub-line with its path, as `u32 BE length ‖ data ‖ u8 path length ‖ path`. */
export function encodeSubline({ data, path }: { data: Uint8Array; path: Uint8Array }): Uint8Array {
  const bytes = Buffer.alloc(5 + data.length + path.length)
  bytes.writeUInt32BE(data.length, 0)
  bytes.set(data, 4)
  bytes.writeUInt8(path.length / 32, 4 + data.length)
  bytes.set(path, 5 + data.length)
  return bytes
}

/** @throws WireError */
export function decodeSubline(bytes: Uint8Array): { data: Uint8Array; path: Uint8Array } {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const length = view.length < 4 ? -1 : view.readUInt32BE(0)
  const hashes = length < 0 || 4 + length >= view.length ? -1 : view.readUInt8(4 + length)
  if (hashes < 0 || view.length !== 5 + length + 32 * hashes) throw new WireError('the sub-line has a wrong length')
  return { data: bytes.subarray(4, 4 + length), path: bytes.subarray(5 + length) }
}

/** Largest encoded sub-line: 1 KiB and a path of 31 hashes. */
export const MAX_SUBLINE_BYTES = 5 + 1024 + 31 * 32

/** The hash of a root, for the address line. @throws WireError */
export function parseDataRoot(text: string): Hash {
  const parsed = hash.safeParse(text.toLowerCase())
  if (parsed.success) return parsed.data
  throw new WireError(`${text.slice(0, 80)} is no data root: 0x and 64 hex digits`)
}
