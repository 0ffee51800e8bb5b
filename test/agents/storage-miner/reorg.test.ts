import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { RunningMiner } from '#storage/miner/main.ts'
import type { RunningNode } from '#storage/node/main.ts'
import {
  checkSealed,
  type MineNet,
  makeFile,
  mine,
  openMiner,
  openTestNode,
  startMineNet,
  store,
  type TestFile,
  temporaryFolder,
  until,
} from './harness.ts'

describe('a reorganisation', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let miner: RunningMiner
  let file: TestFile

  before(async () => {
    net = await startMineNet()
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    miner = await openMiner({ net, nodes: [node], dataDir: `${folder.path}/miner` })
    file = await makeFile(4 * 262_144)
    await store(net, [node], file)
    await mine(net.anvil, 10)
    await net.nextEpoch()
  })
  after(async () => {
    await miner?.close()
    await node?.close()
    await net?.close()
    await folder?.remove()
  })

  // When the block at an epoch's start is exchanged, its digest changes: all that was sealed with the old one is sealed
  // again with the new one, and mining goes on.
  it('that takes an epoch’s start away makes its data be sealed again', async () => {
    const { status, store: kept } = miner
    const describeState = (error: unknown) => assert.fail(`${error} ${JSON.stringify(status())}`)
    await until('an accepted answer', () => status().answers.accepted > 0, 30_000).catch(describeState)
    await until('all sealed', () => status().sealing.sealedChunks === 8, 10_000).catch(describeState)
    const old = kept.lastEpoch()
    assert.ok(old)
    assert.equal(checkSealed({ store: kept, minerId: status().minerId, files: [{ start: 4096, file }] }), 8)

    const context = await net.context()
    const head = Number(await net.anvil.rpc('eth_blockNumber'))
    const accepted = status().answers.accepted
    // The block at the epoch's start and a few before it, but not those of the submission.
    await net.anvil.rpc('anvil_reorg', [head - Number(context.mineStart) + 3, []])

    const fresh = await until(
      'a new digest',
      () => {
        const last = kept.lastEpoch()
        return last && last.digest !== old.digest && last
      },
      30_000,
    ).catch(describeState)
    assert.ok(fresh && fresh.end === old.end, 'the same data, sealed with another digest')
    await until('sealed again', () => status().sealing.sealedChunks === 8, 20_000).catch(describeState)
    assert.notEqual((await net.context()).digest, context.digest)
    assert.equal(checkSealed({ store: kept, minerId: status().minerId, files: [{ start: 4096, file }] }), 8)
    await until('mining goes on', () => status().answers.accepted > accepted, 40_000).catch(describeState)
    const lastDigest = () => {
      const sql = "select digest from answer where outcome = 'accepted' order by id desc limit 1"
      return Buffer.from(kept.database.get<{ digest: Uint8Array }>(sql)?.digest ?? []).toString('hex')
    }
    // An answer of the old branch may be counted late: what must come is one with the new digest.
    const isNew = async () => lastDigest() === (await net.context()).digest.slice(2)
    await until('an answer of the new branch', isNew, 40_000).catch(describeState)
    assert.ok(await isNew())
  })
})
