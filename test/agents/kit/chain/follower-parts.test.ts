import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeEventTopics, type Hex, pad, parseAbi, toHex } from 'viem'
import type { BlockRef, Hash } from '#kit/chain/block.ts'
import { createBloomTest } from '#kit/chain/bloom.ts'
import { thinCheckpoints } from '#kit/chain/checkpoints.ts'
import { connectChain } from '#kit/chain/client.ts'
import { findForkPoint } from '#kit/chain/fork-point.ts'
import { createLogFilter } from '#kit/chain/log-filter.ts'
import { PageSize } from '#kit/chain/page-size.ts'
import { mine, startAnvil } from '../../../chain.ts'
import { EMITTER, emit, installEmitter, OTHER_TOPIC, TOPIC } from './log-source.ts'

function refs(count: number): BlockRef[] {
  return Array.from({ length: count }, (_, index) => ({
    number: count - index,
    hash: pad(toHex(count - index)) as Hash,
  }))
}

// The fork point is the newest canonical checkpoint, found with few questions.
test('finds the fork point', async () => {
  const property = fc.asyncProperty(fc.nat(300), fc.nat(300), async (count, height) => {
    const checkpoints = refs(count)
    let asked = 0
    const found = await findForkPoint({
      checkpoints,
      isCanonical: async (block) => {
        asked++
        return block.number <= height
      },
    })
    assert.equal(found?.number, height === 0 || count === 0 ? undefined : Math.min(height, count))
    assert.ok(asked <= 20, `${asked} questions`)
  })
  await fc.assert(property, { numRuns: 300 })
})

// Thinned again and again while the chain grows, the list stays short, keeps its newest entries, and for a reorg of
// any depth that was covered once holds a checkpoint at most four times as deep (and no checkpoint it was not given).
test('thins checkpoints', () => {
  const dense = 8
  let list: BlockRef[] = []
  for (let number = 1; number <= 5_000; number++) {
    list = thinCheckpoints({ checkpoints: [{ number, hash: pad(toHex(number)) as Hash }, ...list], dense })
    assert.ok(list.length <= dense + 54)
    for (const [index, ref] of list.entries()) {
      if (index > 0) assert.ok(ref.number < (list[index - 1]?.number ?? 0), 'newest first')
    }
  }
  assert.deepEqual(
    list.slice(0, dense).map((ref) => ref.number),
    Array.from({ length: dense }, (_, index) => 5_000 - index),
  )
  for (const depth of [10, 50, 300, 1_000]) {
    const older = list.find((ref) => ref.number <= 5_000 - depth)
    assert.ok(older !== undefined && 5_000 - older.number <= 4 * depth + 2 * dense, `depth ${depth}`)
  }
})

// The page stays between one block and the maximum, below what failed, and comes back up in time.
test('adapts the page size', () => {
  const page = new PageSize(1_000)
  const limit = 130
  let failures = 0
  for (let step = 0; step < 2_000; step++) {
    const asked = page.blocks
    assert.ok(asked >= 1 && asked <= 1_000)
    if (asked > limit) {
      page.tooLarge(asked)
      failures++
    } else {
      page.worked(asked)
    }
  }
  assert.ok(page.blocks > limit / 4)
  assert.ok(failures < 60, `${failures} failures in 2000 pages`)
  assert.equal(new PageSize(1).tooLarge(1), false)
})

// Real blooms: a block with a wanted log always passes the test, an empty one never does.
test('reads blooms as the chain writes them', async () => {
  const anvil = await startAnvil({ args: ['--no-mining'] })
  const chain = await connectChain({ rpcUrls: [anvil.url] })
  try {
    await installEmitter(anvil)
    const mayHold = createBloomTest(createLogFilter({ address: EMITTER, topics: [[TOPIC, OTHER_TOPIC]] }))
    const wanted = createBloomTest(createLogFilter({ address: EMITTER, topics: [TOPIC] }))
    for (const topic of [TOPIC, OTHER_TOPIC, undefined]) {
      if (topic !== undefined) await emit(anvil, { topic })
      await mine(anvil)
      const { logsBloom } = await chain.client.getBlock()
      assert.ok(logsBloom)
      assert.equal(mayHold(logsBloom), topic !== undefined)
      if (topic === TOPIC) assert.equal(wanted(logsBloom), true)
    }
  } finally {
    chain.close()
    await anvil.stop()
  }
})

// The filter keeps what eth_getLogs would: any of the addresses, and by position any of the topics.
test('filters like eth_getLogs', () => {
  const abi = parseAbi(['event Moved(address indexed from, address indexed to)'])
  const from = `0x${'aa'.repeat(20)}` as Hex
  const to = `0x${'BB'.repeat(20)}` as Hex
  const topics = encodeEventTopics({ abi, args: { from, to: '0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB' } }) as Hash[]
  const log = { address: EMITTER as Hash, topics }
  const matches = (address: Hash, wanted: (Hash | Hash[] | null)[]) =>
    createLogFilter({ address, topics: wanted }).matches(log)
  assert.equal(matches(EMITTER, []), true)
  assert.equal(matches(EMITTER, [topics[0] ?? '0x']), true)
  assert.equal(matches(EMITTER, [null, null, pad(to)]), true, 'case does not matter')
  assert.equal(matches(EMITTER, [null, [pad(to), pad(from)]]), true)
  assert.equal(matches(EMITTER, [null, pad(to)]), false)
  assert.equal(matches(EMITTER, [null, null, null, pad(to)]), false, 'a topic that is not there matches nothing')
  assert.equal(matches(from, []), false)
})
