import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { replicaCount } from '#protocol/storage/shard.ts'
import { chooseNodes, type ListedNode } from '#storage/indexer/select.ts'

const node = (url: string, shardId: number, numShard: number): ListedNode => {
  return { url, config: { shardId, numShard }, latency: 1, since: 0 }
}

const nodes = (prefix: string) =>
  fc
    .array(
      fc.integer({ min: 0, max: 3 }).chain((log) => fc.record({ log: fc.constant(log), id: fc.nat(2 ** log - 1) })),
      { maxLength: 16 },
    )
    .map((shards) => shards.map(({ log, id }, i) => node(`http://${prefix}${i}`, id, 2 ** log)))

test('a choice covers the flow as often as asked; discovered nodes give at most three fifths, none when only trusted ones may', () => {
  fc.assert(
    fc.property(
      nodes('t'),
      nodes('d'),
      fc.nat(5),
      fc.constantFrom('min' as const, 'max' as const, 'random' as const),
      fc.boolean(),
      (trusted, discovered, expectedReplica, method, fullTrusted) => {
        let choice: ReturnType<typeof chooseNodes>
        try {
          choice = chooseNodes({ trusted, discovered, expectedReplica, method, fullTrusted, dropped: [] })
        } catch {
          const there = replicaCount(trusted.map(({ config }) => config))
          assert.ok(there < expectedReplica, 'trusted nodes alone would have done')
          return
        }
        const foreign = replicaCount(choice.discovered.map(({ config }) => config))
        const own = replicaCount(choice.trusted.map(({ config }) => config))
        assert.ok(foreign + own >= expectedReplica)
        assert.ok(own >= expectedReplica - (fullTrusted ? 0 : Math.floor((expectedReplica * 3) / 5)))
        if (fullTrusted) assert.deepEqual(choice.discovered, [])
      },
    ),
  )
})

test('dropped nodes are not chosen, however their URL is written', () => {
  const trusted = [node('http://a:1', 0, 1), node('http://b:1', 0, 1)]
  const common = { trusted, discovered: [], expectedReplica: 1, method: 'min' as const, fullTrusted: true }
  assert.deepEqual(
    chooseNodes({ ...common, dropped: ['http://A:1/'] }).trusted.map(({ url }) => url),
    ['http://b:1'],
  )
  assert.throws(() => chooseNodes({ ...common, dropped: ['http://a:1', 'http://b:1'] }), {
    code: 'NO_COVER',
    message: 'cannot select a subset from the returned nodes that meets the replication requirement',
  })
})

test('min takes the least sharded node alone, max the most sharded ones, a number that shard count only', () => {
  const trusted = [node('http://h0', 0, 2), node('http://h1', 1, 2), node('http://w', 0, 1)]
  const choose = (method: 'min' | 'max' | number) =>
    chooseNodes({ trusted, discovered: [], expectedReplica: 1, method, fullTrusted: true, dropped: [] }).trusted.map(
      ({ url }) => url,
    )
  assert.deepEqual(choose('min'), ['http://w'])
  assert.deepEqual(choose('max').sort(), ['http://h0', 'http://h1'])
  assert.deepEqual(choose(2), ['http://h0', 'http://h1'])
  assert.throws(() => choose(4), { code: 'NO_COVER' })
})

test('no replica wanted means no node chosen', () => {
  const choice = chooseNodes({
    trusted: [node('http://a', 0, 1)],
    discovered: [],
    expectedReplica: 0,
    method: 'min',
    fullTrusted: false,
    dropped: [],
  })
  assert.deepEqual(choice, { trusted: [], discovered: [] })
})
