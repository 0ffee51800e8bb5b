import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { silentLog } from '#kit/log.ts'
import type { Hash } from '#protocol/hex.ts'
import { MineContracts } from '#storage/miner/chain/mine-contracts.ts'
import { MinerStore } from '#storage/miner/store/miner-store.ts'
import { AnswerAudit } from '#storage/miner/submit/answer-audit.ts'
import { AnswerLog, type Outcome } from '#storage/miner/submit/answer-log.ts'
import type { RunningNode } from '#storage/node/main.ts'
import {
  type MineNet,
  makeFile,
  openMiner,
  openTestNode,
  startMineNet,
  store as storeFile,
  temporaryFolder,
  until,
} from './harness.ts'

/**
 * The record of answers is that of the chain: what a reorganisation undoes is no longer counted as earned, however deep
 * it was, and what is mined again is counted again.
 */
describe('answers in blocks that a reorganisation takes away', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let chain: Chain
  let store: MinerStore
  let answers: AnswerLog
  let audit: AnswerAudit
  let first: { id: number; block: number; hash: Hash }
  const stop = new AbortController()

  // A miner that has earned; then its store is taken over.
  before(async () => {
    net = await startMineNet({ releaseSeconds: 3_600 })
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    await storeFile(net, [node], await makeFile(4 * 262_144))
    await net.submitHole(24)
    await net.anvil.rpc('evm_increaseTime', [7_200])
    await net.nextEpoch()
    const dataDir = `${folder.path}/miner`
    const miner = await openMiner({ net, nodes: [node], dataDir, config: { data: { maxSealedBytes: 8 * 262_144 } } })
    const earned = () => BigInt(miner.status().money.earnedWei) > 0n && miner.status().answers.accepted > 2
    await until('answers that earned', earned, 30_000)
    await miner.close()

    chain = await connectChain({ rpcUrls: [net.anvil.url] })
    const [flow, mine, reward] = [net.contracts.flow, net.contracts.mine, net.contracts.reward].map(
      (address) => address.toLowerCase() as Hash,
    )
    assert.ok(flow && mine && reward)
    const shard = { shardId: 0, numShard: 1 }
    store = new MinerStore({ dataDir, identity: { chainId: chain.id, flow, mine }, shard })
    answers = new AnswerLog(store)
    audit = new AnswerAudit({
      ...{ answers, contracts: new MineContracts({ chain, flow, mine, reward }), minerId: miner.status().minerId },
      ...{ recheckIntervalMs: 1_000, log: silentLog(), signal: stop.signal },
    })
    const oldest = answers.minedSince({ block: 0, limit: 1_000 }).at(-1)
    assert.ok(oldest?.hashes[0])
    first = { id: oldest.id, block: oldest.block, hash: oldest.hashes[0] }
  })
  after(async () => {
    stop.abort()
    store?.close()
    chain?.close()
    await node?.close()
    await net?.close()
    await folder?.remove()
  })

  const outcomes = () => answers.minedSince({ block: 0, limit: 1_000 }).map(({ outcome }) => outcome)
  const head = async () => Number(await net.anvil.rpc('eth_blockNumber'))

  it('stay as they are while the chain does', async () => {
    const before = answers.totals()
    assert.ok(before.earnedWei > 0n && before.outcomes.accepted > 2)
    await audit.look()
    await net.nextEpoch()
    await audit.look()
    assert.deepEqual(answers.totals(), before)
  })

  it('are taken back with what they earned and cost, and counted again where they are mined again', async () => {
    const before = answers.totals()
    const known = outcomes()
    const raw = await net.anvil.rpc('eth_getRawTransactionByHash', [first.hash])
    // Epochs deep, where the miner waits for one confirmation.
    await net.anvil.rpc('anvil_reorg', [(await head()) - first.block + 1, []])
    await audit.look()
    const gone = answers.totals()
    assert.deepEqual([gone.earnedWei, gone.outcomes.accepted], [0n, 0])
    assert.ok(gone.gasWei < before.gasWei, 'gas was not paid either')
    assert.deepEqual(
      outcomes(),
      known.map((): Outcome => 'unknown'),
    )
    await audit.look()
    assert.deepEqual(answers.totals(), gone, 'once taken back, taken back')

    await net.anvil.rpc('anvil_reorg', [1, [[raw, 0]]])
    const receipt = (await net.anvil.rpc('eth_getTransactionReceipt', [first.hash])) as { status: string }
    await audit.look()
    const again = answers.minedSince({ block: 0, limit: 1_000 }).find(({ id }) => id === first.id)
    assert.equal(again?.outcome, receipt.status === '0x1' ? 'accepted' : 'refused')
    assert.equal(again.block, await head())
    assert.ok(answers.totals().gasWei > gone.gasWei, 'what it cost in the new block is counted')
  })

  // An endpoint that fails says nothing about the chain.
  it('are left alone while the chain cannot be asked', async () => {
    const before = answers.totals()
    await net.anvil.rpc('anvil_reorg', [1, []])
    const deaf = await connectChain({ rpcUrls: [net.anvil.url] })
    deaf.close()
    const { flow, mine, reward } = net.contracts
    const contracts = new MineContracts({ chain: deaf, flow, mine, reward })
    const other = new AnswerAudit({
      ...{ answers, contracts, minerId: `0x${'00'.repeat(32)}`, recheckIntervalMs: 1_000 },
      ...{ log: silentLog(), signal: stop.signal },
    })
    await assert.rejects(other.look())
    assert.deepEqual(answers.totals(), before)
  })
})
