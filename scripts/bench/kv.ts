import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLog } from '#kit/log.ts'
import type { Hex } from '#protocol/hex.ts'
import { encodeStreamData } from '#protocol/kv/stream-data.ts'
import { Replayer } from '#storage/kv/replayer.ts'
import { KvStore } from '#storage/kv/store.ts'
import { ValueLog } from '#storage/kv/value-log.ts'
import type { BenchContext } from './context.ts'

const STREAM: Hex = `0x${'01'.repeat(32)}`
const SENDER: Hex = `0x${'aa'.repeat(20)}`
const KEYS_PER_WRITE = 1_000
const VALUE_BYTES = 64

/** Replay of 100,000 keys from data at hand: parsing, rights, versions, values and tables on disk; no network. */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'weightless-bench-kv-'))
  const store = new KvStore(join(dir, 'kv.db'))
  const values = await ValueLog.open(join(dir, 'values'))
  try {
    store.addStreams([STREAM])
    const writes = (quick ? 10_000 : 100_000) / KEYS_PER_WRITE
    note(`replaying ${writes * KEYS_PER_WRITE} keys in ${writes} writes`)
    const half = await replay({ store, values, from: 0, to: writes / 2, signal })
    const rest = await replay({ store, values, from: writes / 2, to: writes, signal })
    const keys = writes * KEYS_PER_WRITE
    report({
      name: 'kv.replay',
      value: Math.round(keys / ((half + rest) / 1_000)),
      unit: 'keys/s',
      detail: {
        keys,
        valueBytes: VALUE_BYTES,
        firstHalfMs: Math.round(half),
        secondHalfMs: Math.round(rest),
        // 1 where replay is linear in the number of keys.
        growth: Number((rest / half).toFixed(2)),
      },
    })
  } finally {
    await values.close()
    store.close()
    await rm(dir, { recursive: true, force: true })
  }
}

interface ReplayParameters {
  store: KvStore
  values: ValueLog
  from: number
  to: number
  signal: AbortSignal
}

/** Milliseconds to replay the writes `from` to `to`. */
async function replay({ store, values, from, to, signal }: ReplayParameters): Promise<number> {
  for (let seq = from; seq < to; seq++) {
    const hash: Hex = `0x${seq.toString(16).padStart(64, '0')}`
    const submission = { seq, root: hash, sizeBytes: 0, sender: SENDER, streamIds: [STREAM], block: seq }
    store.log([submission], seq + 1, { number: seq, hash })
  }
  const stop = new AbortController()
  const replayer = new Replayer({
    ...{ store, values, log: silentLog() },
    ...{ maxDownloadTries: 1, downloadTimeoutMs: 60_000, retryIntervalMs: 1, repairIntervalMs: 3_600_000 },
    fetchStream: async ({ seq }) => {
      const bytes = dataOf(seq)
      return {
        sizeBytes: bytes.length,
        read: async ({ offset, length }) => bytes.subarray(offset, offset + length),
        [Symbol.asyncDispose]: async () => {},
      }
    },
    onIdle: () => stop.abort(),
  })
  const start = performance.now()
  await replayer.run(AbortSignal.any([signal, stop.signal]))
  signal.throwIfAborted()
  return performance.now() - start
}

function dataOf(seq: number): Uint8Array {
  const writes = Array.from({ length: KEYS_PER_WRITE }, (_, i) => ({
    streamId: STREAM,
    // Spread over the key space, as hashes and names are.
    key: new TextEncoder().encode(`${(Math.imul(seq * KEYS_PER_WRITE + i, 2_654_435_761) >>> 0).toString(16)}-${i}`),
    data: new Uint8Array(VALUE_BYTES).fill(seq),
  }))
  return encodeStreamData({ version: 2n ** 64n - 1n, writes })
}
