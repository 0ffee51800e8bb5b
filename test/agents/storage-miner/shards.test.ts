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

describe('miners of two shards', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let nodes: RunningNode[] = []
  let miners: RunningMiner[] = []

  before(async () => {
    net = await startMineNet({ mining: { targetSubmissions: 50n } })
    folder = await temporaryFolder()
    nodes = [await openTestNode(net, folder.path, '0/2'), await openTestNode(net, folder.path, '1/2')]
    await store(net, nodes, await makeFile(7 * 262_144))
    await net.nextEpoch()
  })
  after(async () => {
    await Promise.all(miners.map((miner) => miner.close()))
    await Promise.all(nodes.map((node) => node.close()))
    await net?.close()
    await folder?.remove()
  })

  // Each seals and proves its own half with the help of the node of that half alone, and both halves pay.
  it('each seal and prove their own half', async () => {
    miners = await Promise.all(
      nodes.map((node, i) =>
        openMiner({
          ...{ net, nodes: [node], dataDir: `${folder.path}/miner-${i}`, account: 5 + i },
          config: { data: { shard: `${i}/2` } },
        }),
      ),
    )
    for (const { status } of miners) {
      await until('an accepted answer', () => status().answers.accepted > 0, 40_000).catch((error) =>
        assert.fail(`${error} ${JSON.stringify(status())}`),
      )
      // Eight segments in the flow (a gap, then seven), half of them each; the last one's tail makes no difference.
      assert.equal(status().sealing.sealableChunks, status().sealing.sealedChunks)
      assert.equal(status().answers.refused, 0, JSON.stringify(status().answers))
    }
    const positions = miners.map(({ store: kept }) =>
      kept.database
        .all<{ position: number }>("select position from answer where outcome = 'accepted'")
        .map(({ position }) => Math.floor(position / 1024) % 2),
    )
    assert.deepEqual([new Set(positions[0]), new Set(positions[1])], [new Set([0]), new Set([1])])
  })
})
