import { closeSync, fdatasyncSync, openSync, readSync, writeSync } from 'node:fs'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { MinerError } from '../error.ts'
import { extentPath, placeOf } from './layout.ts'

/** Files kept open: 8 TiB in files of 16 GiB are 512. */
const MAX_OPEN = 1_024

/**
 * The files of the sealed copy, for one thread: every call is synchronous, because a thread that mines or seals has
 * nothing else to do.
 */
export class ExtentFiles {
  readonly #dir: string
  readonly #flags: 'r' | 'r+'
  readonly #open = new Map<number, number>()

  constructor({ dir, writable = false }: { dir: string; writable?: boolean }) {
    this.#dir = dir
    this.#flags = writable ? 'r+' : 'r'
  }

  /** Reads a sealed chunk into `target` (256 KiB). False when it is not all there. */
  read(chunk: number, target: Uint8Array): boolean {
    const { extent, offset } = placeOf(chunk)
    const file = this.#file(extent)
    if (file === undefined) return false
    let done = 0
    while (done < SEGMENT_BYTES) {
      const bytes = readSync(file, target, done, SEGMENT_BYTES - done, offset + done)
      if (bytes === 0) return false
      done += bytes
    }
    return true
  }

  /** Writes a sealed chunk; it is durable only after {@link sync}. */
  write(chunk: number, data: Uint8Array): void {
    const { extent, offset } = placeOf(chunk)
    const file = this.#file(extent)
    if (file === undefined) throw new MinerError({ code: 'MINER_SEALED', message: 'the sealed copy cannot be written' })
    let done = 0
    while (done < data.length) done += writeSync(file, data, done, data.length - done, offset + done)
  }

  /** Makes what was written to an extent durable, by whatever thread. */
  sync(extent: number): void {
    const file = this.#file(extent)
    if (file !== undefined) fdatasyncSync(file)
  }

  close(): void {
    for (const file of this.#open.values()) closeSync(file)
    this.#open.clear()
  }

  #file(extent: number): number | undefined {
    const known = this.#open.get(extent)
    if (known !== undefined) return known
    const path = extentPath(this.#dir, extent)
    let file: number
    try {
      file = openSync(path, this.#flags)
    } catch (error) {
      if (!isMissing(error)) throw error
      if (this.#flags === 'r') return undefined
      // Made without cutting what another thread may have made in between.
      closeSync(openSync(path, 'a'))
      file = openSync(path, this.#flags)
    }
    const [oldest] = this.#open.size >= MAX_OPEN ? this.#open : []
    if (oldest) {
      closeSync(oldest[1])
      this.#open.delete(oldest[0])
    }
    this.#open.set(extent, file)
    return file
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && Reflect.get(error, 'code') === 'ENOENT'
}
