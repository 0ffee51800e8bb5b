import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { silentLog } from '#kit/log.ts'
import { submissionSectors } from '#protocol/storage/submission.ts'
import { Intake } from '#storage/node/ingest/intake.ts'
import { thisThread } from '#storage/node/ingest/segment-check.ts'
import { NodeStore } from '#storage/node/store/node-store.ts'
import type { BulkDisk, BulkFile } from '#storage/node/store/slot-files.ts'
import {
  allSegments,
  download,
  fileInfo,
  finalized,
  framesOf,
  logged,
  makeFile,
  postFrames,
  seededRandom,
  segmentOf,
  temporaryFolder,
  useTestNet,
} from './harness.ts'

const { net } = useTestNet()

interface Child {
  url: string
  kill(signal: NodeJS.Signals): Promise<void>
}

async function spawnNode(dataDir: string): Promise<Child> {
  const config = {
    data: { dir: dataDir },
    chain: {
      rpcUrls: [net.anvil.url],
      flow: net.contracts.flow,
      startBlock: net.contracts.block,
      confirmations: 0,
      pollIntervalMs: 50,
    },
    rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0 },
  }
  const script = fileURLToPath(new URL('run-node.ts', import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [script, JSON.stringify(config)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const line = await Promise.race([
    once(child.stdout as NodeJS.ReadableStream, 'data').then(([data]) => String(data)),
    exited.then(() => {
      throw new Error('the node ended before it served')
    }),
  ])
  return {
    url: (JSON.parse(line) as { url: string }).url,
    async kill(signal) {
      child.kill(signal)
      await exited
    },
  }
}

// Killed at any moment of an upload and started again, a node still has every segment it acknowledged, says finalized
// only when it has all of them, and takes the rest; the file then reads back byte for byte.
test('survives SIGKILL at random moments of an upload', async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  t.diagnostic(`SEED=${seed}`)
  const random = seededRandom(seed)
  const folder = await temporaryFolder()
  const file = await makeFile(16 * 262_144 - 1_000, seed)
  const seq = await net.submit(file)
  const acknowledged = new Set<number>()
  let child = await spawnNode(folder.path)
  try {
    await logged(child.url, seq)
    for (let round = 0; round < 5; round++) {
      const killAt = delay(random() * 60).then(() => child.kill('SIGKILL'))
      const order = allSegments(file).sort(() => random() - 0.5)
      await Promise.all([
        killAt,
        ...[order.slice(0, 8), order.slice(8)].map(async (some) => {
          for (const index of some) {
            try {
              const { status } = await postFrames(child.url, seq, framesOf(file, [index]))
              if (status === 200) acknowledged.add(index)
            } catch {
              return
            }
          }
        }),
      ])
      child = await spawnNode(folder.path)
      const info = await fileInfo(child.url, seq)
      const missing = await (await fetch(`${child.url}/v1/files/${seq}/missing`)).json()
      const { segments, total } = missing as { segments: [number, number][]; total: number }
      assert.equal(info?.finalized, total === 0)
      for (const [from, to] of segments) {
        for (let index = from; index < to; index++) assert.ok(!acknowledged.has(index), `segment ${index} was lost`)
      }
      for (const index of acknowledged) {
        const response = await fetch(`${child.url}/v1/files/${seq}/segments?from=${index}&to=${index + 1}`)
        const frame = Buffer.from(await response.arrayBuffer())
        assert.ok(frame.equals(framesOf(file, [index])), `segment ${index} reads back differently`)
      }
    }
    await postFrames(child.url, seq, framesOf(file, allSegments(file)))
    await finalized(child.url, seq)
    const back = await download(child.url, seq, file.tree.sizeBytes)
    assert.ok(back?.equals(Buffer.from(file.bytes)), 'the file differs')
    await child.kill('SIGTERM')
    child = await spawnNode(folder.path)
    assert.equal((await finalized(child.url, seq)).uploadedSegNum, 16)
  } finally {
    await child.kill('SIGKILL')
    await folder.remove()
  }
})

/** A disk that keeps apart what was written and what was synced, as a disk does when the power goes. */
class VolatileDisk implements BulkDisk {
  readonly #files = new Map<string, { written: Buffer; synced: Buffer }>()
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  async open(path: string): Promise<BulkFile> {
    const file = this.#files.get(path) ?? { written: Buffer.alloc(0), synced: Buffer.alloc(0) }
    this.#files.set(path, file)
    return {
      write: async (data, offset, length, position) => {
        await delay(this.#random() * 3)
        const end = position + length
        if (end > file.written.length)
          file.written = Buffer.concat([file.written, Buffer.alloc(end - file.written.length)])
        file.written.set(data.subarray(offset, offset + length), position)
        return { bytesWritten: length }
      },
      read: async (target, offset, length, position) => {
        const part = file.written.subarray(position, position + length)
        target.set(part, offset)
        return { bytesRead: part.length }
      },
      datasync: async () => {
        const image = Buffer.from(file.written)
        await delay(this.#random() * 5)
        file.synced = image
      },
      close: async () => {},
    }
  }

  freeBytes(): Promise<number> {
    return Promise.resolve(2 ** 40)
  }

  /** Writes what would be on the disk after a power cut now. */
  cutPower(from: string, to: string): void {
    for (const [path, { synced }] of this.#files) {
      const target = path.replace(from, to)
      mkdirSync(dirname(target), { recursive: true })
      writeFileSync(target, synced)
    }
  }
}

// After a power cut at any moment, with everything lost that was not synced, each segment whose write was acknowledged
// is whole, and no row names a segment that is not.
test('loses nothing acknowledged when the power goes', async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  t.diagnostic(`SEED=${seed}`)
  const random = seededRandom(seed)
  const folder = await temporaryFolder()
  try {
    const file = await makeFile(40 * 262_144, seed)
    const options = {
      identity: { chainId: 1, flow: '0x00' as const },
      shard: { shardId: 0, numShard: 1 },
      log: silentLog(),
      minFreeBytes: 0,
    }
    const first = join(folder.path, 'first')
    const disk = new VolatileDisk(random)
    const store = NodeStore.open({ ...options, dataDir: first, disk })
    const { nodes, sizeBytes } = file.tree
    const submission = { seq: 0, startSector: 32_768, sectors: submissionSectors(nodes), sizeBytes, nodes, block: 1 }
    store.applyLogs({ to: { number: 1, hash: `0x${'11'.repeat(32)}` }, submissions: [submission] })
    const limits = { maxCachedFileBytes: 0, maxCachedBytes: 0, refusal: () => undefined }
    const intake = new Intake({ store, hasher: thisThread, ...limits })
    const tx = store.transactions.get(0)
    assert.ok(tx)
    const acknowledged = new Set<number>()
    const writes = allSegments(file).map(async (index) => {
      await delay(random() * 40)
      const { data, proof } = segmentOf(file, index)
      await intake.take({ root: tx.root, sizeBytes, index, data, proof }, tx)
      acknowledged.add(index)
    })
    for (let cut = 0; cut < 6; cut++) {
      await delay(5 + random() * 15)
      // Nothing else runs in this step, so that database and data are those of one moment.
      const then = join(folder.path, `cut-${cut}`)
      const promised = new Set(acknowledged)
      mkdirSync(then, { recursive: true })
      for (const name of ['node.db', 'node.db-wal']) cpSync(join(first, name), join(then, name))
      disk.cutPower(first, then)
      const after = NodeStore.open({ ...options, dataDir: then })
      const objectId = after.transactions.get(0)?.objectId ?? 0
      const here = new Set(after.objects.indexes(objectId))
      for (const index of promised) assert.ok(here.has(index), `segment ${index} was acknowledged and is gone`)
      for (const index of here) {
        const piece = await after.objects.readPiece(objectId, index)
        assert.ok(piece?.data.equals(Buffer.from(segmentOf(file, index).data)), `segment ${index} is not whole`)
      }
      assert.equal(after.transactions.get(0)?.status, here.size === 40 ? 'finalized' : 'pending')
      await after.close()
    }
    await Promise.all(writes)
    assert.equal(store.transactions.get(0)?.status, 'finalized')
    await store.close()
  } finally {
    await folder.remove()
  }
})

// A second process on the same folder is refused, as it would overwrite slots the first has handed out.
test('refuses a data folder that another node uses', async () => {
  const folder = await temporaryFolder()
  const child = await spawnNode(folder.path)
  try {
    const open = (): NodeStore =>
      NodeStore.open({
        dataDir: folder.path,
        identity: { chainId: 31_337, flow: net.contracts.flow },
        shard: { shardId: 0, numShard: 1 },
        log: silentLog(),
        minFreeBytes: 0,
      })
    assert.throws(open, { code: 'DATA_DIR_IN_USE' })
    await child.kill('SIGTERM')
    const store = open()
    await store.close()
    assert.throws(
      () =>
        NodeStore.open({
          dataDir: folder.path,
          identity: { chainId: 1, flow: net.contracts.flow },
          shard: { shardId: 0, numShard: 1 },
          log: silentLog(),
          minFreeBytes: 0,
        }),
      { code: 'DATA_DIR_FOREIGN' },
    )
  } finally {
    await child.kill('SIGKILL')
    await folder.remove()
  }
})
