import { randomFillSync } from 'node:crypto'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import type { BenchContext } from './context.ts'
import { BLOB_BYTES, bestTimes, megabytesPerSecond, perCpuSecond, shuffledRows } from './da-timing.ts'

/** Rows of a signer with a sixth of the stake. */
const ROWS = 512

/**
 * `da-verify.core`: MB/s of row data whose path and combination are checked on one core, 512 rows of 32 KiB at a time.
 */
export async function bench({ quick, signal, report }: BenchContext): Promise<void> {
  const codec = await BlobCodec.create({ workers: 1 })
  try {
    const blob = await codec.encode(randomFillSync(new Uint8Array(BLOB_BYTES)))
    const slices = shuffledRows(7)
      .slice(0, ROWS)
      .map((index) => ({ ...blob.slice(index), data: new Uint8Array(blob.row(index)) }))
    blob.release()
    const verifier = await codec.verifier(blob)
    const times = await bestTimes({ rounds: quick ? 10 : 50, signal, job: () => verifier.verify(slices) })
    const one = await bestTimes({ rounds: quick ? 10 : 50, signal, job: () => verifier.verify(slices.slice(0, 1)) })
    verifier.release()
    const { rowBytes } = blob.commitment.header
    const bytes = ROWS * rowBytes
    report({
      name: 'da-verify.core',
      value: megabytesPerSecond(bytes, times.wallMs),
      unit: 'MB/s',
      detail: {
        rows: ROWS,
        rowBytes,
        perCpuSecond: perCpuSecond(bytes, times),
        oneRowMs: Math.round(one.wallMs * 100) / 100,
      },
    })
  } finally {
    await codec.close()
  }
}
