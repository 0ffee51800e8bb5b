import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { atomicWrite, freeDiskBytes } from '#kit/files.ts'
import { MAX_BLOB_BYTES } from '#protocol/da/constants.ts'
import { WeightlessError } from '#protocol/error.ts'
import { type Hash, toHex } from '#protocol/hex.ts'

/** Bytes could not be kept or read back. Codes `BLOB_STORE_FULL`, `BLOB_STORE_DAMAGED`. */
export class BlobFilesError extends WeightlessError {}

/** Bytes that were just taken are mostly asked for at once: as many of them stay in memory until then. */
const FRESH_BYTES = 4 * MAX_BLOB_BYTES

export interface BlobFilesParameters {
  dir: string
  maxBytes: number
  minFreeBytes: number
}

/** The bytes of accepted blobs, one file each, named by their SHA-256: equal blobs are kept once. */
export class BlobFiles {
  readonly #parameters: BlobFilesParameters
  readonly #sizes = new Map<Hash, number>()
  readonly #fresh = new Map<Hash, Uint8Array>()
  #freshBytes = 0
  #bytes = 0

  constructor(parameters: BlobFilesParameters) {
    this.#parameters = parameters
    mkdirSync(parameters.dir, { recursive: true })
    for (const name of readdirSync(parameters.dir)) {
      if (!/^[0-9a-f]{64}$/.test(name)) continue
      this.#note(`0x${name}`, statSync(join(parameters.dir, name)).size)
    }
  }

  /** Space taken by all of them. */
  get bytes(): number {
    return this.#bytes
  }

  has(contentHash: Hash): boolean {
    return this.#sizes.has(contentHash)
  }

  /**
   * Keeps bytes: they are on the disk when this returns. They must not change afterwards.
   *
   * @throws BlobFilesError `BLOB_STORE_FULL`; FileError
   */
  async put(data: Uint8Array): Promise<Hash> {
    const contentHash = contentHashOf(data)
    if (this.has(contentHash)) return contentHash
    const { dir, maxBytes, minFreeBytes } = this.#parameters
    const free = await freeDiskBytes(dir)
    if (this.#bytes + data.length > maxBytes || free - data.length < minFreeBytes) {
      throw new BlobFilesError({
        code: 'BLOB_STORE_FULL',
        message: 'there is no room for further blobs now',
        fix: 'try again later; the operator may raise data.maxBytes or free disk space',
        details: { keptBytes: this.#bytes, maxBytes, freeBytes: free, minFreeBytes },
      })
    }
    await atomicWrite({ path: this.#path(contentHash), data, mode: 0o600 })
    this.#note(contentHash, data.length)
    this.#keepFresh(contentHash, data)
    return contentHash
  }

  /**
   * The bytes, checked against their name; undefined where they are not here.
   *
   * @throws BlobFilesError `BLOB_STORE_DAMAGED` when the disk gives others
   */
  async get(contentHash: Hash): Promise<Uint8Array | undefined> {
    if (!this.has(contentHash)) return undefined
    const fresh = this.#fresh.get(contentHash)
    if (fresh !== undefined) {
      this.#forget(contentHash)
      return fresh
    }
    const data = await readFile(this.#path(contentHash))
    if (contentHashOf(data) === contentHash) return data
    throw new BlobFilesError({
      code: 'BLOB_STORE_DAMAGED',
      message: `the kept copy of blob ${contentHash} is damaged`,
      fix: 'check the disk; send the blob again',
      details: { contentHash },
    })
  }

  async remove(contentHash: Hash): Promise<void> {
    this.#forget(contentHash)
    await rm(this.#path(contentHash), { force: true })
    this.#bytes -= this.#sizes.get(contentHash) ?? 0
    this.#sizes.delete(contentHash)
  }

  #note(contentHash: Hash, sizeBytes: number): void {
    this.#bytes += sizeBytes - (this.#sizes.get(contentHash) ?? 0)
    this.#sizes.set(contentHash, sizeBytes)
  }

  #keepFresh(contentHash: Hash, data: Uint8Array): void {
    this.#forget(contentHash)
    this.#fresh.set(contentHash, data)
    this.#freshBytes += data.length
    for (const oldest of this.#fresh.keys()) {
      if (this.#freshBytes <= FRESH_BYTES) break
      this.#forget(oldest)
    }
  }

  #forget(contentHash: Hash): void {
    this.#freshBytes -= this.#fresh.get(contentHash)?.length ?? 0
    this.#fresh.delete(contentHash)
  }

  #path(contentHash: Hash): string {
    return join(this.#parameters.dir, contentHash.slice(2))
  }
}

export function contentHashOf(data: Uint8Array): Hash {
  return toHex(createHash('sha256').update(data).digest())
}
