import assert from 'node:assert/strict'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { TransferEvent } from '#client/storage/events.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { seededBytes, testSeed } from './seeded.ts'
import { type StorageNetwork, startStorageNetwork } from './storage-network.ts'

const seed = testSeed()

describe(`store and fetch (seed ${seed})`, () => {
  let network: StorageNetwork
  before(async () => {
    network = await startStorageNetwork()
  })
  after(() => network.stop())

  test('what is uploaded comes back byte for byte, for sizes at every boundary', async () => {
    const client = await network.client()
    for (const size of [1, 255, 256, 257, 4097, 262_143, 262_144, 262_145, 700_000, 3_000_001]) {
      const bytes = seededBytes({ seed: `${seed}/${size}`, length: size })
      const stored = await client.storage.upload({ source: memorySource(bytes) })
      assert.equal(stored.paid, true, `${size}`)
      assert.equal(
        stored.nodes.every(({ finalized }) => finalized),
        true,
      )
      const to = join(network.dir, `back-${size}`)
      const fetched = await client.storage.download({ root: stored.root, to })
      assert.deepEqual(fetched, { path: to, sizeBytes: size, resumedBytes: 0 })
      assert.deepEqual(new Uint8Array(await readFile(to)), bytes, `${size}`)
      assert.equal(await stat(`${to}.part`).catch(() => undefined), undefined, 'no part file stays')
    }
  })

  test('the same content is never paid twice, whoever uploads it', async () => {
    const bytes = seededBytes({ seed: `${seed}/twice`, length: 300_000 })
    const first = await (await network.client({ who: 1 })).storage.upload({ source: memorySource(bytes) })
    const events: TransferEvent[] = []
    const second = await (await network.client({ who: 2 })).storage.upload({
      source: memorySource(bytes),
      onEvent: (event) => events.push(event),
    })
    assert.equal(first.paid, true)
    assert.deepEqual({ paid: second.paid, txSeq: second.txSeq }, { paid: false, txSeq: first.txSeq })
    assert.equal(
      events.some(({ type }) => type === 'transaction-sent' || type === 'sending'),
      false,
    )
  })

  test('content with the same root but another size is another file', async () => {
    const client = await network.client()
    const short = await client.storage.upload({ source: memorySource(new Uint8Array(255).fill(0)) })
    const long = await client.storage.upload({ source: memorySource(new Uint8Array(256).fill(0)) })
    assert.equal(short.root, long.root)
    assert.notEqual(short.txSeq, long.txSeq)
    assert.equal(long.paid, true)
  })

  test('two uploads of the same content at the same time pay once', async () => {
    const bytes = seededBytes({ seed: `${seed}/race`, length: 100_000 })
    const client = await network.client()
    const both = await Promise.all([1, 2].map(() => client.storage.upload({ source: memorySource(bytes) })))
    assert.deepEqual(both.map(({ paid }) => paid).toSorted(), [false, true])
    assert.equal(both[0]?.txSeq, both[1]?.txSeq)
  })

  test('a range is verified and exact', async () => {
    const client = await network.client()
    const bytes = seededBytes({ seed: `${seed}/range`, length: 1_500_000 })
    const { root } = await client.storage.upload({ source: memorySource(bytes) })
    for (const [offset, length] of [
      [0, 1],
      [262_143, 2],
      [500_000, 800_000],
      [1_499_999, 10],
      [1_500_000, 1],
    ] as const) {
      const parts: Uint8Array[] = []
      for await (const part of client.storage.readFile({ root, offset, length })) parts.push(part)
      assert.deepEqual(
        new Uint8Array(Buffer.concat(parts)),
        bytes.slice(offset, offset + length),
        `${offset}+${length}`,
      )
    }
  })

  test('events tell the steps in order', async () => {
    const client = await network.client()
    const types: string[] = []
    await client.storage.upload({
      source: memorySource(seededBytes({ seed: `${seed}/events`, length: 600_000 })),
      onEvent: ({ type }) => {
        if (types.at(-1) !== type) types.push(type)
      },
    })
    const steps = types.filter((type) => type !== 'waiting')
    assert.deepEqual(steps, [
      'hashing',
      'fee',
      'transaction-sent',
      'transaction-mined',
      'nodes-selected',
      'sending',
      'finalized',
    ])
  })

  test('an unknown root, an existing file, an account without money: typed errors with the facts', async () => {
    const client = await network.client()
    await assert.rejects(client.storage.download({ root: `0x${'12'.repeat(32)}`, to: join(network.dir, 'none') }), {
      code: 'ROOT_UNKNOWN',
    })
    const bytes = seededBytes({ seed: `${seed}/errors`, length: 5_000 })
    const { root } = await client.storage.upload({ source: memorySource(bytes) })
    const occupied = join(network.dir, 'occupied')
    await writeFile(occupied, 'mine')
    await assert.rejects(client.storage.download({ root, to: occupied }), { code: 'FILE_EXISTS' })
    assert.equal(await readFile(occupied, 'utf8'), 'mine')

    const { privateKeyToAccount, generatePrivateKey } = await import('viem/accounts')
    const poor = await network.client({ account: privateKeyToAccount(generatePrivateKey()) })
    const upload = poor.storage.upload({ source: memorySource(seededBytes({ seed: `${seed}/poor`, length: 5_000 })) })
    await assert.rejects(upload, (error: Error & { code?: string; details?: Record<string, unknown> }) => {
      assert.equal(error.code, 'INSUFFICIENT_FUNDS')
      assert.equal(error.details?.haveWei, '0')
      assert.equal(BigInt(String(error.details?.needWei)) > 0n, true)
      return true
    })
    await assert.rejects(client.storage.upload({ source: memorySource(new Uint8Array(0)) }), { code: 'FILE_EMPTY' })
  })

  test('a file that changes between hashing and sending is told from a node that refuses', async () => {
    const client = await network.client()
    const bytes = Uint8Array.from(seededBytes({ seed: `${seed}/changing`, length: 900_000 }))
    const upload = client.storage.upload({
      source: memorySource(bytes),
      onEvent: ({ type }) => {
        if (type === 'transaction-mined') bytes[500_000] = (bytes[500_000] ?? 0) ^ 1
      },
    })
    await assert.rejects(upload, { code: 'SOURCE_CHANGED' })
  })

  test('an abort ends an upload at once and leaves nothing running', async () => {
    const client = await network.client()
    const controller = new AbortController()
    const upload = client.storage.upload({
      source: memorySource(seededBytes({ seed: `${seed}/abort`, length: 4_000_000 })),
      signal: controller.signal,
      onEvent: ({ type }) => {
        if (type === 'sending') controller.abort()
      },
    })
    await assert.rejects(upload, { name: 'AbortError' })
  })
})
