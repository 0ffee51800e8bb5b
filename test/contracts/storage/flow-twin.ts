import { expect } from 'chai'
import fc from 'fast-check'
import { FlowTree } from '#protocol/storage/flow-tree.ts'
import { nodeHeights, submissionIdentity } from '#protocol/storage/submission.ts'
import { deployStorage, SUBMIT, submissionOf } from './storage-fixture.ts'

// The flow that nodes and clients compute for themselves is the flow on the chain: same places, roots, identities.
describe('Flow and its TypeScript twin', () => {
  it('agree after any sequence of files', async function () {
    this.timeout(120_000)
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: 1, max: 40_000_000 })), {
      minLength: 1,
      maxLength: 12,
    })
    await fc.assert(
      fc.asyncProperty(sizes, fc.string(), async (fileSizes, salt) => {
        const { flow, connection } = await deployStorage({ pricePerSector: 0n })
        const { ethers } = connection
        const [signer] = await ethers.getSigners()
        const twin = new FlowTree()
        for (const [index, sizeBytes] of fileSizes.entries()) {
          const nodes = nodeHeights(sizeBytes).map((height) => ({
            height,
            root: ethers.id(`${salt} ${index} ${height}`) as `0x${string}`,
          }))
          const submission = submissionOf(nodes, signer?.address ?? '', BigInt(sizeBytes))
          const [, identity, startIndex] = await flow[SUBMIT].staticCall(submission)
          await flow[SUBMIT](submission)
          const placement = twin.submit(nodes)
          expect(startIndex, 'start').to.equal(BigInt(placement.startSector))
          expect(identity, 'identity').to.equal(submissionIdentity(nodes))
          expect((await flow.tree())[0], 'length').to.equal(BigInt(twin.lengthSectors))
          expect(await flow.getFlowRootByTxSeq(index), 'root').to.equal(twin.root())
        }
        await connection.close()
      }),
      { numRuns: Math.ceil(Number(process.env.FUZZ_RUNS ?? 64) / 8) },
    )
  })
})
