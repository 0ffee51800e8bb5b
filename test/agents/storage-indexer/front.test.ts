import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { decodeSegmentFrames, encodeSegmentFrame } from '#protocol/storage/segment-frame.ts'
import { verifySegment } from '#protocol/storage/segment-proof.ts'
import type { RunningIndexer } from '#storage/indexer/main.ts'
import { type FakeFile, type FakeNode, fakeFile, patternBytes, startFakeNode } from './fake-node.ts'
import { rpc, startTestIndexer } from './start.ts'

const SIZE = 7 * 262_144 + 5_000

describe('the front of two shards', () => {
  let file: FakeFile
  let even: FakeNode
  let odd: FakeNode
  let indexer: RunningIndexer

  before(async () => {
    file = await fakeFile({ data: patternBytes(SIZE), txSeq: 4, startSector: 3 * 1024 })
    even = await startFakeNode({ shard: { shardId: 0, numShard: 2 }, files: [file] })
    odd = await startFakeNode({ shard: { shardId: 1, numShard: 2 }, files: [file] })
    indexer = await startTestIndexer({ nodes: [even.url, odd.url], front: { retryMs: 1_200 } })
  })

  after(() => Promise.all([indexer.close(), even.close(), odd.close()]))

  beforeEach(() => {
    for (const node of [even, odd]) {
      node.fault = 'none'
      node.finalized = true
      node.uploadError = undefined
      node.uploads.length = 0
      node.files = [file]
    }
  })

  const front = (method: string, params: unknown[] = []) => rpc(indexer.frontUrl, method, params)
  const segment = (index: number) => {
    const bytes = new Uint8Array(index === 7 ? 5_120 : 262_144)
    bytes.set(file.data.subarray(index * 262_144, (index + 1) * 262_144))
    const data = Buffer.from(bytes).toString('base64')
    return { root: file.root, data, index, proof: file.tree.proof(index), fileSize: SIZE }
  }
  const all = () => Array.from({ length: 8 }, (_, index) => segment(index))

  test('reports shard 0/1 and is listed first among trusted nodes', async () => {
    assert.deepEqual((await front('zgs_getShardConfig')).result, { shardId: 0, numShard: 1 })
    const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
    const { trusted } = result as { trusted: { url: string; config: unknown }[] }
    assert.deepEqual(
      trusted.map(({ url }) => url),
      [indexer.frontUrl, even.url, odd.url],
    )
    assert.deepEqual(trusted[0]?.config, { shardId: 0, numShard: 1 })
  })

  test('gives every segment to the shard that owns it, once', async () => {
    const { result } = await front('zgs_uploadSegmentsByTxSeq', [all(), 4])
    assert.equal(result, 8)
    // The file begins at global segment 3, so its segment 0 belongs to the odd shard.
    assert.deepEqual(
      odd.uploads.map(({ indexes }) => indexes),
      [[0, 2, 4, 6]],
    )
    assert.deepEqual(
      even.uploads.map(({ indexes }) => indexes),
      [[1, 3, 5, 7]],
    )
  })

  test('gives a segment of an unknown transaction to every shard, as any may come to own it', async () => {
    even.files = []
    odd.files = []
    const { result } = await front('zgs_uploadSegments', [[{ ...segment(0), root: `0x${'99'.repeat(32)}` }]])
    assert.equal(result, 1)
    assert.equal(even.uploads.length + odd.uploads.length, 2)
  })

  test('says finalized only when all shards are', async () => {
    const finalized = async () =>
      ((await front('zgs_getFileInfo', [file.root, true])).result as { finalized: boolean }).finalized
    assert.equal(await finalized(), true)
    odd.finalized = false
    assert.equal(await finalized(), false)
    assert.equal((await front('zgs_checkFileFinalized', [4])).result, false)
    odd.finalized = true
    assert.equal((await front('zgs_checkFileFinalized', ['4'])).result, true)
  })

  test('does not know a file before all shards know it', async () => {
    odd.files = []
    assert.equal((await front('zgs_getFileInfo', [file.root, false])).result, null)
    assert.equal((await front('zgs_getFileInfoByTxSeq', [4])).result, null)
    assert.equal((await front('zgs_checkFileFinalized', [4])).result, null)
    even.files = []
    assert.equal((await front('zgs_downloadSegmentByTxSeq', [777, 0, 1])).result, null)
    assert.equal((await front('zgs_downloadSegmentWithProof', [`0x${'98'.repeat(32)}`, 0])).result, null)
  })

  test('passes refusals on word for word, the one for the earliest segment first', async () => {
    const refusal = { code: -32602, message: 'Invalid params: proof', data: 'validation failed' }
    even.uploadError = refusal
    assert.deepEqual((await front('zgs_uploadSegmentsByTxSeq', [all(), 4])).error, refusal)
    odd.uploadError = { code: -32000, message: 'exceeds the maximum cached chunks of whole pool: 9' }
    assert.deepEqual((await front('zgs_uploadSegmentsByTxSeq', [all(), 4])).error, odd.uploadError)
  })

  test('"already uploaded and finalized" at one shard is success as long as the file is not complete', async () => {
    const done = { code: -32602, message: 'Invalid params: root', data: 'already uploaded and finalized' }
    odd.uploadError = done
    even.finalized = false
    assert.equal((await front('zgs_uploadSegmentsByTxSeq', [all(), 4])).result, 8)
    // Nothing but segments of the finished shard: the file itself is not finished, so the client must go on.
    assert.equal((await front('zgs_uploadSegmentsByTxSeq', [[segment(0)], 4])).result, 1)
    even.uploadError = done
    even.finalized = true
    assert.deepEqual((await front('zgs_uploadSegmentsByTxSeq', [all(), 4])).error, done)
  })

  test('waits for a shard that is busy, and says which one is out of reach', async () => {
    odd.uploadError = { code: -32000, message: 'too many data writing: 16' }
    setTimeout(() => {
      odd.uploadError = undefined
    }, 300)
    assert.equal((await front('zgs_uploadSegmentsByTxSeq', [[segment(0)], 4])).result, 1)
    odd.uploadError = { code: -32000, message: 'too many data writing: 16' }
    assert.deepEqual((await front('zgs_uploadSegmentsByTxSeq', [[segment(0)], 4])).error, odd.uploadError)
  })

  test('speaks JSON-RPC as a storage node does: ids digit for digit, explicit null, no params, batches', async () => {
    const post = async (body: string) => {
      const response = await fetch(indexer.frontUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      })
      assert.equal(response.status, 200)
      return await response.text()
    }
    const config = '{"shardId":0,"numShard":1}'
    assert.equal(
      await post('{"jsonrpc":"2.0","id":17600000000000001,"method":"zgs_getShardConfig"}'),
      `{"jsonrpc":"2.0","id":17600000000000001,"result":${config}}`,
    )
    assert.equal(
      await post(
        '[{"jsonrpc":"2.0","id":"a","method":"zgs_getShardConfig"},{"jsonrpc":"2.0","id":1.5,"method":"zgs_getFileInfoByTxSeq","params":["99"]}]',
      ),
      `[{"jsonrpc":"2.0","id":"a","result":${config}},{"jsonrpc":"2.0","id":1.5,"result":null}]`,
    )
    assert.match(await post('{"jsonrpc":"2.0","id":1,"method":"zgs_no"}'), /-32601/)
  })

  test('an upload of nothing succeeds', async () => {
    assert.equal((await front('zgs_uploadSegmentsByTxSeq', [[], 4])).result, 0)
  })

  test('downloads ranges of sectors across shards, and refuses those that are not ranges as a storage node does', async () => {
    const padded = Buffer.alloc(Math.ceil(SIZE / 256) * 256)
    padded.set(file.data)
    const sectors = padded.length / 256
    for (const [start, end] of [
      [0, 1],
      [0, 1024],
      [1000, 1100],
      [1024, 2048],
      [sectors - 1, sectors],
      [6 * 1024 + 5, 7 * 1024 + 5],
    ] as const) {
      const { result } = await front('zgs_downloadSegmentByTxSeq', [4, start, end])
      assert.equal(
        Buffer.compare(Buffer.from(String(result), 'base64'), padded.subarray(start * 256, end * 256)),
        0,
        `${start}-${end}`,
      )
    }
    const refused = async (start: number, end: number) =>
      (await front('zgs_downloadSegment', [file.root, start, end])).error
    assert.deepEqual(await refused(5, 5), {
      code: -32602,
      message: 'Invalid params: end_index',
      data: 'invalid chunk index',
    })
    assert.deepEqual(await refused(0, 1025), {
      code: -32602,
      message: 'Invalid params: end_index',
      data: 'exceeds maximum chunks 1024',
    })
    assert.deepEqual(await refused(sectors, sectors + 1), { code: -32000, message: 'end entry index exceeds tx size' })
  })

  test('a shard that lacks its data answers null, one that lies or fails an error with the reason', async () => {
    odd.fault = 'absent'
    assert.equal((await front('zgs_downloadSegmentByTxSeq', [4, 0, 1])).result, null)
    odd.fault = 'flip'
    const { error } = await front('zgs_downloadSegmentByTxSeq', [4, 0, 1])
    assert.equal(error?.code, -32000)
    assert.match(error?.data ?? '', /does not begin with the segment root/)
    even.fault = 'none'
    assert.equal(typeof (await front('zgs_downloadSegmentByTxSeq', [4, 1024, 1025])).result, 'string')
  })

  test('gives proofs that hold', async () => {
    for (const index of [0, 1, 7]) {
      const { result } = await front('zgs_downloadSegmentWithProof', [file.root, index])
      const { data, proof, fileSize } = result as ReturnType<typeof segment>
      verifySegment({ root: file.root, sizeBytes: fileSize, index, data: Buffer.from(data, 'base64'), proof })
    }
    assert.equal((await front('zgs_downloadSegmentWithProof', [file.root, 8])).error?.data, 'index out of bound')
  })

  test('serves the binary path: frames with proofs, raw data, ranges, file info', async () => {
    const frames = await fetch(`${indexer.frontUrl}/v1/files/4/segments?from=2&to=5`)
    assert.equal(frames.headers.get('content-type'), 'application/octet-stream')
    const decoded = decodeSegmentFrames(new Uint8Array(await frames.arrayBuffer()))
    assert.deepEqual(
      decoded.map(({ index }) => index),
      [2, 3, 4],
    )
    for (const frame of decoded) verifySegment({ root: file.root, sizeBytes: SIZE, ...frame })
    const raw = Buffer.from(await (await fetch(`${indexer.frontUrl}/v1/files/4/data`)).arrayBuffer())
    assert.equal(Buffer.compare(raw, file.data), 0)
    assert.equal((await fetch(`${indexer.frontUrl}/v1/files/4/data?from=8`)).status, 416)
    assert.equal((await fetch(`${indexer.frontUrl}/v1/files/77/data`)).status, 404)
    assert.equal((await fetch(`${indexer.frontUrl}/v1/files/x/data`)).status, 400)
    const info = (await (await fetch(`${indexer.frontUrl}/v1/files?root=${file.root}`)).json()) as {
      tx: { seq: number }
    }
    assert.equal(info.tx.seq, 4)
  })

  test('a binary upload to nodes without a binary path is refused, not swallowed', async () => {
    even.finalized = false
    odd.finalized = false
    const { data, ...rest } = segment(0)
    const frame = encodeSegmentFrame({ ...rest, data: Buffer.from(data, 'base64') })
    const body = Buffer.concat(frame)
    const response = await fetch(`${indexer.frontUrl}/v1/files/4/segments`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body,
    })
    assert.ok(response.status >= 400, `status ${response.status}`)
    const cut = await fetch(`${indexer.frontUrl}/v1/files/4/segments`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: body.subarray(0, 100),
    })
    assert.equal(cut.status, 400)
    assert.equal(((await cut.json()) as { code: string }).code, 'FRAME_CUT_OFF')
    odd.fault = 'flip'
    const lied = await fetch(`${indexer.frontUrl}/v1/files/4/data?from=0&to=1`)
    assert.equal(lied.status, 503)
    assert.equal(((await lied.json()) as { code: string }).code, 'SEGMENT_UNAVAILABLE')
  })
})

test('more uploads at once than memory allows wait their turn', async (t) => {
  const file = await fakeFile({ data: patternBytes(600_000) })
  const node = await startFakeNode({ files: [file] })
  const indexer = await startTestIndexer({ nodes: [node.url], front: { maxInFlightBytes: 2 ** 20 } })
  t.after(() => Promise.all([indexer.close(), node.close()]))
  const data = Buffer.from(file.data.subarray(0, 262_144)).toString('base64')
  const segment = { root: file.root, data, index: 0, proof: file.tree.proof(0), fileSize: file.data.length }
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => rpc(indexer.frontUrl, 'zgs_uploadSegmentsByTxSeq', [[segment], 0])),
  )
  assert.deepEqual(new Set(answers.map(({ result }) => result)), new Set([1]))
  assert.equal(node.uploads.length, 40)
})

test('a front whose shards do not cover the flow says which node is missing', async (t) => {
  const even = await startFakeNode({ shard: { shardId: 0, numShard: 2 } })
  const odd = await startFakeNode({ shard: { shardId: 1, numShard: 2 } })
  await odd.close()
  const indexer = await startTestIndexer({ nodes: [even.url, odd.url] })
  t.after(() => Promise.all([indexer.close(), even.close()]))
  const { error } = await rpc(indexer.frontUrl, 'zgs_getStatus')
  assert.equal(error?.code, -32000)
  assert.ok(error?.data?.includes(odd.url))
  const binary = await fetch(`${indexer.frontUrl}/v1/status`)
  assert.equal(binary.status, 503)
  assert.ok(((await binary.json()) as { message: string }).message.includes(odd.url))
  const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
  assert.deepEqual(
    (result as { trusted: { url: string }[] }).trusted.map(({ url }) => url),
    [even.url],
  )
})

test('an indexer does not take the front of another, or its own, for a storage node', async (t) => {
  const node = await startFakeNode()
  const inner = await startTestIndexer({ nodes: [node.url] })
  const outer = await startTestIndexer({ nodes: [node.url, inner.frontUrl] })
  t.after(() => Promise.all([outer.close(), inner.close(), node.close()]))
  const { result } = await rpc(outer.url, 'indexer_getShardedNodes')
  assert.deepEqual(
    (result as { trusted: { url: string }[] }).trusted.map(({ url }) => url),
    [node.url],
  )
  assert.match(JSON.stringify(outer.health()), /front of an indexer/)
})

test('two sets of shards make two fronts, so that two replicas are two replicas', async (t) => {
  const file = await fakeFile({ data: patternBytes(600_000) })
  const shards = [0, 1, 0, 1].map((shardId) => ({ shardId, numShard: 2 }))
  const nodes = await Promise.all(shards.map((shard) => startFakeNode({ shard, files: [file] })))
  const indexer = await startTestIndexer({ nodes: nodes.map(({ url }) => url) })
  t.after(() => Promise.all([indexer.close(), ...nodes.map((node) => node.close())]))
  const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
  const urls = (result as { trusted: { url: string }[] }).trusted.map(({ url }) => url)
  assert.deepEqual(urls.slice(0, 2), [indexer.frontUrl, `${indexer.frontUrl}/1`])
  const [, , third] = nodes
  assert.ok(third)
  third.finalized = false
  const finalized = async (url: string) =>
    ((await rpc(url, 'zgs_getFileInfo', [file.root, true])).result as { finalized: boolean }).finalized
  assert.equal(await finalized(`${indexer.frontUrl}`), true)
  assert.equal(await finalized(`${indexer.frontUrl}/1`), false)
})
