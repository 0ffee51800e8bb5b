import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
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
  type TestFile,
  until,
  useTestNet,
} from './harness.ts'

const { net, defer, open: openHere } = useTestNet()

async function open(
  sync: NonNullable<NodeConfigInput['sync']> = {},
  data: NonNullable<NodeConfigInput['data']> = {},
): Promise<RunningNode> {
  return openHere({ config: { sync, data } })
}

async function store(node: RunningNode, file: TestFile): Promise<number> {
  const seq = await net.submit(file)
  await logged(node.url, seq)
  const { status, message } = await postFrames(node.url, seq, framesOf(file, allSegments(file)))
  assert.equal(status, 200, message)
  return seq
}

/** A peer that behaves as the test says: it is asked through a proxy that may answer in its stead. */
async function crooked(
  target: RunningNode,
  handle: (path: string, response: ServerResponse) => boolean,
): Promise<{ url: string; asked: () => number }> {
  let asked = 0
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? ''
    if (path.includes('/segments')) {
      asked += 1
      if (handle(path, response)) return
    }
    fetch(`${target.url}${path}`)
      .then(async (answer) => {
        response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' })
        response.end(Buffer.from(await answer.arrayBuffer()))
      })
      .catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  defer(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  )
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked: () => asked }
}

// A node that has missed files fetches them from a peer by itself, old ones and new ones, and serves them afterwards.
test('catches up from a peer', async () => {
  const full = await open({ auto: false })
  const old = await makeFile(3_000_000, 1)
  const small = await makeFile(10, 2)
  const oldSeq = await store(full, old)
  const smallSeq = await store(full, small)
  const late = await open({ peers: [full.url] })
  await finalized(late.url, oldSeq)
  await finalized(late.url, smallSeq)
  assert.deepEqual(await download(late.url, oldSeq, 3_000_000), Buffer.from(old.bytes))
  const fresh = await makeFile(1_000_000, 3)
  const freshSeq = await store(full, fresh)
  await finalized(late.url, freshSeq)
  const frames = Buffer.from(await (await fetch(`${late.url}/v1/files/${freshSeq}/segments`)).arrayBuffer())
  assert.ok(frames.equals(framesOf(fresh, allSegments(fresh))), 'the proofs came along')
  assert.equal(await rpc(late.adminUrl, 'admin_getSyncStatus', freshSeq), 'Completed')
  const status = await rpc<{ connectedPeers: number }>(late.url, 'zgs_getStatus')
  assert.equal(status.connectedPeers, 1)
})

// A sharded node fetches its own segments only, from whichever peers keep them.
test('fetches only the own shard, from several peers', async () => {
  const even = await open({ auto: false }, { shard: '0/2' })
  const odd = await open({ auto: false }, { shard: '1/2' })
  const file = await makeFile(5_000_000, 4)
  const seq = await net.submit(file)
  for (const node of [even, odd]) {
    await logged(node.url, seq)
    await postFrames(node.url, seq, framesOf(file, allSegments(file)))
  }
  const whole = await open({ peers: [even.url, odd.url] })
  const quarter = await open({ peers: [even.url, odd.url] }, { shard: '3/4' })
  await finalized(whole.url, seq)
  assert.deepEqual(await download(whole.url, seq, 5_000_000), Buffer.from(file.bytes))
  await finalized(quarter.url, seq)
  const start = ((await fileInfo(quarter.url, seq))?.tx.startEntryIndex ?? 0) / 1024
  const own = allSegments(file).filter((index) => (start + index) % 4 === 3)
  const object = quarter.store.transactions.get(seq)?.objectId ?? -1
  assert.deepEqual(quarter.store.objects.indexes(object), own)
})

// A peer that sends altered data is caught, no false segment is stored, and the peer is left alone; an honest one
// completes the file.
test('catches a peer that lies', async () => {
  const honest = await open({ auto: false })
  const file = await makeFile(2_000_000, 5)
  const seq = await store(honest, file)
  const liar = await crooked(honest, (_, response) => {
    const body = framesOf(file, allSegments(file))
    body[body.length - 100] = (body[body.length - 100] ?? 0) ^ 1
    body[1_000] = (body[1_000] ?? 0) ^ 1
    response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(body)
    return true
  })
  const alone = await open({ peers: [liar.url], segmentsPerRequest: 32 })
  const status = await until('the lie noticed', async () => {
    const text = await rpc<string>(alone.adminUrl, 'admin_getSyncStatus', seq)
    return text.startsWith('Failed') && text
  })
  assert.match(status, /segment 0: http:\/\/127\.0\.0\.1:\d+: .*sent false data for segment \d/)
  const object = alone.store.transactions.get(seq)?.objectId ?? -1
  const here = alone.store.objects.indexes(object)
  assert.ok(!here.includes(0) && !here.includes(allSegments(file).length - 1), 'a false segment was stored')
  const asked = liar.asked()
  const info = await rpc<Record<string, { failures: { segment: number; peer: string; reason: string }[] }>>(
    alone.adminUrl,
    'admin_getSyncInfo',
    seq,
  )
  assert.equal(info[String(seq)]?.failures[0]?.peer, liar.url)
  const peers = await rpc<Record<string, { connectionStatus: { status: string }; lies: number }>>(
    alone.adminUrl,
    'admin_getPeers',
  )
  assert.equal(peers[liar.url]?.connectionStatus.status, 'banned')
  const network = await rpc<{ bannedPeers: number }>(alone.adminUrl, 'admin_getNetworkInfo')
  assert.equal(network.bannedPeers, 1)
  assert.equal(liar.asked(), asked)
  const helped = await open({ peers: [liar.url, honest.url] })
  await finalized(helped.url, seq)
  assert.deepEqual(await download(helped.url, seq, 2_000_000), Buffer.from(file.bytes))
})

// A peer that stalls, one that answers with errors and one that is down cost time, not the file.
test('goes round peers that stall or fail', async () => {
  const honest = await open({ auto: false })
  const file = await makeFile(2_000_000, 6)
  const seq = await store(honest, file)
  const staller = await crooked(honest, (_, response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream' })
    response.write(framesOf(file, [0]).subarray(0, 100_000))
    return true
  })
  const failing = await crooked(honest, (_, response) => {
    response.writeHead(500, { 'content-type': 'text/plain' }).end('oops')
    return true
  })
  const peers = [staller.url, failing.url, 'http://127.0.0.1:9', honest.url]
  const node = await open({ peers, stallTimeoutMs: 300, segmentsPerRequest: 2 })
  await finalized(node.url, seq)
  assert.deepEqual(await download(node.url, seq, 2_000_000), Buffer.from(file.bytes))
})

// Without auto sync nothing is fetched until the operator asks; what is asked for is fetched, a part if a part is meant.
test('fetches on request', async () => {
  const full = await open({ auto: false })
  const file = await makeFile(2_000_000, 7)
  const seq = await store(full, file)
  const node = await open({ auto: false, peers: [full.url] })
  await logged(node.url, seq)
  assert.equal(await rpc(node.adminUrl, 'admin_getSyncStatus', seq), 'unknown')
  await until(
    'the peer known',
    async () => (await rpc<{ connectedPeers: number }>(node.url, 'zgs_getStatus')).connectedPeers === 1,
  )
  assert.equal((await fileInfo(node.url, seq))?.finalized, false)
  assert.equal(await rpc(node.adminUrl, 'admin_startSyncChunks', seq, 2048, 4096), null)
  await until('two segments', () => node.store.objects.storedPieces === 2)
  await until('the run ended', async () => {
    const { numSyncing } = await rpc<{ numSyncing: number }>(node.adminUrl, 'admin_getSyncServiceState')
    return numSyncing === 0
  })
  const object = node.store.transactions.get(seq)?.objectId ?? -1
  assert.deepEqual(node.store.objects.indexes(object), [2, 3])
  assert.equal(await rpc(node.adminUrl, 'admin_startSyncFile', seq), null)
  await finalized(node.url, seq)
  assert.equal(await rpc(node.adminUrl, 'admin_terminateSync', seq), false)
  const location = await rpc(node.adminUrl, 'admin_getFileLocation', seq, false)
  assert.deepEqual(location, [{ ip: '127.0.0.1', shardConfig: { shardId: 0, numShard: 1 } }])
  assert.equal((await rpcError(node.adminUrl, 'admin_startSyncFile', 99_999)).code, -32602)
  const disabled = await open({ auto: false, byRpc: false })
  const refused = await rpcError(disabled.adminUrl, 'admin_startSyncFile', seq)
  assert.deepEqual([refused.code, refused.data], [-32603, 'file sync by RPC is disabled'])
})

// A damaged segment is fetched again from a peer without anybody asking.
test('mends a damaged segment from a peer', async () => {
  const full = await open({ auto: false })
  const file = await makeFile(1_500_000, 8)
  const seq = await store(full, file)
  const node = await open({ peers: [full.url] })
  await finalized(node.url, seq)
  const object = node.store.transactions.get(seq)?.objectId ?? -1
  const row = node.store.objects.pieceRow(object, 2)
  assert.ok(row)
  node.store.objects.quarantine(row, 'for the test')
  assert.equal(node.store.transactions.get(seq)?.status, 'pending')
  await finalized(node.url, seq)
  assert.deepEqual(await download(node.url, seq, 1_500_000), Buffer.from(file.bytes))
})

// Peers come from an indexer as well; a node does not take itself, or a node of another flow, for a peer.
test('learns peers from an indexer', async () => {
  const full = await open({ auto: false })
  const file = await makeFile(500_000, 9)
  const seq = await store(full, file)
  const foreign = await crooked(full, () => false)
  const nodes: { url: string }[] = [{ url: full.url }, { url: 'ftp://nonsense' }, { url: 'http://127.0.0.1:9' }]
  const indexer = createServer((request, response) => {
    request.resume().on('end', () => {
      const result = { trusted: nodes, discovered: [] }
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result }))
    })
  })
  await new Promise<void>((resolve) => {
    indexer.listen(0, '127.0.0.1', resolve)
  })
  defer(
    () =>
      new Promise((resolve) => {
        indexer.closeAllConnections()
        indexer.close(() => resolve())
      }),
  )
  const node = await open({ indexerUrls: [`http://127.0.0.1:${(indexer.address() as AddressInfo).port}`] })
  nodes.push({ url: node.url }, { url: foreign.url })
  await finalized(node.url, seq)
  type Peers = Record<string, { connectionStatus: { status: string }; isTrusted: boolean }>
  const peers = await until('the node to know itself', async () => {
    const all = await rpc<Peers>(node.adminUrl, 'admin_getPeers')
    return all[node.url]?.connectionStatus.status === 'self' && all
  })
  assert.equal(peers[full.url]?.connectionStatus.status, 'connected')
  assert.equal(peers[full.url]?.isTrusted, false)
})

// A node of another make, which knows JSON-RPC alone, serves as a peer as well.
test('fetches over JSON-RPC from a node without the binary path', async () => {
  const full = await open({ auto: false })
  const file = await makeFile(1_200_000, 10)
  const seq = await store(full, file)
  const plain = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (request.method !== 'POST') {
        response.writeHead(405).end('Used HTTP Method is not allowed. POST is required')
        return
      }
      const headers = { 'content-type': 'application/json' }
      fetch(full.url, { method: 'POST', headers, body: Buffer.concat(chunks) })
        .then(async (answer) => response.writeHead(200, headers).end(await answer.text()))
        .catch(() => response.destroy())
    })
  })
  await new Promise<void>((resolve) => {
    plain.listen(0, '127.0.0.1', resolve)
  })
  defer(
    () =>
      new Promise((resolve) => {
        plain.closeAllConnections()
        plain.close(() => resolve())
      }),
  )
  const node = await open({ peers: [`http://127.0.0.1:${(plain.address() as AddressInfo).port}`] }, { shard: '0/2' })
  await finalized(node.url, seq)
  const start = ((await fileInfo(node.url, seq))?.tx.startEntryIndex ?? 0) / 1024
  const object = node.store.transactions.get(seq)?.objectId ?? -1
  assert.deepEqual(
    node.store.objects.indexes(object),
    allSegments(file).filter((index) => (start + index) % 2 === 0),
  )
})
