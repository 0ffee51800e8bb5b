import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { selectNodes as sdkSelectNodes } from '@0gfoundation/0g-ts-sdk'
import fc from 'fast-check'
import {
  formatShard,
  nextOwnedSegment,
  parseShard,
  replicaCount,
  type ShardConfig,
  selectNodes,
  shardOwns,
  validateShard,
} from '#protocol/storage/shard.ts'

const shard = fc
  .integer({ min: 0, max: 4 })
  .chain((bits) => fc.nat({ max: 2 ** bits - 1 }).map((shardId) => ({ shardId, numShard: 2 ** bits })))
const fleet = fc.array(shard, { maxLength: 24 })
const nodesOf = (shards: ShardConfig[]) =>
  shards.map((config, i) => ({ url: `http://node-${i}`, config, latency: 0, since: 0 }))

/** Times each of 16 consecutive segments is kept; the flow is covered as often as the rarest one. */
const covered = (shards: ShardConfig[]) =>
  Math.min(...Array.from({ length: 16 }, (_, g) => shards.filter((one) => shardOwns(one, g)).length))

describe('shard', () => {
  it('names its next segment', () => {
    fc.assert(
      fc.property(shard, fc.integer({ min: 0, max: 2 ** 40 }), (one, from) => {
        const next = nextOwnedSegment(one, from)
        assert.ok(next >= from && next < from + one.numShard)
        assert.ok(shardOwns(one, next))
      }),
    )
  })

  it('reads and writes id/count', () => {
    fc.assert(fc.property(shard, (one) => assert.deepEqual(parseShard(formatShard(one)), one)))
    for (const text of ['', '1', '1/', '/2', 'a/2', '1/2/4', '-1/2', '0x1/2', '99999999999/2']) {
      assert.throws(() => parseShard(text), { code: 'SHARD_TEXT' }, text)
    }
    for (const text of ['2/2', '0/3', '0/0', '0/33554432']) {
      assert.throws(() => parseShard(text), { code: 'SHARD_CONFIG' }, text)
    }
    assert.throws(() => validateShard({ shardId: 0.5, numShard: 1 }), { code: 'SHARD_CONFIG' })
  })
})

describe('coverage', () => {
  // The trie counts what a tally of single segments counts, or less: it never promises a replica that is not there.
  it('never counts more replicas than every segment has', () => {
    fc.assert(
      fc.property(fleet, (shards) => {
        assert.ok(replicaCount(shards) <= covered(shards))
        assert.equal(replicaCount(shards) > 0, covered(shards) > 0)
      }),
    )
  })

  it('leaves out what is no shard', () => {
    const strange = [
      { shardId: 5, numShard: 2 },
      { shardId: 0, numShard: Number.POSITIVE_INFINITY },
      { shardId: 0, numShard: 0 },
    ]
    assert.equal(replicaCount(strange), 0)
    assert.equal(selectNodes({ nodes: nodesOf(strange), replicas: 1, method: 'min' }), undefined)
  })
})

describe('selectNodes', () => {
  // A client of ours and 0G's SDK pick the same nodes from the same list.
  it('picks what 0g-ts-sdk picks', () => {
    fc.assert(
      fc.property(
        fleet,
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom<'min' | 'max'>('min', 'max'),
        (shards, replicas, method) => {
          const [theirs, found] = sdkSelectNodes(nodesOf(shards), replicas, method)
          const ours = selectNodes({ nodes: nodesOf(shards), replicas, method })
          assert.equal(ours !== undefined, found)
          if (ours)
            assert.deepEqual(
              ours.map(({ config }) => config),
              theirs.map(({ config }) => config),
            )
        },
      ),
      { numRuns: 300 },
    )
  })

  it('covers every segment as often as asked, in any order', () => {
    fc.assert(
      fc.property(
        fleet,
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { minLength: 1 }),
        (shards, replicas, dice) => {
          let thrown = 0
          const random = () => dice[thrown++ % dice.length] ?? 0
          const chosen = selectNodes({ nodes: nodesOf(shards), replicas, method: 'random', random })
          if (chosen) assert.ok(covered(chosen.map(({ config }) => config)) >= replicas)
          assert.equal(chosen !== undefined, replicaCount(shards) >= replicas)
        },
      ),
    )
  })

  it('keeps to one shard count when given a number', () => {
    const nodes = nodesOf(['0/1', '0/2', '1/2', '0/4'].map(parseShard))
    const chosen = selectNodes({ nodes, replicas: 1, method: 2 })
    assert.deepEqual(
      chosen?.map(({ config }) => formatShard(config)),
      ['0/2', '1/2'],
    )
    assert.equal(selectNodes({ nodes, replicas: 1, method: 4 }), undefined)
  })

  it('picks nobody for no replica', () => {
    assert.deepEqual(selectNodes({ nodes: nodesOf([{ shardId: 0, numShard: 1 }]), replicas: 0, method: 'min' }), [])
  })
})
