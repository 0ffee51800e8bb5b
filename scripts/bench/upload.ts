import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { TransferEvent } from '#client/storage/events.ts'
import { submitFile } from '#client/storage/submit-file.ts'
import { fileSource } from '#kit/files.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import type { BenchContext } from './context.ts'
import { uploadWithSdk } from './storage-sdk.ts'
import {
  MIB,
  rate,
  residentBytes,
  StorageBenchError,
  type StorageSetup,
  startStorageSetup,
  writeNoise,
} from './storage-setup.ts'

/**
 * Uploads to a storage node in a process of its own, over loopback:
 *
 * - `upload.throughput`: from the file to "final at the node", without the time of the chain. The peer is the work that
 *   no upload can do without, in this process alone: hash the file, hash it again (the node's part) and write a copy.
 * - `upload.vs-sdk`: the same against 0g-ts-sdk and the same node, both with the submission on the chain already.
 * - `upload.memory`: the most resident memory of the node's process while a large file goes in.
 */
export async function bench(context: BenchContext): Promise<void> {
  for (const part of [throughput, versusSdk, memory]) {
    // A fresh node for each: its memory must not remember what the part before did.
    const setup = await startStorageSetup(context)
    try {
      await part(setup, context)
    } finally {
      await setup.stop()
    }
  }
}

async function throughput(setup: StorageSetup, { quick, signal, report, note }: BenchContext): Promise<void> {
  const sizeBytes = (quick ? 64 : 256) * MIB
  await timeUpload(setup, { label: 'warm-up', sizeBytes: 16 * MIB, signal })
  let best = { ms: Number.POSITIVE_INFINITY, chainMs: 0, hashMs: 0, sendMs: 0 }
  let peerMs = Number.POSITIVE_INFINITY
  for (let round = 0; round < (quick ? 2 : 3); round++) {
    const timed = await timeUpload(setup, { label: `throughput-${round}`, sizeBytes, signal })
    if (timed.ms < best.ms) best = timed
    peerMs = Math.min(peerMs, await timeLocalWork(setup, { sizeBytes, signal }))
    note(
      `${rate(sizeBytes, timed.ms).toFixed(0)} MiB/s (hashing ${timed.hashMs.toFixed(0)} ms, chain ${timed.chainMs.toFixed(0)} ms not counted, sending ${timed.sendMs.toFixed(0)} ms)`,
    )
  }
  report({
    name: 'upload.throughput',
    value: rate(sizeBytes, best.ms),
    unit: 'MiB/s',
    peer: 'the same bytes hashed twice and written, no network',
    peerValue: rate(sizeBytes, peerMs),
    ratio: peerMs / best.ms,
    detail: {
      sizeBytes,
      chainMs: Math.round(best.chainMs),
      hashMs: Math.round(best.hashMs),
      sendMs: Math.round(best.sendMs),
    },
  })
}

interface TimeUploadParameters {
  label: string
  sizeBytes: number
  signal: AbortSignal
}

async function timeUpload({ client, dir }: StorageSetup, { label, sizeBytes, signal }: TimeUploadParameters) {
  const path = join(dir, label)
  await writeNoise({ path, sizeBytes, label })
  try {
    await using source = await fileSource(path)
    const at = new Map<TransferEvent['type'], { first: number; last: number }>()
    const start = performance.now()
    await client.storage.upload({
      source,
      signal,
      onEvent: ({ type }) => {
        const now = performance.now()
        at.set(type, { first: at.get(type)?.first ?? now, last: now })
      },
    })
    const end = performance.now()
    const hashed = at.get('hashing')?.last ?? start
    const sending = at.get('sending')?.first ?? end
    // Between the tree and the first byte to the node lie the transaction and the node's look at the chain.
    const chainMs = sending - hashed
    return { ms: end - start - chainMs, chainMs, hashMs: hashed - start, sendMs: end - sending }
  } finally {
    await rm(path, { force: true })
  }
}

async function timeLocalWork(
  { dir }: StorageSetup,
  { sizeBytes, signal }: { sizeBytes: number; signal: AbortSignal },
): Promise<number> {
  const path = join(dir, 'local')
  const copy = join(dir, 'local-copy')
  await writeNoise({ path, sizeBytes, label: 'local' })
  try {
    await using source = await fileSource(path)
    const start = performance.now()
    await buildFileTree({ source, signal })
    await buildFileTree({ source, signal })
    await copyDurably({ source, to: copy })
    return performance.now() - start
  } finally {
    await rm(path, { force: true })
    await rm(copy, { force: true })
  }
}

/** As a node must: the bytes are on the disk when it returns. */
async function copyDurably({
  source,
  to,
}: {
  source: Awaited<ReturnType<typeof fileSource>>
  to: string
}): Promise<void> {
  const { open } = await import('node:fs/promises')
  const target = await open(to, 'w')
  try {
    const buffer = new Uint8Array(4 * MIB)
    for (let offset = 0; offset < source.sizeBytes; offset += buffer.length) {
      const length = await source.readInto({ offset, target: buffer })
      await target.write(buffer, 0, length)
    }
    await target.datasync()
  } finally {
    await target.close()
  }
}

async function versusSdk(setup: StorageSetup, { quick, signal, report, note }: BenchContext): Promise<void> {
  const sizeBytes = (quick ? 4 : 16) * MIB
  const sdkMs = await timeSubmitted(setup, { label: 'sdk', sizeBytes, signal }, (path) =>
    uploadWithSdk({ path, nodeUrl: setup.nodeUrl, rpcUrl: setup.chain.url, flow: setup.flow }),
  )
  note(`0g-ts-sdk: ${sizeBytes / MIB} MiB in ${sdkMs.toFixed(0)} ms`)
  // Large enough that a start of a few milliseconds does not weigh.
  const oursBytes = (quick ? 16 : 64) * MIB
  const oursMs = await timeSubmitted(setup, { label: 'ours', sizeBytes: oursBytes, signal }, async (path) => {
    await using source = await fileSource(path)
    const { paid } = await setup.client.storage.upload({ source, signal })
    if (paid) throw new StorageBenchError({ code: 'BENCH_NODE', message: 'the submission was not found' })
  })
  report({
    name: 'upload.vs-sdk',
    value: rate(oursBytes, oursMs),
    unit: 'MiB/s',
    peer: '@0gfoundation/0g-ts-sdk 1.2.8',
    peerValue: rate(sizeBytes, sdkMs),
    ratio: rate(oursBytes, oursMs) / rate(sizeBytes, sdkMs),
    detail: { sizeBytes: oursBytes, peerSizeBytes: sizeBytes, chain: 'submission known before the clock starts' },
  })
}

/** Time of an upload whose submission the node knows already, so that neither side waits for the chain. */
async function timeSubmitted(
  { client, dir, flow }: StorageSetup,
  { label, sizeBytes, signal }: TimeUploadParameters,
  run: (path: string) => Promise<void>,
): Promise<number> {
  const path = join(dir, label)
  await writeNoise({ path, sizeBytes, label })
  try {
    const { connection } = client.storage
    await using source = await fileSource(path)
    const tree = await buildFileTree({ source, signal })
    const { txSeq } = await submitFile(connection, { tree, flow, signal })
    const [node = connection.node(connection.nodeUrls[0] ?? '')] = []
    while ((await node.fileInfo({ txSeq }, { signal })) === null) signal.throwIfAborted()
    const start = performance.now()
    await run(path)
    return performance.now() - start
  } finally {
    await rm(path, { force: true })
  }
}

async function memory(setup: StorageSetup, { quick, signal, report }: BenchContext): Promise<void> {
  const sizeBytes = (quick ? 128 : 1024) * MIB
  const path = join(setup.dir, 'memory')
  await writeNoise({ path, sizeBytes, label: 'memory' })
  const samples: number[] = []
  const before = await residentBytes(setup.nodePid)
  const timer = setInterval(async () => {
    const bytes = await residentBytes(setup.nodePid)
    if (bytes !== undefined) samples.push(bytes)
  }, 100)
  try {
    await using source = await fileSource(path)
    await setup.client.storage.upload({ source, signal })
  } finally {
    clearInterval(timer)
    await rm(path, { force: true })
  }
  if (before === undefined || samples.length === 0) {
    throw new StorageBenchError({
      code: 'BENCH_NODE',
      message: 'this system does not tell the memory of a process',
      fix: 'run the bench on Linux',
    })
  }
  const half = Math.floor(samples.length / 2)
  const most = (part: number[]) => Math.max(0, ...part)
  report({
    name: 'upload.memory',
    value: most(samples) / MIB,
    unit: 'MiB',
    detail: {
      sizeBytes,
      beforeMiB: Math.round(before / MIB),
      firstHalfMiB: Math.round(most(samples.slice(0, half)) / MIB),
      secondHalfMiB: Math.round(most(samples.slice(half)) / MIB),
      limitMiB: 300,
    },
  })
}
