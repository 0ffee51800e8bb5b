import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import type { RunningNode } from '#storage/node/main.ts'
import {
  allSegments,
  fileInfo,
  finalized,
  framesOf,
  logged,
  makeFile,
  postFrames,
  rawRpc,
  rpc,
  rpcError,
  segmentJson,
  segmentOf,
  useTestNet,
} from './harness.ts'

const { net, open } = useTestNet()
let node: RunningNode

before(async () => {
  node = await open()
})

const UNKNOWN_ROOT = `0x${'ab'.repeat(32)}`

// Ids come back digit for digit; params may be missing; batches are answered; errors are HTTP 200.
test('speaks JSON-RPC as clients of the field do', async () => {
  const response = await fetch(node.url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"jsonrpc":"2.0","id":17600000000000001,"method":"zgs_getShardConfig"}',
  })
  assert.equal(await response.text(), '{"jsonrpc":"2.0","id":17600000000000001,"result":{"shardId":0,"numShard":1}}')
  const batch = await rawRpc(node.url, [
    { jsonrpc: '2.0', id: 1, method: 'zgs_getShardConfig' },
    { jsonrpc: '2.0', id: 2, method: 'kv_getValue', params: [] },
  ])
  assert.ok(Array.isArray(batch))
  assert.equal(batch[0].result.numShard, 1)
  assert.equal(batch[1].error.code, -32601)
  const preflight = await fetch(node.url, {
    method: 'OPTIONS',
    headers: {
      origin: 'https://app.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    },
  })
  assert.equal(preflight.headers.get('access-control-allow-origin'), '*')
})

// The status names the network and how far the log was read; the height advances over empty blocks.
test('tells its status', async () => {
  const status = await rpc<{ logSyncHeight: number; logSyncBlock: string; networkIdentity: Record<string, unknown> }>(
    node.url,
    'zgs_getStatus',
  )
  assert.match(status.logSyncBlock, /^0x[0-9a-f]{64}$/)
  assert.equal(status.networkIdentity.chainId, 31337)
  assert.equal(status.networkIdentity.flowAddress, net.contracts.flow.toLowerCase())
  assert.deepEqual(status.networkIdentity.p2pProtocolVersion, { major: 0, minor: 4, build: 0 })
})

// What nobody knows is null, never an error and never a missing result.
test('answers null for what it does not know', async () => {
  const segments: [string, ...unknown[]][] = [
    ['zgs_getFileInfo', UNKNOWN_ROOT, true],
    ['zgs_getFileInfo', UNKNOWN_ROOT.toUpperCase().replace('0X', '0x')],
    ['zgs_getFileInfoByTxSeq', 999_999],
    ['zgs_getFileInfoByTxSeq', '999999'],
    ['zgs_checkFileFinalized', 999_999],
    ['zgs_checkFileFinalized', UNKNOWN_ROOT],
    ['zgs_downloadSegment', UNKNOWN_ROOT, 0, 1],
    ['zgs_downloadSegmentByTxSeq', 999_999, 0, 1],
    ['zgs_downloadSegmentWithProof', UNKNOWN_ROOT, 0],
    ['zgs_downloadSegmentWithProofByTxSeq', 999_999, 0],
  ]
  for (const [method, ...params] of segments) {
    const answer = await rawRpc(node.url, { jsonrpc: '2.0', id: 1, method, params })
    assert.ok('result' in answer && answer.result === null, `${method} answered ${JSON.stringify(answer)}`)
  }
})

// Every wrong segment is refused with the words clients match, and nothing of it is stored.
test('refuses wrong segments with the field’s messages', async () => {
  const file = await makeFile(700_000)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  const good = segmentJson(file, 1)
  const refused = async (change: object, ...expected: [number, string, string | undefined]): Promise<void> => {
    for (const [method, ...more] of [['zgs_uploadSegmentsByTxSeq', seq], ['zgs_uploadSegments']] as const) {
      const error = await rpcError(node.url, method, [{ ...good, ...change }], ...more)
      assert.deepEqual(
        [error.code, error.message, error.data],
        expected,
        `${method} ${JSON.stringify(change).slice(0, 80)}`,
      )
    }
  }
  const data = Buffer.from(good.data, 'base64')
  const altered = Buffer.from(data)
  altered[77] = (altered[77] ?? 0) ^ 1
  await refused({ data: '' }, -32000, 'data is empty', undefined)
  await refused({ data: data.subarray(1).toString('base64') }, -32000, 'invalid data length', undefined)
  await refused({ data: data.subarray(256).toString('base64') }, -32602, 'Invalid params: data', 'invalid data length')
  await refused({ data: altered.toString('base64') }, -32602, 'Invalid params: proof', 'validation failed')
  await refused({ index: 3 }, -32602, 'Invalid params: index', 'index out of bound')
  await refused({ index: 0 }, -32602, 'Invalid params: proof', 'validation failed')
  await refused({ proof: { ...good.proof, path: [true] } }, -32602, 'Invalid params: proof', 'invalid proof')
  const lemma = [...good.proof.lemma]
  ;[lemma[1], lemma[2]] = [lemma[2] ?? '0x', lemma[1] ?? '0x']
  await refused({ proof: { ...good.proof, lemma } }, -32602, 'Invalid params: proof', 'validation failed')
  await refused(
    { fileSize: 700_001 },
    -32602,
    'Invalid params: file_size',
    'segment file size not matched with tx file size',
  )
  const other = await rpcError(node.url, 'zgs_uploadSegmentsByTxSeq', [{ ...good, root: UNKNOWN_ROOT }], seq)
  assert.deepEqual(
    [other.code, other.message, other.data],
    [-32603, 'Internal error', 'data root and tx seq not match'],
  )
  const big = await rpcError(node.url, 'zgs_uploadSegments', [{ ...good, root: UNKNOWN_ROOT, fileSize: 11 * 2 ** 20 }])
  assert.deepEqual(
    [big.code, big.message, big.data],
    [-32602, 'Invalid params: file_size', 'caching of large file when tx is unavailable is not supported'],
  )
  assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 0)
  assert.equal(node.store.objects.storedPieces, 0)
})

// A segment sent twice is an error for the root method, success for the tx method, and stored once.
test('tells duplicates as the reference does', async () => {
  const file = await makeFile(700_001)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  const first = segmentJson(file, 0)
  assert.equal(await rpc(node.url, 'zgs_uploadSegmentByTxSeq', first, seq), 1)
  assert.equal(await rpc(node.url, 'zgs_uploadSegmentsByTxSeq', [first], seq), 0)
  for (const [method, given] of [
    ['zgs_uploadSegments', [first]],
    ['zgs_uploadSegment', first],
  ] as const) {
    const error = await rpcError(node.url, method, given)
    assert.equal(error.code, -32000)
    assert.equal(error.message, 'segment has already been uploaded or is being uploaded')
  }
  assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 1)
  // The window ends at the first gap: segment 2 alone does not count.
  await rpc(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(file, 2)], seq)
  assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 1)
  assert.equal(await rpc(node.url, 'zgs_checkFileFinalized', seq), false)
  assert.equal(await rpc(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(file, 1)], seq), 1)
  await finalized(node.url, seq)
  assert.equal(await rpc(node.url, 'zgs_checkFileFinalized', file.tree.root), true)
  const again = await rpcError(node.url, 'zgs_uploadSegmentsByTxSeq', [first], seq)
  assert.deepEqual(
    [again.code, again.message, again.data],
    [-32602, 'Invalid params: root', 'already uploaded and finalized'],
  )
  assert.equal(await rpc(node.url, 'zgs_uploadSegments', []), 0)
})

// The first failing segment ends a call; those before it stay.
test('keeps the segments before the one that fails', async () => {
  const file = await makeFile(1_048_577)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  const bad = { ...segmentJson(file, 2), data: segmentJson(file, 3).data }
  const segments = [segmentJson(file, 0), segmentJson(file, 1), bad, segmentJson(file, 3)]
  const error = await rpcError(node.url, 'zgs_uploadSegmentsByTxSeq', segments, seq)
  assert.equal(error.data, 'validation failed')
  assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 2)
  assert.deepEqual(await (await fetch(`${node.url}/v1/files/${seq}/missing`)).json(), { segments: [[2, 5]], total: 3 })
})

// Ranges outside the file, too long, or the wrong way round are told apart.
test('checks the range of a download', async () => {
  const file = await makeFile(300_000)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  await rpc(
    node.url,
    'zgs_uploadSegmentsByTxSeq',
    allSegments(file).map((i) => segmentJson(file, i)),
    seq,
  )
  const range = async (start: number, end: number) => {
    const { code, message, data } = await rpcError(node.url, 'zgs_downloadSegmentByTxSeq', seq, start, end)
    return [code, message, data]
  }
  assert.deepEqual(await range(5, 5), [-32602, 'Invalid params: end_index', 'invalid chunk index'])
  assert.deepEqual(await range(0, 1025), [-32602, 'Invalid params: end_index', 'exceeds maximum chunks 1024'])
  assert.deepEqual(await range(1000, 1173), [-32000, 'end entry index exceeds tx size', undefined])
  const across = await rpc<string>(node.url, 'zgs_downloadSegment', file.tree.root, 1020, 1030)
  assert.deepEqual(Buffer.from(across, 'base64'), Buffer.from(file.bytes.subarray(1020 * 256, 1030 * 256)))
  const tail = Buffer.from(await rpc<string>(node.url, 'zgs_downloadSegmentByTxSeq', seq, 1171, 1172), 'base64')
  const wanted = Buffer.alloc(256)
  wanted.set(file.bytes.subarray(1171 * 256))
  assert.deepEqual(tail, wanted)
})

// A served segment carries the proof it was uploaded with, over both paths, and its data.
test('serves segments with their proofs', async () => {
  for (const sizeBytes of [100, 700_000, 5_000_000]) {
    const file = await makeFile(sizeBytes, 7)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    const { status } = await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    assert.equal(status, 200)
    for (const index of allSegments(file)) {
      const served = await rpc(node.url, 'zgs_downloadSegmentWithProof', file.tree.root, index)
      assert.deepEqual(served, segmentJson(file, index))
    }
    const frames = Buffer.from(await (await fetch(`${node.url}/v1/files/${seq}/segments`)).arrayBuffer())
    assert.ok(frames.equals(framesOf(file, allSegments(file))), 'frames differ')
    const raw = Buffer.from(await (await fetch(`${node.url}/v1/files/${seq}/data`)).arrayBuffer())
    assert.ok(raw.equals(Buffer.from(file.bytes)), 'data differs')
  }
})

// The binary path names what is wrong with a request, and how many segments of it were stored.
test('refuses wrong binary uploads', async () => {
  const file = await makeFile(1_000_000)
  const seq = await net.submit(file)
  await logged(node.url, seq)
  const unknown = await postFrames(node.url, 999_999, framesOf(file, [0]))
  assert.deepEqual([unknown.status, unknown.code], [404, 'TX_UNKNOWN'])
  const cut = await postFrames(node.url, seq, framesOf(file, [0]).subarray(0, 100_000))
  assert.deepEqual([cut.status, cut.code], [400, 'FRAME_CUT_OFF'])
  const wrong = framesOf(file, [1])
  wrong[wrong.length - 1] = (wrong[wrong.length - 1] ?? 0) ^ 1
  const altered = await postFrames(node.url, seq, Buffer.concat([framesOf(file, [0]), wrong]))
  assert.deepEqual([altered.status, altered.code], [400, 'SEGMENT_PROOF'])
  assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 1)
  const past = { ...segmentOf(file, 0), index: 4 }
  const { encodeSegmentFrame } = await import('#protocol/storage/segment-frame.ts')
  const outside = await postFrames(node.url, seq, Buffer.concat(encodeSegmentFrame(past)))
  assert.deepEqual([outside.status, outside.code], [400, 'SEGMENT_INDEX'])
  const garbage = await postFrames(node.url, seq, Buffer.alloc(1_000, 0xff))
  assert.deepEqual([garbage.status, garbage.code], [400, 'FRAME_PROOF'])
  const json = await fetch(`${node.url}/v1/files/${seq}/segments`, { method: 'POST', body: '{}' })
  assert.equal(json.status, 415)
  const repeated = await postFrames(node.url, seq, framesOf(file, [0, 1, 0, 1]))
  assert.deepEqual([repeated.status, repeated.stored], [200, 1])
  const range = await fetch(`${node.url}/v1/files/${seq}/segments?from=3&to=9`)
  assert.equal(range.status, 416)
  const partial = await fetch(`${node.url}/v1/files/${seq}/data`)
  assert.equal(partial.status, 404)
  const info = await (await fetch(`${node.url}/v1/files?root=${file.tree.root}`)).json()
  assert.deepEqual(info, await rpc(node.url, 'zgs_getFileInfo', file.tree.root, true))
  assert.equal((await fetch(`${node.url}/v1/files?root=${UNKNOWN_ROOT}`)).status, 404)
  assert.equal((await fetch(`${node.url}/v1/files?root=junk`)).status, 400)
})

// Health and metrics are there for the operator, and the admin port does not answer for other names.
test('serves health and metrics', async () => {
  const health = await fetch(`${node.url}/healthz`)
  assert.equal(health.status, 200)
  const { status, checks } = (await health.json()) as { status: string; checks: { log: { synced: boolean } } }
  assert.equal(status, 'ok')
  assert.equal(checks.log.synced, true)
  const metrics = await (await fetch(`${node.url}/metrics`)).text()
  assert.match(metrics, /weightless_node_stored_segments_total \d+/)
  const some = await rpc<Record<string, string>>(node.adminUrl, 'admin_getMetrics', 'weightless_node_stored')
  assert.ok(Number(some.weightless_node_stored_bytes_total) > 0)
  assert.equal((await rpcError(node.url, 'admin_getPeers')).code, -32601)
})
