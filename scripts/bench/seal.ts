import { randomFillSync } from 'node:crypto'
import { createKeccak } from 'hash-wasm'
import { sealTwin } from '#kernels/pora-twin.ts'
import { PIECE_BYTES, seal } from '#kernels/seal.ts'
import { WeightlessError } from '#protocol/error.ts'
import { bestOf } from './best-of.ts'
import type { BenchContext } from './context.ts'

const CHUNK_BYTES = 256 * 1024
/** The peers are slower: a part of a chunk keeps their runs as short as ours. */
const PEER_BYTES = 64 * 1024
const TWIN_BYTES = 16 * 1024
const WORD_BYTES = 32

/** The implementations did not agree, so that no figure means anything. */
export class SealBenchError extends WeightlessError {}

/**
 * `seal.throughput`: MB/s of data sealed on one core, in memory. The peer seals the same bytes with the keccak of
 * hash-wasm, a word at a time, as sealing demands.
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const minerId = randomFillSync(new Uint8Array(32))
  const contextDigest = randomFillSync(new Uint8Array(32))
  const data = randomFillSync(new Uint8Array(CHUNK_BYTES))
  const target = new Uint8Array(CHUNK_BYTES)
  const keys = { minerId, contextDigest, positionSectors: 4096 }
  const peer = await hashWasmSealer()

  const head = data.subarray(0, TWIN_BYTES)
  const expected = sealTwin({ ...keys, data: head, undo: false })
  const answers = { ours: seal({ ...keys, data: head }), 'hash-wasm': peer({ ...keys, data: head }) }
  for (const [name, sealed] of Object.entries(answers)) {
    if (Buffer.compare(sealed, expected) === 0) continue
    throw new SealBenchError({ code: 'BENCH_MISMATCH', message: `${name} seals other bytes than the plain twin` })
  }
  const best = await bestOf({
    ...{ rounds: quick ? 60 : 400, signal },
    jobs: {
      ours: () => void seal({ ...keys, data, target }),
      peer: () => void peer({ ...keys, data: data.subarray(0, PEER_BYTES) }),
      twin: () => void sealTwin({ ...keys, data: head, undo: false }),
    },
  })
  const rate = (bytes: number, ms: number) => bytes / 1e6 / (ms / 1000)
  const value = rate(CHUNK_BYTES, best.ours)
  const peerValue = rate(PEER_BYTES, best.peer)
  note(`${value.toFixed(0)} MB/s, hash-wasm ${peerValue.toFixed(0)} MB/s`)
  report({
    name: 'seal.throughput',
    value,
    unit: 'MB/s',
    peer: 'hash-wasm',
    peerValue,
    ratio: value / peerValue,
    detail: { chunkBytes: CHUNK_BYTES, plainTypeScriptMBPerSecond: Math.round(rate(TWIN_BYTES, best.twin) * 10) / 10 },
  })
}

interface SealInput {
  data: Uint8Array
  minerId: Uint8Array
  contextDigest: Uint8Array
  positionSectors: number
}

/** Sealing with hash-wasm: one hasher, started anew for every word. */
async function hashWasmSealer(): Promise<(input: SealInput) => Uint8Array> {
  const keccak = await createKeccak(256)
  const digest = (bytes: Uint8Array): Uint8Array => keccak.init().update(bytes).digest('binary')
  return ({ data, minerId, contextDigest, positionSectors }) => {
    const sealed = new Uint8Array(data.length)
    const first = new Uint8Array(96)
    first.set(minerId)
    first.set(contextDigest, WORD_BYTES)
    const words = new DataView(first.buffer)
    for (let piece = 0; piece < data.length; piece += PIECE_BYTES) {
      words.setBigUint64(88, BigInt(positionSectors + piece / 256))
      let mask = digest(first)
      for (let at = piece; at < piece + PIECE_BYTES; at += WORD_BYTES) {
        for (let i = 0; i < WORD_BYTES; i++) sealed[at + i] = (data[at + i] ?? 0) ^ (mask[i] ?? 0)
        if (at + WORD_BYTES < piece + PIECE_BYTES) mask = digest(sealed.subarray(at, at + WORD_BYTES))
      }
    }
    return sealed
  }
}
