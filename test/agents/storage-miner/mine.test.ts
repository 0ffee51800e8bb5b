import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { RunningMiner } from '#storage/miner/main.ts'
import type { RunningNode } from '#storage/node/main.ts'
import {
  type MineNet,
  makeFile,
  openMiner,
  openTestNode,
  startMineNet,
  store,
  temporaryFolder,
  until,
} from './harness.ts'

describe('mining on a real chain', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let miner: RunningMiner | undefined

  before(async () => {
    net = await startMineNet()
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
  })
  after(async () => {
    await miner?.close()
    await node.close()
    await net.close()
    await folder.remove()
  })

  // What a node stores, a miner seals, mines and proves: the contract accepts its answers.
  it('seals, mines and has answers accepted', async () => {
    await store(net, [node], await makeFile(3 * 262_144 + 5_000))
    await net.nextEpoch()
    miner = await openMiner({ net, nodes: [node], dataDir: `${folder.path}/miner` })
    const { status } = miner
    await until('an accepted answer', () => status().answers.accepted > 0, 30_000).catch((error) => {
      console.error(JSON.stringify(status(), null, 1))
      throw error
    })
    assert.equal(status().answers.refused, 0)
  })
})
