import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import type { StorageConnection } from './connection.ts'
import type { TransferListener } from './events.ts'
import type { LocatedFile } from './locate-file.ts'
import { type DownloadWindow, downloadSegments } from './segment-download.ts'

/** Segments fetched ahead of the reader: 8 MiB of memory at most. */
const WINDOW_SEGMENTS = 32

export interface ReadLocatedParameters {
  file: LocatedFile
  offset?: number | undefined
  length?: number | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

/** A range of one stored file in order, from nodes that are known to have it. */
export async function* readLocated(
  connection: StorageConnection,
  { file, offset = 0, length, signal, onEvent }: ReadLocatedParameters,
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = Math.min(file.sizeBytes, offset + (length ?? Number.POSITIVE_INFINITY))
  if (!(offset >= 0) || end <= offset) return
  const first = Math.floor(offset / SEGMENT_BYTES)
  const count = Math.ceil(end / SEGMENT_BYTES) - first
  const indexes = Array.from({ length: count }, (_, at) => first + at)
  const arrived = new Map<number, Uint8Array>()
  const stop = new AbortController()
  let next = first
  let wake: () => void = () => {}
  const window: DownloadWindow = { allows: (index) => index < next + WINDOW_SEGMENTS }
  let failure: { reason: unknown } | undefined
  const running = downloadSegments({
    root: file.root,
    sizeBytes: file.sizeBytes,
    holders: file.holders,
    indexes,
    limits: connection.limits,
    window,
    keepsData: true,
    deliver: ({ index, data }) => {
      arrived.set(index, data)
      wake()
    },
    signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
    onEvent,
  }).catch((reason: unknown) => {
    failure = { reason }
    wake()
  })

  try {
    while (next < first + count) {
      const data = arrived.get(next)
      if (data === undefined) {
        if (failure !== undefined) throw failure.reason
        await new Promise<void>((resolve) => {
          wake = resolve
        })
        continue
      }
      arrived.delete(next)
      const start = next * SEGMENT_BYTES
      next += 1
      window.onAdvance?.()
      yield data.subarray(Math.max(0, offset - start), Math.min(data.length, end - start))
    }
  } finally {
    stop.abort(new DOMException('the reader has left', 'AbortError'))
    await running
  }
}
