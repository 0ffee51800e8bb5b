import { openStorageConnection } from '#client/storage/connection.ts'
import { download } from '#client/storage/download.ts'
import { RootUnknownError } from '#client/storage/errors.ts'
import { fileInfo } from '#client/storage/file-info.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { adapterTooLarge, adapterUnavailable, adapterUnknown } from './adapter-errors.ts'

/** Where adapters come from that are not here yet. */
export interface AdapterSource {
  /**
   * Size of a stored file, in bytes.
   *
   * @throws ProviderError 404 `model_not_found`, 413 `adapter_too_large`, 503 `adapter_unavailable`; the signal's reason
   */
  sizeOf(root: Hash, options: { maxBytes: number; signal: AbortSignal }): Promise<number>
  /**
   * Writes the file to `to`, every part checked against the root. What a try that failed has left beside it (`.part`)
   * is gone on from.
   *
   * @throws ProviderError 404, 503; the signal's reason
   */
  fetch(root: Hash, options: { to: string; signal: AbortSignal }): Promise<void>
  close(): Promise<void>
}

/** The storage network as the source of adapters; undefined where none is configured. Needs no chain and no key. */
export function storageAdapterSource(parameters: {
  indexerUrl?: string | undefined
  nodes: readonly string[]
  timeoutMs: number
}): AdapterSource | undefined {
  const { indexerUrl, nodes, timeoutMs } = parameters
  if (indexerUrl === undefined && nodes.length === 0) return undefined
  const connection = openStorageConnection({
    ...{ indexerUrl, nodes: nodes.length === 0 ? undefined : nodes },
    limits: { callTimeoutMs: Math.min(10_000, timeoutMs), idleTimeoutMs: Math.min(20_000, timeoutMs), attempts: 2 },
  })
  return {
    sizeOf: (root, { maxBytes, signal }) =>
      translated(root, signal, async () => {
        const { sizeBytes } = await fileInfo(connection, { root, signal })
        if (sizeBytes > maxBytes) throw adapterTooLarge(root, { sizeBytes, limit: maxBytes })
        return sizeBytes
      }),
    fetch: (root, { to, signal }) =>
      translated(root, signal, async () => void (await download(connection, { root, to, overwrite: true, signal }))),
    close: () => connection.close(),
  }
}

async function translated<T>(root: Hash, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    signal.throwIfAborted()
    if (cause instanceof RootUnknownError) {
      throw adapterUnknown(root, 'store it first: weightless adapter publish FILE')
    }
    // Addresses of nodes and files of this machine are the operator's affair: the log has them.
    if (cause instanceof WeightlessError && !('statusCode' in cause)) {
      throw adapterUnavailable(root, `the storage network failed (${cause.code})`, cause)
    }
    if (cause instanceof Error && 'statusCode' in cause) throw cause
    throw adapterUnavailable(root, 'it could not be written here', cause)
  }
}
