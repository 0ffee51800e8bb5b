import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keccak256 } from '#kernels/keccak.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import type { NodeConfigInput, RunningNode } from '#storage/node/main.ts'
import {
  allSegments,
  download,
  fileInfo,
  finalized,
  framesOf,
  logged,
  makeFile,
  postFrames,
  rpc,
  rpcError,
  segmentJson,
  segmentOf,
  type TestFile,
  until,
  useTestNet,
} from './harness.ts'

const { net, open: openHere } = useTestNet()

async function open(
  data: NonNullable<NodeConfigInput['data']> = {},
  config: Omit<Partial<NodeConfigInput>, 'chain' | 'data'> = {},
): Promise<RunningNode> {
  return openHere({ config: { data, ...config } })
}

async function send(node: RunningNode, seq: number, file: TestFile, indexes = allSegments(file)): Promise<number> {
  const { status, stored, message } = await postFrames(node.url, seq, framesOf(file, indexes))
  assert.equal(status, 200, message)
  return stored ?? -1
}

function owned({ shardId, numShard }: { shardId: number; numShard: number }, start: number, index: number): boolean {
  return (Math.floor(start / 1024) + index) % numShard === shardId
}

// Sharded nodes keep exactly their own global segments; together they give back the file; a file without a segment
// in the shard is complete as soon as it is logged.
test('shards of 2 and of 4 hold their own segments and nothing else', async () => {
  for (const numShard of [2, 4]) {
    const nodes: RunningNode[] = []
    for (let shardId = 0; shardId < numShard; shardId++) nodes.push(await open({ shard: `${shardId}/${numShard}` }))
    for (const sizeBytes of [200, 700_000, 3_000_000]) {
      const file = await makeFile(sizeBytes, numShard + 1)
      const seq = await net.submit(file)
      const infos = await Promise.all(nodes.map((node) => logged(node.url, seq)))
      const start = infos[0]?.tx.startEntryIndex ?? 0
      for (const [shardId, node] of nodes.entries()) {
        const shard = { shardId, numShard }
        assert.deepEqual(await rpc(node.url, 'zgs_getShardConfig'), shard)
        const own = allSegments(file).filter((index) => owned(shard, start, index))
        assert.equal((await fileInfo(node.url, seq))?.finalized, own.length === 0)
        if (own.length === 0) continue
        const missing = await (await fetch(`${node.url}/v1/files/${seq}/missing`)).json()
        assert.deepEqual(
          (missing as { segments: number[][] }).segments.map(([from]) => from),
          own,
        )
        // Every segment is sent; only the own ones are stored.
        assert.equal(await send(node, seq, file), own.length)
        const info = await finalized(node.url, seq)
        assert.equal(info.uploadedSegNum, allSegments(file).length)
        for (const index of allSegments(file)) {
          const segment = await rpc(node.url, 'zgs_downloadSegmentWithProofByTxSeq', seq, index)
          assert.deepEqual(segment, own.includes(index) ? segmentJson(file, index) : null)
        }
      }
    }
  }
})

// Segments sent before their submission is known wait and complete the file in the step that logs it.
test('takes a file before its submission', async () => {
  for (const shard of ['0/1', '1/2']) {
    const node = await open({ shard })
    const file = await makeFile(1_000_000, 77 + shard.length + Number(shard[0]))
    const segments = allSegments(file).map((index) => segmentJson(file, index))
    assert.equal(await rpc(node.url, 'zgs_uploadSegments', segments), 4)
    // Again is no error: the cache says nothing about duplicates.
    assert.equal(await rpc(node.url, 'zgs_uploadSegments', segments), 0)
    assert.equal(await rpc(node.url, 'zgs_getFileInfo', file.tree.root, true), null)
    const size = await rpcError(node.url, 'zgs_uploadSegments', [{ ...segments[3], fileSize: file.tree.sizeBytes + 1 }])
    assert.match(size.message, /^file size in segment doesn't match with file size declared in previous segment/)
    const seq = await net.submit(file)
    const info = await logged(node.url, seq)
    assert.equal(info.finalized, true)
    assert.equal(info.isCached, false)
    assert.equal(node.store.objects.storedPieces, shard === '0/1' ? 4 : 2)
    assert.equal(node.store.contents.cachedBytes, 0)
  }
})

// A cached part of a file counts as uploaded once the submission is logged; the rest completes it.
test('completes a file of which a part was cached', async () => {
  const node = await open()
  const file = await makeFile(1_000_000, 5)
  await rpc(node.url, 'zgs_uploadSegments', [segmentJson(file, 0), segmentJson(file, 1)])
  const seq = await net.submit(file)
  const info = await logged(node.url, seq)
  assert.deepEqual([info.finalized, info.isCached, info.uploadedSegNum], [false, false, 2])
  assert.equal(await send(node, seq, file), 2)
  await finalized(node.url, seq)
})

// The cache has a size and an age; beyond them nothing is kept.
test('bounds the cache', async () => {
  let now = Date.now()
  const node = await openHere({ config: { cache: { maxBytes: 3 * 262_144, expiryMs: 1_000 } }, now: () => now })
  const file = await makeFile(1_000_000, 6)
  const segments = allSegments(file).map((index) => segmentJson(file, index))
  const full = await rpcError(node.url, 'zgs_uploadSegments', segments)
  assert.deepEqual([full.code, full.message], [-32000, 'exceeds the maximum cached chunks of whole pool: 3072'])
  assert.equal(node.store.objects.storedPieces, 3)
  now += 2_000
  await until('expired content dropped', () => node.store.objects.storedPieces === 0)
  assert.equal(await rpc(node.url, 'zgs_uploadSegments', segments.slice(0, 2)), 2)
})

// The root does not fix a file's size when it ends in zeros: what was cached under another size is dropped.
test('drops cached content whose size the submission contradicts', async () => {
  const node = await open()
  const bytes = new Uint8Array(1_000)
  bytes.set((await makeFile(300, 9)).bytes)
  const { buildFileTree, memorySource } = await import('#protocol/storage/file-tree.ts')
  const long: TestFile = { bytes, tree: await buildFileTree({ source: memorySource(bytes) }) }
  const short: TestFile = {
    bytes: bytes.subarray(0, 990),
    tree: await buildFileTree({ source: memorySource(bytes.subarray(0, 990)) }),
  }
  assert.equal(long.tree.root, short.tree.root)
  await rpc(node.url, 'zgs_uploadSegments', [segmentJson(long, 0)])
  const seq = await net.submit(short)
  const info = await logged(node.url, seq)
  assert.deepEqual([info.finalized, info.tx.size, info.uploadedSegNum], [false, 990, 0])
  assert.equal(node.store.objects.storedPieces, 0)
  await send(node, seq, short)
  assert.deepEqual(await download(node.url, seq, 990), Buffer.from(short.bytes))
})

// The same content submitted again is complete at once, without storing it again; several submissions of one root
// that wait are completed together.
test('finalizes the same root submitted again', async () => {
  const node = await open()
  const file = await makeFile(600_000, 10)
  const first = await net.submit(file)
  const second = await net.submit(file)
  await logged(node.url, second)
  await send(node, first, file)
  await finalized(node.url, first)
  assert.equal((await fileInfo(node.url, second))?.finalized, true)
  const third = await net.submit(file)
  assert.equal((await logged(node.url, third)).finalized, true)
  assert.equal(node.store.objects.storedPieces, 3)
  for (const seq of [first, second, third]) {
    assert.deepEqual(await download(node.url, seq, 600_000), Buffer.from(file.bytes))
  }
  const info = await rpc<{ tx: { seq: number } }>(node.url, 'zgs_getFileInfo', file.tree.root, true)
  assert.equal(info.tx.seq, first)
})

// On a shard the same root at another place may need the other segments: both submissions get exactly theirs.
test('keeps the same root apart where shards divide it differently', async () => {
  const node = await open({ shard: '0/2' })
  const file = await makeFile(600_000, 11)
  const odd = await makeFile(262_144, 12)
  const first = await net.submit(file)
  // One further segment in between turns the parity.
  await net.submit(odd)
  const second = await net.submit(file)
  const starts = await Promise.all([first, second].map(async (seq) => (await logged(node.url, seq)).tx.startEntryIndex))
  const parity = starts.map((start) => Math.floor(start / 1024) % 2)
  const stored = await send(node, first, file)
  assert.equal((await fileInfo(node.url, first))?.finalized, true)
  const same = parity[0] === parity[1]
  assert.equal((await fileInfo(node.url, second))?.finalized, same)
  if (!same) assert.equal(await send(node, second, file), 3 - stored)
  await finalized(node.url, second)
})

// Sixty-four uploads of one file at once, each of a single segment, are queued and all succeed.
test('takes 64 parallel uploads of one file', async () => {
  const node = await open({}, { rpc: { hashThreads: 0, maxWriteMemoryBytes: 2 ** 20, maxBodyMemoryBytes: 2 ** 21 } })
  const file = await makeFile(64 * 262_144, 13)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  const indexes = allSegments(file)
  const half = indexes.filter((index) => index % 2 === 0)
  const answers = await Promise.all([
    ...half.map((index) => rpc(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(file, index)], seq)),
    ...indexes.map((index) => postFrames(node.url, seq, framesOf(file, [index]))),
  ])
  for (const answer of answers) if (typeof answer === 'object') assert.equal((answer as { status: number }).status, 200)
  const count = (answer: unknown): number =>
    typeof answer === 'number' ? answer : ((answer as { stored?: number }).stored ?? 0)
  assert.equal(
    answers.reduce<number>((sum, answer) => sum + count(answer), 0),
    64,
  )
  await finalized(node.url, seq)
  const raw = Buffer.from(await (await fetch(`${node.url}/v1/files/${seq}/data`)).arrayBuffer())
  assert.ok(raw.equals(Buffer.from(file.bytes)), 'data differs')
})

// A download during the upload gives what is there and null for the rest, never wrong bytes.
test('serves a file while it is being uploaded', async () => {
  const node = await open()
  const file = await makeFile(2_000_000, 14)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  for (const index of [3, 0, 7, 1]) {
    await send(node, seq, file, [index])
    const data = Buffer.from(segmentOf(file, index).data)
    const start = index * 1024
    const part = await rpc<string>(node.url, 'zgs_downloadSegmentByTxSeq', seq, start, start + data.length / 256)
    assert.ok(Buffer.from(part, 'base64').equals(data))
  }
  assert.equal(await rpc(node.url, 'zgs_downloadSegmentByTxSeq', seq, 2048, 3000), null)
  assert.equal(await rpc(node.url, 'zgs_downloadSegmentByTxSeq', seq, 1500, 2500), null)
})

interface SectorProof {
  lemma: Hash[]
  path: boolean[]
}

function climb({ lemma, path }: SectorProof): Hash {
  let node = fromHex(lemma[0] ?? '0x')
  for (const [step, isLeft] of path.entries()) {
    const sibling = fromHex(lemma[step + 1] ?? '0x')
    node = keccak256(isLeft ? Buffer.concat([node, sibling]) : Buffer.concat([sibling, node]))
  }
  return toHex(node)
}

// A sector proof leads from the sector's bytes to the flow root, at the sector's place: now, and against every
// earlier root of the flow.
test('proves sectors against any flow root', async () => {
  const node = await open()
  const files: { file: TestFile; start: number }[] = []
  const roots: { root: Hash; length: number }[] = []
  for (const sizeBytes of [1, 5_000, 700_000, 300, 1_500_000]) {
    const file = await makeFile(sizeBytes, 21)
    const seq = await net.submit(file)
    const { tx } = await logged(node.url, seq)
    await send(node, seq, file)
    files.push({ file, start: tx.startEntryIndex })
    const [root, length] = await rpc<[Hash, number]>(node.url, 'zgs_getFlowContext')
    roots.push({ root, length })
  }
  for (const { file, start } of files) {
    const sectors = Math.ceil(file.bytes.length / 256)
    for (const inFile of new Set([0, 1, Math.floor(sectors / 2), sectors - 1].filter((i) => i >= 0 && i < sectors))) {
      const sector = start + inFile
      const bytes = new Uint8Array(256)
      bytes.set(file.bytes.subarray(inFile * 256, (inFile + 1) * 256))
      for (const { root, length } of roots) {
        if (sector >= length) {
          assert.equal((await rpcError(node.url, 'zgs_getSectorProof', sector, root)).code, -32000)
          continue
        }
        const proof = await rpc<SectorProof>(node.url, 'zgs_getSectorProof', sector, root)
        assert.equal(proof.lemma.length, proof.path.length + 2)
        assert.equal(proof.lemma[0], toHex(keccak256(bytes)))
        assert.equal(proof.lemma.at(-1), root)
        assert.equal(climb(proof), root)
        const place = proof.path.reduce((sum, isLeft, i) => sum + (isLeft ? 0 : 2 ** i), 0)
        assert.equal(place, sector)
      }
    }
  }
  const now = roots.at(-1)
  assert.equal((await rpc<SectorProof>(node.url, 'zgs_getSectorProof', 0, null)).lemma.at(-1), now?.root)
  const gap = await rpc<SectorProof>(node.url, 'zgs_getSectorProof', (files[2]?.start ?? 0) - 1)
  assert.equal(climb(gap), now?.root)
  assert.equal((await rpcError(node.url, 'zgs_getSectorProof', 0, `0x${'77'.repeat(32)}`)).code, -32602)
})

// Sectors of a large file's padding are proved as well, also by a shard that keeps only some of the file.
test('proves sectors in the padding of a file', async () => {
  // 33 segments of data, padded to 36: one unit of 32 and one of 4, of which 3 segments are zeros.
  const file = await makeFile(33 * 262_144, 22)
  const seq = await net.submit(file)
  for (const shard of ['0/1', '0/2', '1/2']) {
    const node = await open({ shard })
    const { tx } = await logged(node.url, seq)
    await send(node, seq, file)
    const [root] = await rpc<[Hash, number]>(node.url, 'zgs_getFlowContext')
    for (const inFile of [33 * 1024, 34 * 1024 + 5, 36 * 1024 - 1]) {
      const proof = await rpc<SectorProof | null>(node.url, 'zgs_getSectorProof', tx.startEntryIndex + inFile, null)
      if (proof === null) {
        assert.notEqual(shard, '0/1')
        continue
      }
      assert.equal(climb(proof), root)
      assert.equal(
        proof.path.reduce((sum, isLeft, i) => sum + (isLeft ? 0 : 2 ** i), 0),
        tx.startEntryIndex + inFile,
      )
    }
  }
})
