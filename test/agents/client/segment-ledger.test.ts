import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SegmentLedger, type TakeParameters } from '#client/storage/segment-ledger.ts'
import { seededRandom, testSeed } from './seeded.ts'

function asker(url: string, { shardId = 0, numShard = 1, limit = 4 } = {}): TakeParameters {
  return {
    url,
    limit,
    hedgeAfterMs: 100,
    mayStart: () => true,
    owns: (index) => index % numShard === shardId,
    nextOwned: (index) => Math.ceil((index - shardId) / numShard) * numShard + shardId,
  }
}

describe('segment ledger', () => {
  test('a node is given runs in which everything its shard keeps is wanted', () => {
    const ledger = new SegmentLedger([0, 1, 2, 3, 6, 7])
    assert.deepEqual(ledger.take(asker('a', { limit: 10 })), [0, 1, 2, 3], 'stops where the list has a gap')
    assert.deepEqual(ledger.take(asker('a', { limit: 10 })), [6, 7])
    const sharded = new SegmentLedger([0, 1, 2, 3, 4, 5, 6, 7])
    assert.deepEqual(sharded.take(asker('b', { shardId: 1, numShard: 2 })), [1, 3, 5, 7])
    assert.deepEqual(sharded.take(asker('c', { shardId: 0, numShard: 2, limit: 2 })), [0, 2])
  })

  test('a segment is never given to two nodes unless the first makes no progress', () => {
    let now = 0
    const ledger = new SegmentLedger([0, 1], () => now)
    assert.deepEqual(ledger.take(asker('a')), [0, 1])
    assert.deepEqual(ledger.take(asker('b')), [], 'a is at it')
    now = 90
    ledger.progress('a', [1])
    now = 150
    assert.deepEqual(ledger.take(asker('b')), [0], 'a has not moved with 0 for 150 ms, with 1 for 60 ms')
    assert.equal(ledger.finish(0), true)
    assert.equal(ledger.finish(0), false, 'the second arrival is told that it is late')
    ledger.giveBack({ url: 'a', index: 0, reason: 'late', final: false })
    assert.equal(ledger.isDone(0), true, 'what is done stays done')
  })

  test('a node that lacks a segment for good is not asked for it again', () => {
    const ledger = new SegmentLedger([0])
    ledger.take(asker('a'))
    ledger.giveBack({ url: 'a', index: 0, reason: 'does not have it', final: true })
    assert.deepEqual(ledger.take(asker('a')), [])
    assert.equal(ledger.canTake({ url: 'a', owns: () => true }), false)
    assert.deepEqual(ledger.take(asker('b')), [0])
    assert.deepEqual([...ledger.attempts(0)], [['a', 'does not have it']])
  })

  test('counts agree whatever happens in whatever order', () => {
    const seed = testSeed()
    const random = seededRandom(seed)
    const ledger = new SegmentLedger(Array.from({ length: 40 }, (_, index) => index))
    const flying = new Map<string, number[]>()
    for (let step = 0; step < 2_000 && !ledger.complete; step++) {
      const url = `node-${random(3)}`
      const held = flying.get(url) ?? []
      if (held.length === 0) flying.set(url, ledger.take(asker(url, { limit: 1 + random(5) })))
      else {
        const index = held.shift() as number
        if (random(3) > 0) ledger.finish(index)
        else ledger.giveBack({ url, index, reason: 'lost', final: false })
      }
      const inHand = [...flying.values()].reduce(
        (sum, indexes) => sum + indexes.filter((index) => !ledger.isDone(index)).length,
        0,
      )
      assert.equal(ledger.inFlight, inHand, `seed ${seed}, step ${step}`)
    }
    assert.equal(ledger.complete, true, `seed ${seed}`)
    assert.equal(ledger.wanted, 0)
  })
})
