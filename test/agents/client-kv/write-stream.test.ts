import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Client } from '#client/connect.ts'
import { keyHistory } from '#client/kv/key-history.ts'
import { type KvNode, type KvValue, openKvNode } from '#client/kv/kv-node.ts'
import { listKeys } from '#client/kv/list-keys.ts'
import { streamIdOf } from '#client/kv/stream-id.ts'
import { writeStream } from '#client/kv/write-stream.ts'
import { createHttpServer } from '#kit/http/server.ts'
import { createLog } from '#kit/log.ts'
import type { RunningKv } from '#storage/kv/main.ts'
import { type StorageNetwork, startStorageNetwork } from '../client/storage-network.ts'
import { startKvNode } from './kv-network.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString()
const streamId = streamIdOf('first')
const set = (key: string, value: string, stream = streamId) => ({ streamId: stream, key: utf8(key), data: utf8(value) })

async function all(walk: AsyncGenerator<KvValue>): Promise<[string | undefined, number, string | undefined][]> {
  const found: [string | undefined, number, string | undefined][] = []
  for await (const { key, version, data } of walk) found.push([text(key), version, text(data)])
  return found
}

describe('writing to streams', () => {
  let network: StorageNetwork
  let running: RunningKv
  let named: RunningKv
  let node: KvNode
  let owner: Client
  let stranger: Client

  before(async () => {
    network = await startStorageNetwork()
    running = await startKvNode(network, { allStreams: { enabled: true, maxStreams: 3 } })
    named = await startKvNode(network, { name: 'named', streamIds: [streamId] })
    node = openKvNode({ url: running.url })
    owner = await network.client({ who: 1 })
    stranger = await network.client({ who: 2 })
  })
  after(async () => {
    node?.close()
    await running?.close()
    await named?.close()
    await network?.stop()
  })

  const write = (client: Client, writes: ReturnType<typeof set>[], more: object = {}) =>
    writeStream(client.storage.connection, { node, writes, ...more })

  it('gives names their ids, and takes ids as they are', () => {
    assert.equal(streamIdOf('AB'.repeat(32)), `0x${'ab'.repeat(32)}`)
    assert.match(streamIdOf('demo'), /^0x[0-9a-f]{64}$/)
    assert.notEqual(streamIdOf('demo'), streamIdOf('demo2'))
    for (const wrong of ['', '0x12', 'Demo', '12', 'a b', `0x${'g'.repeat(64)}`]) {
      assert.throws(() => streamIdOf(wrong), { code: 'KV_STREAM' })
    }
  })

  it('writes several keys at once and reads them back, lists them and their history', async () => {
    const first = await write(owner, [set('a', '1'), set('ab', '2'), set('b', '3')])
    assert.equal(first.result, 'Commit')
    const second = await write(owner, [set('a', 'one'), set('b', '')])
    const value = await node.value({ streamId, key: utf8('a') })
    assert.deepEqual([text(value?.data), value?.version, value?.sizeBytes], ['one', second.txSeq, 3])
    assert.equal(await node.value({ streamId, key: utf8('none') }), undefined)
    assert.equal((await node.value({ streamId, key: utf8('b') }))?.sizeBytes, 0)
    assert.deepEqual(await all(listKeys({ node, streamId })), [
      ['a', second.txSeq, 'one'],
      ['ab', first.txSeq, '2'],
    ])
    assert.deepEqual(await all(listKeys({ node, streamId, prefix: utf8('ab') })), [['ab', first.txSeq, '2']])
    assert.deepEqual(await all(listKeys({ node, streamId, version: first.txSeq, prefix: utf8('b') })), [
      ['b', first.txSeq, '3'],
    ])
    assert.deepEqual(await all(keyHistory({ node, streamId, key: utf8('a') })), [
      ['a', second.txSeq, 'one'],
      ['a', first.txSeq, '1'],
    ])
  })

  it('reads a value longer than one call gives', async () => {
    const data = Uint8Array.from({ length: 700_001 }, (_, i) => (i * 31) & 0xff)
    await writeStream(owner.storage.connection, { node, writes: [{ streamId, key: utf8('large'), data }] })
    const found = await node.value({ streamId, key: utf8('large') })
    assert.ok(found && Buffer.from(found.data).equals(data))
    assert.equal((await node.value({ streamId, key: utf8('large'), maxBytes: 10 }))?.data.length, 10)
  })

  // Whoever writes what it has read cannot overwrite what somebody wrote in between.
  it('refuses a write whose keys have changed since they were read, before paying where that is known', async () => {
    const version = BigInt((await node.value({ streamId, key: utf8('a') }))?.version ?? -1)
    assert.equal((await write(owner, [set('a', 'two')], { version })).result, 'Commit')
    const before = running.store.loggedSeq()
    await assert.rejects(write(owner, [set('a', 'three')], { version }), { code: 'KV_VERSION_CONFLICT' })
    const reads = [{ streamId, key: utf8('a') }]
    await assert.rejects(write(owner, [set('c', 'x')], { version, reads }), { code: 'KV_VERSION_CONFLICT' })
    assert.equal(running.store.loggedSeq(), before, 'something was paid')
    // Where two writers race, the node decides.
    await assert.rejects(write(owner, [set('a', 'three')], { version, check: false }), {
      code: 'KV_VERSION_CONFLICT',
      details: { result: 'VersionConfliction', txSeq: before },
    })
    assert.equal(text((await node.value({ streamId, key: utf8('a') }))?.data), 'two')
  })

  it('lets a stranger write only what it was granted', async () => {
    const account = stranger.storage.connection.account?.address
    assert.ok(account)
    const who = { streamId, account } as const
    await assert.rejects(write(stranger, [set('s', '1')]), { code: 'KV_WRITE_DENIED' })
    await assert.rejects(write(stranger, [set('s', '2')], { check: false }), { code: 'KV_WRITE_DENIED' })
    await write(owner, [], { controls: [{ name: 'GRANT_WRITER_ROLE', ...who }] })
    assert.equal((await write(stranger, [set('s', '3')])).result, 'Commit')
    await assert.rejects(write(stranger, [], { controls: [{ name: 'REVOKE_WRITER_ROLE', ...who }] }), {
      code: 'KV_CONTROL_DENIED',
    })
    assert.deepEqual([await node.isWriter(who), await node.isAdmin(who)], [true, false])
  })

  it('takes new streams while there is room, and says so before it is paid', async () => {
    const [second, third, fourth] = ['second', 'third', 'fourth'].map(streamIdOf)
    assert.ok(second && third && fourth)
    assert.equal((await write(stranger, [set('k', 'v', second), set('k', 'w', third)])).result, 'Commit')
    await assert.rejects(write(owner, [set('k', 'v', fourth)]), { code: 'KV_STREAM_NOT_HELD' })
    assert.equal(text((await node.value({ streamId: third, key: utf8('k') }))?.data), 'w')
    const other = openKvNode({ url: named.url })
    assert.equal(await other.accepts({ streamId }), true)
    await assert.rejects(writeStream(owner.storage.connection, { node: other, writes: [set('k', 'v', second)] }), {
      code: 'KV_STREAM_NOT_HELD',
    })
    other.close()
  })

  it('writes encrypted for nodes with the key; others record that they cannot read it', async () => {
    const key = new Uint8Array(32).fill(9)
    const encrypted = streamIdOf('encrypted')
    const settings = { streamIds: [encrypted], encryption: { key: Buffer.from(key).toString('hex') } }
    const keyed = await startKvNode(network, { name: 'keyed', ...settings })
    const keyedNode = openKvNode({ url: keyed.url })
    try {
      const { txSeq } = await writeStream(owner.storage.connection, {
        ...{ node: keyedNode, writes: [set('k', 'hidden', encrypted)], encryption: { symmetricKey: key } },
      })
      assert.equal(text((await keyedNode.value({ streamId: encrypted, key: utf8('k') }))?.data), 'hidden')
      assert.equal(await keyedNode.result({ txSeq }), 'Commit')
      await assert.rejects(
        writeStream(owner.storage.connection, { node: keyedNode, writes: [set('k', 'plain', encrypted)] }),
        { code: 'KV_DATA_INVALID' },
      )
    } finally {
      keyedNode.close()
      await keyed.close()
    }
  })

  it('says what is wrong with a node that is down, or none', async () => {
    const down = openKvNode({ url: 'http://127.0.0.1:1', timeoutMs: 1_000 })
    await assert.rejects(down.streams(), { code: 'KV_UNREACHABLE' })
    down.close()
    const storage = openKvNode({ url: network.nodes[0]?.url ?? '' })
    await assert.rejects(storage.streams(), { code: 'KV_REFUSED' })
    storage.close()
    const log = createLog({ name: 'liar', level: 'silent' })
    const server = await createHttpServer({ name: 'liar', host: '127.0.0.1', port: 0, log, bodyLimitBytes: 1_000 })
    server.app.post('/', async ({ body }) => {
      const { id } = body as { id: number }
      return { jsonrpc: '2.0', id, result: { version: 1, data: '!!', size: 5 } }
    })
    const { url } = await server.listen()
    const liar = openKvNode({ url })
    await assert.rejects(liar.value({ streamId, key: utf8('a') }), { code: 'KV_ANSWER' })
    liar.close()
    await server.close()
  })
})
