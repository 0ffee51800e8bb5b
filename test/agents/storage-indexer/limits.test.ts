import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ExpiringCache } from '#storage/indexer/expiring-cache.ts'
import { mergeRanges } from '#storage/indexer/front/binary.ts'
import { WorkLimit } from '#storage/indexer/work-limit.ts'

test('never more weight is admitted than the limit, and waiters come in order', async () => {
  const limit = new WorkLimit({ what: 'tests', limit: 10, maxWaiting: 100, maxWaitMs: 5_000 })
  const order: number[] = []
  let most = 0
  await Promise.all(
    Array.from({ length: 30 }, async (_, i) => {
      const release = await limit.acquire({ weight: (i % 4) + 1 })
      order.push(i)
      most = Math.max(most, limit.used)
      await Promise.resolve()
      release()
      release()
    }),
  )
  assert.ok(most <= 10, `admitted ${most}`)
  assert.deepEqual(
    order,
    Array.from({ length: 30 }, (_, i) => i),
  )
  assert.equal(limit.used, 0)
})

test('work heavier than the limit is admitted alone', async () => {
  const limit = new WorkLimit({ what: 'tests', limit: 10, maxWaiting: 10, maxWaitMs: 5_000 })
  const small = await limit.acquire({ weight: 1 })
  const large = limit.acquire({ weight: 1_000 })
  assert.equal(limit.waiting, 1)
  small()
  const release = await large
  assert.equal(limit.used, 10)
  release()
})

test('who finds the queue full, waits too long or gives up is told so, and leaves no trace', async () => {
  const limit = new WorkLimit({ what: 'tests', limit: 1, maxWaiting: 2, maxWaitMs: 20 })
  const release = await limit.acquire()
  const gone = new AbortController()
  const late = limit.acquire()
  const leaving = limit.acquire({ signal: gone.signal })
  await assert.rejects(limit.acquire(), { code: 'INDEXER_BUSY' })
  gone.abort(new Error('enough'))
  await assert.rejects(leaving, /enough/)
  await assert.rejects(late, { code: 'INDEXER_BUSY' })
  assert.equal(limit.waiting, 0)
  release()
  const again = await limit.acquire()
  again()
})

test('a cache forgets what is old, and what was used longest ago when it is full', () => {
  let nowMs = 0
  const cache = new ExpiringCache<string, number>({ limit: 2, ttlMs: 100, now: () => nowMs })
  cache.set('a', 1)
  cache.set('b', 2)
  assert.equal(cache.get('a'), 1)
  cache.set('c', 3)
  assert.equal(cache.get('b'), undefined)
  assert.equal(cache.get('a'), 1)
  nowMs = 100
  assert.equal(cache.get('a'), undefined)
  cache.set('d', 4, { ttlMs: 10 })
  nowMs = 109
  assert.equal(cache.get('d'), 4)
  nowMs = 110
  assert.equal(cache.get('d'), undefined)
})

test('ranges that touch or overlap become one', () => {
  assert.deepEqual(
    mergeRanges([
      [4, 5],
      [0, 1],
      [1, 3],
      [8, 9],
      [4, 6],
    ]),
    [
      [0, 3],
      [4, 6],
      [8, 9],
    ],
  )
  assert.deepEqual(mergeRanges([]), [])
})
