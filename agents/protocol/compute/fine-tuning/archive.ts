import { crc32 } from 'node:zlib'
import { concatBytes } from '@noble/hashes/utils.js'
import { FineTuningFormatError } from './error.ts'

/** One file of an archive. */
export interface ArchiveFile {
  /** Without folders. */
  name: string
  data: Uint8Array
}

/** Files in an archive, and its size in all: beyond these it is refused. */
const MAX_FILES = 64
const MAX_BYTES = 2 ** 32 - 1
const LOCAL = 0x04034b50
const CENTRAL = 0x02014b50
const END = 0x06054b50
/** 1 January 1980: the same files give the same bytes. */
const DATE = 0x21

/** A file of an archive to be: its size, and CRC-32 as ZIP takes it. */
export interface ArchiveEntry {
  name: string
  sizeBytes: number
  crc: number
}

/**
 * What stands around the files of an archive: `heads[i]` before file i, `tail` after the last. For whoever copies files
 * that are too large to be held.
 *
 * @throws FineTuningFormatError `ARCHIVE_FORMAT` for names with folders, too many files, more than 4 GiB
 */
export function archiveLayout(files: readonly ArchiveEntry[]): { heads: Uint8Array[]; tail: Uint8Array } {
  const heads: Uint8Array[] = []
  const directory: Uint8Array[] = []
  let offset = 0
  for (const { name, sizeBytes, crc } of files) {
    checkName(name)
    const encoded = new TextEncoder().encode(name)
    const fields = [20, 0x0800, 0, 0, DATE] as const
    const sizes = [crc, sizeBytes, sizeBytes] as const
    const head = concatBytes(record(LOCAL, [...fields], [...sizes], [encoded.length, 0]), encoded)
    directory.push(record(CENTRAL, [20, ...fields], [...sizes], [encoded.length, 0, 0, 0, 0], [0, offset]), encoded)
    heads.push(head)
    offset += head.length + sizeBytes
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0)
  if (offset + size > MAX_BYTES || files.length > MAX_FILES) throw unreadable('it would be too large')
  const end = record(END, [0, 0, files.length, files.length], [size, offset], [0])
  return { heads, tail: concatBytes(...directory, end) }
}

/** A ZIP of files stored as they are (weights do not compress), in the layout every unzip reads (APPNOTE 6.3). */
export function writeArchive(files: readonly ArchiveFile[]): Uint8Array {
  const { heads, tail } = archiveLayout(
    files.map(({ name, data }) => ({ name, sizeBytes: data.length, crc: crc32(data) })),
  )
  return concatBytes(...files.flatMap(({ data }, i) => [heads[i] ?? new Uint8Array(0), data]), tail)
}

/** Most bytes that {@link readArchiveHead} looks at. */
export const MAX_ARCHIVE_HEAD_BYTES = 30 + 2 * 0xffff

/**
 * The head of a file in an archive that {@link writeArchive} made, and how long the head is; undefined after the last file.
 * `bytes` begin with it; the file follows.
 *
 * @throws FineTuningFormatError `ARCHIVE_FORMAT` for damaged or compressed ones, and names with folders
 */
export function readArchiveHead(bytes: Uint8Array): { entry: ArchiveEntry; headBytes: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  try {
    if (view.getUint32(0, true) !== LOCAL) return undefined
    const nameBytes = view.getUint16(26, true)
    const headBytes = 30 + nameBytes + view.getUint16(28, true)
    if (headBytes > bytes.length) throw unreadable('it is cut short')
    const name = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(30, 30 + nameBytes))
    if (view.getUint16(8, true) !== 0) throw unreadable(`${name.slice(0, 80)} is compressed`)
    checkName(name)
    return { entry: { name, crc: view.getUint32(14, true), sizeBytes: view.getUint32(18, true) }, headBytes }
  } catch (cause) {
    if (cause instanceof FineTuningFormatError) throw cause
    throw unreadable('it is cut short', cause)
  }
}

/**
 * The files of an archive that {@link writeArchive} made.
 *
 * @throws FineTuningFormatError `ARCHIVE_FORMAT` for damaged, compressed or oversized ones, and names with folders
 */
export function readArchive(bytes: Uint8Array): ArchiveFile[] {
  const files: ArchiveFile[] = []
  for (let at = 0; ; ) {
    const head = readArchiveHead(bytes.subarray(at, at + MAX_ARCHIVE_HEAD_BYTES))
    if (head === undefined) break
    checkArchiveFiles(files.length)
    const { name, sizeBytes, crc } = head.entry
    const start = at + head.headBytes
    const data = bytes.subarray(start, start + sizeBytes)
    if (data.length < sizeBytes) throw unreadable(`${name} is cut short`)
    if (crc32(data) !== crc) throw archiveDamaged(name)
    files.push({ name, data })
    at = start + sizeBytes
  }
  if (files.length === 0) throw unreadable('it has no files')
  return files
}

/** @throws FineTuningFormatError `ARCHIVE_FORMAT` where one more file than `have` would be too many */
export function checkArchiveFiles(have: number): void {
  if (have === MAX_FILES) throw unreadable(`it has more than ${MAX_FILES} files`)
}

/** The error of a name that would replace something else. */
export function archiveNameRefused(name: string): FineTuningFormatError {
  return unreadable(`a file is called ${JSON.stringify(name.slice(0, 80))}`)
}

/** The error of a file whose CRC-32 is another, or that is cut short. */
export function archiveDamaged(name: string): FineTuningFormatError {
  return unreadable(`${name} is damaged`)
}

function record(
  signature: number,
  shorts: readonly number[],
  words: readonly number[],
  more: readonly number[],
  last: readonly number[] = [],
): Uint8Array {
  // The central record has two short fields and a word of attributes before its offset; they are all zero here.
  const size = 4 + 2 * (shorts.length + more.length) + 4 * (words.length + last.length)
  const view = new DataView(new ArrayBuffer(size))
  view.setUint32(0, signature, true)
  let at = 4
  for (const value of shorts) at = put16(view, at, value)
  for (const value of words) at = put32(view, at, value)
  for (const value of more) at = put16(view, at, value)
  for (const value of last) at = put32(view, at, value)
  return new Uint8Array(view.buffer)
}

function put16(view: DataView, at: number, value: number): number {
  view.setUint16(at, value, true)
  return at + 2
}

function put32(view: DataView, at: number, value: number): number {
  view.setUint32(at, value, true)
  return at + 4
}

/** A name with a folder could leave the folder it is unpacked into. */
function checkName(name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)) throw archiveNameRefused(name)
}

function unreadable(why: string, cause?: unknown): FineTuningFormatError {
  return new FineTuningFormatError({
    code: 'ARCHIVE_FORMAT',
    message: `the archive cannot be used: ${why}`,
    fix: 'fetch it again; use unzip for archives made elsewhere',
    cause,
  })
}
