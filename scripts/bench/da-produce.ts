import { randomFillSync } from 'node:crypto'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import type { BenchContext } from './context.ts'
import { BLOB_BYTES, bestTimes, megabytesPerSecond, perCpuSecond } from './da-timing.ts'

/**
 * `da-produce.two-cores`: MB/s of payload for everything a producer does to a blob of 32 MiB (coding, hashing 3072 rows,
 * tree, combinations), on two threads. `perCpuSecond` in the detail is for one core: twice that is what two cores give
 * that do nothing else.
 */
export async function bench({ quick, signal, report }: BenchContext): Promise<void> {
  const codec = await BlobCodec.create({ workers: 2 })
  try {
    const data = randomFillSync(new Uint8Array(BLOB_BYTES))
    const job = async () => (await codec.encode(data)).release()
    await job()
    const times = await bestTimes({ rounds: quick ? 10 : 40, signal, job })
    report({
      name: 'da-produce.two-cores',
      value: megabytesPerSecond(BLOB_BYTES, times.wallMs),
      unit: 'MB/s',
      detail: { payloadBytes: BLOB_BYTES, threads: 2, perCpuSecond: perCpuSecond(BLOB_BYTES, times) },
    })
  } finally {
    await codec.close()
  }
}
