import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { altDaConfigSchema, type RunningAltDa, startAltDa } from '#da/alt-da/main.ts'
import { keccak256 } from '#kernels/keccak.ts'
import { silentLog } from '#kit/log.ts'
import { toHex } from '#protocol/hex.ts'
import { mine } from '../../chain.ts'
import { accountOf, type DaNet, openNet, seededBytes } from '../da-signer/harness.ts'

let net: DaNet
let server: RunningAltDa

async function open(name: string, more: object = {}): Promise<RunningAltDa> {
  const { anvil, contracts, folder } = net
  const config = altDaConfigSchema.parse({
    data: { dir: join(folder, name), minFreeBytes: 0 },
    chain: {
      ...{ rpcUrls: [anvil.url], id: 31337, signers: contracts.signers, entrance: contracts.entrance },
      ...{ startBlock: contracts.block, confirmations: 1, pollIntervalMs: 50 },
    },
    listen: '127.0.0.1:0',
    ...more,
  })
  return startAltDa(config, { log: silentLog(), account: accountOf(8) })
}

before(async () => {
  net = await openNet()
  server = await open('alt-da')
})

after(async () => {
  await server?.close()
  await net?.close()
})

/** As op-node's client puts: octet-stream in, raw commitment bytes out. */
async function put(input: Uint8Array, path = '/put'): Promise<{ status: number; body: Buffer }> {
  const headers = { 'content-type': 'application/octet-stream' }
  const response = await fetch(`${server.url}${path}`, {
    ...{ method: 'POST', headers, body: Buffer.from(input), redirect: 'error' as const },
  })
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) }
}

async function get(commitment: string): Promise<{ status: number; body: Buffer }> {
  const response = await fetch(`${server.url}/get/${commitment}`)
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) }
}

const account = () => net.client().connection.chain()

// What op-stack's client relies on: raw bytes with the type in front, both spellings of /put, hex with and without 0x, and
// the very input back.
test('puts and gets as an op-stack chain does', async () => {
  const input = seededBytes(1, 120_000)
  const { status, body } = await put(input)
  assert.equal(status, 200)
  assert.equal(body.length, 50)
  assert.equal(body.subarray(0, 2).toString('hex'), '0157')
  const back = await get(`0x${body.toString('hex')}`)
  assert.equal(back.status, 200)
  assert.deepEqual(back.body, Buffer.from(input))
  assert.deepEqual((await get(body.toString('hex'))).body, Buffer.from(input))
  assert.deepEqual((await put(input, '/put/')).body, body)
})

// A batcher that puts the same frame again, at the same time or later, pays once and gets the same commitment.
test('is idempotent by content', async () => {
  const { client } = await account()
  const { address } = accountOf(8)
  const before = await client.getTransactionCount({ address })
  const input = seededBytes(2, 50_000)
  const answers = await Promise.all([put(input), put(input), put(input)])
  const again = await put(input)
  for (const { status, body } of [...answers, again]) {
    assert.equal(status, 200)
    assert.deepEqual(body, answers[0]?.body)
  }
  assert.equal((await client.getTransactionCount({ address })) - before, 2, 'a submission and a confirmation')
})

test('keeps inputs of keccak mode', async () => {
  const input = seededBytes(3, 1_000)
  const commitment = `0x00${toHex(keccak256(input)).slice(2)}`
  const { status, body } = await put(input, `/put/${commitment}`)
  assert.equal(status, 200)
  assert.equal(body.length, 0)
  assert.deepEqual((await get(commitment)).body, Buffer.from(input))
  assert.equal((await put(seededBytes(4, 1_000), `/put/${commitment}`)).status, 400, 'another input')
  assert.equal((await get(`0x00${'12'.repeat(32)}`)).status, 404)
})

// The status decides what a chain does: 404 halts it, 418 drops a batch, 5xx is tried again. None may be mistaken.
test('answers errors with the status that op-stack expects', async () => {
  assert.equal((await put(new Uint8Array())).status, 400)
  assert.equal((await put(seededBytes(5, 10), '/put/0xzz')).status, 400)
  assert.equal((await put(seededBytes(5, 10), `/put/0x01${'00'.repeat(49)}`)).status, 400)
  assert.equal((await get('0xnothex')).status, 400)
  assert.equal((await get('0x02aa')).status, 400)
  const invalid = await get('0x0147aabb')
  assert.equal(invalid.status, 418)
  assert.equal(JSON.parse(invalid.body.toString()).StatusCode, 1)
  const { body } = await put(seededBytes(6, 10_000))
  const foreign = Buffer.from(body)
  foreign[49] = (foreign[49] ?? 0) ^ 1
  assert.equal((await get(foreign.toString('hex'))).status, 503, 'its epoch is not over: it may still be confirmed')
  await net.nextEpoch()
  await net.nextEpoch()
  const late = await get(foreign.toString('hex'))
  assert.equal(late.status, 418)
  assert.equal(JSON.parse(late.body.toString()).StatusCode, 3)
})

// Signers that are away make a read fail for now, never for good; when they are back the same read works.
test('answers 503 while too few signers answer', async () => {
  const input = seededBytes(7, 200_000)
  const { body } = await put(input)
  const closed = [...net.signers]
  await Promise.all(closed.map((signer) => signer.close()))
  assert.equal((await get(body.toString('hex'))).status, 503)
  const short = await open('short', { putTimeoutMs: 3_000 })
  const response = await fetch(`${short.url}/put`, { method: 'POST', body: Buffer.from(seededBytes(8, 1_000)) })
  assert.equal(response.status, 503)
  await short.close()
  for (const index of closed.keys()) await net.start(index)
  await mine(net.anvil, 1)
  assert.deepEqual((await get(body.toString('hex'))).body, Buffer.from(input))
})
