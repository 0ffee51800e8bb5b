import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import type { FileLocator, FileState } from '../file-locator.ts'
import type { KnownNode } from '../node-registry.ts'
import { type FileReference, fileReference, type SegmentReader } from '../segment-reader.ts'
import { streamSegments } from '../segment-stream.ts'
import { GatewayError } from './envelope.ts'
import type { FileId } from './requests.ts'

/** One stored file of the content, and the nodes that hold it. */
export interface GatewayPart {
  file: FileReference
  nodes: readonly KnownNode[]
}

/** Content to serve: usually one file; several where a large one was stored in fragments; none for an empty one. */
export interface GatewayFile {
  sizeBytes: number
  /** The entity tag, in its quotes: the root, or the roots of all fragments. */
  etag: string
  parts: readonly GatewayPart[]
}

/**
 * Finds a stored file.
 *
 * @throws GatewayError not found, pruned, not finalized, too large
 */
export async function openFile({
  locator,
  id,
  maxFileBytes,
}: {
  locator: FileLocator
  id: FileId
  /** 0 for no limit. */
  maxFileBytes: number
}): Promise<GatewayFile> {
  const part = await openPart({ locator, id })
  return fromParts({ parts: [part], maxFileBytes })
}

/** Content made of parts in their order. @throws GatewayError too large */
export function fromParts({
  parts,
  maxFileBytes,
}: {
  parts: readonly GatewayPart[]
  maxFileBytes: number
}): GatewayFile {
  const sizeBytes = parts.reduce((sum, { file }) => sum + file.sizeBytes, 0)
  if (maxFileBytes > 0 && sizeBytes > maxFileBytes) {
    throw new GatewayError({ kind: 'tooLarge', data: { actual: sizeBytes, max: maxFileBytes } })
  }
  return { sizeBytes, etag: `"${parts.map(({ file }) => file.root).join('-') || 'empty'}"`, parts }
}

/** One stored file. @throws GatewayError not found, pruned, not finalized */
export async function openPart({ locator, id }: { locator: FileLocator; id: FileId }): Promise<GatewayPart> {
  const state = await stateOf({ locator, id })
  if (state.state === 'available') return { file: fileReference(state.info), nodes: state.nodes }
  if (state.state === 'unknown') throw new GatewayError({ kind: 'fileNotFound' })
  throw new GatewayError({ kind: state.state === 'pruned' ? 'filePruned' : 'fileNotFinalized' })
}

export async function stateOf({ locator, id }: { locator: FileLocator; id: FileId }): Promise<FileState> {
  return 'root' in id ? await locator.byRoot(id.root) : await locator.byTxSeq(id.txSeq)
}

/** Bytes `start` to `end` (not included) of the content, each segment verified before any of it is given out. */
export async function* readRange({
  reader,
  content,
  start,
  end,
  readAhead,
  signal,
}: ReadRangeParameters): AsyncGenerator<Uint8Array, void, undefined> {
  let base = 0
  for (const { file, nodes } of content.parts) {
    const from = Math.max(0, start - base)
    const to = Math.min(file.sizeBytes, end - base)
    base += file.sizeBytes
    if (from >= to) continue
    const segments = streamSegments({
      reader,
      file,
      nodes,
      from: Math.floor(from / SEGMENT_BYTES),
      to: Math.min(segmentCount(file.sizeBytes), Math.ceil(to / SEGMENT_BYTES)),
      readAhead,
      signal,
    })
    for await (const { index, data } of segments) {
      const at = index * SEGMENT_BYTES
      yield data.subarray(Math.max(0, from - at), Math.min(data.byteLength, to - at))
    }
  }
}

export interface ReadRangeParameters {
  reader: SegmentReader
  content: GatewayFile
  start: number
  end: number
  readAhead: number
  signal?: AbortSignal | undefined
}
