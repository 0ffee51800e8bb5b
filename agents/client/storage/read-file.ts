import type { Hash } from '#protocol/hex.ts'
import { cryptAt, MAX_HEADER_BYTES } from '#protocol/storage/encryption.ts'
import type { StorageConnection } from './connection.ts'
import { type Decryption, type OpenedEncryption, openEncryption } from './encryption.ts'
import type { TransferListener } from './events.ts'
import { type LocatedFile, locateFile } from './locate-file.ts'
import { readLocated } from './read-located.ts'

export interface ReadFileParameters {
  /** Root of the file; for one that was split on upload, the roots of its fragments in order. */
  root: Hash | readonly Hash[]
  txSeq?: number | undefined
  /** First byte (of the plaintext, with `decryption`). Default 0. */
  offset?: number | undefined
  /** Default: to the end. A range that ends past the file is cut. */
  length?: number | undefined
  /** Keys, for a file that was encrypted on upload. */
  decryption?: Decryption | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

/**
 * A stored file, or a range of it, as a stream of verified bytes in order. Memory stays at a few segments whatever the
 * file's size; leaving the loop early stops the download.
 *
 * @throws RootUnknownError, FileNotStoredError, NodeLacksSegmentError, SegmentCorruptError, DecryptionKeyError
 * @example
 * for await (const bytes of readFile(connection, { root, offset: 0, length: 1024 })) process.stdout.write(bytes)
 */
export async function* readFile(
  connection: StorageConnection,
  parameters: ReadFileParameters,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { root, txSeq, offset = 0, length, decryption, signal, onEvent } = parameters
  const files: LocatedFile[] = []
  for (const each of typeof root === 'string' ? [root] : root) {
    files.push(await locateFile(connection, { root: each, txSeq, signal }))
  }
  const range = { files, offset, length, signal, onEvent }
  if (decryption === undefined) {
    yield* readStored(connection, range)
    return
  }
  const opened = await openStored(connection, { files, decryption, signal })
  let at = offset
  for await (const data of readStored(connection, { ...range, offset: opened.headerBytes + offset })) {
    yield cryptAt({ key: opened.key, nonce: opened.nonce, offset: at, data })
    at += data.length
  }
}

/** The encryption of a stored stream, from its first bytes. @throws DecryptionKeyError */
export async function openStored(
  connection: StorageConnection,
  {
    files,
    decryption,
    signal,
  }: { files: readonly LocatedFile[]; decryption: Decryption; signal?: AbortSignal | undefined },
): Promise<OpenedEncryption> {
  const head: Uint8Array[] = []
  for await (const part of readStored(connection, { files, offset: 0, length: MAX_HEADER_BYTES, signal }))
    head.push(part)
  return openEncryption({ head: Buffer.concat(head), decryption })
}

interface ReadStoredParameters extends Pick<ReadFileParameters, 'length' | 'signal' | 'onEvent'> {
  files: readonly LocatedFile[]
  offset: number
}

/** A range of the concatenation of several stored files. */
async function* readStored(
  connection: StorageConnection,
  { files, offset, length = Number.POSITIVE_INFINITY, signal, onEvent }: ReadStoredParameters,
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = offset + length
  let start = 0
  for (const file of files) {
    const from = Math.max(0, offset - start)
    const to = Math.min(file.sizeBytes, end - start)
    if (from < to) yield* readLocated(connection, { file, offset: from, length: to - from, signal, onEvent })
    start += file.sizeBytes
  }
}
