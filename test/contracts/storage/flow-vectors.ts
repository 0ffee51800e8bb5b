import { expect } from 'chai'
import { as, deployStorage, EMPTY_HASH, type Node, SUBMIT, submissionOf, vectors } from './storage-fixture.ts'

interface Step {
  startPos: number | string
  paddingSectors: number | string
  lengthAfter: number | string
  unstagedHeight: number
  flowRoot: string
  nodeHeights: number[]
}
interface FlowVectors {
  initial: { currentLength: number; unstagedHeight: number; context: Record<string, number | string> }
  files: (Step & { pattern: string; size: number; identity: string; submissionIndex: number })[]
  synthetic: (Step & { nodeRoots: string[] })[]
}
interface MerkleVectors {
  cases: { pattern: string; size: number; nodes: Node[]; identity: string; paddedChunks: number }[]
}

describe('Flow: reference vectors', () => {
  const flowVectors = vectors<FlowVectors>('storage-flow-root')
  const files = vectors<MerkleVectors>('storage-merkle').cases

  it('starts as the reference does', async () => {
    const { flow } = await deployStorage()
    const { initial } = flowVectors
    const [length, height] = await flow.tree()
    expect(length, 'length').to.equal(initial.currentLength)
    expect(height, 'height').to.equal(initial.unstagedHeight)
    expect(await flow.computeFlowRoot(), 'root').to.equal(`0x${'00'.repeat(32)}`)
    const context = await flow.getContext()
    expect(context.toObject(), 'context').to.deep.equal({
      epoch: 0n,
      mineStart: 0n,
      flowRoot: initial.context.flowRoot,
      flowLength: 1n,
      blockDigest: EMPTY_HASH,
      digest: EMPTY_HASH,
    })
  })

  it('gives every root, place and identity of the reference for files', async () => {
    const fixture = await deployStorage()
    for (const step of flowVectors.files) {
      const file = files.find(({ pattern, size }) => pattern === step.pattern && size === step.size)
      if (file === undefined) throw new Error(`no file vector for ${step.pattern} ${step.size}`)
      await submitAndCompare({ fixture, step, nodes: file.nodes, length: BigInt(step.size) })
    }
    expect(await fixture.flow.submissionIndex()).to.equal(flowVectors.files.length)
  })

  it('gives every root and place of the reference for synthetic nodes, up to height 33', async () => {
    // Fees are left out: a node of height 33 alone spans 256 pools.
    const fixture = await deployStorage({ pricePerSector: 0n })
    for (const step of flowVectors.synthetic) {
      const nodes = step.nodeHeights.map((height, index) => ({ height, root: step.nodeRoots[index] ?? '' }))
      await submitAndCompare({ fixture, step, nodes })
    }
  })

  it('accepts every file of the reference, at its fee, with its identity', async () => {
    const { flow, connection, pricePerSector } = await deployStorage()
    const [, payer] = await connection.ethers.getSigners()
    if (payer === undefined) throw new Error('no account')
    expect(files).to.have.length(39)
    for (const file of files) {
      const sectors = file.nodes.reduce((sum, { height }) => sum + 2 ** Number(height), 0)
      expect(sectors, `${file.size} bytes: sectors`).to.equal(file.paddedChunks)
      const submission = submissionOf(file.nodes, payer.address, BigInt(file.size))
      await expect(as(flow, payer)[SUBMIT](submission, { value: pricePerSector * BigInt(sectors) }))
        .to.emit(flow, 'Submit')
        .withArgs(
          payer.address,
          file.identity,
          (x: bigint) => x >= 0n,
          (x: bigint) => x > 0n,
          sectors,
          () => true,
        )
    }
  })
})

async function submitAndCompare({
  fixture,
  step,
  nodes,
  length,
}: {
  fixture: Awaited<ReturnType<typeof deployStorage>>
  step: Step & { identity?: string }
  nodes: Node[]
  length?: bigint
}): Promise<void> {
  const { flow, connection, pricePerSector } = fixture
  const [signer] = await connection.ethers.getSigners()
  const submission = submissionOf(nodes, signer?.address ?? '', length)
  const value = nodes.reduce((sum, { height }) => sum + 2n ** BigInt(height), 0n) * pricePerSector
  const before = (await flow.tree())[0]
  const [index, identity, startIndex] = await flow[SUBMIT].staticCall(submission, { value })
  await flow[SUBMIT](submission, { value })
  const label = `submission ${index}`
  if (step.identity !== undefined) expect(identity, `${label}: identity`).to.equal(step.identity)
  expect(startIndex, `${label}: start`).to.equal(BigInt(step.startPos))
  expect(startIndex - before, `${label}: padding`).to.equal(BigInt(step.paddingSectors))
  const [after, height] = await flow.tree()
  expect(after, `${label}: length`).to.equal(BigInt(step.lengthAfter))
  expect(height, `${label}: height`).to.equal(step.unstagedHeight)
  expect(await flow.computeFlowRoot(), `${label}: root`).to.equal(step.flowRoot)
  expect(await flow.getFlowRootByTxSeq(index), `${label}: stored root`).to.equal(step.flowRoot)
}
