import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isPrivateHost } from '#storage/indexer/discovery.ts'
import { fakeFile, patternBytes, startFakeNode } from './fake-node.ts'
import { eventually, rpc, startTestIndexer } from './start.ts'

const UNKNOWN = `0x${'cd'.repeat(32)}`

test('lists are never null: no nodes, unknown file', async (t) => {
  const indexer = await startTestIndexer({ nodes: [] })
  t.after(() => indexer.close())
  assert.deepEqual((await rpc(indexer.url, 'indexer_getShardedNodes')).result, { trusted: [], discovered: [] })
  assert.deepEqual((await rpc(indexer.url, 'indexer_getFileLocations', [UNKNOWN])).result, [])
  assert.deepEqual((await rpc(indexer.url, 'indexer_getNodeLocations')).result, {})
  assert.deepEqual((await rpc(indexer.url, 'indexer_getSelectedNodes', [1, 'min', false, []])).error, {
    code: -32000,
    message: 'cannot select a subset from the returned nodes that meets the replication requirement',
  })
  assert.deepEqual((await rpc(indexer.url, 'indexer_getSelectedNodes', [0, 'min', false, null])).result, {
    trusted: [],
    discovered: [],
  })
})

test('wrong parameters and unknown methods are told apart, with help', async (t) => {
  const indexer = await startTestIndexer({ nodes: [] })
  t.after(() => indexer.close())
  assert.equal((await rpc(indexer.url, 'indexer_getFileLocations', ['0x12'])).error?.code, -32602)
  assert.equal((await rpc(indexer.url, 'indexer_getSelectedNodes', [1, 'best'])).error?.code, -32602)
  const { error } = await rpc(indexer.url, 'zgs_getStatus')
  assert.equal(error?.code, -32601)
  assert.match(error?.data ?? '', /\/node/)
})

test('shards that say "finalized" because nothing of the file is theirs do not make it available', async (t) => {
  const file = await fakeFile({ data: patternBytes(1_000) })
  const [owner, other] = await Promise.all(
    [0, 1].map((shardId) => startFakeNode({ shard: { shardId, numShard: 2 }, files: [file] })),
  )
  assert.ok(owner && other)
  owner.finalized = false
  const indexer = await startTestIndexer({ nodes: [owner.url, other.url] })
  t.after(() => Promise.all([indexer.close(), owner.close(), other.close()]))
  assert.deepEqual((await rpc(indexer.url, 'indexer_getFileLocations', [file.root])).result, [])
  owner.finalized = true
  const { result } = await rpc(indexer.url, 'indexer_getFileLocations', [file.root])
  assert.deepEqual(
    (result as { url: string }[]).map(({ url }) => url),
    [owner.url, other.url],
  )
})

test('a root submitted twice is located at nodes that agree on the transaction', async (t) => {
  const data = patternBytes(2_000)
  const first = await fakeFile({ data, txSeq: 3, startSector: 1024 })
  const second = await fakeFile({ data, txSeq: 9, startSector: 4096 })
  const early = await startFakeNode({ shard: { shardId: 0, numShard: 2 }, files: [first, second] })
  const late = await startFakeNode({ shard: { shardId: 1, numShard: 2 }, files: [second, first] })
  const indexer = await startTestIndexer({ nodes: [early.url, late.url] })
  t.after(() => Promise.all([indexer.close(), early.close(), late.close()]))
  const { result } = await rpc(indexer.url, 'indexer_getFileLocations', [first.root])
  assert.equal((result as unknown[]).length, 2)
  const info = (await rpc(indexer.frontUrl, 'zgs_getFileInfo', [first.root, true])).result as { tx: { seq: number } }
  assert.equal(info.tx.seq, 3)
})

test('nodes of which the discovery node told are used for files the trusted ones lack, and forgotten when they die', async (t) => {
  const file = await fakeFile({ data: patternBytes(300_000) })
  const trusted = await startFakeNode({ files: [file] })
  trusted.finalized = false
  const peer = await startFakeNode({ files: [file] })
  const told = await startFakeNode({ files: [file] })
  trusted.peers = {
    one: { listeningAddresses: ['/ip4/1.2.3.4/tcp/1234', peer.url], seenIps: [] },
    broken: { seenIps: ['no address', '127.0.0.1'] },
    rude: { listeningAddresses: ['file:///etc/passwd', 'http://user@127.0.0.1:1'] },
  }
  trusted.locations = [{ ip: '127.0.0.1', url: told.url, shardConfig: { shardId: 0, numShard: 1 } }]
  peer.finalized = false
  const indexer = await startTestIndexer({
    nodes: [trusted.url],
    discovery: { adminUrl: trusted.url, allowPrivate: true, ports: [Number(new URL(told.url).port)] },
  })
  t.after(() => Promise.all([indexer.close(), trusted.close(), told.close(), peer.close()]))
  const discovered = async () => {
    const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
    return (result as { discovered: { url: string }[] }).discovered.map(({ url }) => url)
  }
  await indexer.discover()
  assert.ok((await discovered()).includes(peer.url))
  const { result } = await rpc(indexer.url, 'indexer_getFileLocations', [file.root])
  assert.deepEqual(
    (result as { url: string }[]).map(({ url }) => url),
    [told.url],
  )
  const response = await fetch(`${indexer.url}/file?root=${file.root}`)
  assert.equal(Buffer.compare(Buffer.from(await response.arrayBuffer()), file.data), 0)
  await peer.close()
  await eventually('the dead peer is gone', async () => !(await discovered()).includes(peer.url), 15_000)
})

test('a peer cannot make the indexer call private addresses unless it is allowed', async (t) => {
  const trusted = await startFakeNode()
  const inside = await startFakeNode()
  trusted.peers = { one: { listeningAddresses: [inside.url] }, two: { seenIps: ['127.0.0.1', '::1', '10.0.0.1'] } }
  const port = Number(new URL(inside.url).port)
  const indexer = await startTestIndexer({ nodes: [trusted.url], discovery: { adminUrl: trusted.url, ports: [port] } })
  t.after(() => Promise.all([indexer.close(), trusted.close(), inside.close()]))
  await indexer.discover()
  assert.deepEqual(inside.calls, [])
  for (const host of [
    '127.0.0.1',
    '10.1.2.3',
    '172.16.0.1',
    '192.168.1.1',
    '169.254.1.1',
    '100.64.0.1',
    '0.0.0.0',
    '::1',
    '[fe80::1]',
    'fd00::1',
    '::ffff:10.0.0.1',
    'localhost',
    'db',
    'x.internal',
    '224.0.0.1',
  ]) {
    assert.equal(isPrivateHost(host), true, host)
  }
  for (const host of ['8.8.8.8', '172.32.0.1', '192.169.1.1', '2606:4700::1111', 'example.org', '::ffff:8.8.8.8']) {
    assert.equal(isPrivateHost(host), false, host)
  }
})

test('a file nobody has is asked for on the network once, not at every lookup', async (t) => {
  const file = await fakeFile({ data: patternBytes(500) })
  const node = await startFakeNode({ files: [file] })
  node.finalized = false
  const indexer = await startTestIndexer({ nodes: [node.url], discovery: { adminUrl: node.url } })
  t.after(() => Promise.all([indexer.close(), node.close()]))
  for (let i = 0; i < 5; i += 1) {
    assert.deepEqual((await rpc(indexer.url, 'indexer_getFileLocations', [file.root])).result, [])
  }
  await eventually('the search was sent', () => node.calls.includes('admin_findFile'))
  assert.equal(node.calls.filter((method) => method === 'admin_findFile').length, 1)
})
