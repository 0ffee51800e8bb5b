import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { freeDiskBytes, syncFolder } from '#kit/files.ts'
import { NodeError, reasonOf } from '../error.ts'

/** Bytes of a slot, by class. A piece lies in the smallest slot that holds it; a full segment fills the largest. */
export const SLOT_BYTES = [4_096, 16_384, 65_536, 262_144] as const

/** Slots of one extent file, all classes: 16 MiB of the smallest slots, 1 GiB of the largest. */
export const SLOTS_PER_EXTENT = 4_096

/** Where a piece lies on disk. */
export interface SlotRef {
  /** Index into {@link SLOT_BYTES}. */
  slotClass: number
  /** Number of the slot within its class, from 0. */
  slot: number
}

/** The smallest class whose slots hold so many bytes (at most 256 KiB). */
export function slotClassFor(bytes: number): number {
  const found = SLOT_BYTES.findIndex((size) => bytes <= size)
  if (found < 0) throw new RangeError(`no slot holds ${bytes} bytes`)
  return found
}

/** The edge to the disk, so that a test can fill it or break it. */
export interface BulkDisk {
  /** Opens for reading and writing, creating the file when missing. */
  open(path: string): Promise<BulkFile>
  /** Bytes that may still be written under `dir`. */
  freeBytes(dir: string): Promise<number>
}

/** An open file of bulk data, read and written by position. */
export interface BulkFile {
  write(data: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesWritten: number }>
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>
  datasync(): Promise<void>
  close(): Promise<void>
}

/** The real disk. */
export const localDisk: BulkDisk = {
  async open(path): Promise<FileHandle> {
    // 'r+' fails on a missing file and 'w+' cuts an existing one off, so creation is a second step.
    try {
      return await open(path, 'r+')
    } catch (error) {
      if (!(error instanceof Error) || Reflect.get(error, 'code') !== 'ENOENT') throw error
      return await open(path, 'wx+')
    }
  },
  freeBytes: freeDiskBytes,
}

interface OpenExtent {
  file: Promise<BulkFile>
  users: number
}

/**
 * Slots in extent files: `DIR/256k/000000.dat` holds slots 0 … 4095 of that class, and so on. Writes become durable
 * with {@link sync}; until a slot is named by a committed row its content means nothing, so a crash needs no repair.
 */
export class SlotFiles {
  readonly #dir: string
  readonly #disk: BulkDisk
  readonly #maxOpen: number
  readonly #extents = new Map<string, OpenExtent>()
  #closed = false

  constructor({ dir, disk = localDisk, maxOpen = 128 }: { dir: string; disk?: BulkDisk; maxOpen?: number }) {
    this.#dir = dir
    this.#disk = disk
    this.#maxOpen = maxOpen
  }

  /**
   * Writes a piece into its slot. Not durable before {@link sync}.
   *
   * @throws NodeError `DISK_FULL` or `DISK_FAILURE`
   */
  async write(ref: SlotRef, data: Uint8Array): Promise<void> {
    const position = (ref.slot % SLOTS_PER_EXTENT) * slotBytes(ref)
    await this.#withExtent(ref, async (file) => {
      for (let done = 0; done < data.length; ) {
        const { bytesWritten } = await file.write(data, done, data.length - done, position + done)
        if (bytesWritten === 0) throw new Error('the disk took no bytes')
        done += bytesWritten
      }
    })
  }

  /**
   * Reads a piece, into `buffer` if one is given; the tail is zero where the file ends early (the checksum then tells).
   */
  async read(ref: SlotRef, bytes: number, buffer?: Buffer): Promise<Buffer> {
    const position = (ref.slot % SLOTS_PER_EXTENT) * slotBytes(ref)
    const target = buffer ? buffer.subarray(0, bytes) : Buffer.allocUnsafeSlow(bytes)
    await this.#withExtent(ref, async (file) => {
      let done = 0
      while (done < bytes) {
        const { bytesRead } = await file.read(target, done, bytes - done, position + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      target.fill(0, done)
    })
    return target
  }

  /** Makes all finished writes to the extents of these slots durable. */
  async sync(refs: Iterable<SlotRef>): Promise<void> {
    const dirty = new Map<string, SlotRef>()
    for (const ref of refs) dirty.set(this.#pathOf(ref), ref)
    await Promise.all([...dirty.values()].map((ref) => this.#withExtent(ref, (file) => file.datasync())))
  }

  /** Bytes that may still be written. */
  freeBytes(): Promise<number> {
    return this.#disk.freeBytes(this.#dir)
  }

  async close(): Promise<void> {
    this.#closed = true
    const open = [...this.#extents.values()]
    this.#extents.clear()
    await Promise.all(open.map(async ({ file }) => (await file).close()))
  }

  #pathOf({ slotClass, slot }: SlotRef): string {
    const extent = Math.floor(slot / SLOTS_PER_EXTENT)
    return join(this.#dir, `${(SLOT_BYTES[slotClass] ?? 0) / 1024}k`, `${String(extent).padStart(6, '0')}.dat`)
  }

  async #withExtent<T>(ref: SlotRef, use: (file: BulkFile) => Promise<T>): Promise<T> {
    const path = this.#pathOf(ref)
    const extent = this.#claim(path)
    try {
      return await use(await extent.file)
    } catch (cause) {
      throw diskError(cause, path)
    } finally {
      extent.users -= 1
      if (this.#extents.size > this.#maxOpen) this.#closeIdle()
    }
  }

  #claim(path: string): OpenExtent {
    if (this.#closed) throw new NodeError({ code: 'NODE_CLOSED', message: 'the store is closed' })
    const known = this.#extents.get(path)
    const extent = known ?? { file: this.#open(path), users: 0 }
    extent.users += 1
    // A map keeps insertion order: putting it back last makes the first entry the least recently used.
    this.#extents.delete(path)
    this.#extents.set(path, extent)
    if (known === undefined) extent.file.catch(() => this.#extents.delete(path))
    return extent
  }

  async #open(path: string): Promise<BulkFile> {
    const folder = join(path, '..')
    const created = await mkdir(folder, { recursive: true })
    const file = await this.#disk.open(path)
    // The entry of a new file must be as durable as the data in it.
    await syncFolder(folder)
    if (created !== undefined) await syncFolder(this.#dir)
    return file
  }

  #closeIdle(): void {
    for (const [path, extent] of this.#extents) {
      if (this.#extents.size <= this.#maxOpen) return
      if (extent.users > 0) continue
      this.#extents.delete(path)
      extent.file.then((file) => file.close()).catch(() => {})
    }
  }
}

function slotBytes({ slotClass }: SlotRef): number {
  return SLOT_BYTES[slotClass] ?? 0
}

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

function diskError(cause: unknown, path: string): NodeError {
  if (cause instanceof NodeError) return cause
  const system: unknown = cause instanceof Error ? Reflect.get(cause, 'code') : undefined
  if (typeof system === 'string' && FULL.has(system)) return diskFull({ path, system, cause })
  return new NodeError({
    code: 'DISK_FAILURE',
    message: `the data disk failed: ${reasonOf(cause)}`,
    fix: 'check the disk and the permissions of the data folder',
    details: { path, system },
    cause,
  })
}

/** The disk, or the part of it this node may use, is full. Nothing was stored. */
export function diskFull({ cause, ...details }: { cause?: unknown; [fact: string]: unknown }): NodeError {
  return new NodeError({
    code: 'DISK_FULL',
    message: 'the data disk is full: the segment was not stored',
    fix: 'free disk space on the node, or send the segment to another node',
    details,
    cause,
  })
}
