import { z } from 'zod'
import { keccak256 } from '#kernels/keccak.ts'
import { WeightlessError } from '#protocol/error.ts'
import { bytesEqual, type Hash } from '#protocol/hex.ts'
import { hashSchema } from '../wire.ts'

/** An entry of an uploaded directory. A file lists the roots of its fragments, none when it is empty. */
export interface DirectoryNode {
  name: string
  type: 'file' | 'directory' | 'symbolic'
  sizeBytes: number
  roots: Hash[]
  link: string
  entries: DirectoryNode[]
}

/** Bytes that are not a directory's metadata. */
export class InvalidDirectoryError extends WeightlessError {}

const MAGIC = keccak256(new TextEncoder().encode('0g-storage-client-dir-codec'))
const HEADER_BYTES = MAGIC.length + 2
const VERSIONS = [1, 2]
const MAX_DEPTH = 256

/**
 * Reads a directory's metadata (storage-node §5.7): magic, version 1 or 2, JSON.
 *
 * @throws InvalidDirectoryError `DIRECTORY`
 */
export function decodeDirectory(bytes: Uint8Array): DirectoryNode {
  if (bytes.length < HEADER_BYTES || !bytesEqual(bytes.subarray(0, MAGIC.length), MAGIC)) {
    throw invalid('the file is not the metadata of a directory')
  }
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint16(MAGIC.length)
  if (!VERSIONS.includes(version)) throw invalid(`directory version ${version} is not known`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(HEADER_BYTES)))
  } catch (cause) {
    throw invalid('the metadata of the directory is not JSON', cause)
  }
  return readNode(json, 0)
}

const nodeSchema = z.object({
  name: z.string().max(4096),
  type: z.enum(['file', 'directory', 'symbolic']),
  size: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).nullish(),
  hash: hashSchema.nullish().catch(null),
  roots: z.array(hashSchema).nullish(),
  link: z.string().max(4096).nullish(),
  entries: z.array(z.unknown()).nullish(),
})

function readNode(json: unknown, depth: number): DirectoryNode {
  if (depth > MAX_DEPTH) throw invalid(`the directory is nested deeper than ${MAX_DEPTH}`)
  const checked = nodeSchema.safeParse(json)
  if (!checked.success) throw invalid(`an entry of the directory is not valid: ${checked.error.issues[0]?.message}`)
  const { name, type, size, hash, roots, link, entries } = checked.data
  return {
    name,
    type,
    sizeBytes: size ?? 0,
    roots: size === 0 ? [] : (roots ?? (hash == null ? [] : [hash])),
    link: link ?? '',
    entries: (entries ?? []).map((entry) => readNode(entry, depth + 1)),
  }
}

function invalid(message: string, cause?: unknown): InvalidDirectoryError {
  return new InvalidDirectoryError({ code: 'DIRECTORY', message, cause })
}
