import { keccak256 } from '#kernels/keccak.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'

/** What is mined against in one epoch (storage-contracts §2.7). Positions and lengths in sectors, starts in blocks. */
export interface MineContext {
  epoch: number
  mineStart: number
  flowRoot: Hash
  flowLength: number
  blockDigest: Hash
  digest: Hash
}

/** What the contract tells a miner (storage-contracts §5.5). */
export interface WorkerContext {
  context: MineContext
  /** 0 outside the subtask's window, and when the epoch has enough answers. */
  poraTarget: bigint
  subtaskDigest: Hash
  maxShards: number
}

/** The contract's settings that fix when a miner may answer, all in blocks. */
export interface SubtaskSettings {
  subtasks: number
  intervalBlocks: number
  windowBlocks: number
}

/** Blocks `(startBlock, endBlock]` in which an answer is taken. */
export interface SubtaskWindow {
  index: number
  startBlock: number
  endBlock: number
}

/** The part of the flow that answers are drawn from, as the contract checks it. */
export interface RecallRange {
  startPosition: number
  mineLength: number
  shardId: bigint
  shardMask: bigint
}

/** keccak256(""): marks a context that is not mined. */
export const EMPTY_HASH: Hash = '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470'

/** Sectors of a sealing unit, 4 KiB. */
export const SEAL_SECTORS = 16
/** Longest range of a miner without shards: 8 TiB. */
export const MAX_MINING_SECTORS = 2 ** 35

const U64_MASK = 2n ** 64n - 1n

/** When a miner may answer in an epoch: the id and the context draw one of the subtasks (§5.2 step 3). */
export function subtaskWindow({
  digest,
  minerId,
  mineStart,
  settings: { subtasks, intervalBlocks, windowBlocks },
}: {
  digest: Hash
  minerId: Hash
  mineStart: number
  settings: SubtaskSettings
}): SubtaskWindow {
  const drawn = keccak256(Buffer.concat([fromHex(digest), fromHex(minerId)]))
  const index = Number(BigInt(toHex(drawn)) % BigInt(subtasks))
  const startBlock = mineStart + index * intervalBlocks
  return { index, startBlock, endBlock: startBlock + windowBlocks }
}

/** Whether an answer sent now, in the block after `head` at the earliest, can still be taken. */
export function windowOpen({ startBlock, endBlock }: SubtaskWindow, head: number): boolean {
  return head + 1 > startBlock && head + 1 <= endBlock
}

/**
 * The range that the contract accepts for a flow of this length (§5.2 step 5, §6.2): all of it, or, once the flow is
 * longer than what one miner may mine, its beginning. Undefined while there is no whole segment to mine.
 */
export function recallRange({
  flowLength,
  shard,
}: {
  flowLength: number
  shard: ShardConfig
}): RecallRange | undefined {
  const minable = Math.floor(flowLength / SEGMENT_SECTORS) * SEGMENT_SECTORS
  if (minable < SEGMENT_SECTORS) return undefined
  return {
    startPosition: 0,
    mineLength: Math.min(minable, MAX_MINING_SECTORS * shard.numShard),
    shardId: BigInt(shard.shardId),
    shardMask: U64_MASK ^ BigInt(shard.numShard - 1),
  }
}

/** What every attempt hashes of the range: u256 start ‖ length ‖ shard id ‖ shard mask (§5.3). */
export function rangeDigest({ startPosition, mineLength, shardId, shardMask }: RecallRange): Uint8Array {
  const words = new DataView(new ArrayBuffer(128))
  const values = [BigInt(startPosition), BigInt(mineLength), shardId, shardMask]
  for (const [i, value] of values.entries()) words.setBigUint64(32 * i + 24, value)
  return keccak256(new Uint8Array(words.buffer))
}

/** Factor by which a target falls for a miner of this shard, times 2^64 (§5.2 step 10). */
export function targetScaleX64({ flowLength, numShard }: { flowLength: number; numShard: number }): bigint {
  const longest = BigInt(MAX_MINING_SECTORS)
  const flow = BigInt(flowLength)
  const perShard = flow / BigInt(numShard)
  return (min(flow, longest) << 64n) / min(perShard, longest)
}

/** The target that hashes of this shard must not exceed; 0 when nothing can be mined. */
export function shardTarget({
  poraTarget,
  flowLength,
  numShard,
}: {
  poraTarget: bigint
  flowLength: number
  numShard: number
}): bigint {
  if (poraTarget === 0n || flowLength < numShard) return 0n
  return (poraTarget / targetScaleX64({ flowLength, numShard })) << 64n
}

/** Mean number of seal hashes to a hit; infinite when there is no target. */
export function hashesPerHit(target: bigint): number {
  return target === 0n ? Number.POSITIVE_INFINITY : 2 ** 256 / (Number(target) + 1)
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
