import { RpcError } from '#kit/http/rpc-error.ts'
import { SECTOR_BYTES, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { sectorCount, segmentCount } from '#protocol/storage/padding.ts'
import { SegmentUnavailableError } from '../errors.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import { fileReference, type SegmentReader, type VerifiedSegment } from '../segment-reader.ts'
import type { FileInfo } from '../wire.ts'
import { type FrontNode, SERVER_ERROR } from './front-node.ts'

interface Sources {
  front: FrontNode
  reader: SegmentReader
  metrics: IndexerMetrics
}

/**
 * Sectors `startSector` to `endSector` (not included) of a file, from whichever shards own them, verified. Null when
 * the nodes answer but do not hold them: clients then turn elsewhere, while an error makes them give up.
 *
 * @throws RpcError for a range that is not one, in the words of the storage node; or when a node failed.
 */
export async function downloadSectors({
  info,
  startSector,
  endSector,
  signal,
  ...sources
}: DownloadSectorsParameters): Promise<Buffer | null> {
  if (startSector >= endSector) throw RpcError.invalidParams('end_index', 'invalid chunk index')
  if (endSector - startSector > SEGMENT_SECTORS) {
    throw RpcError.invalidParams('end_index', `exceeds maximum chunks ${SEGMENT_SECTORS}`)
  }
  if (info === null) return null
  if (endSector > sectorCount(info.tx.size)) {
    throw new RpcError({ rpcCode: SERVER_ERROR, message: 'end entry index exceeds tx size' })
  }
  const pieces: Uint8Array[] = []
  const last = Math.floor((endSector - 1) / SEGMENT_SECTORS)
  for (let index = Math.floor(startSector / SEGMENT_SECTORS); index <= last; index += 1) {
    const segment = await readOrNull({ ...sources, info, index, signal })
    if (segment === null) return null
    const base = index * SEGMENT_SECTORS
    const from = Math.max(0, startSector - base) * SECTOR_BYTES
    pieces.push(segment.data.subarray(from, (endSector - base) * SECTOR_BYTES))
  }
  return Buffer.concat(pieces)
}

export interface DownloadSectorsParameters extends Sources {
  /** The file; null for an unknown one. */
  info: FileInfo | null
  startSector: number
  endSector: number
  signal?: AbortSignal | undefined
}

/** Segment `index` with its proof, verified; null when the nodes do not hold it. */
export async function downloadSegment({
  info,
  index,
  signal,
  ...sources
}: {
  info: FileInfo | null
  index: number
  signal?: AbortSignal | undefined
} & Sources): Promise<VerifiedSegment | null> {
  if (info === null) return null
  if (index >= segmentCount(info.tx.size)) throw RpcError.invalidParams('segment_index', 'index out of bound')
  return await readOrNull({ ...sources, info, index, signal })
}

async function readOrNull({
  front,
  reader,
  metrics,
  info,
  index,
  signal,
}: { info: FileInfo; index: number; signal: AbortSignal | undefined } & Sources): Promise<VerifiedSegment | null> {
  try {
    const segment = await reader.read({ file: fileReference(info), index, nodes: front.readers(), signal })
    metrics.frontSegments.inc({ direction: 'download' }, 1)
    return segment
  } catch (error) {
    if (!(error instanceof SegmentUnavailableError)) throw error
    if (error.failures.every(({ absent }) => absent)) return null
    throw new RpcError({ rpcCode: SERVER_ERROR, message: 'segment not available', data: error.message, cause: error })
  }
}
