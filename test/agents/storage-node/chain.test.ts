import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeFunctionData } from 'viem'
import { flowAbi } from '#protocol/abi/flow.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import { startChainProxy } from './chain-proxy.ts'
import {
  allSegments,
  download,
  fileInfo,
  finalized,
  framesOf,
  logged,
  makeFile,
  mine,
  openNode,
  postFrames,
  rpc,
  rpcError,
  segmentJson,
  temporaryFolder,
  until,
  useTestNet,
} from './harness.ts'

const { net } = useTestNet()

interface Status {
  logSyncHeight: number
  logSyncBlock: Hash
  nextTxSeq: number
}

// A submission shows within a second of its block; the log height moves on over empty blocks.
test('sees a submission within a second', async () => {
  const folder = await temporaryFolder()
  const node = await openNode({ net, dataDir: folder.path, config: { chain: { pollIntervalMs: 500 } } })
  try {
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      const seq = await net.submit(await makeFile(1_000, 30 + i))
      const start = performance.now()
      await logged(node.url, seq)
      times.push(performance.now() - start)
    }
    assert.ok(Math.max(...times) < 1_000, `took ${times.map(Math.round)} ms`)
    const { logSyncHeight } = await rpc<Status>(node.url, 'zgs_getStatus')
    await mine(net.anvil, 5)
    await until('the height of the empty blocks', async () => {
      return (await rpc<Status>(node.url, 'zgs_getStatus')).logSyncHeight === logSyncHeight + 5
    })
  } finally {
    await node.close()
    await folder.remove()
  }
})

// The own flow root is the contract's after every submission, whatever the sizes.
test('keeps the flow root of the contract', async () => {
  const folder = await temporaryFolder()
  const node = await openNode({ net, dataDir: folder.path })
  try {
    let seq = 0
    for (const sizeBytes of [1, 300, 262_144, 5_000, 1_000_000, 17, 70_000])
      seq = await net.submit(await makeFile(sizeBytes, 40))
    await logged(node.url, seq)
    for (let i = 0; i <= seq; i++) {
      const data = encodeFunctionData({ abi: flowAbi, functionName: 'getFlowRootByTxSeq', args: [BigInt(i)] })
      const root = await net.anvil.rpc('eth_call', [{ to: net.contracts.flow, data }, 'latest'])
      assert.equal(toHex(node.store.transactions.flowRootAt(i) ?? new Uint8Array()), root)
    }
    const [root, length] = await rpc<[Hash, number]>(node.url, 'zgs_getFlowContext')
    assert.equal(root, toHex(node.store.transactions.flowRootAt(seq) ?? new Uint8Array()))
    assert.ok(length > 1)
  } finally {
    await node.close()
    await folder.remove()
  }
})

// After a restart everything is where it was, and what was submitted meanwhile is read.
test('goes on after a restart', async () => {
  const folder = await temporaryFolder()
  const file = await makeFile(800_000, 50)
  const late = await makeFile(900_000, 51)
  let node = await openNode({ net, dataDir: folder.path })
  try {
    const seq = await net.submit(file)
    await logged(node.url, seq)
    await postFrames(node.url, seq, framesOf(file, [0, 1]))
    await node.close()
    const lateSeq = await net.submit(late)
    node = await openNode({ net, dataDir: folder.path })
    await logged(node.url, lateSeq)
    assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 2)
    assert.deepEqual(await postFrames(node.url, seq, framesOf(file, [0, 1, 2, 3])), {
      status: 200,
      stored: 2,
      finalized: true,
    })
    await node.close()
    node = await openNode({ net, dataDir: folder.path })
    assert.equal((await finalized(node.url, seq)).finalized, true)
    assert.deepEqual(await download(node.url, seq, 800_000), Buffer.from(file.bytes))
  } finally {
    await node.close()
    await folder.remove()
  }
})

// A reorganisation takes submissions back, while the node runs and while it does not; what comes back finds its data
// still here; an upload for a submission that is gone is told so.
test('follows reorganisations', async () => {
  for (const running of [true, false]) {
    const folder = await temporaryFolder()
    let node = await openNode({ net, dataDir: folder.path })
    try {
      const kept = await makeFile(400_000, 60 + Number(running))
      const gone = await makeFile(500_000, 62 + Number(running))
      const keptSeq = await net.submit(kept)
      await mine(net.anvil, 2)
      const goneSeq = await net.submit(gone)
      await mine(net.anvil, 2)
      await logged(node.url, goneSeq)
      for (const [seq, file] of [
        [keptSeq, kept],
        [goneSeq, gone],
      ] as const) {
        await postFrames(node.url, seq, framesOf(file, allSegments(file)))
        await finalized(node.url, seq)
      }
      const rootBefore = await rpc(node.url, 'zgs_getFlowContext')
      if (!running) await node.close()
      await net.anvil.rpc('anvil_reorg', [3, []])
      await mine(net.anvil, 1)
      if (!running) node = await openNode({ net, dataDir: folder.path })
      await until('the submission taken back', async () => (await fileInfo(node.url, goneSeq)) === null)
      // Taken back and read again where the fork lies before it: what was stored is found, and not sent again.
      await until('the kept file complete', async () => (await fileInfo(node.url, keptSeq))?.finalized === true)
      assert.equal((await rpc<Status>(node.url, 'zgs_getStatus')).nextTxSeq, goneSeq)
      assert.notDeepEqual(await rpc(node.url, 'zgs_getFlowContext'), rootBefore)
      assert.equal(await rpc(node.url, 'zgs_downloadSegmentByTxSeq', goneSeq, 0, 1), null)
      // Another file takes the place in the flow; the old one comes after it.
      const other = await makeFile(3_000, 64 + Number(running))
      assert.equal(await net.submit(other), goneSeq)
      const againSeq = await net.submit(gone)
      assert.equal((await finalized(node.url, againSeq)).tx.dataMerkleRoot, gone.tree.root)
      assert.deepEqual(await download(node.url, againSeq, 500_000), Buffer.from(gone.bytes))
      assert.deepEqual(await download(node.url, keptSeq, 400_000), Buffer.from(kept.bytes))
      assert.equal((await fileInfo(node.url, goneSeq))?.tx.dataMerkleRoot, other.tree.root)
      const late = await rpcError(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(gone, 0)], goneSeq)
      assert.equal(late.data, 'data root and tx seq not match')
    } finally {
      await node.close()
      await folder.remove()
    }
  }
})

// Whatever nonsense the endpoint answers, the node stays up, believes none of it, and goes on once it is well again.
test('outlives a chain that answers nonsense', async () => {
  const folder = await temporaryFolder()
  const proxy = await startChainProxy(net.anvil.url)
  const node = await openNode({
    net,
    dataDir: folder.path,
    config: { chain: { rpcUrls: [proxy.url], timeoutMs: 1_000 } },
  })
  try {
    await until('sync', async () => (await rpc<Status>(node.url, 'zgs_getStatus')).logSyncHeight > 0)
    const before = (await rpc<Status>(node.url, 'zgs_getStatus')).nextTxSeq
    const nonsense: [string, () => void][] = [
      ['garbage', () => (proxy.instead = () => ({ status: 200, body: '<html>' }))],
      ['errors', () => (proxy.instead = () => ({ status: 500, body: '{}' }))],
      ['nulls', () => (proxy.answer = () => null)],
      [
        'logs with another place',
        () => {
          proxy.answer = ({ method }, result) => (method === 'eth_getLogs' ? shift(result) : result)
        },
      ],
      [
        'logs cut short',
        () => (proxy.answer = ({ method }, result) => (method === 'eth_getLogs' ? cut(result) : result)),
      ],
    ]
    let expected = before
    for (const [name, begin] of nonsense) {
      begin()
      const seq = await net.submit(await makeFile(2_000, 70 + expected))
      expected = seq + 1
      await new Promise((resolve) => setTimeout(resolve, 400))
      const status = await rpc<Status>(node.url, 'zgs_getStatus')
      assert.ok(status.nextTxSeq <= seq, `${name}: believed`)
      proxy.instead = undefined
      proxy.answer = (_, result) => result
      await until(
        `recovery from ${name}`,
        async () => (await rpc<Status>(node.url, 'zgs_getStatus')).nextTxSeq === expected,
      )
    }
    assert.equal(node.halted(), undefined)
    const health = await until('health', async () => {
      const { status } = (await (await fetch(`${node.url}/healthz`)).json()) as { status: string }
      return status === 'ok'
    })
    assert.ok(health)
  } finally {
    await node.close()
    await proxy.close()
    await folder.remove()
  }
})

/** Moves the start position of each Submit log. */
function shift(logs: unknown): unknown {
  return (logs as { data: string }[]).map((log) => ({
    ...log,
    data: `${log.data.slice(0, 129)}f${log.data.slice(130)}`,
  }))
}

function cut(logs: unknown): unknown {
  return (logs as { data: string }[]).map((log) => ({ ...log, data: log.data.slice(0, 300) }))
}

// When the contract's flow root lastingly differs from the own one, the node says so and takes nothing more, but
// neither crashes nor loops.
test('halts when the flow root differs', async () => {
  const folder = await temporaryFolder()
  const proxy = await startChainProxy(net.anvil.url)
  const selector = encodeFunctionData({ abi: flowAbi, functionName: 'getFlowRootByTxSeq', args: [0n] }).slice(0, 10)
  const node = await openNode({ net, dataDir: folder.path, config: { chain: { rpcUrls: [proxy.url] } } })
  try {
    proxy.answer = ({ method, params }, result) => {
      const [call] = params as [{ data?: string; input?: string }]
      const data = call?.data ?? call?.input ?? ''
      return method === 'eth_call' && data.startsWith(selector) ? `0x${'55'.repeat(32)}` : result
    }
    const file = await makeFile(3_000, 80)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    await until('the halt', () => node.halted())
    const answer = await postFrames(node.url, seq, framesOf(file, [0]))
    assert.deepEqual([answer.status, answer.code], [503, 'NODE_HALTED'])
    const error = await rpcError(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(file, 0)], seq)
    assert.match(error.message, /flow root/)
    const health = await fetch(`${node.url}/healthz`)
    assert.equal(health.status, 503)
    assert.match(JSON.stringify(await health.json()), /halted/)
  } finally {
    await node.close()
    await proxy.close()
    await folder.remove()
  }
})
