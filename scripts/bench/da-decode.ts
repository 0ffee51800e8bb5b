import { randomFillSync } from 'node:crypto'
import { decodeScratchBytes, ErasurePool } from '#kernels/erasure-pool.ts'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import type { BenchContext } from './context.ts'
import { BLOB_BYTES, bestTimes, DaBenchError, megabytesPerSecond, perCpuSecond, shuffledRows } from './da-timing.ts'

const DATA_ROWS = 1024
const TOTAL_ROWS = 3072
const CODE = { log2Data: 10, cosets: 3 }

/**
 * `da-decode.core`: MB/s of payload decoded on one core from 1024 of 3072 rows drawn at random (32 MiB; about a third
 * are data rows). The detail has the rate of a whole reconstruction too, which encodes the result again to compare roots.
 */
export async function bench({ quick, signal, report }: BenchContext): Promise<void> {
  const chosen = shuffledRows(20_261_121).slice(0, DATA_ROWS)
  const decoding = await timeDecoding({ chosen, rounds: quick ? 6 : 30, signal })
  const reconstruction = await timeReconstruction({ chosen, rounds: quick ? 3 : 10, signal })
  report({
    name: 'da-decode.core',
    value: megabytesPerSecond(BLOB_BYTES, decoding.wallMs),
    unit: 'MB/s',
    detail: {
      payloadBytes: BLOB_BYTES,
      dataRowsPresent: chosen.filter((index) => index < DATA_ROWS).length,
      perCpuSecond: perCpuSecond(BLOB_BYTES, decoding),
      reconstructMBPerSecond: Math.round(megabytesPerSecond(BLOB_BYTES, reconstruction.wallMs)),
      reconstructPerCpuSecond: perCpuSecond(BLOB_BYTES, reconstruction),
    },
  })
}

interface TimeParameters {
  chosen: number[]
  rounds: number
  signal: AbortSignal
}

async function timeDecoding({ chosen, rounds, signal }: TimeParameters) {
  const rowBytes = BLOB_BYTES / DATA_ROWS
  const scratchBytes = decodeScratchBytes(CODE)
  const pool = await ErasurePool.create({ workers: 1, memoryBytes: 3 * BLOB_BYTES + scratchBytes + 128 })
  try {
    const { address, bytes } = await pool.allocate({ bytes: 3 * BLOB_BYTES + scratchBytes })
    const data = randomFillSync(new Uint8Array(BLOB_BYTES))
    bytes.set(data)
    const rows = { ...CODE, address, rowBytes }
    await pool.encode(rows)
    const there = new Set(chosen)
    const present = Array.from({ length: TOTAL_ROWS }, (_, index) => there.has(index))
    const scratch = address + 3 * BLOB_BYTES
    for (const [index, isThere] of present.entries()) {
      if (!isThere) bytes.fill(0, index * rowBytes, (index + 1) * rowBytes)
    }
    const times = await bestTimes({ rounds, signal, job: () => pool.decode({ ...rows, present, scratch }) })
    if (Buffer.compare(bytes.subarray(0, BLOB_BYTES), data) !== 0) {
      throw new DaBenchError({ code: 'BENCH_MISMATCH', message: 'the decoded payload is not the one that was encoded' })
    }
    return times
  } finally {
    await pool.close()
  }
}

async function timeReconstruction({ chosen, rounds, signal }: TimeParameters) {
  const codec = await BlobCodec.create({ workers: 1 })
  try {
    const blob = await codec.encode(randomFillSync(new Uint8Array(BLOB_BYTES)))
    const { commitment } = blob
    const rows = chosen.map((index) => ({ index, data: new Uint8Array(blob.row(index)) }))
    blob.release()
    return await bestTimes({ rounds, signal, job: () => codec.reconstruct({ commitment, rows }) })
  } finally {
    await codec.close()
  }
}
