import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { toHex } from '#protocol/hex.ts'
import { buildFileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { paddedSectors, paddedSegmentCount, sectorCount, segmentCount } from '#protocol/storage/padding.ts'
import { nodeHeights, submissionIdentity, submissionIsFile, submissionRoot } from '#protocol/storage/submission.ts'
import { type MerkleVectors, patternBytes, readVectors, sevenBytes } from '../vectors.ts'

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
