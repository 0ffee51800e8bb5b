import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Hash } from '#protocol/hex.ts'
import type { MinerStatus } from '#storage/miner/main.ts'
import { MinerStore } from '#storage/miner/store/miner-store.ts'
import type { RunningNode } from '#storage/node/main.ts'
import { logged, seededRandom } from '../storage-node/harness.ts'
import {
  checkSealed,
  key,
  type MineNet,
  makeFile,
  openTestNode,
  startMineNet,
  store,
  type TestFile,
  temporaryFolder,
  until,
} from './harness.ts'

/** With a segment of padding in the tree at the end. */
const SEGMENTS = 63
const KILLS = 3

describe('a miner that is killed', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let file: TestFile
  let child: ChildProcess | undefined
  /** First sector of the file, and all of its segments with the padding. */
  let start = 0

  before(async () => {
    net = await startMineNet()
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    file = await makeFile(SEGMENTS * 262_144)
    const seq = await store(net, [node], file)
    start = (await logged(node.url, seq)).tx.startEntryIndex
    await net.nextEpoch()
  })
  after(async () => {
    child?.kill('SIGKILL')
    await node?.close()
    await net?.close()
    await folder?.remove()
  })

  async function startChild(): Promise<{ url: string }> {
    const { flow, mine, reward } = net.contracts
    const config = {
      data: { dir: `${folder.path}/miner`, minFreeBytes: 0 },
      chain: { rpcUrls: [net.anvil.url], flow, mine, reward, pollIntervalMs: 50 },
      nodes: { urls: [node.url], retryIntervalMs: 200 },
      mining: { enabled: false },
      listen: '127.0.0.1:0',
    }
    const path = `${folder.path}/miner.json`
    writeFileSync(path, JSON.stringify(config))
    const script = fileURLToPath(new URL('run-miner.ts', import.meta.url))
    const env = { ...process.env, MINER_TEST_KEY: key(5) }
    child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'], env })
    assert.ok(child.stdout)
    const line = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
    const url = String(line[0]).trim()
    assert.match(url, /^http/)
    return { url }
  }

  const status = async (url: string): Promise<MinerStatus> =>
    (await (await fetch(`${url}/v1/status`)).json()) as MinerStatus

  function look(): { entered: number; minerId: Hash } {
    const { flow, mine } = net.contracts
    const identity = { chainId: net.anvil.chainId, flow: flow.toLowerCase(), mine: mine.toLowerCase() }
    const kept = new MinerStore({ dataDir: `${folder.path}/miner`, identity, shard: { shardId: 0, numShard: 1 } })
    const minerId = (kept.meta('minerId') ?? `0x${'00'.repeat(32)}`) as Hash
    const entered = checkSealed({ store: kept, minerId, files: [{ start, file }] })
    kept.close()
    return { entered, minerId }
  }

  // Whenever it is killed, every chunk that is entered as sealed has its bytes on disk, right to the last one; the next
  // run goes on from there with the same id and seals the rest.
  it('has on disk what it says is sealed, and goes on', async () => {
    const seed = Date.now() % 100_000
    console.log(`seed ${seed}`)
    const random = seededRandom(seed)
    let before = 0
    let id: Hash | undefined
    for (let round = 0; round < KILLS; round++) {
      const { url } = await startChild()
      // From the first chunk of this run on, at any moment of the sealing.
      const wanted = before + Math.floor(random() * 50)
      await until('some sealing', async () => (await status(url)).sealing.sealedChunks >= Math.min(wanted, 100), 20_000)
      await delay(Math.floor(random() * 60))
      child?.kill('SIGKILL')
      if (child) await once(child, 'exit')
      const { entered, minerId } = look()
      assert.ok(entered >= before, `${entered} after ${before}`)
      id ??= minerId
      assert.equal(minerId, id, 'the id is registered once')
      before = entered
    }
    const { url } = await startChild()
    await until(
      'everything sealed',
      async () => {
        const { sealing } = await status(url)
        return sealing.sealableChunks > SEGMENTS && sealing.sealedChunks === sealing.sealableChunks
      },
      30_000,
    )
    child?.kill('SIGTERM')
    if (child) await once(child, 'exit')
    assert.equal(look().entered, start / 1024 + SEGMENTS + 1)
  })
})
