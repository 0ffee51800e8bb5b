import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree, type FileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { verifySegment } from '#protocol/storage/segment-proof.ts'
import { type Network, Signers, seededBytes, startNetwork } from './network.ts'
import { current, legacy, silenceConsole } from './sdk.ts'

const UNKNOWN = `0x${'5a'.repeat(32)}`
const UNKNOWN_SEQ = 1_000_000

/** Every method of the packages' `StorageNode`, on a node and on the front of two shards. */
describe('the storage node of the packages', () => {
  let network: Network
  let signers: Signers
  let speak: () => void

  before(async () => {
    speak = silenceConsole()
    network = await startNetwork({ groups: [['0/1'], ['0/2', '1/2']] })
    signers = new Signers(network.rpcUrl)
  })

  after(async () => {
    signers.close()
    await network.close()
    speak()
  })

  /** Submits a file, waits until the node knows it, and gives its sequence number. */
  async function submit(node: current.StorageNode, data: Uint8Array): Promise<{ tree: FileTree; txSeq: number }> {
    const tree = await buildFileTree({ source: memorySource(data) })
    await signers.use(async (signer) => {
      const [submission] = await new current.MemData(data).createSubmission('0x', signer.address)
      assert.ok(submission)
      const value = current.calculatePrice(submission, BigInt(network.pricePerSector))
      const flow = current.getFlowContract(network.flow, signer as never)
      await (await flow.getFunction('submit').send(submission, { value })).wait()
    })
    const deadline = performance.now() + 10_000
    for (;;) {
      const info = await node.getFileInfo(tree.root, false)
      if (info !== null) return { tree, txSeq: info.tx.seq }
      assert.ok(performance.now() < deadline, 'not logged within 10 s')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  function segment(data: Uint8Array, tree: FileTree, index: number) {
    const part = data.subarray(index * 262_144, (index + 1) * 262_144)
    const padded = Buffer.alloc(Math.ceil(part.length / 256) * 256)
    padded.set(part)
    return { root: tree.root, data: padded.toString('base64'), index, proof: tree.proof(index), fileSize: data.length }
  }

  for (const [sdkNumber, sdk] of [current, legacy].entries()) {
    for (const kind of ['node', 'front'] as const) {
      test(`${sdkNumber === 0 ? '1.2.8' : '0.3.3'} on a ${kind}`, async () => {
        const url = kind === 'node' ? (network.group(0).nodes[0] ?? '') : network.group(1).frontUrl
        const node = new sdk.StorageNode(url)
        const status = await node.getStatus()
        assert.equal(status.networkIdentity.chainId, 31_337)
        assert.equal(status.networkIdentity.flowAddress.toLowerCase(), network.flow.toLowerCase())
        assert.ok(status.logSyncHeight >= 0)
        assert.deepEqual(await node.getShardConfig(), { shardId: 0, numShard: 1 })

        const data = seededBytes(3 * 262_144 + 700, 50 + sdkNumber * 2 + (kind === 'node' ? 0 : 1))
        const { tree, txSeq } = await submit(new current.StorageNode(url), data)
        const before = await node.getFileInfo(tree.root, true)
        assert.equal(before?.finalized, false)
        assert.equal(before?.tx.size, data.length)
        assert.equal(before?.tx.dataMerkleRoot, tree.root)
        assert.equal(await node.downloadSegment(tree.root, 0, 1024), null)

        const part = (index: number) => segment(data, tree, index)
        assert.equal(typeof (await node.uploadSegment(part(0))), 'number')
        assert.equal(typeof (await node.uploadSegments([part(1)])), 'number')
        assert.equal(typeof (await node.uploadSegmentByTxSeq(part(2), txSeq)), 'number')
        assert.equal(typeof (await node.uploadSegmentsByTxSeq([part(2), part(3)], txSeq)), 'number')
        const info = await node.getFileInfoByTxSeq(txSeq)
        assert.equal(info?.finalized, true)
        assert.equal(info?.uploadedSegNum, 4)
        assert.deepEqual(await node.getFileInfo(tree.root, false), info)
        assert.deepEqual(await node.getFileInfo(tree.root.toUpperCase().replace('0X', '0x'), true), info)
        await assert.rejects(
          async () => await node.uploadSegmentsByTxSeq([part(3)], txSeq),
          (error: Error & { data?: string }) =>
            error.message === 'Invalid params: root' && error.data === 'already uploaded and finalized',
        )

        const whole = Buffer.alloc(Math.ceil(data.length / 256) * 256)
        whole.set(data)
        const sectors = whole.length / 256
        for (const [start, end] of [
          [0, 1024],
          [1000, 1030],
          [3 * 1024, sectors],
          [sectors - 1, sectors],
        ] as const) {
          const wanted = whole.subarray(start * 256, end * 256).toString('base64')
          assert.equal(await node.downloadSegment(tree.root, start, end), wanted)
          assert.equal(await node.downloadSegmentByTxSeq(txSeq, start, end), wanted)
        }
        for (const index of [0, 1, 3]) {
          const proven = await node.downloadSegmentWithProof(tree.root, index)
          assert.deepEqual(await node.downloadSegmentWithProofByTxSeq(txSeq, index), proven)
          assert.ok(proven)
          assert.deepEqual(proven, part(index))
          const proof = { lemma: proven.proof.lemma as Hash[], path: proven.proof.path }
          verifySegment({
            root: tree.root,
            sizeBytes: data.length,
            index,
            data: Buffer.from(proven.data, 'base64'),
            proof,
          })
        }

        const sector = (info?.tx.startEntryIndex ?? 0) + 1_500
        const flowProof = await node.getSectorProof(sector, null as never)
        assert.equal(flowProof?.lemma.length, (flowProof?.path.length ?? 0) + 2)
        const root = flowProof?.lemma.at(-1) ?? ''
        assert.deepEqual(await node.getSectorProof(sector, root), flowProof)

        assert.equal(await node.getFileInfo(UNKNOWN, true), null)
        assert.equal(await node.getFileInfo(UNKNOWN, false), null)
        assert.equal(await node.getFileInfoByTxSeq(UNKNOWN_SEQ), null)
        assert.equal(await node.downloadSegment(UNKNOWN, 0, 1), null)
        assert.equal(await node.downloadSegmentByTxSeq(UNKNOWN_SEQ, 0, 1), null)
        assert.equal(await node.downloadSegmentWithProof(UNKNOWN, 0), null)
        assert.equal(await node.downloadSegmentWithProofByTxSeq(UNKNOWN_SEQ, 0), null)
      })
    }
  }
})
