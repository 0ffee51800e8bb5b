import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts'
import { seededBytes, testSeed } from './seeded.ts'
import { type StorageNetwork, startStorageNetwork } from './storage-network.ts'

const seed = testSeed()
const bytesOf = (name: string, length: number) => seededBytes({ seed: `${seed}/${name}`, length })

describe(`shards and indexer (seed ${seed})`, () => {
  let network: StorageNetwork
  before(async () => {
    network = await startStorageNetwork({ shards: ['0/2', '2/4', '3/4', '1/4', '0/2'], indexer: true })
  })
  after(() => network.stop())
  const urls = (...which: number[]) => which.map((index) => network.nodes[index]?.url ?? '')

  test('a file is spread over shards of unequal size and comes back, several offsets in the flow', async () => {
    const client = await network.client({ indexerUrl: undefined, nodes: urls(0, 3, 2) })
    for (const segments of [1, 2, 5, 9]) {
      const bytes = bytesOf(`spread-${segments}`, segments * 262_144 - 1000)
      const { root, nodes } = await client.storage.upload({ source: memorySource(bytes) })
      assert.deepEqual(nodes.map(({ shard }) => shard).toSorted(), ['0/2', '1/4', '3/4'])
      const to = join(network.dir, `spread-${segments}`)
      await client.storage.download({ root, to })
      assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
    }
  })

  test('replicas mean distinct nodes for every shard; too few nodes is an error that counts them', async () => {
    const client = await network.client({ indexerUrl: undefined, nodes: urls(0, 1, 2, 3, 4) })
    const bytes = bytesOf('replicas', 2_000_000)
    await assert.rejects(
      client.storage.upload({ source: memorySource(bytes), replicas: 2 }),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'NO_COVER')
        assert.match(error.message, /shard 1\/4/)
        return true
      },
    )
    const { nodes } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(new Set(nodes.map(({ url }) => url)).size, nodes.length)
  })

  test('without a shard there is no upload, and nothing is paid', async () => {
    const client = await network.client({ indexerUrl: undefined, nodes: urls(0, 3) })
    const fees: bigint[] = []
    const upload = client.storage.upload({
      source: memorySource(bytesOf('gap', 500_000)),
      onEvent: (event) => event.type === 'fee' && fees.push(event.feeWei),
    })
    await assert.rejects(upload, { code: 'NO_COVER' })
    assert.deepEqual(fees, [])
  })

  test('the front an indexer lists is passed over for real nodes, and never counts as a replica', async () => {
    const client = await network.client()
    const bytes = bytesOf('front', 1_000_000)
    const { nodes } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(
      nodes.every(({ url }) => network.nodes.some((node) => node.url === url)),
      true,
      JSON.stringify(nodes),
    )
    // Every shard once from real nodes and once more through the front would be one replica that looks like two.
    const twice = client.storage.upload({ source: memorySource(bytesOf('front-twice', 1_000_000)), replicas: 2 })
    await assert.rejects(twice, { code: 'NO_COVER' })
  })

  test('where nothing else covers, a front does: up and down, verified', async () => {
    const front = `${network.indexerUrl}/node`
    const client = await network.client({ indexerUrl: undefined, nodes: [front] })
    const bytes = bytesOf('through', 2_300_000)
    const { root, nodes } = await client.storage.upload({ source: memorySource(bytes) })
    assert.deepEqual(
      nodes.map(({ url }) => url),
      [front],
    )
    const to = join(network.dir, 'through')
    await client.storage.download({ root, to })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
  })

  test('the indexer names the nodes; the file is found through it by root alone', async () => {
    const client = await network.client()
    const bytes = bytesOf('indexed', 3_000_000)
    const { root, txSeq } = await client.storage.upload({ source: memorySource(bytes) })
    const to = join(network.dir, 'indexed')
    const reader = await network.client({ rpcUrl: undefined, account: undefined })
    await reader.storage.download({ root, to })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
    const info = await reader.storage.fileInfo({ root })
    assert.equal(info.txSeq, txSeq)
    assert.equal(info.finalized, true)
  })
})

describe(`nodes without the binary path (seed ${seed})`, () => {
  let network: StorageNetwork
  let proxies: FaultProxy[] = []
  before(async () => {
    network = await startStorageNetwork({ shards: ['0/2', '1/2'] })
    // A plain 0G node knows nothing but JSON-RPC at its root.
    proxies = await Promise.all(network.nodes.map(({ url }) => startFaultProxy(url)))
    for (const proxy of proxies) {
      proxy.fault = ({ path }) =>
        path.startsWith('/v1/')
          ? { type: 'answer', status: 405, body: 'Used HTTP Method is not allowed. POST is required' }
          : undefined
    }
  })
  after(async () => {
    await Promise.all(proxies.map((proxy) => proxy.close()))
    await network.stop()
  })

  test('upload and verified download work over JSON-RPC alone', async () => {
    const client = await network.client({ nodes: proxies.map(({ url }) => url) })
    const bytes = bytesOf('rpc', 4_700_000)
    const { root, nodes } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(nodes.length, 2)
    const to = join(network.dir, 'rpc')
    const fresh = await network.client({ nodes: proxies.map(({ url }) => url) })
    await fresh.storage.download({ root, to })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
    const again = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(again.paid, false)
  })
})
