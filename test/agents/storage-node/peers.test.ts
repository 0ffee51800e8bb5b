import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { type SignedPeerRecord, signPeerRecord } from '#protocol/storage/peer-record.ts'
import type { RunningNode } from '#storage/node/main.ts'
import { isPrivateHost } from '#storage/node/sync/peer-exchange.ts'
import {
  allSegments,
  download,
  finalized,
  framesOf,
  logged,
  makeFile,
  openNode,
  postFrames,
  rpc,
  temporaryFolder,
  until,
  useTestNet,
} from './harness.ts'

const { net, defer } = useTestNet()

interface PublicNode {
  node: RunningNode
  url: string
  dataDir: string
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** A node that makes itself known under its address, and is told of some others. */
async function open({ peers, auto = false }: { peers: string[]; auto?: boolean }): Promise<PublicNode> {
  const folder = await temporaryFolder()
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const config = { sync: { auto, peers, publicUrl: url, peerRefreshMs: 100 }, rpc: { listen: `127.0.0.1:${port}` } }
  const node = await openNode({ net, dataDir: folder.path, config })
  defer(async () => {
    await node.close()
    await folder.remove()
  })
  return { node, url, dataDir: folder.path }
}

type PeerViews = Record<string, { connectionStatus: { status: string }; source: string; nodeId: string | null }>

const peersOf = ({ node }: PublicNode) => rpc<PeerViews>(node.adminUrl, 'admin_getPeers')
const recordsOf = async ({ url }: PublicNode) =>
  ((await (await fetch(`${url}/v1/peers`)).json()) as { records: SignedPeerRecord[] }).records

async function announce({ url }: PublicNode, record: unknown): Promise<{ status: number; code: string | undefined }> {
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${url}/v1/peers`, { method: 'POST', headers, body: JSON.stringify(record) })
  return { status: response.status, code: ((await response.json()) as { code?: string }).code }
}

// Two nodes that know only a third one get to know each other, and one fetches from the other what the third lacks.
test('nodes find each other through one that both know', async () => {
  const meeting = await open({ peers: [] })
  const holder = await open({ peers: [meeting.url] })
  const file = await makeFile(1_500_000, 21)
  const seq = await net.submit(file)
  await logged(holder.url, seq)
  assert.equal((await postFrames(holder.url, seq, framesOf(file, allSegments(file)))).status, 200)
  const late = await open({ peers: [meeting.url], auto: true })
  await finalized(late.url, seq)
  assert.deepEqual(await download(late.url, seq, 1_500_000), Buffer.from(file.bytes))
  const known = (await peersOf(late))[holder.url]
  assert.equal(known?.source, 'record')
  assert.equal(known?.connectionStatus.status, 'connected')
  const told = await until('both told by the one in the middle', async () => {
    const urls = (await recordsOf(meeting)).map(({ url }) => url)
    return urls.includes(holder.url) && urls.includes(late.url) && urls
  })
  assert.equal(told[0], meeting.url)
})

// The key that signs records is made once, is for the node alone to read, and stays the same over restarts.
test('a node keeps its id', async () => {
  const first = await open({ peers: [] })
  const [before] = await recordsOf(first)
  assert.equal((await stat(join(first.dataDir, 'node-key.pem'))).mode & 0o777, 0o600)
  await first.node.close()
  const again = await openNode({ net, dataDir: first.dataDir, config: { sync: { publicUrl: first.url } } })
  defer(() => again.close())
  const status = (await (await fetch(`${again.url}/v1/status`)).json()) as { nodeId: string }
  assert.equal(status.nodeId, before?.nodeId)
})

// A record counts only where the node that signed it answers: a stranger cannot speak for another node's address, nor
// take the place of a record that is right.
test('a record of a stranger for the address of another is dropped', async () => {
  const target = await open({ peers: [] })
  const witness = await open({ peers: [target.url] })
  await until('the target known', async () => (await recordsOf(witness)).some(({ url }) => url === target.url))
  const own = (await recordsOf(target))[0]
  assert.ok(own)
  const { privateKey } = generateKeyPairSync('ed25519')
  const forged = signPeerRecord({ record: { ...own, issuedAtS: own.issuedAtS + 60 }, privateKey })
  assert.equal((await announce(witness, forged)).status, 200)
  // The next record shows that the round in which the forged one was looked at is over.

  const nowhere = signPeerRecord({ record: { ...own, url: `http://127.0.0.1:${await freePort()}` }, privateKey })
  assert.equal((await announce(witness, nowhere)).status, 200)
  await until(
    'the address tried',
    async () => (await peersOf(witness))[nowhere.url]?.connectionStatus.status === 'down',
  )
  const told = await recordsOf(witness)
  assert.ok(!told.some(({ url }) => url === nowhere.url), 'a node nobody has reached is told')
  assert.ok(!told.some(({ nodeId }) => nodeId === forged.nodeId), 'a forged record is told')
  assert.ok(told.some(({ nodeId, url }) => nodeId === own.nodeId && url === target.url))
})

test('bad records are refused with a typed error', async () => {
  const witness = await open({ peers: [] })
  const [own] = await recordsOf(witness)
  assert.ok(own)
  const tampered = { ...own, url: 'http://203.0.113.7:5678' }
  assert.deepEqual(await announce(witness, tampered), { status: 422, code: 'PEER_RECORD_SIGNATURE' })
  const { privateKey } = generateKeyPairSync('ed25519')
  const foreign = signPeerRecord({ record: { ...own, chainId: 5 }, privateKey })
  assert.deepEqual(await announce(witness, foreign), { status: 422, code: 'PEER_RECORD_FOREIGN' })
  assert.deepEqual(await announce(witness, { ...own, signature: 'yes' }), { status: 400, code: 'REQUEST_INVALID' })
  assert.deepEqual(await announce(witness, []), { status: 400, code: 'REQUEST_INVALID' })
  assert.equal((await announce(witness, { ...own, padding: 'x'.repeat(5_000) })).status, 413)
})

// Strangers must not send a public node to look at its own network.
test('private addresses are told from public ones', () => {
  for (const host of ['127.0.0.1', '10.1.2.3', '172.20.0.1', '192.168.1.1', '169.254.169.254', '[::1]', '[fd00::1]']) {
    assert.equal(isPrivateHost(`http://${host}:80`), true, host)
  }
  for (const host of ['localhost', 'database', 'node.local', 'x.internal']) {
    assert.equal(isPrivateHost(`http://${host}`), true, host)
  }
  for (const host of ['203.0.113.7', 'node.example.org', '[2001:db8::1]']) {
    assert.equal(isPrivateHost(`https://${host}`), false, host)
  }
})
