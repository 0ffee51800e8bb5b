import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { keccak256 } from '#kernels/keccak.ts'
import { foldLevel, foldRoots, hashPair, leafHashes, segmentRoot, ZERO_ROOTS } from '#kernels/merkle.ts'
import { foldLevelTwin, foldRootsTwin, hashPairTwin, leafHashesTwin } from '#kernels/merkle-twin.ts'
import { type MerkleVectors, readVectors, seededBytes } from '../protocol/vectors.ts'

const vectors = readVectors<MerkleVectors>('storage-merkle')
const hex = (bytes: Uint8Array) => `0x${Buffer.from(bytes).toString('hex')}`

describe('merkle kernels', () => {
  it('know the root of every zero subtree', () => {
    assert.deepEqual(ZERO_ROOTS.map(hex), vectors.zeroSubtreeRoots)
  })

  // The kernel and its plain twin agree on any data, any length and any padding.
  it('hash the sectors of any segment as the twin does', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 9000 }),
        fc.integer({ min: 0, max: 5 }),
        fc.nat(),
        (length, extra, seed) => {
          const data = seededBytes(length, seed)
          const padded = Math.max(1, Math.ceil(length / 256) + extra)
          const hashes = leafHashes(data, padded)
          assert.deepEqual(hashes, leafHashesTwin(data, padded))
          assert.deepEqual(segmentRoot(data, padded), foldRootsTwin(hashes))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('hash a full segment as the twin does', () => {
    const data = seededBytes(262144, 3)
    assert.deepEqual(segmentRoot(data, 1024), foldRootsTwin(leafHashesTwin(data, 1024)))
  })

  // A segment without data is a zero subtree, and bytes left by earlier calls do not show.
  it('hash an empty segment to the zero roots', () => {
    segmentRoot(seededBytes(262144, 5), 1024)
    for (let height = 0; height <= 10; height++) {
      assert.deepEqual(segmentRoot(new Uint8Array(0), 2 ** height), ZERO_ROOTS[height])
    }
    assert.deepEqual(segmentRoot(new Uint8Array(1), 1024), ZERO_ROOTS[10])
  })

  // Folding keeps to the shape of the left-full tree for any number of hashes, also past one block of the kernel.
  it('fold any number of hashes as the twin does', () => {
    for (const count of [1, 2, 3, 5, 8, 33, 1000, 16384, 16385, 16387, 33000]) {
      const hashes = seededBytes(count * 32, count)
      assert.deepEqual(foldRoots(hashes), foldRootsTwin(hashes), `${count} hashes`)
      assert.deepEqual(foldLevel(hashes), foldLevelTwin(hashes), `${count} hashes`)
    }
  })

  it('fold the plain trees of the vectors', () => {
    for (const [count, root] of Object.entries(vectors.plainTreeOverShortLeaves.rootByLeafCount)) {
      const leaves = Array.from({ length: Number(count) }, (_, i) => keccak256(Buffer.from(`chunk data - ${i}`)))
      assert.equal(hex(foldRoots(Buffer.concat(leaves))), root, `${count} leaves`)
    }
  })

  it('hash a pair as the twin does', () => {
    const [left, right] = [seededBytes(32, 1), seededBytes(32, 2)]
    assert.deepEqual(hashPair(left, right), hashPairTwin(left, right))
  })

  it('refuse what is no segment and no list of hashes', () => {
    const refused = { code: 'KERNEL_INPUT' }
    assert.throws(() => segmentRoot(new Uint8Array(257), 1), refused)
    assert.throws(() => segmentRoot(new Uint8Array(262145), 1024), refused)
    assert.throws(() => segmentRoot(new Uint8Array(1), 1025), refused)
    assert.throws(() => segmentRoot(new Uint8Array(0), 0), refused)
    assert.throws(() => leafHashes(new Uint8Array(1), 1.5), refused)
    assert.throws(() => foldRoots(new Uint8Array(0)), refused)
    assert.throws(() => foldRoots(new Uint8Array(33)), refused)
    assert.throws(() => foldLevel(new Uint8Array(31)), refused)
    assert.throws(() => hashPair(new Uint8Array(31), new Uint8Array(32)), refused)
  })
})
