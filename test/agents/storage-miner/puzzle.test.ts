import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Hash } from '#protocol/hex.ts'
import { toHex } from '#protocol/hex.ts'
import { whyNot } from '#storage/miner/chain/watcher.ts'
import {
  EMPTY_HASH,
  hashesPerHit,
  MAX_MINING_SECTORS,
  rangeDigest,
  recallRange,
  shardTarget,
  subtaskWindow,
  targetScaleX64,
  windowOpen,
} from '#storage/miner/puzzle.ts'

interface PoraVectors {
  targetScale: { flowLength: string; shardMask: string; scaleX64: string }[]
  cases: {
    range: { startPosition: string; mineLength: string; shardId: string; shardMask: string }
    rangeDigest: string
  }[]
}

const vectors = JSON.parse(readFileSync('test/vectors/storage-pora.json', 'utf8')) as PoraVectors
const U64 = 2n ** 64n

const shards = fc
  .integer({ min: 0, max: 8 })
  .chain((bits) => fc.record({ shardId: fc.integer({ min: 0, max: 2 ** bits - 1 }), numShard: fc.constant(2 ** bits) }))
const lengths = fc.oneof(
  fc.integer({ min: 1, max: 10_000 }),
  fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  fc.maxSafeNat().map((value) => (value % 2 ** 43) + 1),
)
const hashes = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes): Hash => toHex(bytes))

describe('what a miner may mine', () => {
  // The scale of the target is that of the reference vectors, bit for bit.
  it('scales targets as the vectors do', () => {
    for (const { flowLength, shardMask, scaleX64 } of vectors.targetScale) {
      const numShard = Number(U64 - BigInt(shardMask))
      assert.equal(targetScaleX64({ flowLength: Number(flowLength), numShard }), BigInt(scaleX64))
    }
  })

  it('hashes ranges as the vectors do', () => {
    for (const { range, rangeDigest: digest } of vectors.cases) {
      const { startPosition, mineLength, shardId, shardMask } = range
      const given = {
        startPosition: Number(startPosition),
        mineLength: Number(mineLength),
        shardId: BigInt(shardId),
        shardMask: BigInt(shardMask),
      }
      assert.equal(toHex(rangeDigest(given)), digest)
    }
  })

  // Every range satisfies each condition that the contract puts on it (storage-contracts §5.2 step 5).
  it('draws only ranges that the contract takes', () => {
    fc.assert(
      fc.property(lengths, shards, (flowLength, shard) => {
        const range = recallRange({ flowLength, shard })
        const minable = Math.floor(flowLength / 1024) * 1024
        if (minable === 0) return assert.equal(range, undefined)
        assert.ok(range)
        const longest = MAX_MINING_SECTORS * shard.numShard
        assert.equal(range.startPosition % 2 ** 25, 0)
        assert.ok(range.startPosition + range.mineLength <= minable)
        assert.ok(range.mineLength <= longest && range.mineLength >= Math.min(minable, longest))
        assert.equal(range.shardId & range.shardMask, 0n)
        assert.ok(range.shardMask < U64)
        const cleared = [...range.shardMask.toString(2).padStart(64, '0')].filter((bit) => bit === '0').length
        assert.equal(2 ** cleared, shard.numShard)
      }),
    )
  })

  // A miner of one of N shards gets a target about N times as easy, never harder than the whole flow's.
  it('makes targets easier for shards, in proportion', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1024, max: 2 ** 31 - 1 }), fc.integer({ min: 0, max: 5 }), (flowLength, bits) => {
        const poraTarget = 2n ** 240n
        const whole = shardTarget({ poraTarget, flowLength, numShard: 1 })
        const part = shardTarget({ poraTarget, flowLength, numShard: 2 ** bits })
        assert.equal(whole, (poraTarget / U64) << 64n)
        assert.ok(part <= whole)
        const ratio = Number(whole) / Number(part)
        assert.ok(Math.abs(ratio / 2 ** bits - 1) < 0.04, `${ratio} for ${2 ** bits} shards`)
      }),
    )
  })

  it('has no target where nothing can be mined', () => {
    assert.equal(shardTarget({ poraTarget: 0n, flowLength: 5000, numShard: 1 }), 0n)
    assert.equal(shardTarget({ poraTarget: 2n ** 255n, flowLength: 3, numShard: 4 }), 0n)
    assert.equal(hashesPerHit(0n), Number.POSITIVE_INFINITY)
    assert.equal(hashesPerHit(2n ** 256n - 1n), 1)
    assert.equal(hashesPerHit(2n ** 246n - 1n), 1024)
  })
})

describe('when a miner may answer', () => {
  const settings = fc.record({
    subtasks: fc.integer({ min: 1, max: 64 }),
    intervalBlocks: fc.integer({ min: 1, max: 10_000 }),
    windowBlocks: fc.integer({ min: 1, max: 8_191 }),
  })

  // A window is one of the epoch's subtasks, the same for the same id and context, and as long as the contract says.
  it('draws one of the windows of the epoch', () => {
    fc.assert(
      fc.property(hashes, hashes, settings, fc.integer({ min: 0, max: 1e9 }), (digest, minerId, given, mineStart) => {
        const window = subtaskWindow({ digest, minerId, mineStart, settings: given })
        assert.ok(window.index >= 0 && window.index < given.subtasks)
        assert.equal(window.startBlock, mineStart + window.index * given.intervalBlocks)
        assert.equal(window.endBlock - window.startBlock, given.windowBlocks)
        assert.deepEqual(subtaskWindow({ digest, minerId, mineStart, settings: given }), window)
      }),
    )
  })

  // An answer sent at a head lands in a later block: the window is open exactly when the next block is in it.
  it('is open when the next block is in the window', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 300 }), (startBlock, head) => {
        const window = { index: 0, startBlock, endBlock: startBlock + 50 }
        const next = head + 1
        assert.equal(windowOpen(window, head), next > startBlock && next <= startBlock + 50)
      }),
    )
  })

  // Whenever there is nothing to mine the operator is told why.
  it('says why nothing is mined', () => {
    const hash: Hash = `0x${'11'.repeat(32)}`
    const context = {
      ...{ epoch: 4, mineStart: 100, flowRoot: hash, flowLength: 9_000, blockDigest: hash, digest: hash },
    }
    const worker = { context, poraTarget: 2n ** 250n, subtaskDigest: hash, maxShards: 4 }
    const window = { index: 0, startBlock: 110, endBlock: 150 }
    const range = recallRange({ flowLength: 9_000, shard: { shardId: 0, numShard: 1 } })
    const base = { worker, window, range, head: 120, epochEnd: 160, numShard: 1 }
    assert.equal(whyNot(base), undefined)
    assert.match(whyNot({ ...base, range: undefined }) ?? '', /mining begins with 1024/)
    assert.match(whyNot({ ...base, numShard: 8 }) ?? '', /allows 4 shards/)
    assert.match(whyNot({ ...base, head: 105 }) ?? '', /opens after block 110, the chain is at 105/)
    assert.match(whyNot({ ...base, head: 150 }) ?? '', /ends with block 150/)
    const closed = { ...worker, poraTarget: 0n, subtaskDigest: `0x${'00'.repeat(32)}` as Hash }
    assert.match(
      whyNot({ ...base, worker: closed, head: 151 }) ?? '',
      /ended with block 150: waiting for the next epoch, from block 161; the chain is at 151/,
    )
    assert.match(whyNot({ ...base, worker: { ...worker, poraTarget: 0n } }) ?? '', /all the answers it takes/)
    assert.equal(EMPTY_HASH.length, 66)
  })
})
