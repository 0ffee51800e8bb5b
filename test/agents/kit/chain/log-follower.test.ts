import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { parseAbiItem } from 'viem'
import { type Chain, type ConnectChainParameters, connectChain } from '#kit/chain/client.ts'
import {
  type FollowLogsParameters,
  followLogs,
  type LogFollower,
  LogGapError,
  type LogSink,
  LogSinkError,
} from '#kit/chain/log-follower.ts'
import { silentLog } from '#kit/log.ts'
import { type Anvil, headNumber, mine, startAnvil } from '../../../chain.ts'
import { type FaultyProxy, startFaultyProxy } from './faulty-proxy.ts'
import {
  assertSameLogs,
  EMITTER,
  emission,
  emit,
  fullScan,
  installEmitter,
  MemorySink,
  OTHER_TOPIC,
  TOPIC,
  until,
} from './log-source.ts'
import { type Random, seededRandom } from './random.ts'

let anvil: Anvil
let chain: Chain

before(async () => {
  anvil = await startAnvil({ args: ['--no-mining'] })
  await installEmitter(anvil)
  chain = await connectChain({ rpcUrls: [anvil.url] })
})

after(async () => {
  chain.close()
  await anvil.stop()
})

/** What the running test has opened, in order. */
const opened: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close()
})

async function openProxy(random: Random): Promise<FaultyProxy> {
  const proxy = await startFaultyProxy({ target: anvil.url, random })
  opened.push(() => proxy.stop())
  return proxy
}

async function connect(parameters: ConnectChainParameters): Promise<Chain> {
  const connected = await connectChain(parameters)
  opened.push(async () => connected.close())
  return connected
}

interface Running {
  follower: LogFollower
  stop(): Promise<void>
}

function follow(sink: LogSink, options: Partial<FollowLogsParameters> = {}): Running {
  const abort = new AbortController()
  const follower = followLogs({
    chain,
    address: EMITTER,
    topics: [TOPIC],
    startBlock: 0,
    confirmations: 0,
    pollIntervalMs: 20,
    retryDelayMs: 5,
    sink,
    log: silentLog(),
    signal: abort.signal,
    ...options,
  })
  const stop = async () => {
    abort.abort()
    await follower.done.catch(() => undefined)
  }
  opened.push(stop)
  return { follower, stop }
}

async function emitBlocks(blocks: number, perBlock = 2): Promise<void> {
  for (let block = 0; block < blocks; block++) {
    for (let index = 0; index < perBlock; index++) await emit(anvil, { payload: block * 10 + index })
    await mine(anvil)
  }
}

async function settled(sink: MemorySink, { confirmations = 0 } = {}): Promise<void> {
  const target = (await headNumber(anvil)) - confirmations
  await until(`the sink is at block ${target}`, async () => {
    const { hash } = (await anvil.rpc('eth_getBlockByNumber', [`0x${target.toString(16)}`, false])) as { hash: string }
    return sink.tip?.hash === hash
  })
  assertSameLogs(sink.content(), await fullScan(anvil, { to: target }))
}

// Catching up over many pages and then following: the sink holds what a full scan finds, no more (other topics), no
// less, and empty blocks advance it too.
test('catches up, follows, and advances over empty blocks', async () => {
  await emitBlocks(5)
  await mine(anvil, 300)
  await emit(anvil, { topic: OTHER_TOPIC })
  await emitBlocks(3)
  const sink = new MemorySink()
  const { follower, stop } = follow(sink, { pageSizeBlocks: 50 })
  await settled(sink)
  assert.ok(sink.content().length >= 16)
  assert.ok(sink.batches > 5, 'several pages')
  await mine(anvil, 7)
  await settled(sink)
  await emitBlocks(2)
  await settled(sink)
  await until('the follower says it is in sync', () => follower.status().synced)
  assert.equal(follower.status().applied, await headNumber(anvil))
  assert.equal(follower.status().lastError, undefined)
  await stop()
})

// With n confirmations, nothing above head − n is applied, and everything up to there is.
test('holds back unconfirmed blocks', async () => {
  const sink = new MemorySink()
  const { follower, stop } = follow(sink, { confirmations: 3 })
  await settled(sink, { confirmations: 3 })
  await emitBlocks(2)
  await settled(sink, { confirmations: 3 })
  assert.equal(sink.tip?.number, (await headNumber(anvil)) - 3)
  await until('in sync', () => follower.status().synced)
  await stop()
})

// A new block reaches the sink within a poll, or at once when woken.
test('wake() looks at once', async () => {
  const sink = new MemorySink()
  const { follower, stop } = follow(sink, { pollIntervalMs: 60_000 })
  await settled(sink)
  await emitBlocks(1)
  const startedAt = performance.now()
  follower.wake()
  await settled(sink)
  assert.ok(performance.now() - startedAt < 5_000, 'long before the next poll')
  await stop()
})

// A reorg replaces the last blocks, of equal or greater height: the sink drops their logs and takes the new ones.
for (const { name, confirmations, depth } of [
  { name: 'at the head', confirmations: 0, depth: 1 },
  { name: 'some blocks deep', confirmations: 0, depth: 6 },
  { name: 'deeper than the confirmations', confirmations: 2, depth: 8 },
]) {
  test(`takes back a reorg ${name}`, async () => {
    const sink = new MemorySink()
    const { follower, stop } = follow(sink, { confirmations })
    await emitBlocks(10)
    await settled(sink, { confirmations })
    await anvil.rpc('anvil_reorg', [depth, [[emission(anvil, { payload: 777 }), 0]]])
    await emitBlocks(1)
    await settled(sink, { confirmations })
    assert.equal(follower.status().reorgs, 1)
    assert.equal(sink.reverts, 1)
    await stop()
  })
}

// A reorg that happens while the follower is stopped is found at the next start, from the checkpoints alone; one that
// is older than every checkpoint empties the sink.
test('finds a reorg after a restart', async () => {
  const sink = new MemorySink()
  await emitBlocks(12)
  const first = follow(sink)
  await settled(sink)
  await first.stop()
  await anvil.rpc('anvil_reorg', [9, []])
  const second = follow(sink)
  await settled(sink)
  assert.equal(second.follower.status().reorgs, 1)
  await second.stop()

  sink.refs = sink.refs.slice(0, 3)
  await anvil.rpc('anvil_reorg', [60, []])
  await emitBlocks(2)
  const third = follow(sink)
  await settled(sink)
  await third.stop()
})

// A chain that shrinks (a snapshot taken back) and grows again on another branch is followed; while it is shorter than
// what was applied, nothing is reverted: it looks like a lagging endpoint.
test('follows a chain that shrank and grew again', async () => {
  const sink = new MemorySink()
  const { stop } = follow(sink)
  await emitBlocks(4)
  const snapshot = await anvil.rpc('evm_snapshot')
  await emitBlocks(6)
  await settled(sink)
  await anvil.rpc('evm_revert', [snapshot])
  await anvil.rpc('evm_increaseTime', [100])
  await emitBlocks(8, 1)
  await settled(sink)
  await stop()
})

// "Range too large" halves the page until it fits, also when pages grow back.
test('adapts its pages to what the endpoint allows', async () => {
  const proxy = await openProxy(seededRandom(1))
  proxy.maxRangeBlocks = 37
  await mine(anvil, 400)
  await emitBlocks(2)
  const proxied = await connect({ rpcUrls: [proxy.url] })
  const sink = new MemorySink()
  const { follower, stop } = follow(sink, { chain: proxied, pageSizeBlocks: 500 })
  await settled(sink)
  assert.ok(follower.status().pageSizeBlocks <= 37)
  await stop()
})

// An endpoint that lags answers "no logs" for blocks it does not have; behind one address with a healthy one, it must
// not make the follower skip logs, nor take the sink back when the head seems to fall.
test('a lagging endpoint hides nothing', async () => {
  const random = seededRandom(2)
  const proxy = await openProxy(random)
  const proxied = await connect({ rpcUrls: [proxy.url] })
  const sink = new MemorySink()
  // Each call sees a head that lags by 0 to 3 blocks.
  proxy.intercept = () => {
    proxy.lagBlocks = random.below(4)
    return undefined
  }
  const { follower, stop } = follow(sink, { chain: proxied })
  for (let block = 0; block < 15; block++) await emitBlocks(1)
  await settled(sink)
  assert.equal(follower.status().reorgs, 0)
  await stop()
})

// An endpoint that cannot be asked for logs by block hash is asked by number.
test('manages without queries by block hash', async () => {
  const proxy = await openProxy(seededRandom(6))
  const proxied = await connect({ rpcUrls: [proxy.url] })
  proxy.intercept = (call) => {
    const byHash = call.method === 'eth_getLogs' && JSON.stringify(call.params).includes('blockHash')
    return byHash ? { error: { code: -32602, message: 'invalid argument: unknown field blockHash' } } : undefined
  }
  const sink = new MemorySink()
  const { follower, stop } = follow(sink, { chain: proxied })
  for (let block = 0; block < 3; block++) {
    await emitBlocks(1)
    await settled(sink)
  }
  assert.equal(follower.status().consecutiveErrors, 0)
  await stop()
})

// A stuck endpoint at the head of the list is left for one that moves on.
test('leaves an endpoint that stopped moving', async () => {
  const stuck = await openProxy(seededRandom(3))
  const proxied = await connect({ rpcUrls: [stuck.url, anvil.url] })
  const sink = new MemorySink()
  const { stop } = follow(sink, { chain: proxied, probeAfterMs: 300 })
  await settled(sink)
  const head = await headNumber(anvil)
  stuck.intercept = () => {
    stuck.lagBlocks = 1_000_000
    return undefined
  }
  await mine(anvil, 20)
  await until('the other endpoint was asked', () => (sink.tip?.number ?? 0) >= head + 20, 15_000)
  await stop()
})

// While every endpoint is down the follower waits and says why; it goes on by itself when one is back.
test('outlives an outage', async () => {
  const proxy = await openProxy(seededRandom(4))
  const proxied = await connect({ rpcUrls: [proxy.url], retries: 0 })
  const sink = new MemorySink()
  const { follower, stop } = follow(sink, { chain: proxied })
  await settled(sink)
  proxy.down = true
  await emitBlocks(2)
  await until('errors are counted', () => follower.status().consecutiveErrors >= 3)
  assert.match(String(follower.status().lastError), /HTTP 503/)
  assert.match(String(follower.status().lastError), new RegExp(proxy.host))
  proxy.down = false
  await settled(sink)
  assert.equal(follower.status().consecutiveErrors, 0)
  await stop()
})

// A sink that fails now and then (a busy database) is tried again from its own checkpoint; one that keeps failing ends
// the follower with the cause.
test('tries a failing sink again, then gives up', async () => {
  const sink = new MemorySink()
  let failures = 3
  sink.onApply = () => {
    if (failures-- > 0) throw new Error('database is locked')
  }
  const first = follow(sink)
  await settled(sink)
  await first.stop()

  const cause = new Error('disk full')
  sink.onApply = () => {
    throw cause
  }
  const { follower } = follow(sink, { sinkAttempts: 3 })
  await emitBlocks(1)
  await assert.rejects(follower.done, (error: unknown) => error instanceof LogSinkError && error.cause === cause)
  assert.match(String(follower.status().lastError), /disk full/)
})

// A sink that notices a missing log gets the batch read again, and earlier batches too when the log was lost in one.
test('reads again what the sink misses', async () => {
  const proxy = await openProxy(seededRandom(5))
  const proxied = await connect({ rpcUrls: [proxy.url] })
  await emitBlocks(1, 1)
  const lost = await headNumber(anvil)
  await mine(anvil, 400)
  await emitBlocks(3, 1)
  const scan = await fullScan(anvil, { from: lost, to: await headNumber(anvil) })
  const sink = new MemorySink()
  // Far from the head nothing but the sink can notice that an endpoint leaves out a log.
  let hide = true
  proxy.intercept = (call) => {
    const [filter] = call.params as [{ fromBlock?: string; toBlock?: string }]
    const holdsLost = Number(filter?.fromBlock) <= lost && Number(filter?.toBlock) >= lost
    return hide && call.method === 'eth_getLogs' && holdsLost ? { result: [] } : undefined
  }
  sink.onApply = (batch) => {
    const expected = sink.logs.length
    for (const [index, log] of batch.logs.entries()) {
      const number = scan.indexOf(`${log.blockNumber}/${log.blockHash}/${log.logIndex}/${log.data}`)
      if (number === expected + index) continue
      hide = false
      throw new LogGapError({ code: 'GAP', message: `log ${number} came, ${expected + index} was due` })
    }
  }
  const { stop } = follow(sink, { chain: proxied, startBlock: lost, pageSizeBlocks: 100 })
  await until('every log is there', () => sink.content().length === scan.length)
  assertSameLogs(sink.content(), scan)
  assert.ok(sink.reverts > 0)
  await stop()
})

// A filter by event is the filter by its topic; a filter that cannot be is refused at once.
test('filters by event; refuses impossible filters', async () => {
  const event = parseAbiItem('event Unknown(uint256 value)')
  const sink = new MemorySink()
  const { stop } = follow(sink, { topics: undefined, events: [event] })
  const head = await headNumber(anvil)
  await until('caught up', () => sink.tip?.number === head)
  assert.deepEqual(sink.logs, [])
  await stop()
  assert.throws(() => follow(sink, { address: '0x1234' }), { code: 'LOG_FILTER' })
  assert.throws(() => follow(sink, { events: [event] }), { code: 'LOG_FILTER' })
  assert.throws(() => follow(sink, { confirmations: -1 }), { code: 'LOG_FOLLOWER' })
})
