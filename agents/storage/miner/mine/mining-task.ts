import type { Hash } from '#protocol/hex.ts'

/** What a mining thread is started with. */
export interface MiningWorkerStart {
  sealedDir: string
  /** Of the {@link ChunkMap}. */
  map: SharedArrayBuffer
  /** One {@link COUNTERS} block. */
  counters: SharedArrayBuffer
  cpuPercent: number
}

/** What a mining thread works on until it is given something else. */
export interface MiningTask {
  /** Told with each hit. */
  id: number
  minerId: Uint8Array
  subtaskDigest: Uint8Array
  rangeDigest: Uint8Array
  /** Hashes up to it are hits, big endian. */
  target: Uint8Array
  mineLength: number
  shardId: bigint
  shardMask: bigint
  /** Shards of the own copy: chunk = (segment − shardId) / numShard. */
  numShard: number
}

/** A seal whose hash does not exceed the target. */
export interface Hit {
  taskId: number
  nonce: Uint8Array
  /** Global segment recalled. */
  segment: number
  /** Seal in it, 0 to 63. */
  seal: number
  hash: Uint8Array
  /** Its 4 KiB as they lie in the sealed copy. */
  sealed: Uint8Array
}

export type ToMiningWorker = { type: 'task'; task: MiningTask | undefined }

export type FromMiningWorker =
  | { type: 'ready' }
  | { type: 'hit'; hit: Hit }
  /** A chunk that should be there could not be read. */
  | { type: 'unreadable'; chunk: number; reason: string }

/** Counters of a thread, in the order they lie in memory (64 bits each). */
export const COUNTERS = ['attempts', 'hashes', 'hits', 'unsealed', 'outOfRange', 'reads'] as const
export type Counter = (typeof COUNTERS)[number]

/** Counts of all threads since the start. */
export type MiningCounts = Record<Counter, number>

/** A task without what changes from one to the next by chance, to tell whether two are the same. */
export function taskKey({ subtaskDigest, target, contextDigest }: TaskKeyParameters): string {
  return `${contextDigest} ${subtaskDigest} ${target}`
}

export interface TaskKeyParameters {
  contextDigest: Hash
  subtaskDigest: Hash
  target: bigint
}
