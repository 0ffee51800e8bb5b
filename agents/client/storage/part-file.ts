import { type FileHandle, open, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { foldRoots, segmentRoot as hashHere } from '#kernels/merkle.ts'
import { sharedMerklePool } from '#kernels/merkle-pool.ts'
import { freeDiskBytes } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import { HASH_BYTES, SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { paddedSegmentCount, segmentCount, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import { reasonOf } from './errors.ts'

/** One stored file inside a download: a plain download has one, a file split on upload has several. */
export interface Fragment {
  root: Hash
  sizeBytes: number
}

/**
 * A download under way: `<path>.part` holds the bytes, `<path>.part.state` which segments are there, as the hash each
 * must have. On resume every segment named there is hashed again, so neither a crash nor a changed file goes unseen.
 */
export interface PartFile {
  readonly partPath: string
  /** Segments of fragment `which` that are still wanted. */
  wanted(which: number): number[]
  write(segment: { which: number; index: number; data: Uint8Array; segmentRoot: Uint8Array }): Promise<void>
  /** Check the whole against the roots and close. The file stays at `partPath`. */
  complete(): Promise<void>
  /** Take it to its place, after `complete`. */
  moveTo(path: string): Promise<void>
  /** Close and keep everything for a later resume. */
  close(): Promise<void>
  /** Remove both files. */
  discard(): Promise<void>
}

/** Part files that cannot be used, or a disk that cannot take them. Codes `DISK_FULL`, `PART_CORRUPT`. */
export class PartFileError extends WeightlessError {}

const STATE_VERSION = 1
/** Segments after which the state is written: what a crash may cost. */
const SAVE_EVERY = 64
const HEADER_PREFIX_BYTES = 4
const MAX_HEADER_BYTES = 1 << 20

/**
 * Open or begin the part file of a download.
 *
 * @throws PartFileError `DISK_FULL`; the system's error when the folder cannot be written
 */
export async function openPartFile({
  path,
  fragments,
  signal,
  onChecked,
}: {
  path: string
  fragments: readonly Fragment[]
  signal?: AbortSignal | undefined
  /** Bytes found intact on resume. */
  onChecked?: ((bytes: number) => void) | undefined
}): Promise<PartFile> {
  const partPath = `${path}.part`
  const statePath = `${partPath}.state`
  const layout = lay(fragments)
  const data = await open(partPath, 'a+').then(async (handle) => {
    await handle.close()
    return open(partPath, 'r+')
  })
  let state: FileHandle | undefined
  try {
    const before = await readState(statePath, layout)
    const { size } = await data.stat()
    const roots = before ?? new Uint8Array(layout.rootsBytes)
    if (before === undefined) {
      if (size > 0) await data.truncate(0)
      await checkDisk(path, layout.sizeBytes)
      state = await open(statePath, 'w+')
      await state.write(layout.header, 0, layout.header.length, 0)
    } else {
      await checkDisk(path, layout.sizeBytes - Math.min(size, layout.sizeBytes))
      state = await open(statePath, 'r+')
      await recheck({ data, fragments, layout, roots, signal, onChecked })
    }
    return handlePart({ partPath, statePath, data, state, layout, fragments, roots })
  } catch (error) {
    await data.close()
    await state?.close()
    throw error
  }
}

interface Layout {
  header: Buffer
  rootsBytes: number
  sizeBytes: number
  /** For each fragment: first byte in the file, first entry among the roots. */
  starts: { offset: number; entry: number }[]
}

function lay(fragments: readonly Fragment[]): Layout {
  const json = Buffer.from(
    JSON.stringify({ version: STATE_VERSION, fragments: fragments.map(({ root, sizeBytes }) => [root, sizeBytes]) }),
  )
  const header = Buffer.alloc(HEADER_PREFIX_BYTES + json.length)
  header.writeUInt32BE(json.length)
  json.copy(header, HEADER_PREFIX_BYTES)
  const starts: Layout['starts'] = []
  let offset = 0
  let entry = 0
  for (const { sizeBytes } of fragments) {
    starts.push({ offset, entry })
    offset += sizeBytes
    entry += segmentCount(sizeBytes)
  }
  return { header, rootsBytes: entry * HASH_BYTES, sizeBytes: offset, starts }
}

function startOf(layout: Layout, which: number): { offset: number; entry: number } {
  const start = layout.starts[which]
  if (start === undefined) throw new RangeError(`the download has no fragment ${which}`)
  return start
}

function handlePart({
  partPath,
  statePath,
  data,
  state,
  layout,
  fragments,
  roots,
}: {
  partPath: string
  statePath: string
  data: FileHandle
  state: FileHandle
  layout: Layout
  fragments: readonly Fragment[]
  roots: Uint8Array
}): PartFile {
  let closed = false
  let unsaved = 0
  let first = Number.POSITIVE_INFINITY
  let last = -1
  const save = async () => {
    if (unsaved === 0) return
    const range = roots.slice(first * HASH_BYTES, (last + 1) * HASH_BYTES)
    const position = layout.header.length + first * HASH_BYTES
    unsaved = 0
    first = Number.POSITIVE_INFINITY
    last = -1
    await writeAll(state, range, position, statePath)
  }
  const close = async () => {
    if (closed) return
    closed = true
    await save().catch(() => {})
    await data.close()
    await state.close()
  }
  const fragmentAt = (which: number): Fragment => {
    const fragment = fragments[which]
    if (fragment === undefined) throw new RangeError(`the download has no fragment ${which}`)
    return fragment
  }
  return {
    partPath,
    wanted: (which) => {
      const { entry } = startOf(layout, which)
      const missing: number[] = []
      for (let index = 0; index < segmentCount(fragmentAt(which).sizeBytes); index++) {
        if (isZero(roots, entry + index)) missing.push(index)
      }
      return missing
    },
    write: async ({ which, index, data: bytes, segmentRoot }) => {
      const { offset, entry } = startOf(layout, which)
      const room = fragmentAt(which).sizeBytes - index * SEGMENT_BYTES
      await writeAll(data, bytes.subarray(0, room), offset + index * SEGMENT_BYTES, partPath)
      // After the data: an entry whose data is not there is found out on resume, but costs a second download.
      roots.set(segmentRoot, (entry + index) * HASH_BYTES)
      first = Math.min(first, entry + index)
      last = Math.max(last, entry + index)
      unsaved += 1
      if (unsaved >= SAVE_EVERY) await save()
    },
    complete: async () => {
      for (const [which, { root, sizeBytes }] of fragments.entries()) {
        const { entry } = startOf(layout, which)
        const whole = new Uint8Array(paddedSegmentCount(sizeBytes) * HASH_BYTES)
        whole.set(roots.subarray(entry * HASH_BYTES, (entry + segmentCount(sizeBytes)) * HASH_BYTES))
        for (let index = segmentCount(sizeBytes); index < paddedSegmentCount(sizeBytes); index++) {
          whole.set(hashHere(new Uint8Array(0), segmentPaddedSectors(sizeBytes, index)), index * HASH_BYTES)
        }
        const got = toHex(foldRoots(whole))
        if (got === root) continue
        throw new PartFileError({
          code: 'PART_CORRUPT',
          message: `${partPath} hashes to ${got}, not to ${root}`,
          fix: `remove ${partPath} and ${statePath}, then download again`,
          details: { path: partPath, root, got },
        })
      }
      await data.truncate(layout.sizeBytes)
      await close()
    },
    moveTo: async (path) => {
      await rename(partPath, path)
      await unlink(statePath).catch(() => {})
    },
    close,
    discard: async () => {
      await close()
      await unlink(partPath).catch(() => {})
      await unlink(statePath).catch(() => {})
    },
  }
}

/** The roots of an earlier try at the same fragments, or undefined where there is none to go on from. */
async function readState(statePath: string, layout: Layout): Promise<Uint8Array | undefined> {
  let handle: FileHandle
  try {
    handle = await open(statePath, 'r')
  } catch {
    return undefined
  }
  try {
    if (layout.header.length > MAX_HEADER_BYTES) return undefined
    const header = Buffer.alloc(layout.header.length)
    await handle.read(header, 0, header.length, 0)
    if (!header.equals(layout.header)) return undefined
    const roots = new Uint8Array(layout.rootsBytes)
    await handle.read(roots, 0, roots.length, header.length)
    return roots
  } finally {
    await handle.close()
  }
}

/** Hash again what the state says is there; forget what does not fit. */
async function recheck({
  data,
  fragments,
  layout,
  roots,
  signal,
  onChecked,
}: {
  data: FileHandle
  fragments: readonly Fragment[]
  layout: Layout
  roots: Uint8Array
  signal: AbortSignal | undefined
  onChecked: ((bytes: number) => void) | undefined
}): Promise<void> {
  const pool = await sharedMerklePool()
  const { size } = await data.stat()
  for (const [which, { sizeBytes }] of fragments.entries()) {
    const { offset, entry } = startOf(layout, which)
    for (let index = 0; index < segmentCount(sizeBytes); index++) {
      if (isZero(roots, entry + index)) continue
      signal?.throwIfAborted()
      const length = Math.min(SEGMENT_BYTES, sizeBytes - index * SEGMENT_BYTES)
      const at = (entry + index) * HASH_BYTES
      const position = offset + index * SEGMENT_BYTES
      const buffer = new Uint8Array(length)
      const { bytesRead } = position + length <= size ? await data.read(buffer, 0, length, position) : { bytesRead: 0 }
      const got = await pool.segmentRoot(buffer, segmentPaddedSectors(sizeBytes, index))
      if (bytesRead === length && Buffer.compare(got, roots.subarray(at, at + HASH_BYTES)) === 0) onChecked?.(length)
      else roots.fill(0, at, at + HASH_BYTES)
    }
  }
}

function isZero(roots: Uint8Array, entry: number): boolean {
  for (let at = entry * HASH_BYTES; at < (entry + 1) * HASH_BYTES; at++) if (roots[at] !== 0) return false
  return true
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number, path: string): Promise<void> {
  try {
    let done = 0
    while (done < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done)
      done += bytesWritten
    }
  } catch (cause) {
    const full = cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT')
    throw new PartFileError({
      code: full ? 'DISK_FULL' : 'FILE_WRITE',
      message: `${path} could not be written: ${reasonOf(cause)}`,
      fix: full
        ? 'free some disk space and run the same command again: it resumes'
        : 'check the folder and its permissions',
      details: { path },
      cause,
    })
  }
}

async function checkDisk(path: string, needBytes: number): Promise<void> {
  const freeBytes = await freeDiskBytes(dirname(path))
  if (needBytes <= freeBytes) return
  throw new PartFileError({
    code: 'DISK_FULL',
    message: `the file needs ${needBytes} bytes, the disk of ${path} has ${freeBytes} left`,
    fix: 'free some disk space, or download to another disk',
    details: { path, needBytes, freeBytes },
  })
}

/** Whether something is at `path` already. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
