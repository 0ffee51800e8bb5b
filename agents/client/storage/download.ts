import { type FileHandle, open, rename, unlink } from 'node:fs/promises'
import type { Hash } from '#protocol/hex.ts'
import { cryptAt } from '#protocol/storage/encryption.ts'
import type { StorageConnection } from './connection.ts'
import type { Decryption, OpenedEncryption } from './encryption.ts'
import { FileExistsError } from './errors.ts'
import type { TransferListener } from './events.ts'
import { type LocatedFile, locateFile } from './locate-file.ts'
import { exists, openPartFile, type PartFile } from './part-file.ts'
import { openStored } from './read-file.ts'
import { downloadSegments } from './segment-download.ts'

export interface DownloadParameters {
  /** What to fetch; for a file that was split on upload, the roots of its fragments in order. */
  root: Hash | readonly Hash[]
  /** Path of the file to write. `<to>.part` and `<to>.part.state` lie beside it until it is complete. */
  to: string
  /** Which submission, where the same content was submitted more than once. */
  txSeq?: number | undefined
  /** Keys, for a file that was encrypted on upload. */
  decryption?: Decryption | undefined
  /** Replace an existing file. Default false. */
  overwrite?: boolean | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

export interface DownloadReturnType {
  path: string
  /** Bytes of the file written. */
  sizeBytes: number
  /** Bytes an earlier, interrupted download had left. */
  resumedBytes: number
}

/**
 * Fetch a file and verify every segment against the root before it is written. An interrupted download leaves its
 * `.part` files; the same call goes on from there. The file appears at `to` only when it is complete. Whether a key
 * fits is known before more than the first segment is fetched.
 *
 * @throws FileExistsError, RootUnknownError, FileNotStoredError, NodeLacksSegmentError, SegmentCorruptError,
 * DecryptionKeyError, PartFileError
 * @example
 * await download(connection, { root: '0x…', to: 'model.gguf' })
 */
export async function download(
  connection: StorageConnection,
  { root, to, txSeq, decryption, overwrite, signal, onEvent }: DownloadParameters,
): Promise<DownloadReturnType> {
  signal?.throwIfAborted()
  if (overwrite !== true && (await exists(to))) throw new FileExistsError({ path: to })
  const files: LocatedFile[] = []
  for (const each of typeof root === 'string' ? [root] : root) {
    files.push(await locateFile(connection, { root: each, txSeq, signal }))
  }
  const opened = decryption === undefined ? undefined : await openStored(connection, { files, decryption, signal })
  const storedBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
  let resumedBytes = 0
  const part = await openPartFile({
    path: to,
    fragments: files,
    signal,
    onChecked: (bytes) => {
      resumedBytes += bytes
      onEvent?.({ type: 'receiving', doneBytes: resumedBytes, totalBytes: storedBytes })
    },
  })
  try {
    await fetchAll(connection, { part, files, storedBytes, resumedBytes, signal, onEvent })
    await part.complete()
    signal?.throwIfAborted()
    if (opened === undefined) await part.moveTo(to)
    else await decryptPart({ part, opened, to, signal })
  } finally {
    await part.close()
  }
  return { path: to, sizeBytes: storedBytes - (opened?.headerBytes ?? 0), resumedBytes }
}

interface FetchAllParameters extends Pick<DownloadParameters, 'signal' | 'onEvent'> {
  part: PartFile
  files: readonly LocatedFile[]
  storedBytes: number
  resumedBytes: number
}

async function fetchAll(
  connection: StorageConnection,
  { part, files, storedBytes, resumedBytes, signal, onEvent }: FetchAllParameters,
): Promise<void> {
  let doneBytes = resumedBytes
  for (const [which, file] of files.entries()) {
    const before = doneBytes
    await downloadSegments({
      ...file,
      indexes: part.wanted(which),
      limits: connection.limits,
      deliver: (segment) => part.write({ which, ...segment }),
      signal,
      onEvent: (event) => {
        if (event.type !== 'receiving') return onEvent?.(event)
        doneBytes = Math.min(storedBytes, before + event.doneBytes)
        onEvent?.({ type: 'receiving', doneBytes, totalBytes: storedBytes })
      },
    })
  }
}

/** Bytes decrypted at a time. */
const BLOCK_BYTES = 1 << 20

/** The plaintext goes to a file of its own, so that a crash leaves the ciphertext to go on from. */
async function decryptPart({
  part,
  opened,
  to,
  signal,
}: {
  part: PartFile
  opened: OpenedEncryption
  to: string
  signal: AbortSignal | undefined
}): Promise<void> {
  const { key, nonce, headerBytes } = opened
  const plainPath = `${to}.part.plain`
  const source = await open(part.partPath, 'r')
  let target: FileHandle | undefined
  try {
    target = await open(plainPath, 'w', 0o600)
    const buffer = new Uint8Array(BLOCK_BYTES)
    for (let offset = 0; ; ) {
      signal?.throwIfAborted()
      const { bytesRead } = await source.read(buffer, 0, buffer.length, headerBytes + offset)
      if (bytesRead === 0) break
      await target.writeFile(cryptAt({ key, nonce, offset, data: buffer.subarray(0, bytesRead) }))
      offset += bytesRead
    }
    await target.close()
    await rename(plainPath, to)
  } catch (error) {
    await target?.close()
    await unlink(plainPath).catch(() => {})
    throw error
  } finally {
    await source.close()
  }
  await part.discard()
}
