import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import type { RunningIndexer } from '#storage/indexer/main.ts'
import { type FakeFile, type FakeNode, type Fault, fakeFile, patternBytes, startFakeNode } from './fake-node.ts'
import { eventually, rpc, startTestIndexer } from './start.ts'

describe('a download through the indexer', () => {
  let file: FakeFile
  let nodes: FakeNode[]
  let indexer: RunningIndexer

  before(async () => {
    file = await fakeFile({ data: patternBytes(5 * 262_144 + 1_000) })
    nodes = await Promise.all([0, 1, 2].map(() => startFakeNode({ files: [file] })))
  })

  beforeEach(async () => {
    for (const node of nodes) {
      node.fault = 'none'
      node.calls.length = 0
    }
    indexer = await startTestIndexer({ nodes: nodes.map(({ url }) => url) })
  })

  afterEach(() => indexer.close())

  after(async () => {
    await Promise.all(nodes.map((node) => node.close()))
  })

  const download = () => fetch(`${indexer.url}/file?root=${file.root}`)

  for (const fault of ['stall', 'flip', 'garbage', 'refuse', 'absent', 'short'] satisfies Fault[]) {
    test(`is whole and right as long as one node is honest: two nodes ${fault}`, async () => {
      for (const node of nodes.slice(0, 2)) node.fault = fault
      const response = await download()
      assert.equal(response.status, 200)
      assert.deepEqual(Buffer.compare(Buffer.from(await response.arrayBuffer()), file.data), 0)
    })

    test(`never gives a wrong byte and ends in time when every node fails: ${fault}`, async () => {
      for (const node of nodes) node.fault = fault
      const startedMs = performance.now()
      const response = await download()
      assert.equal(response.status, 503)
      const { code, message, data } = (await response.json()) as { code: number; message: string; data: string }
      assert.deepEqual({ code, message }, { code: 2, message: 'Internal server error' })
      for (const { url } of nodes) assert.ok(data.includes(url), `${data} does not name ${url}`)
      assert.equal(response.headers.get('content-disposition'), null)
      assert.ok(performance.now() - startedMs < 5_000)
    })
  }

  test('breaks off, so that the client sees it is not whole, when the rest cannot be verified', async () => {
    // The first segments come from honest nodes; then all of them begin to lie.
    const response = await download()
    for (const node of nodes) node.fault = 'flip'
    const received: Uint8Array[] = []
    let failure: unknown
    try {
      const reader = response.body?.getReader()
      for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read())
        received.push(part.value)
    } catch (error) {
      failure = error
    }
    const bytes = Buffer.concat(received)
    assert.equal(Buffer.compare(bytes, Buffer.from(file.data.subarray(0, bytes.length))), 0)
    if (bytes.length < file.data.length) assert.ok(failure !== undefined, 'a cut download looks complete')
  })

  test('never gives a wrong byte, whatever three nodes do in turn', async () => {
    const seed = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000)
    const faults: readonly Fault[] = ['none', 'none', 'flip', 'garbage', 'refuse', 'absent', 'short', 'stall']
    let state = seed
    const pick = (count: number): number => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31
      return Math.floor((state / 2 ** 31) * count)
    }
    let whole = 0
    for (let round = 0; round < 12; round += 1) {
      // The last round has an honest node in any case.
      for (const node of nodes) node.fault = round === 11 ? 'none' : (faults[pick(faults.length)] ?? 'none')
      const start = pick(file.data.length)
      const end = start + pick(file.data.length - start)
      const response = await fetch(`${indexer.url}/file?root=${file.root}`, {
        headers: { range: `bytes=${start}-${end}` },
      })
      const answer = Buffer.from(await response.arrayBuffer())
      if (response.status === 503) continue
      whole += 1
      assert.equal(response.status, 206, `seed ${seed}, round ${round}`)
      const right = Buffer.compare(answer, file.data.subarray(start, end + 1)) === 0
      assert.ok(right, `wrong bytes: FAULT_SEED=${seed}, round ${round}`)
    }
    assert.ok(whole > 0, `seed ${seed}`)
  })

  test('prefers other nodes to one that lied', async () => {
    const [liar] = nodes
    assert.ok(liar)
    liar.fault = 'flip'
    await (await download()).arrayBuffer()
    await (await download()).arrayBuffer()
    liar.calls.length = 0
    await (await download()).arrayBuffer()
    const asked = liar.calls.filter((method) => method.startsWith('zgs_download')).length
    assert.equal(asked, 0)
  })
})

test('an indexer starts and answers while its nodes hang, and finds them when they come to', async (t) => {
  const sockets: Socket[] = []
  const hanging = createServer((socket) => sockets.push(socket))
  await new Promise<void>((resolve) => hanging.listen(0, '127.0.0.1', resolve))
  const address = hanging.address()
  assert.ok(typeof address === 'object' && address !== null)
  const honest = await startFakeNode()
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    return Promise.all([honest.close(), new Promise((resolve) => hanging.close(resolve))])
  })

  const startedMs = performance.now()
  const indexer = await startTestIndexer({ nodes: [`http://127.0.0.1:${address.port}`, honest.url] })
  t.after(() => indexer.close())
  assert.ok(performance.now() - startedMs < 1_500, 'the start waited for a node')
  const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
  assert.deepEqual(
    (result as { trusted: { url: string }[] }).trusted.map(({ url }) => url),
    [honest.url],
  )
})

test('a node that dies drops out of the lists and health; when it is back it is listed again', async (t) => {
  const [steady, dying] = await Promise.all([startFakeNode(), startFakeNode()])
  const indexer = await startTestIndexer({ nodes: [steady.url, dying.url] })
  t.after(() => Promise.all([indexer.close(), steady.close()]))
  const trusted = async () => {
    const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
    return (result as { trusted: { url: string }[] }).trusted.length
  }
  await eventually('both nodes listed', async () => (await trusted()) === 2)
  assert.equal(indexer.health().status, 'ok')
  await dying.close()
  await eventually('one node listed', async () => (await trusted()) === 1)
  assert.equal(indexer.health().status, 'degraded')
  await steady.close()
  await eventually('no node listed', async () => (await trusted()) === 0)
  assert.equal(indexer.health().status, 'down')
  const health = await fetch(`${indexer.url}/healthz`)
  assert.equal(health.status, 503)
})

test('a node of another chain is refused', async (t) => {
  const [ours, foreign] = await Promise.all([startFakeNode(), startFakeNode()])
  foreign.chainId = 1
  const indexer = await startTestIndexer({
    nodes: [ours.url, foreign.url],
    chainId: 31337,
    flowAddress: `0x${'AB'.repeat(20)}`,
  })
  t.after(() => Promise.all([indexer.close(), ours.close(), foreign.close()]))
  const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
  assert.deepEqual(
    (result as { trusted: { url: string }[] }).trusted.map(({ url }) => url),
    [ours.url],
  )
  assert.match(JSON.stringify(indexer.health()), /serves chain 1 /)
})
