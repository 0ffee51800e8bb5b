import { randomFillSync } from 'node:crypto'
import { DasContextJs } from '@crate-crypto/node-eth-kzg'
import { ErasurePool } from '#kernels/erasure-pool.ts'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import type { BenchContext } from './context.ts'
import { type BestTimes, BLOB_BYTES, bestTimes, megabytesPerSecond, perCpuSecond } from './da-timing.ts'

const SMALL_BYTES = 128 * 1024

/** A KZG blob has 4096 field elements of 32 bytes, of which 31 can hold any data. */
const KZG_ELEMENTS = 4096
const KZG_PAYLOAD_BYTES = 31 * KZG_ELEMENTS
const KZG_NAME = '@crate-crypto/node-eth-kzg 0.10.0, cells and proofs, precomputed'

/**
 * `da-encode.core`: MB/s of payload extended from 32 MiB to 96 MiB on one core. `da-encode.pipeline`: the same with rows
 * hashed, combined and committed to, which is all that a producer does. The peer of both is what a producer of PeerDAS
 * cells does on one core, coding and proofs, at its best setting. `da-encode.small`: the pipeline for blobs of 128 KiB,
 * one after another.
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const kzg = await timeKzg({ rounds: quick ? 3 : 8, signal })
  const peerValue = megabytesPerSecond(KZG_PAYLOAD_BYTES, kzg.wallMs)
  note(`KZG: ${peerValue.toFixed(2)} MB/s`)
  const peer = { peer: KZG_NAME, peerValue }
  const kzgCpu = megabytesPerSecond(KZG_PAYLOAD_BYTES, kzg.cpuMs)
  // By processor time both are one core's, whatever else the machine does.
  const byCpu = (bytes: number, times: BestTimes) => ({
    perCpuSecond: perCpuSecond(bytes, times),
    peerPerCpuSecond: Math.round(1000 * kzgCpu) / 1000,
    ratioPerCpuSecond: Math.round(megabytesPerSecond(bytes, times.cpuMs) / kzgCpu),
  })

  const coding = await timeCoding({ rounds: quick ? 10 : 60, signal })
  const core = megabytesPerSecond(BLOB_BYTES, coding.wallMs)
  const facts = { payloadBytes: BLOB_BYTES, codedBytes: 3 * BLOB_BYTES }
  report({
    ...{ name: 'da-encode.core', value: core, unit: 'MB/s', ...peer, ratio: core / peerValue },
    detail: { ...facts, ...byCpu(BLOB_BYTES, coding) },
  })

  const codec = await BlobCodec.create({ workers: 1 })
  try {
    const large = await timeBlobs({ codec, sizeBytes: BLOB_BYTES, count: 1, rounds: quick ? 6 : 30, signal })
    const pipeline = megabytesPerSecond(BLOB_BYTES, large.wallMs)
    report({
      ...{ name: 'da-encode.pipeline', value: pipeline, unit: 'MB/s', ...peer, ratio: pipeline / peerValue },
      detail: { ...facts, ...byCpu(BLOB_BYTES, large) },
    })
    const count = 8
    const small = await timeBlobs({ codec, sizeBytes: SMALL_BYTES, count, rounds: quick ? 60 : 300, signal })
    const value = megabytesPerSecond(count * SMALL_BYTES, small.wallMs)
    report({
      ...{ name: 'da-encode.small', value, unit: 'MB/s', ...peer, ratio: value / peerValue },
      detail: { payloadBytes: SMALL_BYTES, ...byCpu(count * SMALL_BYTES, small) },
    })
  } finally {
    await codec.close()
  }
}

async function timeKzg({ rounds, signal }: { rounds: number; signal: AbortSignal }): Promise<BestTimes> {
  const context = DasContextJs.create({ usePrecomp: true })
  const blob = randomFillSync(new Uint8Array(32 * KZG_ELEMENTS))
  for (let i = 0; i < blob.length; i += 32) blob[i] = 0 // the first byte decides whether an element is of the field
  return bestTimes({ rounds, signal, job: () => context.computeCellsAndKzgProofs(blob) })
}

async function timeCoding({ rounds, signal }: { rounds: number; signal: AbortSignal }): Promise<BestTimes> {
  const pool = await ErasurePool.create({ workers: 1, memoryBytes: 3 * BLOB_BYTES + 64 })
  try {
    const { address, bytes } = await pool.allocate({ bytes: 3 * BLOB_BYTES })
    randomFillSync(bytes.subarray(0, BLOB_BYTES))
    const rows = { address, rowBytes: BLOB_BYTES / 1024, log2Data: 10, cosets: 3 }
    return await bestTimes({ rounds, signal, job: () => pool.encode(rows) })
  } finally {
    await pool.close()
  }
}

async function timeBlobs({ codec, sizeBytes, count, rounds, signal }: TimeBlobsParameters): Promise<BestTimes> {
  const payloads = Array.from({ length: count }, () => randomFillSync(new Uint8Array(sizeBytes)))
  const job = async () => {
    for (const data of payloads) (await codec.encode(data)).release()
  }
  await job() // meets the optimising compiler and fresh pages; not counted
  return bestTimes({ rounds, signal, job })
}

interface TimeBlobsParameters {
  codec: BlobCodec
  sizeBytes: number
  /** Blobs in a round, one after another. */
  count: number
  rounds: number
  signal: AbortSignal
}
