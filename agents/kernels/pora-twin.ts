import { blake2b } from '@noble/hashes/blake2.js'
import { keccak256 } from './keccak.ts'

/**
 * The plain TypeScript twin of the PoRA and sealing kernels, as an oracle for tests and to read what they compute
 * (storage-contracts §5.3). About thirty times slower.
 */

const WORD_BYTES = 32
const PIECE_BYTES = 4096
const PIECE_SECTORS = 16

/** Blake2b-512 of miner id ‖ nonce ‖ subtask digest ‖ range digest. */
export function padSeedTwin(block: Uint8Array): Uint8Array {
  return blake2b(block, { dkLen: 64 })
}

/** The scratchpad of a pad seed, and the recall seed: the hash of its last 64 bytes. */
export function scratchpadTwin(padSeed: Uint8Array): { pad: Uint8Array; recallSeed: Uint8Array } {
  const pad = new Uint8Array(16384)
  const cell = Uint8Array.from(padSeed)
  for (let at = 0; at < pad.length; at += cell.length) {
    cell.set(keccak256(cell))
    cell.set(keccak256(cell), WORD_BYTES)
    pad.set(cell, at)
  }
  return { pad, recallSeed: keccak256(cell) }
}

/** (recall seed mod chunks), then the shard's bits put in. */
export function recallChunkTwin({ recallSeed, chunks, shardId, shardMask }: RecallChunkTwinParameters): bigint {
  const position = BigInt(`0x${Buffer.from(recallSeed).toString('hex')}`) % BigInt(chunks)
  return (position & shardMask) | shardId
}

export interface RecallChunkTwinParameters {
  recallSeed: Uint8Array
  chunks: number
  shardId: bigint
  shardMask: bigint
}

/** First 32 bytes of Blake2b-512(u256(seal) ‖ pad seed ‖ 0×32 ‖ (sealed data ^ its quarter of the pad)). */
export function sealHashTwin({ sealed, seal, pad, padSeed }: SealHashTwinParameters): Uint8Array {
  const input = new Uint8Array(128 + PIECE_BYTES)
  new DataView(input.buffer).setUint32(28, seal)
  input.set(padSeed, 32)
  const quarter = (seal % 4) * PIECE_BYTES
  for (let i = 0; i < PIECE_BYTES; i++) input[128 + i] = (sealed[i] ?? 0) ^ (pad[quarter + i] ?? 0)
  return blake2b(input, { dkLen: 64 }).subarray(0, WORD_BYTES)
}

export interface SealHashTwinParameters {
  /** One sealed piece of 4 KiB. */
  sealed: Uint8Array
  /** Its number in the chunk, 0 to 63. */
  seal: number
  pad: Uint8Array
  padSeed: Uint8Array
}

/** Seals, or with `undo` unseals, pieces of 4 KiB. */
export function sealTwin({ data, minerId, contextDigest, positionSectors, undo }: SealTwinParameters): Uint8Array {
  const out = new Uint8Array(data.length)
  for (let piece = 0; piece < data.length; piece += PIECE_BYTES) {
    const first = new Uint8Array(96)
    first.set(minerId)
    first.set(contextDigest, 32)
    new DataView(first.buffer).setBigUint64(88, BigInt(positionSectors + (piece / PIECE_BYTES) * PIECE_SECTORS))
    let mask = keccak256(first)
    for (let at = piece; at < piece + PIECE_BYTES; at += WORD_BYTES) {
      for (let i = 0; i < WORD_BYTES; i++) out[at + i] = (data[at + i] ?? 0) ^ (mask[i] ?? 0)
      mask = keccak256((undo ? data : out).subarray(at, at + WORD_BYTES))
    }
  }
  return out
}

export interface SealTwinParameters {
  data: Uint8Array
  minerId: Uint8Array
  contextDigest: Uint8Array
  positionSectors: number
  undo: boolean
}
