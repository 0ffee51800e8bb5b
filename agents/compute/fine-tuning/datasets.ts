import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { atomicWrite } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import { type Hash, type Hex, toHex } from '#protocol/hex.ts'
import { FineTuningError } from './error.ts'
import type { ArtefactStorage } from './storage.ts'
import type { TaskStore } from './store/task-store.ts'

export interface DatasetsParameters {
  store: TaskStore
  dataDir: string
  storage: ArtefactStorage | undefined
  maxBytes: number
  keepPerUser: number
}

/** Datasets: sent here, by their keccak-256, or stored in the network, by their storage root. */
export class Datasets {
  readonly #parameters: DatasetsParameters

  constructor(parameters: DatasetsParameters) {
    this.#parameters = parameters
  }

  /** Keeps a dataset that its user sent; the user alone can name it. @throws FineTuningError `DATASET_LIMIT` */
  async put({ user, data }: { user: Hex; data: Uint8Array }): Promise<Hash> {
    const { store, maxBytes, keepPerUser } = this.#parameters
    if (data.length === 0 || data.length > maxBytes) {
      const isEmpty = data.length === 0
      throw new FineTuningError({
        ...{ code: 'DATASET_LIMIT', statusCode: isEmpty ? 400 : 413 },
        message: isEmpty ? 'the dataset is empty' : `the dataset has more than ${maxBytes} bytes`,
        fix: isEmpty ? 'send one JSON object per line' : 'send fewer examples',
        details: { field: 'file', sizeBytes: data.length, limit: maxBytes },
      })
    }
    const hash = toHex(keccak_256(data))
    const folder = join(this.#parameters.dataDir, 'datasets', user)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const path = join(folder, `${hash.slice(2)}.jsonl`)
    await atomicWrite({ path, data, mode: 0o600 })
    const gone = store.addDataset({ user, hash, path, sizeBytes: data.length }, { keep: keepPerUser })
    for (const old of gone) await rm(old, { force: true })
    return hash
  }

  /** Whether a dataset can be named at all. */
  known({ user, hash }: { user: Hex; hash: string }): boolean {
    return this.#parameters.storage !== undefined || this.#parameters.store.dataset(user, hash) !== undefined
  }

  /**
   * The path of a dataset: as it was sent, or fetched to `to`.
   *
   * @throws FineTuningError `DATASET_UNKNOWN`, `DATASET_LIMIT`, `DATASET_UNREACHABLE`
   */
  async find(o: { user: Hex; hash: Hex; to: string; signal?: AbortSignal | undefined }): Promise<string> {
    const { user, hash, to, signal } = o
    const { store, storage, maxBytes } = this.#parameters
    const sent = store.dataset(user, hash)
    if (sent !== undefined) return sent.path
    if (existsSync(to)) return to
    if (storage === undefined) {
      throw new FineTuningError({
        ...{ code: 'DATASET_UNKNOWN', statusCode: 404, message: `no dataset ${hash} was sent here` },
        fix: 'send it first; this provider reads no storage network',
        details: { field: 'datasetHash' },
      })
    }
    try {
      await storage.fetch(hash.toLowerCase() as Hash, { to, maxBytes, signal })
      return to
    } catch (cause) {
      if (cause instanceof FineTuningError) throw cause
      signal?.throwIfAborted()
      throw new FineTuningError({
        ...{ code: 'DATASET_UNREACHABLE', statusCode: 503, cause },
        message: `the dataset cannot be fetched: ${cause instanceof WeightlessError ? cause.message : 'storage failed'}`,
        fix: 'try again when the storage network answers, or send the dataset here',
        details: { field: 'datasetHash' },
      })
    }
  }
}
