import { join } from 'node:path'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'

/** Chunks (segments of the own shard, 256 KiB) in one extent file of 16 GiB. */
export const EXTENT_CHUNKS = 65_536

/** Most chunks one miner may mine: 8 TiB. */
export const MAX_CHUNKS = 2 ** 25

/** Number of a global segment among those of the shard. */
export function chunkOf(segment: number, { shardId, numShard }: ShardConfig): number {
  return (segment - shardId) / numShard
}

/** The global segment of a chunk. */
export function segmentOf(chunk: number, { shardId, numShard }: ShardConfig): number {
  return chunk * numShard + shardId
}

/** How many chunks of the shard lie wholly in the first `sectors` of the flow. */
export function chunksWithin(sectors: number, { shardId, numShard }: ShardConfig): number {
  const segments = Math.floor(sectors / 1024)
  return segments <= shardId ? 0 : Math.min(Math.floor((segments - 1 - shardId) / numShard) + 1, MAX_CHUNKS)
}

/** Where the sealed chunk lies. */
export function placeOf(chunk: number): { extent: number; offset: number } {
  return { extent: Math.floor(chunk / EXTENT_CHUNKS), offset: (chunk % EXTENT_CHUNKS) * SEGMENT_BYTES }
}

/** Path of an extent file. */
export function extentPath(dir: string, extent: number): string {
  return join(dir, `${String(extent).padStart(5, '0')}.sealed`)
}
