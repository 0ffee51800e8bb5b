import assert from 'node:assert/strict'
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { buildFileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { nextOwnedSegment, replicaCount, selectNodes, shardOwns } from '#protocol/storage/shard.ts'
import { seededBytes } from './network.ts'
import { current, legacy, silenceConsole } from './sdk.ts'

const SIZES = [1, 255, 256, 257, 1023, 4096, 4097, 65_537, 262_143, 262_144, 262_145, 700_000, 1_048_577, 256 * 960]

/** The packages and we agree on what a file's root, its nodes on chain and its proofs are. */
describe('files as the packages see them', () => {
  let folder: string
  let speak: () => void

  before(async () => {
    speak = silenceConsole()
    folder = await mkdtemp(join(tmpdir(), 'weightless-compat-'))
  })

  after(async () => {
    await rm(folder, { recursive: true, force: true })
    speak()
  })

  for (const sizeBytes of SIZES) {
    test(`${sizeBytes} bytes: root, submission and proofs`, async () => {
      const data = seededBytes(sizeBytes, sizeBytes)
      const ours = await buildFileTree({ source: memorySource(data) })
      for (const sdk of [current, legacy]) {
        const file = new sdk.MemData(data)
        const [tree] = await file.merkleTree()
        assert.ok(tree)
        assert.equal(tree.rootHash(), ours.root)
        const segments = ours.segmentRoots.length / 32
        for (let index = 0; index < segments; index += 1) {
          const proof: { lemma: string[]; path: boolean[] } = tree.proofAt(index)
          assert.deepEqual({ lemma: proof.lemma, path: proof.path }, ours.proof(index))
          const segmentRoot = `0x${Buffer.from(ours.segmentRoots.subarray(index * 32, index * 32 + 32)).toString('hex')}`
          const { lemma, path } = ours.proof(index)
          const given = new sdk.Proof(lemma, path)
          // One leaf alone has no position to prove in the packages' eyes.
          if (segments > 1) assert.equal(given.validateHash(ours.root, segmentRoot, index, segments), null)
        }
      }
      const [submission] = await new current.MemData(data).createSubmission('0x', `0x${'11'.repeat(20)}`)
      const inner = submission?.data as { length: number; nodes: { root: string; height: number }[] }
      assert.equal(Number(inner.length), sizeBytes)
      assert.deepEqual(
        inner.nodes.map(({ root, height }) => ({ root, height: Number(height) })),
        ours.nodes,
      )
      const [old] = await new legacy.MemData(data).createSubmission('0x')
      assert.equal(Number(old?.length), sizeBytes)
      assert.deepEqual(
        old?.nodes.map(({ root, height }) => ({ root, height: Number(height) })),
        ours.nodes,
      )
    })
  }

  test('a path, an open file and a blob are the same file', async () => {
    const data = seededBytes(300_001, 3)
    const path = join(folder, 'file')
    await writeFile(path, data)
    const { root } = await buildFileTree({ source: memorySource(data) })
    for (const sdk of [current, legacy]) {
      const byPath = await sdk.ZgFile.fromFilePath(path)
      const handle = await open(path)
      const byHandle = await sdk.ZgFile.fromNodeFileHandle(handle)
      const blob = new sdk.Blob(new File([data as Uint8Array<ArrayBuffer>], 'file'))
      for (const file of [byPath, byHandle, blob]) {
        const [tree] = await file.merkleTree()
        assert.equal(tree?.rootHash(), root)
      }
      await byPath.close()
      await handle.close()
    }
  })

  test('the packages choose and use nodes by our shards as we do', () => {
    const shards = [
      [0, 1],
      [0, 2],
      [1, 2],
      [0, 4],
      [1, 4],
      [2, 4],
      [3, 4],
    ].map(([shardId = 0, numShard = 1]) => ({ shardId, numShard }))
    const nodes = shards.map((config, i) => ({ url: `http://node-${i}`, config, latency: 1, since: 1 }))
    for (let subset = 0; subset < 2 ** nodes.length; subset += 1) {
      const some = nodes.filter((_, i) => (subset >> i) & 1)
      for (const replicas of [1, 2, 3]) {
        const [theirs, found] = current.selectNodes(some, replicas, 'min')
        const mine = selectNodes({ nodes: some, replicas, method: 'min' })
        assert.equal(found, mine !== undefined)
        assert.deepEqual(theirs, mine ?? [])
        assert.equal(
          current.checkReplica(
            some.map(({ config }) => config),
            replicas,
          ),
          replicaCount(some.map(({ config }) => config)) >= replicas,
        )
      }
    }
    const halves = nodes.slice(1, 3)
    for (let segment = 0; segment < 20; segment += 1) {
      const theirs = current.nodeForSegment(halves, segment)
      assert.equal(
        theirs,
        halves.find(({ config }) => shardOwns(config, segment)),
      )
      const uploader = new current.Uploader([], 'http://127.0.0.1:1', undefined as never)
      uploader.provider.destroy()
      for (const { config } of nodes) {
        assert.equal(uploader.nextSgmentIndex(config, segment), nextOwnedSegment(config, segment))
      }
    }
  })
})
