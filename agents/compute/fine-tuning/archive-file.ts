import { createReadStream, createWriteStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { crc32 } from 'node:zlib'
import {
  type ArchiveEntry,
  archiveDamaged,
  archiveLayout,
  archiveNameRefused,
  checkArchiveFiles,
  MAX_ARCHIVE_HEAD_BYTES,
  readArchiveHead,
} from '#protocol/compute/fine-tuning/archive.ts'

/** Bytes copied at once. */
const PIECE_BYTES = 2 ** 20

/** A file to be packed. */
export interface FileToPack {
  /** In the archive, without folders. */
  name: string
  path: string
}

/**
 * Packs files into an archive, a piece at a time: each is read twice, none is held. The archive appears at `to` whole or not
 * at all, readable by its owner alone.
 *
 * @throws FineTuningFormatError `ARCHIVE_FORMAT`; file errors
 */
export async function packArchiveFile({ files, to }: { files: readonly FileToPack[]; to: string }): Promise<void> {
  const entries: ArchiveEntry[] = []
  for (const { name, path } of files) {
    const { size: sizeBytes } = await stat(path)
    let crc = 0
    for await (const piece of pieces(path, sizeBytes)) crc = crc32(piece, crc)
    entries.push({ name, sizeBytes, crc })
  }
  const { heads, tail } = archiveLayout(entries)
  const part = `${to}.part`
  async function* parts(): AsyncGenerator<Uint8Array> {
    for (const [i, { path }] of files.entries()) {
      yield heads[i] ?? new Uint8Array(0)
      yield* pieces(path, entries[i]?.sizeBytes ?? 0)
    }
    yield tail
  }
  await pipeline(parts, createWriteStream(part, { mode: 0o600, flush: true }))
  await rename(part, to)
}

/**
 * Unpacks an archive into a folder, a piece at a time; what is there by the same names is replaced. A file appears whole and
 * checked or not at all. Returns the names.
 *
 * @throws FineTuningFormatError `ARCHIVE_FORMAT`; file errors
 */
export async function unpackArchiveFile(parameters: {
  from: string
  folder: string
  /** Names that are refused: files of the folder that no archive may replace. */
  reserved?: ReadonlySet<string> | undefined
}): Promise<string[]> {
  const { from, folder, reserved } = parameters
  const names: string[] = []
  const source = await open(from, 'r')
  try {
    const buffer = new Uint8Array(MAX_ARCHIVE_HEAD_BYTES)
    for (let at = 0; ; ) {
      const { bytesRead } = await source.read(buffer, 0, buffer.length, at)
      const head = readArchiveHead(buffer.subarray(0, bytesRead))
      if (head === undefined) break
      checkArchiveFiles(names.length)
      const { name, sizeBytes, crc } = head.entry
      if (reserved?.has(name)) throw archiveNameRefused(name)
      const to = join(folder, name)
      await unpackOne({ from, start: at + head.headBytes, sizeBytes, crc, to, name })
      names.push(name)
      at += head.headBytes + sizeBytes
    }
  } finally {
    await source.close()
  }
  return names
}

async function unpackOne(parameters: {
  from: string
  start: number
  sizeBytes: number
  crc: number
  to: string
  name: string
}): Promise<void> {
  const { from, start, sizeBytes, crc, to, name } = parameters
  const part = `${to}.part`
  let found = 0
  let copied = 0
  await pipeline(
    async function* () {
      for await (const piece of pieces(from, sizeBytes, start)) {
        found = crc32(piece, found)
        copied += piece.length
        yield piece
      }
    },
    createWriteStream(part, { flush: true }),
  )
  if (found !== crc || copied !== sizeBytes) {
    await rm(part, { force: true })
    throw archiveDamaged(name)
  }
  await rename(part, to)
}

/** `sizeBytes` of a file from `start`, less where it is shorter. */
async function* pieces(path: string, sizeBytes: number, start = 0): AsyncGenerator<Uint8Array> {
  if (sizeBytes === 0) return
  const stream = createReadStream(path, { start, end: start + sizeBytes - 1, highWaterMark: PIECE_BYTES })
  for await (const piece of stream) yield piece as Uint8Array
}
