import { randomBytes } from 'node:crypto'
import { type FileHandle, link, mkdir, open, rename, stat, statfs, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { WeightlessError } from '#protocol/error.ts'
import type { ByteSource } from '#protocol/storage/file-tree.ts'

/** A file that cannot be read or written as asked. Codes `FILE_MISSING`, `FILE_READ`, `FILE_WRITE`, `FILE_EXISTS`,
 *  `FILE_CHANGED`, `FILE_RANGE`, `FILE_KIND`. */
export class FileError extends WeightlessError {}

/** A file as a source of bytes for the file tree and the uploader. */
export interface FileSource extends ByteSource, AsyncDisposable {
  readonly path: string
  /** Bytes `offset .. offset + length`; the range must lie inside the file. */
  read(range: { offset: number; length: number }): Promise<Uint8Array>
  /** Fills `target` from `offset` without an allocation; at the end of the file fewer bytes. Returns bytes read. */
  readInto(range: { offset: number; target: Uint8Array }): Promise<number>
  close(): Promise<void>
}

/**
 * Opens a regular file for positioned reads. The size is taken once: a file that shrinks later fails with
 * `FILE_CHANGED`, one that grows is read to its first size. Reads may run side by side.
 *
 * @throws FileError `FILE_MISSING`, `FILE_KIND` (a folder, a pipe), `FILE_READ`.
 * @example
 * await using source = await fileSource('model.gguf')
 * const head = await source.read({ offset: 0, length: 256 })
 */
export async function fileSource(path: string): Promise<FileSource> {
  const handle = await openToRead(path)
  let sizeBytes: number
  try {
    const found = await handle.stat()
    if (!found.isFile()) {
      throw new FileError({
        code: 'FILE_KIND',
        message: `${path} is not a regular file`,
        fix: found.isDirectory() ? 'give a file, or upload the folder as a directory' : 'copy it to a file first',
        details: { path },
      })
    }
    sizeBytes = found.size
  } catch (error) {
    await handle.close()
    throw error
  }

  async function readInto({ offset, target }: { offset: number; target: Uint8Array }): Promise<number> {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > sizeBytes) throw outOfRange(path, offset, sizeBytes)
    const wanted = Math.min(target.length, sizeBytes - offset)
    let done = 0
    while (done < wanted) {
      const { bytesRead } = await readAt(handle, path, { target, done, length: wanted - done, position: offset + done })
      if (bytesRead === 0) {
        throw new FileError({
          code: 'FILE_CHANGED',
          message: `${path} ends at byte ${offset + done}, it had ${sizeBytes} bytes when it was opened`,
          fix: 'do not change the file while it is read; start again',
          details: { path, sizeBytes, endsAt: offset + done },
        })
      }
      done += bytesRead
    }
    return done
  }

  return {
    path,
    sizeBytes,
    readInto,
    async read({ offset, length }) {
      if (!Number.isSafeInteger(length) || length < 0 || offset + length > sizeBytes) {
        throw outOfRange(path, offset + length, sizeBytes)
      }
      const target = new Uint8Array(length)
      await readInto({ offset, target })
      return target
    },
    close: () => handle.close(),
    [Symbol.asyncDispose]: () => handle.close(),
  }
}

export interface AtomicWriteParameters {
  path: string
  data: Uint8Array | string
  /** Permission bits of the file. Default 0o644. */
  mode?: number | undefined
  /** Fail with `FILE_EXISTS` instead of replacing. Default false. */
  exclusive?: boolean | undefined
}

/**
 * Writes a whole file so that after a crash at any moment the path holds either the old content or the new one, complete:
 * a temporary file beside it is written, synced, renamed, and the folder synced. Missing folders are created.
 *
 * @throws FileError `FILE_WRITE` (disk full, no permission) or, with `exclusive`, `FILE_EXISTS`.
 * @example
 * await atomicWrite({ path: 'devnet.json', data: JSON.stringify(devnet) })
 */
export async function atomicWrite({
  path,
  data,
  mode = 0o644,
  exclusive = false,
}: AtomicWriteParameters): Promise<void> {
  const folder = dirname(path)
  const temporary = join(folder, `.${randomBytes(8).toString('hex')}.tmp`)
  try {
    await mkdir(folder, { recursive: true })
    const handle = await open(temporary, 'wx', mode)
    try {
      await handle.chmod(mode)
      await handle.writeFile(data)
      await handle.sync()
    } finally {
      await handle.close()
    }
    if (exclusive) {
      await link(temporary, path)
      await unlink(temporary)
    } else await rename(temporary, path)
    await syncFolder(folder)
  } catch (cause) {
    await unlink(temporary).catch(() => {})
    if (exclusive && errorCode(cause) === 'EEXIST' && Reflect.get(Object(cause), 'syscall') === 'link') {
      throw new FileError({
        code: 'FILE_EXISTS',
        message: `${path} exists already`,
        fix: 'choose another path, or remove the file yourself',
        details: { path },
        cause,
      })
    }
    throw new FileError({
      code: 'FILE_WRITE',
      message: `${path} could not be written: ${reason(cause)}`,
      fix: errorCode(cause) === 'ENOSPC' ? 'free some disk space' : 'check the folder and its permissions',
      details: { path, system: errorCode(cause) },
      cause,
    })
  }
}

/** Makes a folder's entries (files created, renamed, removed in it) durable. A no-op where folders cannot be synced. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Bytes an unprivileged user may still write on the disk that holds `path`; the nearest existing parent decides.
 *
 * @throws FileError `FILE_READ`.
 */
export async function freeDiskBytes(path: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(path, { bigint: true })
    return Number(bavail * bsize)
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT' && dirname(path) !== path) return freeDiskBytes(dirname(path))
    throw unreadable(path, cause)
  }
}

export interface ReadSmallFileParameters {
  path: string
  /** Refuse larger files. Default 1 MiB. */
  maxBytes?: number | undefined
}

/**
 * Reads a small text file whole, with a cap on its size.
 *
 * @throws FileError `FILE_MISSING`, `FILE_READ`, `FILE_RANGE` (larger than `maxBytes`).
 */
export async function readSmallFile({ path, maxBytes = 2 ** 20 }: ReadSmallFileParameters): Promise<string> {
  const handle = await openToRead(path)
  try {
    const buffer = Buffer.allocUnsafe(Math.min(maxBytes, (await stat(path)).size) + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length)
      if (bytesRead === 0) return buffer.toString('utf8', 0, length)
      length += bytesRead
    }
    throw new FileError({
      code: 'FILE_RANGE',
      message: `${path} is larger than ${maxBytes} bytes`,
      fix: 'this is not the file that is meant',
      details: { path, maxBytes },
    })
  } catch (cause) {
    if (cause instanceof FileError) throw cause
    throw unreadable(path, cause)
  } finally {
    await handle.close()
  }
}

async function openToRead(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r')
  } catch (cause) {
    throw unreadable(path, cause)
  }
}

async function readAt(
  handle: FileHandle,
  path: string,
  { target, done, length, position }: { target: Uint8Array; done: number; length: number; position: number },
): Promise<{ bytesRead: number }> {
  try {
    return await handle.read(target, done, length, position)
  } catch (cause) {
    throw unreadable(path, cause)
  }
}

function unreadable(path: string, cause: unknown): FileError {
  const missing = errorCode(cause) === 'ENOENT' || errorCode(cause) === 'ENOTDIR'
  return new FileError({
    code: missing ? 'FILE_MISSING' : 'FILE_READ',
    message: missing ? `${path} does not exist` : `${path} could not be read: ${reason(cause)}`,
    fix: missing ? 'check the path' : 'check the permissions and the disk',
    details: { path, system: errorCode(cause) },
    cause,
  })
}

function outOfRange(path: string, end: number, sizeBytes: number): FileError {
  return new FileError({
    code: 'FILE_RANGE',
    message: `byte ${end} is outside ${path}, which has ${sizeBytes} bytes`,
    details: { path, end, sizeBytes },
  })
}

function errorCode(error: unknown): string | undefined {
  const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
  return typeof code === 'string' ? code : undefined
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
