import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { silentLog } from '#kit/log.ts'
import type { Hash } from '#protocol/hex.ts'
import { toHex } from '#protocol/hex.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import { EpochMirror } from '#storage/miner/chain/epoch-mirror.ts'
import { ChunkMap } from '#storage/miner/store/chunk-map.ts'
import { chunkOf, chunksWithin, EXTENT_CHUNKS, placeOf, segmentOf } from '#storage/miner/store/layout.ts'
import { MinerStore, type RecordedEpoch } from '#storage/miner/store/miner-store.ts'
import { AnswerLog } from '#storage/miner/submit/answer-log.ts'
import { pseudoRandomBytes } from '../storage-node/harness.ts'
import { temporaryFolder } from './harness.ts'

const identity = { chainId: 1, flow: '0xf1', mine: '0x41' }
const ALL = 2n ** 64n - 1n

function digest(seed: number): Hash {
  return toHex(pseudoRandomBytes(32, seed + 1))
}

describe('the sealed store', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let count = 0
  before(async () => {
    folder = await temporaryFolder()
  })
  after(() => folder.remove())

  const open = (shard: ShardConfig = { shardId: 0, numShard: 1 }, dataDir = `${folder.path}/${count++}`) => ({
    dataDir,
    store: new MinerStore({ dataDir, identity, shard }),
  })

  // A seal belongs to the epoch of its last sector: the runs of a chunk are what counting seal by seal gives.
  it('splits a chunk into runs by the epoch of each seal’s last sector', () => {
    const { store } = open()
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 700 }), { minLength: 1, maxLength: 12 }), (lengths) => {
        store.truncateEpochs(0)
        let end = 0
        const epochs = lengths.map((length, index): RecordedEpoch => {
          const start = end
          end += length
          return { index, start, end, digest: digest(index) }
        })
        store.addEpochs(epochs)
        const epochAt = (sector: number) => epochs.find((epoch) => epoch.start <= sector && sector < epoch.end)
        for (let chunk = 0; chunk < 4; chunk++) {
          const wanted = Array.from({ length: 64 }, (_, seal) => epochAt(chunk * 1024 + seal * 16 + 15)?.digest)
          const runs = store.sealRuns(chunk)
          if (wanted.includes(undefined)) {
            assert.equal(runs, undefined)
            continue
          }
          const flat = (runs ?? []).flatMap(({ from, to, digest: of }) => Array.from({ length: to - from }, () => of))
          assert.deepEqual(flat, wanted)
        }
        for (let sector = 0; sector < end + 40; sector += 37) {
          assert.equal(store.digestAt(sector), epochAt(sector)?.digest)
        }
      }),
      { numRuns: 60 },
    )
    store.close()
  })

  // What is entered is there after opening again, seal by seal, and shared with threads through the same memory.
  it('keeps which seals are sealed', () => {
    const { store, dataDir } = open()
    store.addEpochs([{ index: 0, start: 0, end: 10 * 1024, digest: digest(0) }])
    store.markSealed([
      { chunk: 0, held: ALL - 1n },
      { chunk: 7, held: 0xf0n },
    ])
    const view = new ChunkMap(store.map.buffer)
    assert.equal(view.held(7), 0xf0n)
    store.markSealed([{ chunk: 3, held: ALL }])
    assert.equal(view.held(3), ALL, 'a thread sees chunks entered later')
    assert.equal(store.map.sealed, 3)
    store.close()
    const again = open({ shardId: 0, numShard: 1 }, dataDir).store
    assert.deepEqual(
      [0, 1, 3, 7, 9].map((chunk) => again.map.held(chunk)),
      [ALL - 1n, 0n, ALL, 0xf0n, 0n],
    )
    assert.equal(again.map.sealed, 3)
    again.close()
  })

  // When epochs are taken back, every chunk that has a seal of one of them is, and no other.
  it('forgets exactly the chunks that were sealed with epochs taken back', () => {
    const { store } = open()
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 2, maxLength: 8 }),
        fc.nat(),
        (lengths, choice) => {
          store.truncateEpochs(0)
          let end = 0
          const epochs = lengths.map((length, index) => {
            const epoch = { index, start: end, end: end + length, digest: digest(index) }
            end += length
            return epoch
          })
          store.addEpochs(epochs)
          const chunks = Math.floor(end / 1024)
          const held = Array.from({ length: chunks }, (_, chunk) => ({ chunk, held: ALL }))
          store.markSealed(held)
          const generation = store.generation
          const from = choice % lengths.length
          store.truncateEpochs(from)
          assert.ok(store.generation > generation)
          const keptSectors = epochs[from]?.start ?? 0
          for (const { chunk } of held) {
            assert.equal(store.map.held(chunk) !== 0n, (chunk + 1) * 1024 <= keptSectors)
          }
          assert.equal(store.lastEpoch()?.index, from === 0 ? undefined : from - 1)
        },
      ),
      { numRuns: 40 },
    )
    store.close()
  })

  it('refuses the folder of another miner, and says what differs', () => {
    const { store, dataDir } = open()
    store.close()
    const shard = { shardId: 1, numShard: 2 }
    assert.throws(() => new MinerStore({ dataDir, identity, shard }), /0\/1; configured .* 1\/2/)
    assert.throws(
      () => new MinerStore({ dataDir, identity: { ...identity, chainId: 2 }, shard: { shardId: 0, numShard: 1 } }),
      { code: 'MINER_IDENTITY' },
    )
  })

  // Chunks of a shard are numbered without gaps, and no two of them share bytes of a file.
  it('gives every chunk of a shard a place of its own', () => {
    const bits = fc.integer({ min: 0, max: 8 })
    fc.assert(
      fc.property(bits, fc.nat({ max: 2 ** 25 - 1 }), fc.nat(), (power, chunk, id) => {
        const shard = { shardId: id % 2 ** power, numShard: 2 ** power }
        const segment = segmentOf(chunk, shard)
        assert.equal(segment % shard.numShard, shard.shardId)
        assert.equal(chunkOf(segment, shard), chunk)
        const { extent, offset } = placeOf(chunk)
        assert.equal(extent * EXTENT_CHUNKS + offset / 262_144, chunk)
        const sectors = (segment + 1) * 1024
        assert.equal(chunksWithin(sectors, shard), Math.min(chunk + 1, 2 ** 25))
        assert.equal(chunksWithin(sectors - 1, shard), chunk)
      }),
    )
  })

  // Money adds up beyond the size of SQL integers, and refusals are counted by reason, without their arguments.
  it('adds up answers and money', () => {
    const { store, dataDir } = open()
    const answers = new AnswerLog(store)
    const entry = { epoch: 1, contextDigest: digest(1), position: 4096 }
    const big = 10n ** 21n
    answers.add(entry, { outcome: 'accepted', rewardWei: big, gasWei: 7n })
    answers.add(entry, { outcome: 'accepted', rewardWei: big + 1n, gasWei: 5n })
    for (const reason of ['QualityTooLow(1, 2)', 'QualityTooLow(3, 4)', 'EpochFull(20)']) {
      answers.add(entry, { outcome: 'refused', reason })
    }
    const id = answers.add(entry, { outcome: 'sent' })
    answers.addHash(id, digest(8))
    answers.addHash(id, digest(9))
    store.close()
    const again = open({ shardId: 0, numShard: 1 }, dataDir).store
    const { outcomes, refusals, earnedWei, gasWei } = new AnswerLog(again).totals()
    assert.equal(earnedWei, 2n * big + 1n)
    assert.equal(gasWei, 12n)
    assert.deepEqual(
      { accepted: outcomes.accepted, refused: outcomes.refused, sent: outcomes.sent },
      { accepted: 2, refused: 3, sent: 1 },
    )
    assert.deepEqual(
      refusals.map((row) => ({ ...row })),
      [
        { reason: 'QualityTooLow', count: 2 },
        { reason: 'EpochFull', count: 1 },
      ],
    )
    assert.deepEqual(
      new AnswerLog(again).unsettled().map(({ hashes }) => hashes),
      [[digest(8), digest(9)]],
    )
    again.close()
  })

  // However many epochs were added or exchanged on the chain, the mirror holds the chain's after one update.
  it('mirrors the recorded epochs through reorganisations', async () => {
    const { store } = open()
    let chain: RecordedEpoch[] = []
    const contracts = { recordedEpoch: async (index: number) => chain[index] }
    const mirror = new EpochMirror({ store, contracts, log: silentLog() })
    const grow = (from: number, to: number, branch: number): void => {
      chain = chain.slice(0, from)
      for (let index = from; index < to; index++) {
        chain.push({ index, start: index * 1024, end: (index + 1) * 1024, digest: digest(1000 * branch + index) })
      }
    }
    const histories: [number, number, number][] = [
      [0, 1, 1],
      [1, 40, 1],
      [40, 40, 1],
      [33, 50, 2],
      [0, 3, 3],
      [3, 20, 3],
      [19, 19, 3],
    ]
    for (const [from, to, branch] of histories) {
      const before = chain
      grow(from, to, branch)
      const changed = await mirror.update(0)
      assert.equal(changed, JSON.stringify(before) !== JSON.stringify(chain))
      assert.deepEqual(store.lastEpoch(), chain.at(-1))
      for (const epoch of chain) assert.deepEqual(store.epochAt(epoch.index), epoch)
      assert.equal(store.epochAt(chain.length), undefined)
    }
    store.close()
  })
})
