import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { keccak256 } from '#kernels/keccak.ts'
import { foldRoots, ZERO_ROOTS } from '#kernels/merkle.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { buildFileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { FlowTree, placeSubmission } from '#protocol/storage/flow-tree.ts'
import { nodeHeights, type SubmissionNode, submissionIdentity } from '#protocol/storage/submission.ts'
import { type FlowStep, type FlowVectors, patternBytes, readVectors } from '../vectors.ts'

const vectors = readVectors<FlowVectors>('storage-flow-root')
const hashOf = (text: string): Hash => toHex(keccak256(new TextEncoder().encode(text)))

async function nodesOf({ pattern, size, nodeHeights: heights, nodeRoots }: FlowStep): Promise<SubmissionNode[]> {
  if (nodeRoots) return nodeRoots.map((root, i) => ({ root, height: heights[i] ?? 0 }))
  assert.ok(pattern && size)
  const { nodes } = await buildFileTree({
    source: memorySource(patternBytes({ pattern, size })),
    hasher: 'this-thread',
  })
  return nodes
}

/** The flow root from scratch: every leaf written down, then folded. */
function plainRoot(leaves: Uint8Array[]): Hash {
  const depth = Math.ceil(Math.log2(leaves.length))
  const zero = ZERO_ROOTS[0] ?? new Uint8Array(0)
  const filled = [...leaves, ...Array<Uint8Array>(2 ** depth - leaves.length).fill(zero)]
  return toHex(foldRoots(Buffer.concat(filled)))
}

describe('flow tree', () => {
  for (const list of ['files', 'synthetic'] as const) {
    it(`has the place and root of every submission in the vectors (${list})`, async () => {
      const flow = new FlowTree()
      for (const [i, step] of vectors[list].entries()) {
        const nodes = await nodesOf(step)
        const before = flow.lengthSectors
        const { startSector, endSector, paddingSectors } = flow.submit(nodes)
        const label = `${list} ${i}`
        assert.equal(startSector, step.startPos, label)
        assert.equal(paddingSectors, step.paddingSectors, label)
        assert.equal(startSector, before + paddingSectors, label)
        assert.equal(endSector, step.lengthAfter, label)
        assert.equal(flow.lengthSectors, step.lengthAfter, label)
        assert.equal(flow.root(), step.flowRoot, label)
        if (step.identity) assert.equal(submissionIdentity(nodes), step.identity, label)
      }
    })
  }

  it('knows all 26 submissions of the vectors', () => {
    assert.equal(vectors.files.length + vectors.synthetic.length, 26)
  })

  it('begins with one reserved sector', () => {
    const flow = new FlowTree()
    assert.equal(flow.lengthSectors, 1)
    assert.equal(flow.root(), `0x${'00'.repeat(32)}`)
  })

  // The counter gives the root of the tree written out in full, after every submission of any history.
  it('has the root of the full tree', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40_000 }), { maxLength: 8 }), (sizes) => {
        const flow = new FlowTree()
        const leaves: Uint8Array[] = [new Uint8Array(32)]
        for (const [i, sizeBytes] of sizes.entries()) {
          const nodes = nodeHeights(sizeBytes).map((height, j) => {
            const own = Array.from({ length: 2 ** height }, (_, k) => fromHex(hashOf(`${i} ${j} ${k}`)))
            return { height, own, root: toHex(foldRoots(Buffer.concat(own))) }
          })
          const { startSector } = flow.submit(nodes)
          while (leaves.length < startSector) leaves.push(ZERO_ROOTS[0] ?? new Uint8Array(0))
          for (const { own } of nodes) leaves.push(...own)
          assert.equal(flow.lengthSectors, leaves.length)
          assert.equal(flow.root(), plainRoot(leaves))
        }
      }),
      { numRuns: 25 },
    )
  })

  // A file lies inside one segment or begins at a segment boundary; nodes lie aligned; nothing overlaps.
  it('places submissions aligned and never astride a segment', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.integer({ min: 1, max: 2 ** 34 }),
        (lengthSectors, sizeBytes) => {
          const heights = nodeHeights(sizeBytes)
          const { startSector, endSector, paddingSectors } = placeSubmission({ lengthSectors, heights })
          const sectors = heights.reduce((sum, height) => sum + 2 ** height, 0)
          assert.ok(startSector >= lengthSectors)
          assert.equal(paddingSectors, startSector - lengthSectors)
          assert.equal(endSector, startSector + sectors)
          assert.equal(startSector % 2 ** (heights[0] ?? 0), 0)
          const inOne = Math.floor(startSector / 1024) === Math.floor((endSector - 1) / 1024)
          assert.ok(inOne || startSector % 1024 === 0)
          assert.ok(paddingSectors < Math.max(1024, 2 ** (heights[0] ?? 0)))
        },
      ),
    )
  })

  // A reorganisation takes the flow back: restored from a snapshot it goes on as if nothing had been added.
  it('goes on from a snapshot as from the tree it was taken of', () => {
    const flow = new FlowTree()
    const snapshots = [flow.snapshot()]
    const roots = [flow.root()]
    for (let i = 0; i < 40; i++) {
      flow.submit(nodeHeights(1 + i * 9000).map((height) => ({ height, root: hashOf(`node ${i} ${height}`) })))
      snapshots.push(flow.snapshot())
      roots.push(flow.root())
    }
    for (const [i, snapshot] of snapshots.entries()) {
      const restored = FlowTree.restore(JSON.parse(JSON.stringify(snapshot)))
      assert.equal(restored.root(), roots[i])
      if (i === 40) continue
      restored.submit(nodeHeights(1 + i * 9000).map((height) => ({ height, root: hashOf(`node ${i} ${height}`) })))
      assert.equal(restored.root(), roots[i + 1])
    }
  })

  it('refuses what cannot be', () => {
    const flow = new FlowTree()
    assert.throws(() => flow.append({ root: hashOf('x'), height: 1 }), { code: 'FLOW_ALIGNMENT' })
    assert.throws(() => flow.append({ root: '0x12', height: 0 }), { code: 'INVALID_HEX' })
    assert.throws(() => placeSubmission({ lengthSectors: 1, heights: [53] }), { code: 'FLOW_TOO_LONG' })
    assert.throws(() => FlowTree.restore({ lengthSectors: 3, branches: [] }), { code: 'FLOW_SNAPSHOT' })
    assert.throws(() => FlowTree.restore({ lengthSectors: 0, branches: [] }), { code: 'FLOW_SNAPSHOT' })
    assert.throws(() => FlowTree.restore({ lengthSectors: Number.POSITIVE_INFINITY, branches: [] }), {
      code: 'FLOW_SNAPSHOT',
    })
    assert.equal(flow.root(), new FlowTree().root())
  })
})
