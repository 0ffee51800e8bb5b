import { keccak256 } from '#kernels/keccak.ts'
import { WeightlessError } from '../error.ts'
import { bytesEqual, type Hash } from '../hex.ts'

/**
 * The description of a stored directory, itself stored as a file whose root names the directory (storage-node §5.7):
 * magic 32 ‖ version u16 big-endian ‖ JSON of the tree. The same as 0g-storage-client's, so that either reads the other.
 */

/** A regular file. Empty files have no roots: there is nothing to store. Several roots are fragments in order. */
export interface FileEntry {
  type: 'file'
  name: string
  sizeBytes: number
  roots: Hash[]
}

/** A symbolic link. The target is a stranger's text: check it before making a link of it. */
export interface LinkEntry {
  type: 'symbolic'
  name: string
  link: string
}

/** A directory; entries have distinct names and are sorted by their UTF-8 bytes. The root is called `/`. */
export interface DirectoryEntry {
  type: 'directory'
  name: string
  entries: DirectoryNode[]
}

export type DirectoryNode = FileEntry | LinkEntry | DirectoryEntry

/** A description that is none. Code `DIRECTORY`; `details.path` says where. */
export class DirectoryError extends WeightlessError {}

/** Bytes of the largest description that is read. */
export const MAX_DIRECTORY_BYTES = 64 * 1024 * 1024

/** Deepest directory that is read or written. */
export const MAX_DIRECTORY_DEPTH = 128

const MAGIC = keccak256(new TextEncoder().encode('0g-storage-client-dir-codec'))
const HEADER_BYTES = MAGIC.length + 2
const VERSION = 2
const MAX_NAME_BYTES = 255
const ROOT_NAME = '/'
const HASH = /^0x[0-9a-fA-F]{64}$/

/**
 * The description of a directory. Entries may be in any order.
 *
 * @throws DirectoryError
 */
export function encodeDirectory(root: DirectoryEntry): Uint8Array {
  const json = Buffer.from(JSON.stringify(toJson({ ...root, name: ROOT_NAME }, { path: '', depth: 0 })))
  if (HEADER_BYTES + json.length > MAX_DIRECTORY_BYTES) throw tooLarge(HEADER_BYTES + json.length)
  const bytes = new Uint8Array(HEADER_BYTES + json.length)
  bytes.set(MAGIC)
  new DataView(bytes.buffer).setUint16(MAGIC.length, VERSION)
  bytes.set(json, HEADER_BYTES)
  return bytes
}

/** Whether a file begins as a directory description does. */
export function isDirectory(bytes: Uint8Array): boolean {
  return bytesEqual(bytes.subarray(0, MAGIC.length), MAGIC)
}

/**
 * The directory described. Every name in the result is safe to be joined to a path.
 *
 * @throws DirectoryError when it is no description, is too large or too deep, or names a file unsafely
 */
export function decodeDirectory(bytes: Uint8Array): DirectoryEntry {
  if (!isDirectory(bytes) || bytes.length < HEADER_BYTES) throw directoryError('the file describes no directory', '')
  if (bytes.length > MAX_DIRECTORY_BYTES) throw tooLarge(bytes.length)
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint16(MAGIC.length)
  if (version !== 1 && version !== VERSION) throw directoryError(`version ${version} is not known`, '')
  const node = fromJson(parseJson(bytes.subarray(HEADER_BYTES)), { path: '', depth: 0 })
  if (node.type !== 'directory') throw directoryError('the root is not a directory', '')
  return { ...node, name: ROOT_NAME }
}

/** Every file and link with its path below the root, directories before what is in them. */
export function* walkDirectory(
  directory: DirectoryEntry,
  prefix = '',
): Generator<{ path: string; node: DirectoryNode }> {
  for (const node of directory.entries) {
    const path = `${prefix}${node.name}`
    yield { path, node }
    if (node.type === 'directory') yield* walkDirectory(node, `${path}/`)
  }
}

interface Place {
  path: string
  depth: number
}

function toJson(node: DirectoryNode, place: Place): Record<string, unknown> {
  const { name, type } = node
  if (place.depth > 0) checkName(name, place)
  checkDepth(place)
  if (node.type === 'symbolic') return { name, type, link: node.link }
  if (node.type === 'file') {
    checkFile(node, place)
    return node.sizeBytes === 0 ? { name, type } : { name, type, roots: node.roots, size: node.sizeBytes }
  }
  const entries = sortEntries(node.entries, place).map((entry) => toJson(entry, inside(place, entry.name)))
  return entries.length === 0 ? { name, type } : { name, type, entries }
}

function fromJson(value: unknown, place: Place): DirectoryNode {
  checkDepth(place)
  if (typeof value !== 'object' || value === null) throw directoryError('an entry is no object', place.path)
  const { name, type, hash, roots, size, link, entries }: Partial<Record<string, unknown>> = { ...value }
  if (typeof name !== 'string') throw directoryError('an entry has no name', place.path)
  if (place.depth > 0) checkName(name, place)
  if (type === 'symbolic' && typeof link === 'string') return { type, name, link }
  if (type === 'file') {
    const list: unknown[] = Array.isArray(roots) ? roots : hash === undefined ? [] : [hash]
    const file: FileFields = {
      type,
      name,
      sizeBytes: size ?? 0,
      roots: list.map((root) => (isHash(root) ? lower(root) : root)),
    }
    checkFile(file, place)
    return file
  }
  if (type !== 'directory' || !(entries === undefined || entries === null || Array.isArray(entries))) {
    throw directoryError('an entry is neither file, directory nor symbolic link', place.path)
  }
  const nodes = (entries ?? []).map((entry: unknown) => fromJson(entry, inside(place, nameOf(entry))))
  return { type, name, entries: sortEntries(nodes, place) }
}

interface FileFields {
  type: 'file'
  name: string
  sizeBytes: unknown
  roots: unknown[]
}

function checkFile(file: FileFields, { path }: Place): asserts file is FileEntry {
  const { sizeBytes, roots } = file
  if (typeof sizeBytes !== 'number' || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw directoryError('a file has no size', path)
  }
  if (!roots.every(isHash)) throw directoryError('a root is no 32-byte hash', path)
  if (sizeBytes > 0 !== roots.length > 0) throw directoryError('a file must have roots, unless it is empty', path)
}

/** A copy in the order of UTF-8 bytes. */
function sortEntries(entries: readonly DirectoryNode[], { path }: Place): DirectoryNode[] {
  const sorted = [...entries].sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
  sorted.forEach(({ name }, i) => {
    if (i > 0 && sorted[i - 1]?.name === name) throw directoryError('two entries have the same name', `${path}/${name}`)
  })
  return sorted
}

/** Refuses names that mean something to a file system: separators, parents and NUL. */
function checkName(name: string, { path }: Place): void {
  const bytes = Buffer.byteLength(name)
  const wellFormed = name.isWellFormed() && bytes > 0 && bytes <= MAX_NAME_BYTES
  if (wellFormed && name !== '.' && name !== '..' && !/[/\\\0]/.test(name)) return
  throw directoryError('an entry has a name that no file may have', path)
}

function checkDepth({ path, depth }: Place): void {
  if (depth > MAX_DIRECTORY_DEPTH) throw directoryError(`it is deeper than ${MAX_DIRECTORY_DEPTH} levels`, path)
}

function inside({ path, depth }: Place, name: string): Place {
  return { path: `${path}/${name}`.slice(0, 1024), depth: depth + 1 }
}

function nameOf(entry: unknown): string {
  return typeof entry === 'object' && entry !== null && 'name' in entry ? String(entry.name) : ''
}

function isHash(value: unknown): value is Hash {
  return typeof value === 'string' && HASH.test(value)
}

function lower(hash: Hash): Hash {
  return `0x${hash.slice(2).toLowerCase()}`
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw directoryError('its text is no JSON', '', cause)
  }
}

function tooLarge(bytes: number): DirectoryError {
  return new DirectoryError({
    code: 'DIRECTORY',
    message: `a directory description of ${bytes} bytes is larger than the limit of ${MAX_DIRECTORY_BYTES}`,
    fix: 'split the directory',
    details: { bytes, limit: MAX_DIRECTORY_BYTES },
  })
}

function directoryError(what: string, path: string, cause?: unknown): DirectoryError {
  return new DirectoryError({ code: 'DIRECTORY', message: `not a directory: ${what}`, details: { path }, cause })
}
