import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { TransferEvent } from '#client/storage/events.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts'
import { seededBytes, seededRandom, testSeed } from './seeded.ts'
import { type StorageNetwork, startStorageNetwork } from './storage-network.ts'

const seed = testSeed()
const random = seededRandom(seed)
const MIB = 1 << 20
const bytesOf = (name: string, length: number) => seededBytes({ seed: `${seed}/${name}`, length })
const isUpload = ({ method, path }: { method: string; path: string }) => method === 'POST' && /\/segments$/.test(path)
const isFetch = ({ method, path }: { method: string; path: string }) => method === 'GET' && /\/segments\?/.test(path)

describe(`transfers under faults (seed ${seed})`, () => {
  let network: StorageNetwork
  let proxies: FaultProxy[]
  const near = (index: number): FaultProxy => {
    const proxy = proxies[index]
    if (proxy === undefined) throw new RangeError(`no proxy ${index}`)
    return proxy
  }

  before(async () => {
    network = await startStorageNetwork({ shards: ['0/1', '0/1'] })
    proxies = await Promise.all(network.nodes.map(({ url }) => startFaultProxy(url)))
  })
  after(async () => {
    await Promise.all(proxies.map((proxy) => proxy.close()))
    await network.stop()
  })
  const calm = () => {
    for (const proxy of proxies) proxy.fault = () => undefined
  }
  const client = (which: readonly number[], limits = {}) =>
    network.client({ nodes: which.map((index) => near(index).url), limits: { attempts: 3, ...limits } })

  test('connections that break during an upload cost a few requests, not the upload', async () => {
    calm()
    const bytes = bytesOf('breaks', 5 * MIB + 77)
    let broken = 0
    near(0).fault = (request) => {
      if (!isUpload(request) || broken >= 2) return undefined
      broken += 1
      return { type: 'cut-request', afterBytes: random(4 * MIB) }
    }
    const retries: TransferEvent[] = []
    const one = await client([0], { attempts: 5 })
    const { nodes } = await one.storage.upload({
      source: memorySource(bytes),
      onEvent: (event) => event.type === 'retry' && retries.push(event),
    })
    assert.equal(broken > 0 && retries.length > 0, true, 'the fault was met and told')
    assert.equal(nodes[0]?.finalized, true)
  })

  test('a node that dies in the middle: the upload fails with its name, and repeating it completes it without a second payment', async () => {
    calm()
    const bytes = bytesOf('dies', 6 * MIB)
    let dead = false
    near(0).fault = (request) => {
      if (dead) return { type: 'refuse' }
      if (!isUpload(request)) return undefined
      dead = true
      return { type: 'cut-request', afterBytes: 2 * MIB }
    }
    const one = await client([0])
    let paid = 0n
    const failing = one.storage.upload({
      source: memorySource(bytes),
      onEvent: (event) => {
        if (event.type === 'fee') paid += event.feeWei
      },
    })
    await assert.rejects(failing, (error: Error & { code?: string }) => {
      assert.equal(error.code, 'NODE_UNREACHABLE')
      assert.match(error.message, new RegExp(near(0).url))
      return true
    })
    assert.equal(paid > 0n, true)
    calm()
    const again = await one.storage.upload({ source: memorySource(bytes) })
    assert.equal(again.paid, false)
    assert.equal(again.nodes[0]?.finalized, true)
  })

  test('a node that dies in the middle is replaced by one of the same shard', async () => {
    calm()
    const bytes = bytesOf('replaced', 3 * MIB)
    let dead: FaultProxy | undefined
    for (const proxy of proxies) {
      proxy.fault = (request) => {
        if (isUpload(request)) dead ??= proxy
        return dead === proxy ? { type: 'refuse' } : undefined
      }
    }
    const both = await client([0, 1], { attempts: 2 })
    const dropped: string[] = []
    const { nodes } = await both.storage.upload({
      source: memorySource(bytes),
      onEvent: (event) => event.type === 'node-dropped' && dropped.push(event.url),
    })
    assert.deepEqual(dropped, [dead?.url])
    assert.equal(nodes.length, 1)
    assert.notEqual(nodes[0]?.url, dead?.url)
  })

  test('a crash between sending the transaction and its receipt does not pay twice', async () => {
    calm()
    const bytes = bytesOf('crash', 400_000)
    const before = await network.client({ nodes: [near(0).url], who: 3 })
    const controller = new AbortController()
    const crashed = before.storage.upload({
      source: memorySource(bytes),
      signal: controller.signal,
      onEvent: ({ type }) => type === 'transaction-sent' && controller.abort(),
    })
    await assert.rejects(crashed, { name: 'AbortError' })
    // Another process: a new client that shares nothing but the journal.
    const after = await network.client({ nodes: [near(0).url], who: 3 })
    const found: TransferEvent[] = []
    const result = await after.storage.upload({
      source: memorySource(bytes),
      // Tags keep the nodes' knowledge of the root from being used, so that the journal alone must know.
      onEvent: (event) => event.type === 'submission-found' && found.push(event),
    })
    assert.equal(result.paid, false)
    assert.equal(found.length, 1)
  })

  test('with tags, which nodes do not tell, the journal alone prevents the second payment', async () => {
    calm()
    const bytes = bytesOf('tagged', 10_000)
    const tags = '0xdeadbeef'
    const one = await network.client({ nodes: [near(0).url], who: 4 })
    const controller = new AbortController()
    await assert.rejects(
      one.storage.upload({
        source: memorySource(bytes),
        tags,
        signal: controller.signal,
        onEvent: ({ type }) => type === 'transaction-sent' && controller.abort(),
      }),
      { name: 'AbortError' },
    )
    const result = await (await network.client({ nodes: [near(0).url], who: 4 })).storage.upload({
      source: memorySource(bytes),
      tags,
    })
    assert.equal(result.paid, false)
    const later = await one.storage.upload({ source: memorySource(bytes), tags })
    assert.equal(later.paid, true, 'a finished tagged upload is done: the next one is a new write')
  })

  test('a node that lies: its bytes are refused, the file comes from the honest one', async () => {
    calm()
    const bytes = bytesOf('lies', 9 * MIB + 5)
    await (await client([0, 1])).storage.upload({ source: memorySource(bytes), replicas: 2 })
    near(0).fault = (request) => (isFetch(request) ? { type: 'flip', atByte: 1000 + random(200_000) } : undefined)
    const to = join(network.dir, 'lies')
    const dropped: string[] = []
    const { root } = await (await client([1])).storage.upload({ source: memorySource(bytes) })
    await (await client([0, 1])).storage.download({
      root,
      to,
      onEvent: (event) => event.type === 'node-dropped' && dropped.push(`${event.url} ${event.reason}`),
    })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
    assert.equal(dropped.length, 1)
    assert.match(dropped[0] ?? '', /do not match the root/)
  })

  test('only a lying node: a typed error that names it, and nothing wrong on disk', async () => {
    calm()
    const bytes = bytesOf('lies-alone', 600_000)
    const one = await client([0])
    const { root } = await one.storage.upload({ source: memorySource(bytes) })
    near(0).fault = (request) => (isFetch(request) ? { type: 'flip', atByte: 300 } : undefined)
    const to = join(network.dir, 'lies-alone')
    await assert.rejects(one.storage.download({ root, to }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'SEGMENT_CORRUPT')
      assert.match(error.message, new RegExp(near(0).url))
      return true
    })
    await assert.rejects(readFile(to), { code: 'ENOENT' })
    calm()
    await one.storage.download({ root, to })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes, 'the same call succeeds when the node is honest again')
  })

  test('answers that break and stall: the download goes on elsewhere and resumes after giving up', async () => {
    calm()
    const bytes = bytesOf('stall', 12 * MIB)
    const both = await client([0, 1], { idleTimeoutMs: 400 })
    const { root } = await both.storage.upload({ source: memorySource(bytes), replicas: 2 })
    near(0).fault = (request) => (isFetch(request) ? { type: 'stall', afterBytes: random(2 * MIB) } : undefined)
    near(1).fault = (request) =>
      isFetch(request) && random(2) === 0 ? { type: 'cut-answer', afterBytes: random(MIB) } : undefined
    const to = join(network.dir, 'stall')
    await both.storage.download({ root, to })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)

    let generous = 3
    near(0).fault = (request) => {
      if (!isFetch(request)) return undefined
      generous -= 1
      return { type: 'cut-answer', afterBytes: generous < 0 ? random(1_000) : 700_000 + random(300_000) }
    }
    const one = await client([0], { attempts: 2 })
    const later = join(network.dir, 'resumed')
    await assert.rejects(one.storage.download({ root, to: later }), { code: 'NODE_LACKS_SEGMENT' })
    calm()
    const { resumedBytes } = await one.storage.download({ root, to: later })
    assert.equal(resumedBytes > 0, true, 'what had been fetched was kept')
    assert.deepEqual(new Uint8Array(await readFile(later)), bytes)
  })

  test('bytes spoiled in the part file between two tries are found and fetched again', async () => {
    calm()
    const bytes = bytesOf('spoiled', 3 * MIB)
    const one = await client([0])
    const { root } = await one.storage.upload({ source: memorySource(bytes) })
    const to = join(network.dir, 'spoiled')
    const controller = new AbortController()
    let received = 0
    const aborted = one.storage.download({
      root,
      to,
      signal: controller.signal,
      onEvent: (event) => {
        if (event.type === 'receiving') received = event.doneBytes
        if (received >= MIB) controller.abort()
      },
    })
    await assert.rejects(aborted, { name: 'AbortError' })
    const { open } = await import('node:fs/promises')
    const part = await open(`${to}.part`, 'r+')
    await part.write(Buffer.from('spoiled'), 0, 7, 100)
    await part.close()
    const { resumedBytes } = await one.storage.download({ root, to })
    assert.equal(resumedBytes < received || received === 0, true)
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
  })

  test('a node that never learns of the submission: the wait ends and says what is missing where', async () => {
    calm()
    const one = await network.client({ nodes: [near(0).url], limits: { entryTimeoutMs: 700, attempts: 3 } })
    // The node's answers about the submission come from before it was mined.
    const empty = bytesOf('never', 1000)
    const { startStubbornNode } = await import('./stubborn-node.ts')
    const stubborn = await startStubbornNode(near(0).url)
    try {
      const behind = await network.client({ nodes: [stubborn.url], limits: { entryTimeoutMs: 700 } })
      await assert.rejects(
        behind.storage.upload({ source: memorySource(empty) }),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'WAIT_TIMEOUT')
          assert.match(error.message, /has read the chain up to block \d+, the submission is in block \d+/)
          return true
        },
      )
      const done = await one.storage.upload({ source: memorySource(empty) })
      assert.equal(done.paid, false)
    } finally {
      await stubborn.close()
    }
  })
})
