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

/** A ZIP of files stored as they are (weights do not compress), in the layout every unzip reads (APPNOTE 6.3). */
export function writeArchive(files: readonly ArchiveFile[]): Uint8Array {
  const parts: Uint8Array[] = []
  const directory: Uint8Array[] = []
  let offset = 0
  for (const { name, data } of files) {
    checkName(name)
    const encoded = new TextEncoder().encode(name)
    const fields = [20, 0x0800, 0, 0, DATE] as const
    const sizes = [crc32(data), data.length, data.length] as const
    const head = record(LOCAL, [...fields], [...sizes], [encoded.length, 0])
    directory.push(record(CENTRAL, [20, ...fields], [...sizes], [encoded.length, 0, 0, 0, 0], [0, offset]), encoded)
    parts.push(head, encoded, data)
    offset += head.length + encoded.length + data.length
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0)
  if (offset + size > MAX_BYTES || files.length > MAX_FILES) throw unreadable('it would be too large')
  const end = record(END, [0, 0, files.length, files.length], [size, offset], [0])
  return concatBytes(...parts, ...directory, end)
}

/**
 * The files of an archive that {@link writeArchive} made.
 *
 * @throws FineTuningFormatError `ARCHIVE_FORMAT` for damaged, compressed or oversized ones, and names with folders
 */
export function readArchive(bytes: Uint8Array): ArchiveFile[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const files: ArchiveFile[] = []
  try {
    for (let at = 0; view.getUint32(at, true) === LOCAL; ) {
      if (files.length === MAX_FILES) throw unreadable(`it has more than ${MAX_FILES} files`)
      const [method, crc, size] = [
        view.getUint16(at + 8, true),
        view.getUint32(at + 14, true),
        view.getUint32(at + 18, true),
      ]
      const nameBytes = view.getUint16(at + 26, true)
      const start = at + 30 + nameBytes + view.getUint16(at + 28, true)
      const name = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(at + 30, at + 30 + nameBytes))
      if (method !== 0) throw unreadable(`${name.slice(0, 80)} is compressed`)
      checkName(name)
      if (start + size > bytes.length) throw unreadable(`${name} is cut short`)
      const data = bytes.subarray(start, start + size)
      if (crc32(data) !== crc) throw unreadable(`${name} is damaged`)
      files.push({ name, data })
      at = start + size
    }
  } catch (cause) {
    if (cause instanceof FineTuningFormatError) throw cause
    throw unreadable('it is cut short', cause)
  }
  if (files.length === 0) throw unreadable('it has no files')
  return files
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
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name))
    throw unreadable(`a file is called ${JSON.stringify(name.slice(0, 80))}`)
}

function unreadable(why: string, cause?: unknown): FineTuningFormatError {
  return new FineTuningFormatError({
    code: 'ARCHIVE_FORMAT',
    message: `the archive cannot be used: ${why}`,
    fix: 'fetch it again; use unzip for archives made elsewhere',
    cause,
  })
}
