import { randomFillSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type DisperserClient, openDisperserClient } from '#client/da/disperser-client.ts'
import { connectChain } from '#kit/chain/client.ts'
import { WeightlessError } from '#protocol/error.ts'
import { startDevnet } from '#scripts/devnet/devnet.ts'
import type { BenchContext } from './context.ts'

const MIB = 2 ** 20
const LIMIT_MS = 300_000
/** Blobs on their way at a time: enough that coding, sending, signing and the chain work side by side. */
const IN_FLIGHT = 4

interface Done {
  ms: number
  blocks: number
}

/**
 * Four signers, a disperser and a chain, each a process of its own on this machine: blobs go in by gRPC and count when
 * the disperser tells that they are confirmed on the chain.
 *
 * - `da-e2e.throughput`: payload over the time from the first blob to the last confirmation
 * - `da-e2e.latency-p50`, `da-e2e.latency-p99`: of single blobs, in ms; in `detail` in blocks
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-da-e2e-'))
  const devnet = await startDevnet({
    ...{ directory: join(folder, 'net'), nodesPerReplica: 1, services: ['da'], portBase: 41_000 },
    ...{ readyTimeoutMs: 180_000, say: note, signal },
  })
  const { ports, rpcUrl } = devnet.file
  const disperser = openDisperserClient(`127.0.0.1:${ports['disperser grpc']}`)
  const chain = await connectChain({ rpcUrls: [rpcUrl], signal })
  const head = async () => Number(await chain.client.getBlockNumber())
  try {
    const sizeBytes = (quick ? 4 : 16) * MIB
    const count = quick ? 6 : 24
    await disperseAll({ disperser, head, sizeBytes: MIB, count: 2, inFlight: 2, signal })
    const start = performance.now()
    const done = await disperseAll({ disperser, head, sizeBytes, count, inFlight: IN_FLIGHT, signal })
    const seconds = (performance.now() - start) / 1_000
    const detail = { signers: 4, blobs: count, blobBytes: sizeBytes, inFlight: IN_FLIGHT }
    report({ name: 'da-e2e.throughput', value: (count * sizeBytes) / 1e6 / seconds, unit: 'MB/s', detail })
    const blocks = done.map((one) => one.blocks).sort((a, b) => a - b)
    const times = done.map((one) => one.ms).sort((a, b) => a - b)
    for (const [name, share] of [
      ['p50', 0.5],
      ['p99', 0.99],
    ] as const) {
      report({
        name: `da-e2e.latency-${name}`,
        value: at(times, share),
        unit: 'ms',
        detail: { ...detail, blocks: at(blocks, share) },
      })
    }
  } finally {
    disperser.close()
    chain.close()
    await devnet.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

async function disperseAll({
  disperser,
  head,
  sizeBytes,
  count,
  inFlight,
  signal,
}: {
  disperser: DisperserClient
  head: () => Promise<number>
  sizeBytes: number
  count: number
  inFlight: number
  signal: AbortSignal
}): Promise<Done[]> {
  const done: Done[] = []
  let left = count
  const lane = async () => {
    const data = new Uint8Array(sizeBytes)
    while (left > 0) {
      left -= 1
      randomFillSync(data)
      const [start, firstBlock] = [performance.now(), await head()]
      const { request_id: id } = await disperser.call('DisperseBlob', { data })
      await confirmed({ disperser, id, signal })
      done.push({ ms: performance.now() - start, blocks: (await head()) - firstBlock })
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
  return done
}

async function confirmed({
  disperser,
  id,
  signal,
}: {
  disperser: DisperserClient
  id: unknown
  signal: AbortSignal
}): Promise<void> {
  const giveUpAt = Date.now() + LIMIT_MS
  for (;;) {
    signal.throwIfAborted()
    const { status } = await disperser.call('GetBlobStatus', { request_id: id })
    if (status === 'CONFIRMED' || status === 'FINALIZED') return
    if (status === 'FAILED' || Date.now() > giveUpAt) {
      throw new WeightlessError({ code: 'BENCH_NODE', message: `a blob is ${status} after at most ${LIMIT_MS} ms` })
    }
    await sleep(50)
  }
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
}
