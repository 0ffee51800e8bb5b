import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { entranceAbi } from '#client/da/abi.ts'
import { type DisperserClient, openDisperserClient } from '#client/da/disperser-client.ts'
import type { RunningDisperser } from '#da/disperser/main.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { headNumber, mine } from '../../chain.ts'
import { accountOf, type DaNet, openNet, seededBytes, until } from '../da-signer/harness.ts'
import { DISPERSER_ACCOUNT, openDisperser } from './harness.ts'

let net: DaNet
let running: RunningDisperser
let grpc: DisperserClient

before(async () => {
  net = await openNet()
  running = await openDisperser(net)
  grpc = openDisperserClient(running.grpcAddress)
})

after(async () => {
  grpc?.close()
  await running?.close()
  await net?.close()
})

interface Header {
  storage_root: Uint8Array
  epoch: number
  quorum_id: number
}

async function statusOf(requestId: unknown): Promise<{ status: string; header: Header | undefined }> {
  const reply = await grpc.call('GetBlobStatus', { request_id: requestId })
  const info = reply.info as { blob_header: Header } | null
  return { status: String(reply.status), header: info?.blob_header }
}

async function confirmed(requestId: unknown): Promise<Header> {
  let header: Header | undefined
  await until('confirmation', async () => {
    const found = await statusOf(requestId)
    assert.notEqual(found.status, 'FAILED')
    header = found.header
    return header !== undefined
  })
  assert.ok(header)
  return header
}

async function httpState(id: string): Promise<Record<string, unknown>> {
  return (await (await fetch(`${running.url}/v1/blobs/${id}`)).json()) as Record<string, unknown>
}

async function postBlob(
  data: Uint8Array,
  url = running.url,
): Promise<{ status: number; json: Record<string, unknown> }> {
  const headers = { 'content-type': 'application/octet-stream' }
  const response = await fetch(`${url}/v1/blobs`, { method: 'POST', headers, body: Buffer.from(data) })
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

/** How often the contract was paid for a blob. */
async function payments(dataRoot: Hash): Promise<number> {
  const { client } = await net.client().connection.chain()
  const events = await client.getContractEvents({
    ...{ address: net.contracts.entrance, abi: entranceAbi, eventName: 'BlobSubmitted' },
    ...{ args: { dataRoot }, fromBlock: BigInt(net.contracts.block) },
  })
  return events.filter(({ args }) => (args.feeWei ?? 0n) > 0n).length
}

// A blob goes in by gRPC, is confirmed, becomes final with depth, and comes back by its root: the protocol of the field.
test('disperses, tells and retrieves by gRPC', async () => {
  const data = seededBytes(1, 300_000)
  const { result, request_id: id } = await grpc.call('DisperseBlob', { data })
  assert.equal(result, 'PROCESSING')
  assert.match(Buffer.from(id as Uint8Array).toString('ascii'), /^[0-9a-f]{64}-[0-9a-f]+$/)
  const header = await confirmed(id)
  assert.equal((await statusOf(id)).status, 'CONFIRMED')
  await mine(net.anvil, 3)
  await until('finality', async () => (await statusOf(id)).status === 'FINALIZED')
  const reply = await grpc.call('RetrieveBlob', header)
  assert.deepEqual(Buffer.from(reply.data as Uint8Array), Buffer.from(data))
  // The same by a client that trusts nobody.
  const found = await net.client().retrieve({ dataRoot: toHex(header.storage_root) })
  assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
})

// The same over HTTP, with the fee quoted before and told after.
test('disperses and retrieves by HTTP', async () => {
  const data = seededBytes(2, 70_000)
  const quote = (await (await fetch(`${running.url}/v1/quote?size=70000`)).json()) as Record<string, unknown>
  const { status: accepted, json } = await postBlob(data)
  assert.equal(accepted, 202)
  await until('confirmation', async () => (await httpState(String(json.requestId))).state === 'confirmed')
  const request = await httpState(String(json.requestId))
  assert.equal(request.feeWei, quote.chainFeeWei)
  // Nobody is charged where no contract is given.
  assert.equal(quote.totalWei, '0')
  assert.equal(quote.payment, null)
  assert.equal(request.charge, null)
  const response = await fetch(`${running.url}/v1/data/${request.dataRoot}`)
  assert.deepEqual(Buffer.from(await response.arrayBuffer()), Buffer.from(data))
})

// The same bytes twice are two requests and one payment.
test('does not pay twice for the same bytes', async () => {
  const data = seededBytes(3, 10_000)
  const first = (await postBlob(data)).json.requestId
  const second = (await postBlob(data)).json.requestId
  assert.notEqual(first, second)
  for (const id of [first, second])
    await until('both', async () => (await httpState(String(id))).dataRoot !== undefined)
  assert.equal(await payments((await httpState(String(first))).dataRoot as Hash), 1)
})

// Blobs that come together share transactions.
test('lets blobs share transactions', async () => {
  const { client } = await net.client().connection.chain()
  const { address } = accountOf(DISPERSER_ACCOUNT)
  const before = await client.getTransactionCount({ address })
  const ids = await Promise.all(
    [10, 11, 12, 13].map(async (seed) => (await postBlob(seededBytes(seed, 5_000))).json.requestId),
  )
  for (const id of ids) await until('all', async () => (await httpState(String(id))).dataRoot !== undefined)
  const sent = (await client.getTransactionCount({ address })) - before
  assert.ok(sent < 8, `${sent} transactions for four blobs`)
})

test('refuses bad input with a typed error', async () => {
  const refusal = async (method: string, request: object) => {
    const error = await grpc.call(method, request).then(
      () => assert.fail('nothing was refused'),
      (error: unknown) => error as { code: status; details: string },
    )
    return error
  }
  const empty = await refusal('DisperseBlob', { data: new Uint8Array() })
  assert.equal(empty.code, status.INVALID_ARGUMENT)
  assert.match(empty.details, /BLOB_SIZE.*1 to 33554432 bytes/)
  const large = await refusal('DisperseBlob', { data: new Uint8Array(2 ** 25 + 1) })
  assert.equal(large.code, status.INVALID_ARGUMENT)
  assert.equal((await refusal('GetBlobStatus', { request_id: Buffer.from('nothing') })).code, status.NOT_FOUND)
  assert.equal((await refusal('RetrieveBlob', { storage_root: Buffer.alloc(31) })).code, status.INVALID_ARGUMENT)
  const unknown = await refusal('RetrieveBlob', { storage_root: Buffer.alloc(32, 7), epoch: 1 })
  assert.equal(unknown.code, status.NOT_FOUND)
  assert.equal((await postBlob(new Uint8Array())).status, 413)
  assert.equal((await postBlob(new Uint8Array(2 ** 25 + 1))).status, 413)
  assert.equal((await fetch(`${running.url}/v1/blobs/none`)).status, 404)
  assert.equal((await fetch(`${running.url}/v1/data/0x12`)).status, 400)
  assert.equal((await fetch(`${running.url}/v1/quote?size=x`)).status, 400)
  assert.equal((await fetch(`${running.url}/v1/quote`)).status, 400)
})

// An accepted blob survives the end of the process at once after: it is confirmed by the next run, and paid once.
test('goes on after a stop with what it accepted', async () => {
  const options = { name: 'restarted' }
  const first = await openDisperser(net, options)
  const data = seededBytes(20, 40_000)
  const { json } = await postBlob(data, first.url)
  await first.close()
  const second = await openDisperser(net, options)
  try {
    const id = String(json.requestId)
    await until('confirmation', () => second.disperser.request(id).state !== 'processing')
    const { state, dataRoot } = second.disperser.request(id)
    assert.ok(state === 'confirmed' || state === 'final', state)
    assert.ok(dataRoot)
    assert.equal(await payments(dataRoot), 1)
  } finally {
    await second.close()
  }
})

// A reorganisation that takes a confirmation away is noticed before the blob counts as final, and mended.
test('confirms again after a reorganisation', async () => {
  const data = seededBytes(30, 20_000)
  const head = await headNumber(net.anvil)
  const { json } = await postBlob(data)
  const id = String(json.requestId)
  await until('confirmation', async () => (await httpState(id)).state === 'confirmed')
  const depth = (await headNumber(net.anvil)) - head
  await net.anvil.rpc('anvil_reorg', [depth, []])
  await until('finality on the new branch', async () => {
    await mine(net.anvil, 1)
    return (await httpState(id)).state === 'final'
  })
  const { dataRoot, epoch } = await httpState(id)
  const { client } = await net.client().connection.chain()
  const exists = await client.readContract({
    ...{ address: net.contracts.entrance, abi: entranceAbi, functionName: 'commitmentExists' },
    args: [dataRoot as Hash, BigInt(Number(epoch)), 0n],
  })
  assert.equal(exists, true)
  assert.equal(fromHex(String(dataRoot)).length, 32)
})

// Without a quorum a blob is reported as failed after its tries, with the reason, and nothing hangs.
test('reports a blob that finds no quorum', async () => {
  const lonely = await openNet({ stakes: [10, 10, 10] })
  await Promise.all(lonely.signers.slice(0, 2).map((signer) => signer.close()))
  const disperser = await openDisperser(lonely, { jobs: { attempts: 1 } })
  try {
    const { id } = await disperser.disperser.accept(seededBytes(40, 1_000))
    const giveUpAt = Date.now() + 150_000
    while (disperser.disperser.request(id).state === 'processing' && Date.now() < giveUpAt) {
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    const { state, error } = disperser.disperser.request(id)
    assert.equal(state, 'failed')
    assert.match(error ?? '', /stake|sign/)
  } finally {
    await disperser.close()
    await lonely.close()
  }
})
