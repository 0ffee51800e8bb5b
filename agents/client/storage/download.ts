import type { Hash } from '#protocol/hex.ts'
import type { StorageConnection } from './connection.ts'
import { FileExistsError } from './errors.ts'
import type { TransferListener } from './events.ts'
import { locateFile } from './locate-file.ts'
import { exists, openPartFile } from './part-file.ts'
import { downloadSegments } from './segment-download.ts'

export interface DownloadParameters {
  /** What to fetch; for a file that was split on upload, the roots of its fragments in order. */
  root: Hash | readonly Hash[]
  /** Path of the file to write. `<to>.part` and `<to>.part.state` lie beside it until it is complete. */
  to: string
  /** Which submission, where the same content was submitted more than once. */
  txSeq?: number | undefined
  /** Replace an existing file. Default false. */
  overwrite?: boolean | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

export interface DownloadReturnType {
  path: string
  sizeBytes: number
  /** Bytes an earlier, interrupted download had left. */
  resumedBytes: number
}

/**
 * Fetch a file and verify every segment against the root before it is written. An interrupted download leaves its
 * `.part` files; the same call goes on from there. The file appears at `to` only when it is complete.
 *
 * @throws FileExistsError, RootUnknownError, FileNotStoredError, NodeLacksSegmentError, SegmentCorruptError, PartFileError
 * @example
 * await download(connection, { root: '0x…', to: 'model.gguf' })
 */
export async function download(
  connection: StorageConnection,
  parameters: DownloadParameters,
): Promise<DownloadReturnType> {
  const { to, signal } = parameters
  const { sizeBytes, resumedBytes, part } = await downloadPart(connection, parameters)
  try {
    await part.complete()
    signal?.throwIfAborted()
    await part.moveTo(to)
  } finally {
    await part.close()
  }
  return { path: to, sizeBytes, resumedBytes }
}

/** Everything of {@link download} up to the complete part file, which the caller puts in its place. */
export async function downloadPart(
  connection: StorageConnection,
  { root, to, txSeq, overwrite, signal, onEvent }: DownloadParameters,
) {
  signal?.throwIfAborted()
  if (overwrite !== true && (await exists(to))) throw new FileExistsError({ path: to })
  const roots = typeof root === 'string' ? [root] : root
  const files = []
  for (const each of roots) files.push(await locateFile(connection, { root: each, txSeq, signal }))
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
  let resumedBytes = 0
  const part = await openPartFile({
    path: to,
    fragments: files,
    signal,
    onChecked: (bytes) => {
      resumedBytes += bytes
      onEvent?.({ type: 'receiving', doneBytes: resumedBytes, totalBytes: sizeBytes })
    },
  })
  try {
    let doneBytes = resumedBytes
    for (const [which, file] of files.entries()) {
      const indexes = part.wanted(which)
      const before = doneBytes
      await downloadSegments({
        ...file,
        indexes,
        limits: connection.limits,
        deliver: (segment) => part.write({ which, ...segment }),
        signal,
        onEvent: (event) => {
          if (event.type === 'receiving') {
            doneBytes = Math.min(sizeBytes, before + event.doneBytes)
            onEvent?.({ type: 'receiving', doneBytes, totalBytes: sizeBytes })
          } else onEvent?.(event)
        },
      })
    }
  } catch (error) {
    await part.close()
    throw error
  }
  return { sizeBytes, resumedBytes, part }
}
