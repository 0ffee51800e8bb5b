import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { foldRoots, segmentRoot, ZERO_ROOTS } from '#kernels/merkle.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import { buildFileTree, type FileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { paddedSegmentCount, segmentCount, segmentDataBytes } from '#protocol/storage/padding.ts'
import { type SegmentProof, verifySegment, verifySegmentRoot } from '#protocol/storage/segment-proof.ts'
import { seededBytes, sevenBytes } from '../vectors.ts'

const SEGMENT = 262144

/** Segment `index` as on the wire. */
function wire(data: Uint8Array, index: number): Uint8Array {
  const bytes = new Uint8Array(segmentDataBytes(data.length, index))
  bytes.set(data.subarray(index * SEGMENT, (index + 1) * SEGMENT))
  return bytes
}

const build = (data: Uint8Array) => buildFileTree({ source: memorySource(data), hasher: 'this-thread' })

describe('segment proof', () => {
  // Every segment of every file proves itself, whatever the shape of the tree.
  it('of every segment is accepted', async () => {
    for (const size of [1, 255, 4097, 262144, 262145, 300_000, 700_000, 1_048_577, 5_000_000, 9_000_001]) {
      const data = seededBytes(size, size)
      const tree = await build(data)
      for (let index = 0; index < segmentCount(size); index++) {
        const proof = tree.proof(index)
        verifySegment({ root: tree.root, sizeBytes: size, index, data: wire(data, index), proof })
      }
    }
  })

  it('has the shape of the example in the specification', async () => {
    const data = sevenBytes(700_000)
    const tree = await build(data)
    const { root } = tree
    const seg0 = '0x17476eb4bcf7cb983bd77d6df183b40028685f17a2632e89e7c9a45da9f70487'
    const seg2 = '0xe826aec20fe1f8955f41a4f2a9bd7a4dc53ad950d060d700a62372e6c8060df5'
    const left = '0xf07449330eef9fe210d339dcf4f495bd0490606ddfb56a2e1996cc67dfde53d4'
    assert.deepEqual(tree.proof(0), { lemma: [seg0, seg0, seg2, root], path: [true, true] })
    assert.deepEqual(tree.proof(1), { lemma: [seg0, seg0, seg2, root], path: [false, true] })
    assert.deepEqual(tree.proof(2), { lemma: [seg2, left, root], path: [false] })
  })

  it('has the path lengths of the specification', async () => {
    const lengths = async (size: number) => {
      const tree = await build(seededBytes(size))
      return Array.from({ length: segmentCount(size) }, (_, i) => tree.proof(i).path.length)
    }
    assert.deepEqual(await lengths(1_048_577), [3, 3, 3, 3, 1])
    assert.deepEqual(await lengths(5_000_000), [...Array<number>(16).fill(5), ...Array<number>(4).fill(3)])
  })
})

describe('segment verification', () => {
  const sizeBytes = 1_400_001 // six segments of data
  const data = seededBytes(sizeBytes, 77)
  let tree: FileTree
  before(async () => {
    tree = await build(data)
  })
  const good = (index: number) => {
    const proof = tree.proof(index)
    return { root: tree.root, sizeBytes, index, data: wire(data, index), proof }
  }

  // Nothing about a segment can change without being noticed: any bit of data, of the lemma or of the root.
  it('rejects any flipped bit', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5 }),
        fc.nat(),
        fc.constantFrom('data', 'lemma', 'path', 'root'),
        (index, at, what) => {
          const segment = good(index)
          const flipHex = (hash: Hash): Hash => {
            const digits = [...hash.slice(2)]
            const digit = at % 64
            digits[digit] = (Number.parseInt(digits[digit] ?? '0', 16) ^ (1 << (at % 4))).toString(16)
            return `0x${digits.join('')}`
          }
          if (what === 'data') {
            const byte = at % segment.data.length
            segment.data[byte] = (segment.data[byte] ?? 0) ^ (1 << (at % 8))
          } else if (what === 'root') {
            segment.root = flipHex(segment.root)
          } else if (what === 'lemma') {
            const i = at % segment.proof.lemma.length
            segment.proof.lemma[i] = flipHex(segment.proof.lemma[i] ?? '0x')
          } else {
            const i = at % segment.proof.path.length
            segment.proof.path[i] = !segment.proof.path[i]
          }
          assert.throws(() => verifySegment(segment), { name: 'InvalidSegmentError', code: 'SEGMENT_PROOF' })
        },
      ),
      { numRuns: 120 },
    )
  })

  it('rejects a segment at the place of another', () => {
    for (let index = 0; index < 5; index++) {
      assert.throws(() => verifySegment({ ...good(index), index: index === 4 ? 3 : index + 1 }), {
        code: 'SEGMENT_PROOF',
      })
    }
  })

  it('rejects an index past the data, checked first', () => {
    assert.throws(() => verifySegment({ ...good(5), index: 6, data: new Uint8Array(1) }), { code: 'SEGMENT_INDEX' })
    assert.throws(() => verifySegment({ ...good(5), index: -1 }), { code: 'SEGMENT_INDEX' })
    assert.throws(() => verifySegment({ ...good(5), index: 0.5 }), { code: 'SEGMENT_INDEX' })
  })

  it('rejects any other length, checked second', () => {
    const empty: SegmentProof = { lemma: [], path: [] }
    for (const bytes of [0, 256, SEGMENT - 256, SEGMENT + 256]) {
      const segment = { ...good(0), data: new Uint8Array(bytes), proof: empty }
      assert.throws(() => verifySegment(segment), { code: 'SEGMENT_LENGTH' })
    }
    // the last segment is its own sectors, neither the plain bytes nor a full segment
    for (const bytes of [sizeBytes % SEGMENT, SEGMENT]) {
      assert.throws(() => verifySegment({ ...good(5), data: new Uint8Array(bytes) }), { code: 'SEGMENT_LENGTH' })
    }
  })

  it('rejects a misshapen proof, checked third', () => {
    const { lemma, path } = tree.proof(0)
    const shapes: SegmentProof[] = [
      { lemma: [], path: [] },
      { lemma: lemma.slice(1), path },
      { lemma: [...lemma, ...lemma.slice(-1)], path },
      { lemma, path: [] },
      { lemma: Array<Hash>(42).fill(tree.root), path: Array<boolean>(40).fill(true) },
      { lemma: lemma.map((hash, i) => (i === 1 ? '0x1234' : hash)), path },
    ]
    for (const proof of shapes) {
      assert.throws(() => verifySegment({ ...good(0), proof }), { code: 'SEGMENT_PROOF_SHAPE' })
    }
  })

  // A proof that hashes up correctly in a tree of another shape is still refused.
  it('rejects a proof longer or shorter than the tree is high', () => {
    const one = seededBytes(1000)
    const root = segmentRoot(one, 4)
    const above = foldRoots(Buffer.concat([root, root]))
    const proof: SegmentProof = { lemma: [toHex(root), toHex(root), toHex(above)], path: [true] }
    assert.throws(
      () => verifySegmentRoot({ root: toHex(above), sizeBytes: 1000, index: 0, segmentRoot: root, proof }),
      { code: 'SEGMENT_PROOF' },
    )
  })

  // An uploader must not plant data in the padding: siblings wholly past the data are zero subtrees.
  it('rejects anything but zeros in the padding', () => {
    const planted = 9_000_001 // 35 segments of data, 36 padded
    assert.equal(paddedSegmentCount(planted) - segmentCount(planted), 1)
    const bytes = seededBytes(planted, 4)
    const roots = Array.from({ length: 35 }, (_, i) =>
      segmentRoot(bytes.subarray(i * SEGMENT, (i + 1) * SEGMENT), 1024),
    )
    const check = (last: Uint8Array) => {
      const all = Buffer.concat([...roots, last])
      const root = toHex(foldRoots(all))
      const left = toHex(foldRoots(all.subarray(0, 32 * 32)))
      const middle = toHex(foldRoots(all.subarray(32 * 32, 34 * 32)))
      const own = roots[34] ?? new Uint8Array(0)
      const proof: SegmentProof = { lemma: [toHex(own), toHex(last), middle, left, root], path: [true, false, false] }
      verifySegmentRoot({ root, sizeBytes: planted, index: 34, segmentRoot: own, proof })
    }
    check(ZERO_ROOTS[10] ?? new Uint8Array(0))
    assert.throws(() => check(segmentRoot(seededBytes(SEGMENT, 5), 1024)), { code: 'SEGMENT_PADDING' })
  })
})
