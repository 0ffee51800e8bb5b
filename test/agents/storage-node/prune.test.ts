import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toFunctionSelector } from 'viem'
import { silentLog } from '#kit/log.ts'
import { NodeStore } from '#storage/node/store/node-store.ts'
import { startChainProxy } from './chain-proxy.ts'
import {
  allSegments,
  download,
  fileInfo,
  finalized,
  framesOf,
  makeFile,
  openNode,
  postFrames,
  rpc,
  rpcError,
  segmentJson,
  storeFile,
  temporaryFolder,
  until,
  useTestNet,
} from './harness.ts'

const { net } = useTestNet()

const FAST = { pruneIntervalMs: 50, pruneBatchSectors: 1_024, pruneBatchPauseMs: 1 }

// At nine tenths of its capacity a node halves its shard: what the smaller shard keeps stays whole and finalized, the
// rest goes, its place is used again, and the new shard outlives a restart.
test('halves its shard when the disk fills up', async () => {
  const folder = await temporaryFolder()
  const config = { data: { ...FAST, maxSectors: 40 * 1_024 } }
  let node = await openNode({ net, dataDir: folder.path, config, random: () => 0.9 })
  try {
    const first = await makeFile(16 * 262_144, 1)
    const firstSeq = await storeFile(net, [node], first)
    assert.deepEqual(await rpc(node.url, 'zgs_getShardConfig'), { shardId: 0, numShard: 1 })
    const second = await makeFile(20 * 262_144, 2)
    const secondSeq = await storeFile(net, [node], second)
    await until('the shard halved', () => node.store.shard.numShard === 2)
    assert.deepEqual(await rpc(node.url, 'zgs_getShardConfig'), { shardId: 1, numShard: 2 })
    await until('the other half gone', () => node.store.objects.storedPieces === 18)
    for (const [seq, file] of [
      [firstSeq, first],
      [secondSeq, second],
    ] as const) {
      const info = await fileInfo(node.url, seq)
      assert.equal(info?.finalized, true)
      const start = (info?.tx.startEntryIndex ?? 0) / 1024
      for (const index of allSegments(file)) {
        const served = await rpc(node.url, 'zgs_downloadSegmentWithProofByTxSeq', seq, index)
        assert.deepEqual(served, (start + index) % 2 === 1 ? segmentJson(file, index) : null)
      }
    }
    const third = await makeFile(10 * 262_144, 3)
    const thirdSeq = await storeFile(net, [node], third)
    assert.equal(node.store.objects.storedPieces, 23)
    await node.close()
    node = await openNode({ net, dataDir: folder.path, config })
    assert.deepEqual(await rpc(node.url, 'zgs_getShardConfig'), { shardId: 1, numShard: 2 })
    assert.equal((await fileInfo(node.url, thirdSeq))?.finalized, true)
  } finally {
    await node.close()
    await folder.remove()
  }
})

// A removal that was cut off goes on after the restart.
test('finishes a removal that was interrupted', async () => {
  const folder = await temporaryFolder()
  let node = await openNode({ net, dataDir: folder.path })
  try {
    const file = await makeFile(12 * 262_144, 4)
    const seq = await storeFile(net, [node], file)
    const { flow } = net.contracts
    await node.close()
    const identity = { chainId: 31_337, flow }
    const options = { dataDir: folder.path, identity, log: silentLog(), minFreeBytes: 0 }
    const offline = NodeStore.open({ ...options, shard: { shardId: 0, numShard: 1 } })
    await offline.setShard({ shardId: 0, numShard: 4 }, { key: 'prune.shard', value: '0' })
    await offline.close()
    node = await openNode({ net, dataDir: folder.path, config: { data: FAST } })
    await until('the rest removed', () => node.store.objects.storedPieces === 3)
    assert.equal((await fileInfo(node.url, seq))?.finalized, true)
  } finally {
    await node.close()
    await folder.remove()
  }
})

// What the reward contract no longer pays for is pruned; a revert of that contract changes nothing and stops nothing.
test('prunes what is no longer rewarded', async () => {
  const folder = await temporaryFolder()
  const proxy = await startChainProxy(net.anvil.url)
  const reward = net.contracts.reward.toLowerCase()
  let chunk: bigint | 'revert' = 'revert'
  let asked = 0
  const selector = toFunctionSelector('firstRewardableChunk()')
  proxy.instead = ({ id, method, params }) => {
    const [call] = params as [{ to?: string; data?: string; input?: string } | undefined]
    if (method !== 'eth_call' || call?.to?.toLowerCase() !== reward) return undefined
    if ((call.data ?? call.input)?.startsWith(selector) !== true) return undefined
    asked += 1
    const error = { code: 3, message: 'execution reverted', data: '0x' }
    const result = `0x${(chunk === 'revert' ? 0n : chunk).toString(16).padStart(64, '0')}${'0'.repeat(64)}`
    const outcome = chunk === 'revert' ? { error } : { result }
    return { status: 200, body: JSON.stringify({ jsonrpc: '2.0', id, ...outcome }) }
  }
  const node = await openNode({
    net,
    dataDir: folder.path,
    config: { data: FAST, chain: { rpcUrls: [proxy.url], reward: net.contracts.reward } },
  })
  try {
    const file = await makeFile(5 * 262_144, 5)
    const seq = await storeFile(net, [node], file)
    await until('the contract asked', () => asked > 2)
    assert.equal((await fileInfo(node.url, seq))?.finalized, true)
    chunk = 0n
    const before = asked
    await until('asked again', () => asked > before + 2)
    assert.equal((await fileInfo(node.url, seq))?.finalized, true)
    chunk = 1n
    const info = await until('pruned', async () => {
      const now = await fileInfo(node.url, seq)
      return now?.pruned === true && now
    })
    assert.deepEqual([info.finalized, info.uploadedSegNum], [false, 5])
    await until('the data gone', () => node.store.objects.storedPieces === 0)
    assert.equal(await rpc(node.url, 'zgs_downloadSegmentByTxSeq', seq, 0, 10), null)
    assert.equal(await rpc(node.url, 'zgs_getFileInfo', file.tree.root, true), null)
    const late = await rpcError(node.url, 'zgs_uploadSegments', [segmentJson(file, 0)])
    assert.deepEqual([late.message, late.data], ['Invalid params: root', 'already pruned'])
    const frames = await postFrames(node.url, seq, framesOf(file, [0]))
    assert.deepEqual([frames.status, frames.code], [410, 'ALREADY_PRUNED'])
  } finally {
    await node.close()
    await proxy.close()
    await folder.remove()
  }
})

// Content pruned in one submission lives on in a later one that is still rewarded.
test('keeps content that a later submission still names', async () => {
  const folder = await temporaryFolder()
  const node = await openNode({ net, dataDir: folder.path, config: { data: FAST } })
  try {
    const file = await makeFile(600_000, 6)
    const first = await storeFile(net, [node], file)
    const second = await net.submit(file)
    await finalized(node.url, second)
    node.store.prune(first)
    assert.equal(node.store.dropForeign(node.store.transactions.get(first)?.objectId ?? -1, 100).pieces, 0)
    assert.equal((await fileInfo(node.url, first))?.pruned, true)
    assert.deepEqual(await download(node.url, second, 600_000), Buffer.from(file.bytes))
  } finally {
    await node.close()
    await folder.remove()
  }
})
