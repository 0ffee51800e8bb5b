import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MemData } from '@0gfoundation/0g-ts-sdk'
import { MerklePool } from '#kernels/merkle-pool.ts'
import { toHex } from '#protocol/hex.ts'
import { type ByteSource, buildFileTree, FileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { paddedSectors, paddedSegmentCount, sectorCount, segmentCount } from '#protocol/storage/padding.ts'
import { nodeHeights, submissionIdentity, submissionIsFile, submissionRoot } from '#protocol/storage/submission.ts'
import { type MerkleVectors, patternBytes, readVectors, seededBytes, sevenBytes } from '../vectors.ts'

const vectors = readVectors<MerkleVectors>('storage-merkle')

/** storage-node §1.3: size, root, heights of the nodes. */
const TABLE: [number, string, number[]][] = [
  [1, '0x456984731866bd0928c2a0efc98f95f88930b7fadef782801f1de640cf131a21', [0]],
  [256, '0x24d39064d9ccda29bf9fa965f0f8e43c5ae0cb074dc400f928a6ea22d1e9cd2f', [0]],
  [257, '0xf4f10066c19017fc1efc1426431ae0c9161d7fdb0390d4c74fabd8735c86b633', [1]],
  [1000, '0x9c966074c548aca3ea81f05d66972502ef75f9838527d5626393e13de08686a4', [2]],
  [4096, '0x91f0b2ebf67f6fd4626654ea6ad161e83370501badcfd1a033d7387e5770c245', [4]],
  [4097, '0x2f7533edf5184d12ea888c23d3fb46cad7a89add7ce3d0f78cf34e444427bfc7', [4, 1]],
  [65537, '0xd8471f823354e818c526cc7135ac47df6dcaae08d47f8de6b49c832e040005b9', [8, 5]],
  [262144, '0x17476eb4bcf7cb983bd77d6df183b40028685f17a2632e89e7c9a45da9f70487', [10]],
  [262145, '0xed7540c65d644bbbc83792c08b489183de35d57fa96cf3fd4a4dbe9baadd8223', [10, 7]],
  [700000, '0xa8533d397d0624a1a34177370d70f1c3f64c0617fabd9f05d57e5828abf2d946', [11, 9, 8]],
  [1048577, '0x88a1647a8b16acdcab3ea2699bafe500631d4d2d1ccb1d1bbc3120b50acf0ece', [12, 9]],
  [5000000, '0x4a94e00564b81eaf39a1dfaa8e6808f3181bc4cc14c7936a641c7906797ccf28', [14, 12]],
]

describe('file tree', () => {
  it('has the root, nodes, identity and sizes of every vector', async () => {
    for (const wanted of vectors.cases) {
      const tree = await buildFileTree({ source: memorySource(patternBytes(wanted)), hasher: 'this-thread' })
      const label = `${wanted.pattern} ${wanted.size}`
      assert.equal(tree.root, wanted.root, label)
      assert.deepEqual(
        tree.nodes,
        wanted.nodes.map(({ root, height }) => ({ root, height })),
        label,
      )
      assert.equal(submissionRoot(tree.nodes), wanted.root, label)
      assert.equal(submissionIdentity(tree.nodes), wanted.identity, label)
      assert.equal(submissionIsFile({ sizeBytes: wanted.size, nodes: tree.nodes }), true, label)
      assert.equal(sectorCount(wanted.size), wanted.chunks, label)
      assert.equal(paddedSectors(wanted.size), wanted.paddedChunks, label)
      assert.equal(segmentCount(wanted.size), wanted.segmentsData, label)
      assert.equal(paddedSegmentCount(wanted.size), wanted.segmentsPadded, label)
    }
    assert.equal(vectors.cases.length, 39)
  })
  it('proves the last segment as every vector does', async () => {
    const proved = vectors.cases.filter(({ proofOfLastSegment }) => proofOfLastSegment)
    for (const wanted of proved) {
      const tree = await buildFileTree({ source: memorySource(patternBytes(wanted)), hasher: 'this-thread' })
      assert.deepEqual(tree.proof(wanted.segmentsPadded - 1), wanted.proofOfLastSegment, `size ${wanted.size}`)
      assert.equal(toHex(tree.segmentRoots), `0x${wanted.segmentRoots?.map((root) => root.slice(2)).join('')}`)
    }
    assert.equal(proved.length, 9)
  })
  it('has the root and heights of the table in the specification', async () => {
    for (const [size, root, heights] of TABLE) {
      const tree = await buildFileTree({ source: memorySource(sevenBytes(size)), hasher: 'this-thread' })
      assert.equal(tree.root, root, `size ${size}`)
      assert.deepEqual(nodeHeights(size), heights, `size ${size}`)
    }
  })
  it('splits every chunk count of the vectors into the same heights', () => {
    for (const [chunks, heights] of Object.entries(vectors.nodeHeightsByChunkCount)) {
      assert.deepEqual(nodeHeights(Number(chunks) * 256), heights, `${chunks} chunks`)
    }
  })
})

describe('file tree of 0g-ts-sdk', () => {
  // Files written by 0G's client and by ours are the same files: root, nodes and proofs agree.
  it('is the same', async () => {
    for (const size of [1, 256, 5000, 262_144, 300_001, 1_100_000]) {
      const data = seededBytes(size, size)
      const file = new MemData(data)
      const [theirs] = await file.merkleTree()
      const [submission] = await file.createSubmission('0x', '0x0000000000000000000000000000000000000001')
      const tree = await buildFileTree({ source: memorySource(data), hasher: 'this-thread' })
      assert.equal(tree.root, theirs?.rootHash(), `size ${size}`)
      const nodes = submission?.data.nodes.map(({ root, height }) => ({ root, height: Number(height) }))
      assert.deepEqual(tree.nodes, nodes, `size ${size}`)
      for (let i = 0; i < Math.ceil(size / 262_144); i++) {
        const { lemma, path } = theirs?.proofAt(i) ?? { lemma: [], path: [] }
        assert.deepEqual(tree.proof(i), { lemma, path }, `size ${size}, segment ${i}`)
      }
    }
  })
})

describe('buildFileTree', () => {
  const sizeBytes = 9_000_001
  const data = seededBytes(sizeBytes, 8)

  it('gives the same tree on threads, with either way of reading', async () => {
    const pool = await MerklePool.create({ workers: 2 })
    try {
      const wanted = await buildFileTree({ source: memorySource(data), hasher: 'this-thread' })
      const { read } = memorySource(data)
      for (const hasher of [pool, undefined]) {
        for (const source of [memorySource(data), { sizeBytes, read }]) {
          const tree = await buildFileTree({ source, hasher })
          assert.equal(tree.root, wanted.root)
          assert.deepEqual(tree.nodes, wanted.nodes)
          assert.deepEqual(tree.segmentRoots, wanted.segmentRoots)
        }
      }
    } finally {
      await pool.close()
    }
  })

  // Memory stays flat: no more blocks are read ahead than the pool has slots.
  it('reads ahead no further than the slots of the pool', async () => {
    const pool = await MerklePool.create({ workers: 1 })
    try {
      let open = 0
      let most = 0
      const source: ByteSource = {
        sizeBytes,
        read: () => Promise.reject(new Error('not used')),
        readInto: async ({ offset, target }) => {
          most = Math.max(most, ++open)
          await new Promise((resolve) => setImmediate(resolve))
          target.set(data.subarray(offset, offset + target.length))
          open--
          return target.length
        },
      }
      await buildFileTree({ source, hasher: pool })
      assert.ok(most <= 2, `${most} blocks at once`)
    } finally {
      await pool.close()
    }
  })

  it('reports progress up to the whole file', async () => {
    for (const hasher of ['this-thread', undefined] as const) {
      const seen: number[] = []
      await buildFileTree({
        source: memorySource(data),
        hasher,
        onProgress: ({ hashedBytes }) => seen.push(hashedBytes),
      })
      assert.equal(seen.length, 9)
      assert.deepEqual(
        seen,
        [...seen].sort((a, b) => a - b),
      )
      assert.equal(seen.at(-1), sizeBytes)
    }
  })

  // An abort or a failing source ends the work with its reason, and the pool stays usable.
  it('stops on abort and on a source that fails', async () => {
    const pool = await MerklePool.create({ workers: 2 })
    try {
      for (const hasher of ['this-thread', pool] as const) {
        const abort = new AbortController()
        const building = buildFileTree({
          source: memorySource(data),
          hasher,
          signal: abort.signal,
          onProgress: () => abort.abort(new Error('enough')),
        })
        await assert.rejects(building, { message: 'enough' })
        await assert.rejects(buildFileTree({ source: memorySource(data), hasher, signal: AbortSignal.abort() }), {
          name: 'AbortError',
        })
        const failing: ByteSource = {
          sizeBytes,
          read: async ({ offset, length }) => {
            if (offset > 3_000_000) throw new Error('disk on fire')
            return data.subarray(offset, offset + length)
          },
        }
        await assert.rejects(buildFileTree({ source: failing, hasher }), { message: 'disk on fire' })
        const short = { ...memorySource(data.subarray(0, sizeBytes - 1)), sizeBytes }
        await assert.rejects(buildFileTree({ source: short, hasher }), { code: 'SOURCE_SHORT' })
      }
      const tree = await buildFileTree({ source: memorySource(data), hasher: pool })
      assert.equal(tree.root, (await buildFileTree({ source: memorySource(data), hasher: 'this-thread' })).root)
    } finally {
      await pool.close()
    }
  })

  it('serves several files at once on one pool', async () => {
    const pool = await MerklePool.create({ workers: 2 })
    try {
      const files = [1, 2, 3].map((seed) => seededBytes(3_000_000 + seed, seed))
      const trees = await Promise.all(files.map((file) => buildFileTree({ source: memorySource(file), hasher: pool })))
      for (const [i, file] of files.entries()) {
        const alone = await buildFileTree({ source: memorySource(file), hasher: 'this-thread' })
        assert.equal(trees[i]?.root, alone.root)
      }
    } finally {
      await pool.close()
    }
  })

  // A pool that is closed under the work ends it with its reason; nothing is left unhandled.
  it('stops when the pool is closed', async () => {
    const pool = await MerklePool.create({ workers: 1 })
    const building = buildFileTree({ source: memorySource(data), hasher: pool, onProgress: () => void pool.close() })
    await assert.rejects(building, { code: 'KERNEL_POOL_CLOSED' })
  })

  it('refuses an empty source', async () => {
    await assert.rejects(buildFileTree({ source: memorySource(new Uint8Array(0)) }), { code: 'FILE_EMPTY' })
  })
})

describe('FileTree', () => {
  // A node that keeps segment roots can serve proofs without the file.
  it('can be made of segment roots alone', async () => {
    const tree = await buildFileTree({ source: memorySource(seededBytes(700_000)), hasher: 'this-thread' })
    const again = new FileTree({ sizeBytes: 700_000, segmentRoots: tree.segmentRoots, nodes: tree.nodes })
    assert.equal(again.root, tree.root)
    assert.deepEqual(again.proof(2), tree.proof(2))
    assert.throws(() => again.proof(3), { code: 'SEGMENT_INDEX' })
    const short = { sizeBytes: 700_000, segmentRoots: new Uint8Array(64), nodes: tree.nodes }
    assert.throws(() => new FileTree(short), { code: 'FILE_TREE' })
  })
})
