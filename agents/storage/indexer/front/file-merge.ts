import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { nextOwnedSegment, replicaCount, type ShardConfig } from '#protocol/storage/shard.ts'
import type { KnownNode } from '../node-registry.ts'
import type { FileInfo } from '../wire.ts'

/** What one node says of a file; null where it does not know it. */
export interface FileAnswer {
  node: KnownNode
  info: FileInfo | null
}

/**
 * One FileInfo for a cover of shards. Finalized when every node of the cover is, or when the finalized nodes among all
 * that were asked cover the flow as many times as this front stands for (`replicas`). Null as long as some node of the
 * cover does not know the transaction: a client that then uploads would find a node that is not ready.
 */
export function mergeFileInfo({ answers, cover, replicas }: MergeParameters): FileInfo | null {
  const known = answers.filter((answer): answer is FileAnswer & { info: FileInfo } => answer.info !== null)
  const first = known[0]?.info
  if (first === undefined) return null
  const same = known.filter(
    ({ info }) => info.tx.seq === first.tx.seq && info.tx.dataMerkleRoot === first.tx.dataMerkleRoot,
  )
  const finalized = same.filter(({ info }) => info.finalized).map(({ node }) => node)
  const inCover = cover.map((member) => same.find(({ node }) => node.url === member.url))
  const total = segmentCount(first.tx.size)
  if (
    inCover.every((answer) => answer?.info.finalized) ||
    replicaCount(finalized.map(({ shard }) => shard)) >= replicas
  ) {
    return { tx: first.tx, finalized: true, isCached: false, uploadedSegNum: total, pruned: false }
  }
  if (inCover.includes(undefined)) return null
  const members = inCover.filter((answer) => answer !== undefined)
  const uploaded = members.reduce((sum, { node, info }) => {
    const owned = ownedSegments({ shard: node.shard, info })
    return sum + (info.finalized || info.pruned ? owned : Math.min(owned, info.uploadedSegNum))
  }, 0)
  return {
    tx: first.tx,
    finalized: false,
    isCached: members.some(({ info }) => info.isCached),
    uploadedSegNum: Math.min(uploaded, total),
    pruned: members.some(({ info }) => info.pruned),
  }
}

export interface MergeParameters {
  /** Answers about one transaction. */
  answers: readonly FileAnswer[]
  /** The nodes this front writes to: together they cover the flow once. */
  cover: readonly KnownNode[]
  /** How many covers must hold the file: 1 for the first front, 2 for the second. */
  replicas: number
}

/** How many of a file's segments a shard owns. */
function ownedSegments({ shard, info }: { shard: ShardConfig; info: FileInfo }): number {
  const start = Math.floor(info.tx.startEntryIndex / SEGMENT_SECTORS)
  const end = start + segmentCount(info.tx.size)
  const first = nextOwnedSegment(shard, start)
  return first >= end ? 0 : Math.ceil((end - first) / shard.numShard)
}
