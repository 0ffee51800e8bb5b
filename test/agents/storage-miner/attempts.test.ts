import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { padSeedTwin, recallChunkTwin, scratchpadTwin, sealHashTwin } from '#kernels/pora-twin.ts'
import { toHex } from '#protocol/hex.ts'
import { AttemptRunner, BATCH_ATTEMPTS, countBits, findHits } from '#storage/miner/mine/attempts.ts'
import type { MiningTask } from '#storage/miner/mine/mining-task.ts'
import { pseudoRandomBytes, seededRandom } from '../storage-node/harness.ts'

const ALL = 2n ** 64n - 1n

function makeTask(parameters: Partial<MiningTask> = {}): MiningTask {
  return {
    id: 3,
    minerId: pseudoRandomBytes(32, 1),
    subtaskDigest: pseudoRandomBytes(32, 2),
    rangeDigest: pseudoRandomBytes(32, 3),
    target: new Uint8Array(32).fill(0xff),
    mineLength: 4 * 1024,
    shardId: 0n,
    shardMask: ALL,
    numShard: 1,
    ...parameters,
  }
}

/** A sealed copy in memory whose chunk k holds bytes of its own. */
function memoryCopy(held: (chunk: number) => bigint = () => ALL) {
  const reads: number[] = []
  const data = (chunk: number): Uint8Array => pseudoRandomBytes(262_144, 100 + chunk)
  const read = (chunk: number, target: Uint8Array): boolean => {
    reads.push(chunk)
    target.set(data(chunk))
    return true
  }
  return { reads, data, source: { held, read } }
}

describe('attempts', () => {
  // Every hit is what the plain twin computes from the same nonce: the place recalled, the hash, the bytes.
  it('agree with the plain twin', () => {
    const copy = memoryCopy()
    const task = makeTask()
    const { hits, attempts, hashes } = new AttemptRunner(copy.source).run(task)
    assert.equal(attempts, BATCH_ATTEMPTS)
    assert.equal(hashes, BATCH_ATTEMPTS * 64)
    assert.ok(hits.length > 0 && hits.length <= 8, 'hits of one batch are capped')
    for (const { nonce, segment, seal, hash, sealed, taskId } of hits) {
      assert.equal(taskId, task.id)
      const parts = [task.minerId, nonce, task.subtaskDigest, task.rangeDigest]
      const padSeed = padSeedTwin(Uint8Array.from(Buffer.concat(parts)))
      const { pad, recallSeed } = scratchpadTwin(padSeed)
      const chunk = recallChunkTwin({ recallSeed, chunks: 4, shardId: 0n, shardMask: ALL })
      assert.equal(segment, Number(chunk))
      assert.deepEqual(sealed, copy.data(segment).slice(seal * 4096, (seal + 1) * 4096))
      assert.equal(toHex(hash), toHex(sealHashTwin({ sealed, seal, pad, padSeed })))
    }
  })

  // A chunk that several attempts of a batch recall is read once.
  it('read each chunk of a batch once', () => {
    const copy = memoryCopy()
    const result = new AttemptRunner(copy.source).run(makeTask())
    assert.equal(result.reads, copy.reads.length)
    assert.equal(new Set(copy.reads).size, copy.reads.length)
    assert.ok(copy.reads.length <= 4)
  })

  // A miner of a shard reads its own chunks and nothing past the range.
  it('stay in the shard and in the range', () => {
    const copy = memoryCopy()
    // Five segments in two shards: shard 1 owns 1 and 3; drawing 4 gives 5, which is past the end.
    const task = makeTask({ mineLength: 5 * 1024, shardId: 1n, shardMask: ALL - 1n, numShard: 2 })
    const runner = new AttemptRunner(copy.source)
    const results = [0, 1, 2].map(() => runner.run(task))
    for (const { hits } of results) for (const { segment } of hits) assert.ok(segment === 1 || segment === 3)
    assert.deepEqual(new Set(copy.reads), new Set([0, 1]), 'chunks are counted in the shard')
    assert.ok(
      results.some(({ outOfRange }) => outOfRange > 0),
      'segment 5 is drawn now and then',
    )
  })

  // What is not sealed is neither read nor answered with.
  it('pass over what is not sealed', () => {
    const sealed = 0x00f0n
    const copy = memoryCopy((chunk) => (chunk === 2 ? sealed : 0n))
    const runner = new AttemptRunner(copy.source)
    const results = [0, 1, 2, 3].map(() => runner.run(makeTask()))
    assert.deepEqual(new Set(copy.reads), new Set([2]))
    for (const result of results) {
      for (const { segment, seal } of result.hits) assert.ok(segment === 2 && seal >= 4 && seal < 8)
      assert.equal(result.hashes, (BATCH_ATTEMPTS - result.unsealed) * 4)
    }
  })

  it('report a chunk that cannot be read', () => {
    const runner = new AttemptRunner({ held: () => ALL, read: () => false })
    const result = runner.run(makeTask())
    assert.ok(result.unreadable.length > 0)
    assert.equal(result.hashes, 0)
  })

  // Nonces do not repeat, within a batch or from one to the next.
  it('draw nonces that do not repeat', () => {
    const runner = new AttemptRunner(memoryCopy().source)
    const nonces = new Set<string>()
    let hits = 0
    for (let i = 0; i < 4; i++) {
      for (const { nonce, seal } of runner.run(makeTask()).hits) {
        nonces.add(`${toHex(nonce)} ${seal}`)
        hits += 1
      }
    }
    assert.equal(nonces.size, hits)
  })
})

describe('comparing with the target', () => {
  // A seal hits exactly when it is held and its hash as a number is at most the target.
  it('is the comparison of numbers', () => {
    const seed = Date.now() % 100_000
    console.log(`seed ${seed}`)
    const random = seededRandom(seed)
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: ALL }), fc.integer({ min: 0, max: 63 }), (held, chosen) => {
        const hashes = pseudoRandomBytes(64 * 32, Math.floor(random() * 1e9)).slice()
        // Often exactly a hash, so that the edge is met.
        const target = hashes.slice(chosen * 32, (chosen + 1) * 32)
        const limit = BigInt(toHex(target))
        const expected = Array.from({ length: 64 }, (_, i) => i).filter(
          (i) => BigInt(toHex(hashes.subarray(i * 32, (i + 1) * 32))) <= limit && (held >> BigInt(i)) & 1n,
        )
        assert.deepEqual(findHits({ hashes, target, held }), expected)
        assert.equal(countBits(held), [...held.toString(2)].filter((bit) => bit === '1').length)
      }),
      { seed, numRuns: 200 },
    )
  })
})
