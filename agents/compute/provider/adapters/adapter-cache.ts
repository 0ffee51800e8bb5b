import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { fileSource } from '#kit/files.ts'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { adaptersBusy } from './adapter-errors.ts'

interface Entry {
  sizeBytes: number
  usedMs: number
  /** Somebody reads or writes it: it is not deleted. */
  pins: number
}

/**
 * Adapters on this disk, each under its root, within a bound of bytes: the least recently used make room. What is used is
 * hashed first, so a file that changed on the disk is found out and fetched again. Parts of a fetch that was cut off stay
 * as its beginning, and count.
 */
export class AdapterCache {
  readonly #folder: string
  readonly #maxBytes: number
  readonly #entries = new Map<Hash, Entry>()

  private constructor(folder: string, maxBytes: number) {
    this.#folder = folder
    this.#maxBytes = maxBytes
  }

  /** Opens the folder; what is no whole adapter in it is removed. */
  static async open({ folder, maxBytes }: { folder: string; maxBytes: number }): Promise<AdapterCache> {
    const cache = new AdapterCache(folder, maxBytes)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    for (const name of await readdir(folder)) {
      const [, root] = /^(0x[0-9a-f]{64})\.gguf$/.exec(name) ?? []
      const path = join(folder, name)
      if (root === undefined) await rm(path, { recursive: true, force: true })
      else {
        const { size, mtimeMs } = await stat(path)
        cache.#entries.set(root as Hash, { sizeBytes: size, usedMs: mtimeMs, pins: 0 })
      }
    }
    await cache.#shrinkTo(maxBytes)
    return cache
  }

  /** Bytes of all files, those under way included. */
  get sizeBytes(): number {
    let sum = 0
    for (const { sizeBytes } of this.#entries.values()) sum += sizeBytes
    return sum
  }

  has(root: Hash): boolean {
    return this.#entries.has(root)
  }

  /**
   * Lends the file of a root, fetched where it is not here: whole, and with that root. The file stays until `use` ends.
   *
   * @throws what `fetch` throws; ProviderError 503 `adapters_busy` where files in use leave no room
   */
  async use<T>(
    root: Hash,
    source: { sizeOf: () => Promise<number>; fetch: (to: string) => Promise<void> },
    use: (path: string) => Promise<T>,
  ): Promise<T> {
    const path = join(this.#folder, `${root}.gguf`)
    const known = this.#entries.get(root)
    const entry = known ?? { sizeBytes: 0, usedMs: Date.now(), pins: 0 }
    entry.pins += 1
    try {
      if (known === undefined || !(await hasRoot(path, root))) {
        await rm(path, { force: true })
        const sizeBytes = await source.sizeOf()
        entry.sizeBytes = 0
        await this.#shrinkTo(this.#maxBytes - sizeBytes)
        // Taken before the first byte comes: fetches side by side share the room.
        entry.sizeBytes = sizeBytes
        this.#entries.set(root, entry)
        await source.fetch(path)
        if (!(await hasRoot(path, root))) {
          await this.#remove(root)
          throw new Error(`the file fetched is not ${root}`)
        }
      }
      entry.usedMs = Date.now()
      await utimes(path, new Date(), new Date()).catch(() => undefined)
      return await use(path)
    } finally {
      entry.pins -= 1
    }
  }

  /** Deletes a file that turned out to be of no use. */
  async drop(root: Hash): Promise<void> {
    if (this.#entries.get(root)?.pins === 0) await this.#remove(root)
  }

  async #shrinkTo(limit: number): Promise<void> {
    while (this.sizeBytes > Math.max(0, limit)) {
      const [oldest] = [...this.#entries]
        .filter(([, { pins, sizeBytes }]) => pins === 0 && sizeBytes > 0)
        .sort(([, a], [, b]) => a.usedMs - b.usedMs)
      if (oldest === undefined) throw adaptersBusy([...this.#entries.values()].length, 'being fetched')
      await this.#remove(oldest[0])
    }
  }

  async #remove(root: Hash): Promise<void> {
    this.#entries.delete(root)
    const path = join(this.#folder, `${root}.gguf`)
    for (const file of [path, `${path}.part`, `${path}.part.state`]) await rm(file, { force: true })
  }
}

async function hasRoot(path: string, root: Hash): Promise<boolean> {
  try {
    await using source = await fileSource(path)
    return (await buildFileTree({ source })).root === root
  } catch {
    return false
  }
}
