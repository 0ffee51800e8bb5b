import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { StorageConnection } from '#client/storage/connection.ts'
import { download } from '#client/storage/download.ts'
import { fileSource } from '#kit/files.ts'
import { SECTOR_BYTES } from '#protocol/storage/constants.ts'
import type { FetchStream } from './replayer.ts'

/**
 * Fetches the data of submissions from the storage nodes, verified against the root, into one passing file each. Reads
 * may go on into the zeros of the last sector, as the reference nodes read whole sectors.
 */
export function fetchStreamsTo({ connection, dir }: { connection: StorageConnection; dir: string }): FetchStream {
  return async ({ seq, root }, signal) => {
    const path = join(dir, `${seq}.stream`)
    await download(connection, { root, txSeq: seq, to: path, overwrite: true, signal })
    const source = await fileSource(path)
    const paddedBytes = Math.ceil(source.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES
    return {
      sizeBytes: paddedBytes,
      read: async ({ offset, length }) => {
        const stored = Math.max(0, Math.min(length, source.sizeBytes - offset))
        const bytes = await source.read({ offset: Math.min(offset, source.sizeBytes), length: stored })
        if (bytes.length === length) return bytes
        const padded = new Uint8Array(Math.min(length, paddedBytes - offset))
        padded.set(bytes)
        return padded
      },
      [Symbol.asyncDispose]: async () => {
        await source.close()
        await rm(path, { force: true })
      },
    }
  }
}
