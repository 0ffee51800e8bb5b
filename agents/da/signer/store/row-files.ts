import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FileError, syncFolder } from '#kit/files.ts'
import { HASH_BYTES, MAX_PATH_HASHES, RLC_BYTES } from '#protocol/da/constants.ts'
import { rowPathHashes } from '#protocol/da/row-proof.ts'
import type { RowSlice } from '#protocol/da/slice.ts'
import { SignerError } from '../error.ts'
import type { BlobKey } from './blob-key.ts'

/** Room for one row's path: 12 hashes; rows of the last coset use 11 of them. */
const PATH_BYTES = MAX_PATH_HASHES * HASH_BYTES

/** Which rows a file holds, and how long each is. */
export interface RowExtent {
  readonly firstRow: number
  readonly rowCount: number
  readonly rowBytes: number
}

/** Bytes of a file: combinations, then the rows, then their paths. */
export function rowFileBytes({ rowCount, rowBytes }: Pick<RowExtent, 'rowCount' | 'rowBytes'>): number {
  return RLC_BYTES + rowCount * (rowBytes + PATH_BYTES)
}

/** A file on its way; nothing of it is to be seen before `commit`. */
export interface RowFileWriter {
  /** Rows in ascending order, the next after those written. */
  append(rows: readonly RowSlice[]): Promise<void>
  /** Makes the file durable under its name. A complete file that is there already is replaced. */
  commit(): Promise<void>
  /** Removes what was written; nothing after `commit`. */
  discard(): Promise<void>
}

/** Rows of one blob, on disk. */
export interface RowFileReader {
  rlc(): Promise<Uint8Array>
  /** `count` rows from `index` on, in two reads. @throws SignerError `ROWS_DAMAGED` when the file is short */
  rows(index: number, count: number): Promise<RowSlice[]>
  close(): Promise<void>
}

/**
 * The rows on disk: one file per blob and epoch, `EPOCH/ROOT-QUORUM.rows`. A file appears complete or not at all.
 */
export class RowFiles {
  readonly #dir: string

  constructor({ dir }: { dir: string }) {
    this.#dir = dir
  }

  pathOf({ dataRoot, epoch, quorumId }: BlobKey): string {
    return join(this.#dir, String(epoch), `${dataRoot.slice(2)}-${quorumId}.rows`)
  }

  /** Begins a file. @throws FileError `FILE_WRITE` */
  async create(key: BlobKey, extent: RowExtent, rlc: Uint8Array): Promise<RowFileWriter> {
    const dir = this.#dir
    const path = this.pathOf(key)
    const temporary = join(dirname(path), `.${randomBytes(8).toString('hex')}.tmp`)
    const handle = await guarded(path, async () => {
      await mkdir(dirname(path), { recursive: true })
      return open(temporary, 'wx', 0o640)
    })
    let written = 0
    let state: 'open' | 'done' = 'open'
    const { rowCount, rowBytes } = extent
    const pathsAt = RLC_BYTES + rowCount * rowBytes
    const discard = async (): Promise<void> => {
      if (state === 'done') return
      state = 'done'
      await handle.close().catch(() => {})
      await unlink(temporary).catch(() => {})
    }
    try {
      await guarded(path, () => writeAll(handle, [rlc], 0))
    } catch (error) {
      await discard()
      throw error
    }
    return {
      async append(rows) {
        const paths = Buffer.alloc(rows.length * PATH_BYTES)
        for (const [i, row] of rows.entries()) paths.set(row.path, i * PATH_BYTES)
        const data = rows.map((row) => row.data)
        await guarded(path, async () => {
          await writeAll(handle, data, RLC_BYTES + written * rowBytes)
          await writeAll(handle, [paths], pathsAt + written * PATH_BYTES)
        })
        written += rows.length
      },
      async commit() {
        await guarded(path, async () => {
          await handle.sync()
          await handle.close()
          await rename(temporary, path)
          state = 'done'
          await syncFolder(dirname(path))
          await syncFolder(dir)
        })
      },
      discard,
    }
  }

  /** @throws SignerError `ROWS_DAMAGED` when the file is missing */
  async open(key: BlobKey, { firstRow, rowCount, rowBytes }: RowExtent): Promise<RowFileReader> {
    const path = this.pathOf(key)
    let handle: FileHandle
    try {
      handle = await open(path, 'r')
    } catch (cause) {
      throw damaged(key, 'their file is missing', cause)
    }
    const read = async (length: number, position: number): Promise<Uint8Array> => {
      const target = new Uint8Array(length)
      let done = 0
      while (done < length) {
        const { bytesRead } = await handle.read(target, done, length - done, position + done)
        if (bytesRead === 0) throw damaged(key, 'their file is too short')
        done += bytesRead
      }
      return target
    }
    return {
      rlc: () => read(RLC_BYTES, 0),
      async rows(index, count) {
        const at = index - firstRow
        const data = await read(count * rowBytes, RLC_BYTES + at * rowBytes)
        const paths = await read(count * PATH_BYTES, RLC_BYTES + rowCount * rowBytes + at * PATH_BYTES)
        return Array.from({ length: count }, (_, i) => ({
          index: index + i,
          data: data.subarray(i * rowBytes, (i + 1) * rowBytes),
          path: paths.subarray(i * PATH_BYTES, i * PATH_BYTES + rowPathHashes(index + i) * HASH_BYTES),
        }))
      },
      close: () => handle.close(),
    }
  }

  /** Bytes of a blob's file; undefined when there is none. */
  async sizeOf(key: BlobKey): Promise<number | undefined> {
    try {
      const handle = await open(this.pathOf(key), 'r')
      try {
        return (await handle.stat()).size
      } finally {
        await handle.close()
      }
    } catch {
      return undefined
    }
  }

  /** Removes a blob's file; nothing when there is none. */
  async remove(key: BlobKey): Promise<void> {
    await unlink(this.pathOf(key)).catch(() => {})
    await rmdir(dirname(this.pathOf(key))).catch(() => {})
  }

  /** Removes files that `isKnown` does not name, half-written ones included. Returns how many. */
  async sweep(isKnown: (key: BlobKey) => boolean): Promise<number> {
    let removed = 0
    for (const folder of await names(this.#dir)) {
      const epoch = /^\d{1,15}$/.test(folder) ? Number(folder) : undefined
      for (const file of await names(join(this.#dir, folder))) {
        const match = /^([0-9a-f]{64})-(\d{1,9})\.rows$/.exec(file)
        const known =
          match !== null &&
          epoch !== undefined &&
          isKnown({ dataRoot: `0x${match[1]}`, epoch, quorumId: Number(match[2]) })
        if (known || !/\.(rows|tmp)$/.test(file)) continue
        await unlink(join(this.#dir, folder, file)).catch(() => {})
        removed += 1
      }
      await rmdir(join(this.#dir, folder)).catch(() => {})
    }
    return removed
  }
}

/** Rows that are on record and cannot be had from the disk. */
export function damaged(key: BlobKey, reason: string, cause?: unknown): SignerError {
  return new SignerError({
    code: 'ROWS_DAMAGED',
    message: `rows of ${key.dataRoot} (epoch ${key.epoch}) are damaged here: ${reason}`,
    fix: 'ask another signer; this one fetches them anew',
    details: { ...key },
    cause,
  })
}

async function names(dir: string): Promise<string[]> {
  return readdir(dir).catch(() => [])
}

/** Writes all parts one after another; a write may be short when the disk is nearly full. */
async function writeAll(handle: FileHandle, parts: readonly Uint8Array[], position: number): Promise<void> {
  // Node takes at most 1024 parts in one call.
  for (let from = 0; from < parts.length; from += 512) {
    let group = parts.slice(from, from + 512)
    while (group.length > 0) {
      const { bytesWritten } = await handle.writev(group as Uint8Array[], position)
      position += bytesWritten
      group = after(group, bytesWritten)
    }
  }
}

function after(parts: readonly Uint8Array[], written: number): Uint8Array[] {
  let left = written
  const rest: Uint8Array[] = []
  for (const part of parts) {
    if (left >= part.length) left -= part.length
    else {
      rest.push(left > 0 ? part.subarray(left) : part)
      left = 0
    }
  }
  return rest
}

async function guarded<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const system: unknown = Reflect.get(Object(cause), 'code')
    throw new FileError({
      code: 'FILE_WRITE',
      message: `${path} could not be written: ${cause instanceof Error ? cause.message : String(cause)}`,
      fix: system === 'ENOSPC' ? 'free some disk space' : 'check the folder and its permissions',
      details: { path, system },
      cause,
    })
  }
}
