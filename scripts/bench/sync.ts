import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileSource } from '#kit/files.ts'
import { createJsonRpcClient } from '#kit/http/json-rpc-client.ts'
import type { BenchContext } from './context.ts'
import {
  type BenchNode,
  MIB,
  residentBytes,
  StorageBenchError,
  type StorageSetup,
  startStorageSetup,
  writeNoise,
} from './storage-setup.ts'

const FILES = 4
const LIMIT_MS = 300_000

/**
 * `sync.throughput`: a node with an empty folder fetches everything from one that has it, over loopback: it reads the
 * chain, verifies each segment with its proof and writes it durably. Counted from the moment it serves until the last
 * file is complete. The peer is the least that any replica must do, in this process: the same bytes over plain HTTP,
 * hashed with SHA-256.
 */
export async function bench(context: BenchContext): Promise<void> {
  const setup = await startStorageSetup(context)
  try {
    await catchUp(setup, context)
  } finally {
    await setup.stop()
  }
}

async function catchUp(setup: StorageSetup, { quick, signal, report }: BenchContext): Promise<void> {
  const fileBytes = (quick ? 32 : 256) * MIB
  for (let index = 0; index < FILES; index += 1) await storeNoise({ setup, label: `file-${index}`, fileBytes, signal })
  const sizeBytes = FILES * fileBytes
  const peerMs = await timePlainHttp({ setup, signal })

  const replica = await setup.addNode({
    name: 'replica',
    sync: { auto: true, peers: [setup.nodeUrl], graceMs: 0, peerRefreshMs: 100 },
  })
  const samples: number[] = []
  const timer = setInterval(() => void residentBytes(replica.pid).then((bytes) => bytes && samples.push(bytes)), 100)
  const start = performance.now()
  try {
    await complete({ replica, signal })
  } finally {
    clearInterval(timer)
  }
  const ms = performance.now() - start
  const half = samples.length >> 1
  const megabytes = (bytes: number) => Math.round(bytes / 1e6)
  report({
    name: 'sync.throughput',
    value: sizeBytes / 1e6 / (ms / 1000),
    unit: 'MB/s',
    peer: 'the same bytes over plain HTTP, hashed with SHA-256',
    peerValue: sizeBytes / 1e6 / (peerMs / 1000),
    ratio: peerMs / ms,
    detail: {
      sizeBytes,
      files: FILES,
      memoryMaxMB: megabytes(Math.max(...samples)),
      memoryMaxFirstHalfMB: megabytes(Math.max(...samples.slice(0, half))),
    },
  })
}

async function storeNoise({
  setup: { client, dir },
  label,
  fileBytes,
  signal,
}: {
  setup: StorageSetup
  label: string
  fileBytes: number
  signal: AbortSignal
}): Promise<void> {
  const path = join(dir, label)
  await writeNoise({ path, sizeBytes: fileBytes, label })
  try {
    await using source = await fileSource(path)
    await client.storage.upload({ source, signal })
  } finally {
    await rm(path, { force: true })
  }
}

/** Reads every file's bytes without proofs and hashes them. */
async function timePlainHttp({ setup, signal }: { setup: StorageSetup; signal: AbortSignal }): Promise<number> {
  const start = performance.now()
  for (let seq = 0; seq < FILES; seq += 1) {
    const { body } = await fetch(`${setup.nodeUrl}/v1/files/${seq}/data`, { signal })
    const hash = createHash('sha256')
    for await (const piece of (body ?? new Blob([]).stream()) as unknown as AsyncIterable<Uint8Array>) {
      hash.update(piece)
    }
    hash.digest()
  }
  return performance.now() - start
}

async function complete({ replica, signal }: { replica: BenchNode; signal: AbortSignal }): Promise<void> {
  const rpc = createJsonRpcClient({ url: replica.url })
  const giveUpAt = Date.now() + LIMIT_MS
  try {
    for (let seq = 0; seq < FILES; ) {
      signal.throwIfAborted()
      const info = (await rpc.call('zgs_getFileInfoByTxSeq', [seq], { signal })) as { finalized?: boolean } | null
      if (info?.finalized === true) {
        seq += 1
        continue
      }
      if (Date.now() > giveUpAt) {
        throw new StorageBenchError({ code: 'BENCH_NODE', message: `file ${seq} is not complete after ${LIMIT_MS} ms` })
      }
      await sleep(50)
    }
  } finally {
    rpc.close()
  }
}
