import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import fc from 'fast-check'
import type { RunningNode } from '#storage/node/main.ts'
import {
  allSegments,
  fileInfo,
  framesOf,
  logged,
  makeFile,
  postFrames,
  rawRpc,
  rpc,
  segmentJson,
  type TestFile,
  useTestNet,
} from './harness.ts'

const { net, open } = useTestNet()
let node: RunningNode
let whole: { file: TestFile; seq: number }
let part: { file: TestFile; seq: number }

before(async () => {
  node = await open({ config: { sync: { peers: ['http://127.0.0.1:9'] } } })
  whole = { file: await makeFile(600_000), seq: 0 }
  part = { file: await makeFile(700_001), seq: 1 }
  for (const { file } of [whole, part]) await net.submit(file)
  await logged(node.url, part.seq)
  await postFrames(node.url, whole.seq, framesOf(whole.file, allSegments(whole.file)))
})

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000)

const PUBLIC = [
  'zgs_getStatus',
  'zgs_getShardConfig',
  'zgs_getFileInfo',
  'zgs_getFileInfoByTxSeq',
  'zgs_checkFileFinalized',
  'zgs_uploadSegment',
  'zgs_uploadSegmentByTxSeq',
  'zgs_uploadSegments',
  'zgs_uploadSegmentsByTxSeq',
  'zgs_downloadSegment',
  'zgs_downloadSegmentByTxSeq',
  'zgs_downloadSegmentWithProof',
  'zgs_downloadSegmentWithProofByTxSeq',
  'zgs_getSectorProof',
  'zgs_getFlowContext',
]
// Without admin_shutdown, which does what it says.
const ADMIN = [
  'admin_findFile',
  'admin_startSyncFile',
  'admin_startSyncChunks',
  'admin_terminateSync',
  'admin_getSyncServiceState',
  'admin_getSyncStatus',
  'admin_getSyncInfo',
  'admin_getNetworkInfo',
  'admin_getPeers',
  'admin_getFileLocation',
  'admin_getMetrics',
]

const CODES = new Set([-32700, -32600, -32601, -32602, -32603, -32000, -32701, -32702])

/** Values that mean something to the node, mixed with any JSON at all. */
function parameter(): fc.Arbitrary<unknown> {
  const roots = [whole.file.tree.root, part.file.tree.root, `0x${'00'.repeat(32)}`]
  const numbers = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 1023, 1024, 1025, 2 ** 31, 2 ** 53 - 1, 2 ** 53, -1, 0.5, 1e300),
    fc.nat(5_000),
  )
  const index = fc.integer({ min: 0, max: 2 })
  const segment = fc
    .tuple(
      fc.boolean(),
      index,
      fc.dictionary(fc.constantFrom('root', 'data', 'index', 'proof', 'fileSize'), fc.jsonValue()),
    )
    .map(([first, at, change]) => ({ ...segmentJson(first ? whole.file : part.file, at), ...change }))
  return fc.oneof(
    fc.constantFrom(...roots, roots[0]?.toUpperCase(), 'aGk=', ''),
    numbers,
    numbers.map(String),
    fc.boolean(),
    fc.constant(null),
    segment,
    fc.array(segment, { maxLength: 3 }),
    fc.jsonValue({ maxDepth: 4 }),
  )
}

// Whatever is asked, the node answers with a result or an error of a known kind, and goes on serving; its memory does
// not grow with nonsense.
test('answers any JSON-RPC call and stays well', async (t) => {
  t.diagnostic(`SEED=${SEED}`)
  const call = fc.record({
    admin: fc.boolean(),
    pick: fc.nat(),
    params: fc.oneof(fc.array(parameter(), { maxLength: 5 }), fc.jsonValue({ maxDepth: 2 })),
  })
  globalThis.gc?.()
  const before = process.memoryUsage().rss
  await fc.assert(
    fc.asyncProperty(call, async ({ admin, pick, params }) => {
      const methods = admin ? ADMIN : PUBLIC
      const method = methods[pick % methods.length]
      const answer = await rawRpc(admin ? node.adminUrl : node.url, { jsonrpc: '2.0', id: 7, method, params })
      const shown = `${method} ${JSON.stringify(params).slice(0, 300)} → ${JSON.stringify(answer).slice(0, 300)}`
      assert.ok('result' in answer !== 'error' in answer, shown)
      if (!answer.error) return
      assert.ok(CODES.has(answer.error.code), shown)
      assert.doesNotMatch(JSON.stringify(answer.error), /inside the server|TypeError|Cannot read/, shown)
    }),
    { seed: SEED, numRuns: 500 },
  )
  const grownBytes = process.memoryUsage().rss - before
  assert.ok(grownBytes < 200 * 2 ** 20, `memory grew by ${grownBytes} bytes`)
  assert.equal((await fileInfo(node.url, whole.seq))?.finalized, true)
})

// Whatever bytes are posted, they are refused as what they are; only a segment that verifies is ever stored.
test('takes no bytes that are not the file’s', async (t) => {
  t.diagnostic(`SEED=${SEED}`)
  const good = framesOf(part.file, allSegments(part.file))
  const edit = fc.record({
    at: fc.nat(good.length - 1),
    change: fc.oneof(
      fc.record({ kind: fc.constant('flip' as const), bit: fc.nat(7) }),
      fc.record({ kind: fc.constant('cut' as const), bit: fc.constant(0) }),
      fc.record({ kind: fc.constant('drop' as const), bit: fc.constant(0) }),
    ),
  })
  await fc.assert(
    fc.asyncProperty(edit, async ({ at, change }) => {
      const body = Buffer.from(good)
      if (change.kind === 'flip') body[at] = (body[at] ?? 0) ^ (1 << change.bit)
      const sent =
        change.kind === 'cut'
          ? body.subarray(0, at)
          : change.kind === 'drop'
            ? Buffer.concat([body.subarray(0, at), body.subarray(at + 1)])
            : body
      const answer = await postFrames(node.url, part.seq, sent)
      assert.ok(answer.status === 200 || (answer.status >= 400 && answer.status < 500), JSON.stringify(answer))
      const object = node.store.transactions.get(part.seq)?.objectId ?? -1
      for (const index of node.store.objects.indexes(object)) {
        const stored = await rpc(node.url, 'zgs_downloadSegmentWithProofByTxSeq', part.seq, index)
        assert.deepEqual(stored, segmentJson(part.file, index))
      }
      node.store.objects.removePieces(object)
      for (const tx of node.store.transactions.byObject(object)) {
        node.store.transactions.recount(tx, [])
      }
    }),
    { seed: SEED, numRuns: 60 },
  )
})
