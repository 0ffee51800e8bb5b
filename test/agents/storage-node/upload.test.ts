import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import type { RunningNode } from '#storage/node/main.ts'
import {
  allSegments,
  download,
  finalized,
  framesOf,
  logged,
  makeFile,
  postFrames,
  rpc,
  segmentJson,
  useTestNet,
} from './harness.ts'

const { net, open } = useTestNet()
let node: RunningNode

before(async () => {
  node = await open()
})

const SIZES = [1, 255, 256, 257, 1023, 4096, 4097, 65537, 262143, 262144, 262145, 700000, 1048577, 5000000]

// A file of any size comes back byte for byte, whichever of the two paths it was sent on.
for (const sizeBytes of SIZES) {
  test(`stores and gives back a file of ${sizeBytes} bytes`, async () => {
    for (const path of ['json', 'frames'] as const) {
      const file = await makeFile(sizeBytes, sizeBytes + path.length)
      const seq = await net.submit(file)
      const info = await logged(node.url, seq)
      assert.equal(info.finalized, false)
      assert.equal(info.tx.dataMerkleRoot, file.tree.root)
      assert.deepEqual(
        info.tx.merkleNodes,
        file.tree.nodes.map(({ root, height }) => [height + 1, root]),
      )
      const indexes = allSegments(file)
      if (path === 'json') {
        const segments = indexes.map((index) => segmentJson(file, index))
        assert.equal(await rpc(node.url, 'zgs_uploadSegmentsByTxSeq', segments, seq), indexes.length)
      } else {
        const answer = await postFrames(node.url, seq, framesOf(file, indexes))
        assert.deepEqual(answer, { status: 200, stored: indexes.length, finalized: true })
      }
      const done = await finalized(node.url, seq)
      assert.equal(done.uploadedSegNum, indexes.length)
      const back = await download(node.url, seq, sizeBytes)
      assert.ok(back && Buffer.compare(back, Buffer.from(file.bytes)) === 0, 'the bytes differ')
    }
  })
}
