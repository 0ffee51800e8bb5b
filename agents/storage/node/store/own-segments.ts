import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { nextOwnedSegment, type ShardConfig, shardOwns } from '#protocol/storage/shard.ts'

/** Where a file lies and how large it is: enough to know which of its segments a shard keeps. */
export interface FilePlace {
  startSector: number
  sizeBytes: number
}

/** Global number of the segment that holds a file's segment 0. */
export function firstSegment({ startSector }: { startSector: number }): number {
  return Math.floor(startSector / SEGMENT_SECTORS)
}

/** Whether the shard keeps segment `index` of the file. */
export function ownsSegment(shard: ShardConfig, place: FilePlace, index: number): boolean {
  return shardOwns(shard, firstSegment(place) + index)
}

/** How many segments of the file the shard keeps. */
export function ownedCount(shard: ShardConfig, place: FilePlace): number {
  const first = firstOwned(shard, place, 0)
  const segments = segmentCount(place.sizeBytes)
  return first >= segments ? 0 : Math.floor((segments - 1 - first) / shard.numShard) + 1
}

/** The first segment from `from` on that the shard keeps; may lie past the file's end. */
export function firstOwned(shard: ShardConfig, place: FilePlace, from: number): number {
  const start = firstSegment(place)
  return nextOwnedSegment(shard, start + from) - start
}
