import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { LocalAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { createSender, type TransactionSender } from '#kit/chain/sender.ts'
import { silentLog } from '#kit/log.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { EpochMirror } from '#storage/miner/chain/epoch-mirror.ts'
import { MineContracts } from '#storage/miner/chain/mine-contracts.ts'
import { type MiningWork, Watcher } from '#storage/miner/chain/watcher.ts'
import { FlowSource } from '#storage/miner/fetch/flow-source.ts'
import { AttemptRunner } from '#storage/miner/mine/attempts.ts'
import type { Hit } from '#storage/miner/mine/mining-task.ts'
import { rangeDigest } from '#storage/miner/puzzle.ts'
import { ExtentFiles } from '#storage/miner/store/extent-files.ts'
import { MinerStore } from '#storage/miner/store/miner-store.ts'
import { AnswerLog } from '#storage/miner/submit/answer-log.ts'
import { type Puzzle, Submitter } from '#storage/miner/submit/submitter.ts'
import type { RunningNode } from '#storage/node/main.ts'
import {
  key,
  type MineNet,
  makeFile,
  openMiner,
  openTestNode,
  startMineNet,
  store as storeFile,
  temporaryFolder,
  until,
} from './harness.ts'

const SHARD = { shardId: 0, numShard: 1 }

describe('answers', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let chain: Chain
  let contracts: MineContracts
  let sender: TransactionSender
  let store: MinerStore
  let minerId: Hash
  let work: MiningWork
  let hits: Hit[]
  const account: LocalAccount = privateKeyToAccount(key(5))
  const log = silentLog()
  const stop = new AbortController()

  // A miner that seals and does not mine; then its store is taken over, and hits are made by hand.
  before(async () => {
    net = await startMineNet({ blocksPerEpoch: 200 })
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    await storeFile(net, [node], await makeFile(2 * 262_144))
    await net.nextEpoch()
    const dataDir = `${folder.path}/miner`
    const miner = await openMiner({ net, nodes: [node], dataDir, config: { mining: { enabled: false } } })
    await until('all sealed', () => miner.status().sealing.sealedChunks === 4)
    minerId = miner.status().minerId
    await miner.close()

    chain = await connectChain({ rpcUrls: [net.anvil.url], pollingIntervalMs: 50 })
    const { flow, mine, reward } = net.contracts
    contracts = new MineContracts({ chain, flow, mine, reward })
    sender = createSender({ chain, account })
    const lower = { flow: flow.toLowerCase(), mine: mine.toLowerCase() }
    store = new MinerStore({ dataDir, identity: { chainId: chain.id, ...lower }, shard: SHARD })
  })
  after(async () => {
    stop.abort()
    await sender?.close()
    store?.close()
    chain?.close()
    await node?.close()
    await net?.close()
    await folder?.remove()
  })

  beforeEach(async () => {
    work = await lookForWork()
    hits = makeHits(work)
  })

  async function lookForWork(): Promise<MiningWork> {
    let found: MiningWork | undefined
    const watcher = new Watcher({
      ...{ contracts, minerId, log },
      shard: SHARD,
      mirror: new EpochMirror({ store, contracts, log }),
      pollIntervalMs: 50,
      signal: stop.signal,
      onLook: (situation) => {
        found = situation.work
      },
      onBlind: (reason) => assert.fail(reason),
    })
    await watcher.look()
    assert.ok(found, 'there is something to mine')
    return found
  }

  function makeHits({ subtaskDigest, range, target }: MiningWork): Hit[] {
    const files = new ExtentFiles({ dir: store.sealedDir })
    const runner = new AttemptRunner({
      held: (chunk) => store.map.held(chunk),
      read: (chunk, into) => files.read(chunk, into),
    })
    const { hits: found } = runner.run({
      ...{ id: 1, minerId: fromHex(minerId), subtaskDigest: fromHex(subtaskDigest), rangeDigest: rangeDigest(range) },
      target: Uint8Array.from(Buffer.from(target.toString(16).padStart(64, '0'), 'hex')),
      ...{ mineLength: range.mineLength, shardId: range.shardId, shardMask: range.shardMask, numShard: 1 },
    })
    files.close()
    return found
  }

  interface Rig {
    submitter: Submitter
    answers: AnswerLog
    over: AbortController
    idle: () => Promise<unknown>
  }

  function rig(
    parameters: { head?: () => number; current?: () => boolean; maxQueued?: number; url?: string } = {},
  ): Rig {
    store.database.run('delete from answer')
    const over = new AbortController()
    const puzzle: Puzzle = { ...work, taskId: 1, over: over.signal }
    const answers = new AnswerLog(store)
    const urls = [parameters.url ?? node.url]
    const submitter = new Submitter({
      ...{ store, contracts, sender, answers, minerId, log, signal: stop.signal },
      source: new FlowSource({ urls, stallTimeoutMs: 2_000, log }),
      ...{ maxQueued: parameters.maxQueued ?? 20, maxInFlight: 1, marginBlocks: 1, confirmations: 1 },
      head: parameters.head ?? (() => work.window.startBlock + 1),
      puzzle: () => (parameters.current?.() === false ? { ...puzzle, taskId: 2 } : puzzle),
      onChange: () => {},
    })
    const idle = () => until('idle', () => submitter.inFlight === 0 && submitter.queued === 0)
    return { submitter, answers, over, idle }
  }

  const hit = (index = 0): Hit => {
    const found = hits[index]
    assert.ok(found)
    return found
  }
  const nonce = async (): Promise<number> =>
    Number(await net.anvil.rpc('eth_getTransactionCount', [account.address, 'latest']))

  // The yardstick for the tests below: a good hit is sent once and accepted; shown again it is refused for free.
  it('are sent when they are good, and only once', async () => {
    const before = await nonce()
    const { submitter, answers, idle } = rig()
    submitter.add(hit())
    await idle()
    assert.equal(answers.totals().outcomes.accepted, 1, JSON.stringify(answers.totals().refusals))
    assert.equal(await nonce(), before + 1)
    submitter.add(hit())
    await idle()
    assert.deepEqual(
      answers.totals().refusals.map((row) => ({ ...row })),
      [{ reason: 'AnswerUsed', count: 1 }],
    )
    assert.equal(await nonce(), before + 1, 'nothing was paid for the refusal')
    assert.match(submitter.lastRefusal?.reason ?? '', /^AnswerUsed\(/)
  })

  // Nothing is ever sent for bytes that are not what the flow holds; the chunk is sealed again.
  it('are not sent when the sealed copy is damaged', async () => {
    const before = await nonce()
    const damaged = structuredClone(hit())
    damaged.sealed[100] = (damaged.sealed[100] ?? 0) ^ 1
    const held = store.map.held(damaged.segment)
    const { submitter, answers, idle } = rig()
    submitter.add(damaged)
    await idle()
    assert.equal(answers.totals().outcomes.invalid, 1)
    assert.equal(await nonce(), before)
    assert.equal(store.map.held(damaged.segment), 0n)
    store.markSealed([{ chunk: damaged.segment, held }])
  })

  // A hash, nonce or place that does not belong together is found before anything is asked of the chain.
  it('are not sent when the hit is false', async () => {
    const before = await nonce()
    const { submitter, answers, idle } = rig()
    const changes: ((forged: Hit) => void)[] = [
      (forged) => forged.nonce.fill(7),
      (forged) => forged.hash.fill(0),
      (forged) => {
        forged.seal ^= 1
      },
    ]
    for (const change of changes) {
      const forged = structuredClone(hit())
      const held = store.map.held(forged.segment)
      change(forged)
      submitter.add(forged)
      await idle()
      store.markSealed([{ chunk: forged.segment, held }])
    }
    assert.equal(answers.totals().outcomes.invalid, changes.length)
    assert.equal(await nonce(), before)
  })

  // A hit of another task than the one that is mined is dropped unseen.
  it('are not sent for a context that has passed', async () => {
    const before = await nonce()
    const { submitter, answers, idle } = rig({ current: () => false })
    submitter.add(hit())
    await idle()
    assert.equal(
      Object.values(answers.totals().outcomes).reduce((sum, count) => sum + count),
      0,
    )
    assert.equal(await nonce(), before)
  })

  // The window's end counts with its margin: in its last blocks nothing is sent that could land behind it.
  it('are not sent at the end of the window', async () => {
    const before = await nonce()
    for (const [behind, sent] of [
      [0, false],
      [1, false],
      [2, true],
    ] as const) {
      const { submitter, answers, idle } = rig({ head: () => work.window.endBlock - behind })
      submitter.add(hit(behind))
      await idle()
      const { late, accepted } = answers.totals().outcomes
      assert.deepEqual({ late, accepted }, sent ? { late: 0, accepted: 1 } : { late: 1, accepted: 0 })
    }
    assert.equal(await nonce(), before + 1)
  })

  // A puzzle that ends while its answer is being prepared ends the answer.
  it('are dropped when the puzzle ends on the way', async () => {
    const before = await nonce()
    // An address that takes the connection and never answers.
    const { createServer } = await import('node:net')
    const silent = createServer()
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const address = silent.address()
    const port = typeof address === 'object' && address ? address.port : 0
    const { submitter, answers, over, idle } = rig({ url: `http://127.0.0.1:${port}` })
    const connected = new Promise((resolve) => silent.once('connection', resolve))
    submitter.add(hit())
    await connected
    over.abort()
    await idle()
    silent.close()
    assert.equal(answers.totals().outcomes.late, 1)
    assert.equal(await nonce(), before)
  })

  // More hits than can be sent are dropped and counted, not kept without end.
  it('wait in a bounded queue', async () => {
    const { submitter, over } = rig({ maxQueued: 3, url: 'http://127.0.0.1:9' })
    for (let i = 0; i < 20; i++) submitter.add(hit())
    assert.ok(submitter.queued <= 3)
    assert.equal(submitter.full, true)
    assert.equal(submitter.dropped, 20 - 1 - 3)
    over.abort()
    await submitter.stopped()
  })

  // When the chain has moved on and the miner does not know it yet, the trial run finds out: nothing is paid.
  it('are tried without paying first, so that a stale one costs nothing', async () => {
    const before = await nonce()
    const { submitter, answers, idle } = rig()
    await net.nextEpoch()
    submitter.add(hit(3))
    await idle()
    assert.equal(answers.totals().outcomes.refused, 1)
    assert.equal(await nonce(), before)
    const [refusal] = answers.totals().refusals
    assert.match(refusal?.reason ?? '', /ContextMismatch|WindowNotOpen|WindowClosed/)
  })
})
