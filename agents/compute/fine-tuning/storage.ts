import { readFile, rm } from 'node:fs/promises'
import type { LocalAccount } from 'viem'
import { openStorageConnection, type StorageConnection } from '#client/storage/connection.ts'
import { download } from '#client/storage/download.ts'
import { RootUnknownError } from '#client/storage/errors.ts'
import { fileInfo } from '#client/storage/file-info.ts'
import { upload } from '#client/storage/upload.ts'
import { fileSource } from '#kit/files.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { FineTuningError } from './error.ts'

/** The storage network as fine-tuning uses it. */
export interface ArtefactStorage {
  /** Stores a file; may be repeated. Returns its root. */
  putFile(path: string, options: { signal?: AbortSignal | undefined }): Promise<Hash>
  /** Stores a record, with a tag on the chain. */
  putRecord(bytes: Uint8Array, options: { tag: Hash; signal?: AbortSignal | undefined }): Promise<Hash>
  /**
   * Fetches a file, every part checked against its root.
   *
   * @throws FineTuningError `DATASET_LIMIT` beyond `maxBytes`, `DATASET_UNKNOWN` where no node has it
   */
  fetch(root: Hash, options: { to: string; maxBytes: number; signal?: AbortSignal | undefined }): Promise<void>
  /** Whether the network holds a file whole. */
  has(root: Hash): Promise<boolean>
  readonly connection: StorageConnection
  close(): Promise<void>
}

export interface OpenStorageParameters {
  rpcUrls: readonly string[]
  indexerUrl?: string | undefined
  nodes: readonly string[]
  flow?: Hex | undefined
  /** Needed to store. */
  account?: LocalAccount | undefined
  replicas?: number | undefined
  timeoutMs: number
  journalDir?: string | undefined
}

/** The storage network, or undefined where none is configured. */
export function openArtefactStorage(parameters: OpenStorageParameters): ArtefactStorage | undefined {
  const { rpcUrls, indexerUrl, nodes, flow, account, replicas = 1, timeoutMs, journalDir } = parameters
  if (indexerUrl === undefined && nodes.length === 0) return undefined
  const limits = { receiptTimeoutMs: timeoutMs, entryTimeoutMs: timeoutMs, finalityTimeoutMs: timeoutMs }
  const connection = openStorageConnection({
    ...{ rpcUrl: rpcUrls, indexerUrl, nodes: nodes.length === 0 ? undefined : nodes, flow, account, journalDir },
    limits: { ...limits, callTimeoutMs: Math.min(15_000, timeoutMs), idleTimeoutMs: Math.min(30_000, timeoutMs) },
  })
  return {
    connection,
    async putFile(path, { signal }) {
      await using source = await fileSource(path)
      return (await upload(connection, { source, replicas, signal })).root
    },
    async putRecord(bytes, { tag, signal }) {
      return (await upload(connection, { source: memorySource(bytes), replicas, tags: tag, signal })).root
    },
    async fetch(root, { to, maxBytes, signal }) {
      try {
        const { sizeBytes } = await fileInfo(connection, { root, signal })
        if (sizeBytes > maxBytes) {
          throw new FineTuningError({
            ...{ code: 'DATASET_LIMIT', statusCode: 413, message: `${root} has ${sizeBytes} bytes` },
            fix: `give a file of at most ${maxBytes} bytes`,
            details: { field: 'datasetHash', sizeBytes, limit: maxBytes },
          })
        }
        await download(connection, { root, to, overwrite: true, signal })
      } catch (cause) {
        if (!(cause instanceof RootUnknownError)) throw cause
        throw new FineTuningError({
          ...{ code: 'DATASET_UNKNOWN', statusCode: 404, message: `no storage node knows ${root}`, cause },
          fix: 'store it first: weightless upload FILE',
          details: { field: 'datasetHash' },
        })
      }
    },
    async has(root) {
      try {
        return (await fileInfo(connection, { root })).finalized
      } catch (error) {
        if (error instanceof RootUnknownError) return false
        throw error
      }
    },
    close: () => connection.close(),
  }
}

/** Reads a small stored file into memory, through a file at `scratch`. */
export async function fetchBytes(
  storage: ArtefactStorage,
  { root, scratch, maxBytes }: { root: Hash; scratch: string; maxBytes: number },
): Promise<Uint8Array> {
  try {
    await storage.fetch(root, { to: scratch, maxBytes })
    return await readFile(scratch)
  } finally {
    await rm(scratch, { force: true })
  }
}
