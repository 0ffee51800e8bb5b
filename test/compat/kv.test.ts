import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  Batcher,
  getFlowContract,
  KvClient,
  type KvIterator,
  StorageNode,
  type UploadOption,
} from '@0gfoundation/0g-ts-sdk'
import { JsonRpcProvider, NonceManager, Wallet } from 'ethers'
import { createLog } from '#kit/log.ts'
import { kvConfigSchema, type RunningKv, startKv } from '#storage/kv/main.ts'
import { type StorageNetwork, startStorageNetwork } from '../agents/client/storage-network.ts'
import { DEV_ACCOUNTS } from '../chain.ts'

const STREAM = `0x${'07'.repeat(32)}`
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (base64: string | undefined): string => Buffer.from(base64 ?? '', 'base64').toString()
/** The iterator gives keys as bytes. */
const keyOf = (iterator: KvIterator): string =>
  Buffer.from(iterator.getCurrentPair()?.key as unknown as Uint8Array).toString()
const WAIT_MS = 20_000

describe('the key-value part of 0g-ts-sdk 1.2.8', () => {
  let network: StorageNetwork
  let node: RunningKv
  let kv: KvClient
  const quiet: (() => void)[] = []
  const providers: JsonRpcProvider[] = []

  const startNode = (name = 'kv', settings: Record<string, unknown> = { streamIds: [STREAM] }): Promise<RunningKv> =>
    startKv(
      kvConfigSchema.parse({
        ...settings,
        data: { dir: join(network.dir, name) },
        chain: {
          rpcUrls: [network.anvil.url],
          flow: network.contracts.flow,
          startBlock: network.contracts.block,
          confirmations: 0,
        },
        storage: { nodes: network.nodes.map(({ url }) => url) },
        rpc: { listen: '127.0.0.1:0' },
      }),
      { log: createLog({ name: 'kv', level: 'error' }) },
    )

  before(async () => {
    // The SDK writes its progress to the console.
    for (const name of ['log', 'warn', 'error'] as const) {
      const original = console[name]
      console[name] = () => {}
      quiet.push(() => {
        console[name] = original
      })
    }
    network = await startStorageNetwork()
    node = await startNode()
    kv = new KvClient(node.url)
  })

  after(async () => {
    await node?.close()
    for (const provider of providers) provider.destroy()
    await network?.stop()
    for (const restore of quiet) restore()
  })

  interface WriteOptions {
    version?: number
    streamId?: string
    upload?: Partial<UploadOption>
  }

  /** Writes with the SDK's batcher as account `who`; gives the submission's number. */
  async function submit(
    who: number,
    pairs: Record<string, string | Uint8Array>,
    { version, streamId = STREAM, upload }: WriteOptions = {},
  ): Promise<number> {
    const account = DEV_ACCOUNTS[who]
    assert.ok(account)
    const provider = new JsonRpcProvider(network.anvil.url, undefined, { cacheTimeout: -1 })
    providers.push(provider)
    const signer = new NonceManager(new Wallet(account.privateKey, provider))
    // The SDK's types name the CommonJS build of ethers, whose private fields set it apart for the compiler only.
    const flow = getFlowContract(network.contracts.flow, signer as unknown as Parameters<typeof getFlowContract>[1])
    const clients = network.nodes.map(({ url }) => new StorageNode(url))
    // 2^53 − 1 is the largest version a JavaScript number carries, and newer than any write.
    const batcher = new Batcher(version ?? Number.MAX_SAFE_INTEGER, clients, flow, network.anvil.url)
    for (const [key, value] of Object.entries(pairs)) {
      batcher.streamDataBuilder.set(streamId, utf8(key), typeof value === 'string' ? utf8(value) : value)
    }
    const before = node.store.loggedSeq()
    const [, error] = await batcher.exec(upload as UploadOption | undefined)
    assert.equal(error, null)
    return before
  }

  /** Writes and gives the result of the replay. */
  async function write(who: number, pairs: Record<string, string | Uint8Array>, version?: number): Promise<string> {
    const seq = await submit(who, pairs, version === undefined ? {} : { version })
    return until(() => kv.getTransactionResult(seq))
  }

  async function until<T>(probe: () => Promise<T | null>): Promise<T> {
    const deadline = Date.now() + WAIT_MS
    while (Date.now() < deadline) {
      const found = await probe()
      if (found !== null) return found
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    throw new Error(`nothing came of it within ${WAIT_MS} ms`)
  }

  it('writes through the batcher and reads the values back', async () => {
    assert.equal(await write(0, { alpha: 'one', beta: 'two', gamma: 'three' }), 'Commit')
    const value = await kv.getValue(STREAM, utf8('alpha'))
    assert.equal(text(value?.data), 'one')
    assert.equal(value?.size, 3)
    assert.equal(value?.version, 0)
    assert.deepEqual(await kv.getHoldingStreamIds(), [STREAM])
  })

  it('answers a missing key with an empty value, not with null', async () => {
    const value = await kv.get(STREAM, utf8('nothing'), 0, 10)
    assert.deepEqual({ ...value }, { version: 0, data: '', size: 0 })
  })

  it('keeps every version', async () => {
    assert.equal(await write(0, { alpha: 'newer' }), 'Commit')
    assert.equal(text((await kv.getValue(STREAM, utf8('alpha')))?.data), 'newer')
    assert.equal(text((await kv.getValue(STREAM, utf8('alpha'), 0))?.data), 'one')
    assert.equal(await write(0, { alpha: 'too old' }, 0), 'VersionConfliction')
  })

  it('walks over the keys in both directions', async () => {
    const iterator = kv.newIterator(STREAM)
    const seen: string[] = []
    assert.equal(await iterator.seekToFirst(), null)
    while (iterator.valid()) {
      seen.push(keyOf(iterator))
      await iterator.next()
    }
    assert.deepEqual(seen, ['alpha', 'beta', 'gamma'])
    assert.equal(await iterator.seekToLast(), null)
    assert.equal(keyOf(iterator), 'gamma')
    await iterator.prev()
    assert.equal(keyOf(iterator), 'beta')
    await iterator.seekAfter(utf8('b'))
    assert.equal(keyOf(iterator), 'beta')
    await iterator.seekBefore(utf8('b'))
    assert.equal(keyOf(iterator), 'alpha')
    const first = await kv.getFirst(STREAM, 0, 100)
    assert.equal(text(first.data), 'newer')
    assert.equal(text((await kv.getNextWithValue(STREAM, utf8('alpha'), false))?.data), 'two')
  })

  it('reads a value longer than one query in pieces', async () => {
    const large = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) & 0xff)
    assert.equal(await write(0, { large }), 'Commit')
    const pieces: Buffer[] = []
    for (let at = 0; at < large.length; at += 100_000) {
      const piece = await kv.get(STREAM, utf8('large'), at, 100_000)
      assert.equal(piece.size, large.length)
      pieces.push(Buffer.from(piece.data, 'base64'))
    }
    assert.ok(Buffer.concat(pieces).equals(large))
  })

  it('deletes by an empty value', async () => {
    assert.equal(await write(0, { beta: new Uint8Array() }), 'Commit')
    assert.equal((await kv.getValue(STREAM, utf8('beta')))?.size ?? 0, 0)
    assert.equal(text((await kv.getNext(STREAM, utf8('alpha'), 0, 100, false)).data), 'three')
  })

  it('tells rights by the sender of the transaction', async () => {
    const [owner, stranger] = DEV_ACCOUNTS
    assert.ok(owner && stranger)
    assert.equal(await kv.isAdmin(owner.address, STREAM), true)
    assert.equal(await kv.isAdmin(stranger.address, STREAM), false)
    assert.equal(await kv.hasWritePermission(stranger.address, STREAM, utf8('alpha')), false)
    assert.equal(await kv.isWriterOfStream(stranger.address, STREAM), false)
    assert.equal(await kv.isSpecialKey(STREAM, utf8('alpha')), false)
    assert.equal(await kv.isWriterOfKey(stranger.address, STREAM, utf8('alpha')), false)
  })

  it('lets the write of a stranger change nothing', async () => {
    assert.equal(await write(1, { alpha: 'stolen' }), 'SenderNoWritePermission')
    assert.equal(text((await kv.getValue(STREAM, utf8('alpha')))?.data), 'newer')
  })

  // What the SDK encrypts, a node with the key reads, and a node without it settles without ever knowing the value.
  it('reads what the SDK encrypted, with a shared key and with the key of a wallet', async () => {
    const [shared, owned] = [`0x${'08'.repeat(32)}`, `0x${'09'.repeat(32)}`]
    const key = new Uint8Array(32).fill(5)
    const wallet = new Wallet(`0x${'42'.repeat(32)}`)
    const streamIds = [shared, owned]
    const keyed = await startNode('kv-keyed', { streamIds, encryption: { key: Buffer.from(key).toString('hex') } })
    const walleted = await startNode('kv-wallet', { streamIds, encryption: { walletKey: wallet.privateKey } })
    const plain = await startNode('kv-plain', { streamIds })
    try {
      const recipientPubKey = wallet.signingKey.compressedPublicKey
      const first = await submit(
        0,
        { a: 'for many' },
        { streamId: shared, upload: { encryption: { type: 'aes256', key } } },
      )
      const second = await submit(
        0,
        { a: 'for one' },
        { streamId: owned, upload: { encryption: { type: 'ecies', recipientPubKey } } },
      )
      const third = await submit(0, { a: 'for all' }, { streamId: shared, upload: {} })
      const clients = [keyed, walleted, plain].map(({ url }) => new KvClient(url))
      const results = []
      for (const client of clients) {
        const answers = [first, second, third].map((seq) => until(() => client.getTransactionResult(seq)))
        results.push((await Promise.all(answers)).map((result) => result.split(':')[0]))
      }
      assert.deepEqual(results, [
        ['Commit', 'DataParseError', 'DataParseError'],
        ['DataParseError', 'Commit', 'DataParseError'],
        ['DataParseError', 'DataParseError', 'Commit'],
      ])
      const value = async (client: KvClient | undefined, streamId: string) =>
        text((await client?.getValue(streamId, utf8('a')))?.data)
      assert.equal(await value(clients[0], shared), 'for many')
      assert.equal(await value(clients[1], owned), 'for one')
      assert.equal(await value(clients[2], shared), 'for all')
    } finally {
      for (const each of [keyed, walleted, plain]) await each.close()
    }
  })

  it('goes on after a restart with the same state', async () => {
    await node.close()
    node = await startNode()
    kv = new KvClient(node.url)
    assert.equal(text((await kv.getValue(STREAM, utf8('alpha')))?.data), 'newer')
    assert.equal(await kv.getTransactionResult(0), 'Commit')
    assert.equal(await kv.getTransactionResult(1_000_000), null)
  })
})
