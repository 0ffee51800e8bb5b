import type { Hash } from '#protocol/hex.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import type { NodeStore } from '../store/node-store.ts'
import { firstOwned } from '../store/own-segments.ts'
import type { FileTransaction } from '../store/transaction-record.ts'

/** A file as the field's clients know it (storage-node §4.3). */
export interface FileInfo {
  tx: {
    streamIds: never[]
    data: never[]
    dataMerkleRoot: Hash
    /** Depth (height + 1) and root of each submission node. */
    merkleNodes: [number, Hash][]
    startEntryIndex: number
    size: number
    seq: number
  }
  /** All data of the own shard is here, durable. */
  finalized: boolean
  isCached: boolean
  uploadedSegNum: number
  pruned: boolean
}

/** Describes a submission. */
export function describeFile(store: NodeStore, tx: FileTransaction): FileInfo {
  return {
    tx: {
      streamIds: [],
      data: [],
      dataMerkleRoot: tx.root,
      merkleNodes: tx.nodes.map(({ root, height }) => [height + 1, root]),
      startEntryIndex: tx.startSector,
      size: tx.sizeBytes,
      seq: tx.seq,
    },
    finalized: tx.status === 'finalized',
    // What was cached becomes the submission's own in the step that logs it.
    isCached: false,
    uploadedSegNum: tx.objectId === undefined ? 0 : uploadedSegments(store, tx, tx.objectId),
    pruned: tx.status === 'pruned',
  }
}

/** Segments before the first that is missing; all when none is. */
function uploadedSegments(store: NodeStore, tx: FileTransaction, objectId: number): number {
  const segments = segmentCount(tx.sizeBytes)
  if (tx.status !== 'pending') return segments
  if (tx.held === 0) return 0
  const presence = store.objects.presence(objectId, tx.sizeBytes)
  let index = firstOwned(store.shard, tx, 0)
  while (index < segments && presence.has(index)) index = firstOwned(store.shard, tx, index + 1)
  return Math.min(index, segments)
}

/** Ranges `[from, to)` of segments of the own shard that are not here. */
export function missingSegments(
  store: NodeStore,
  tx: FileTransaction,
  { from = 0, limit }: { from?: number; limit: number },
): { segments: [number, number][]; total: number } {
  if (tx.objectId === undefined || tx.status !== 'pending') return { segments: [], total: 0 }
  const presence = store.objects.presence(tx.objectId, tx.sizeBytes)
  const count = segmentCount(tx.sizeBytes)
  const segments: [number, number][] = []
  let total = 0
  for (let index = firstOwned(store.shard, tx, from); index < count; index = firstOwned(store.shard, tx, index + 1)) {
    if (presence.has(index)) continue
    total += 1
    const last = segments.at(-1)
    if (last && last[1] === index) last[1] = index + 1
    else if (segments.length < limit) segments.push([index, index + 1])
  }
  return { segments, total }
}
