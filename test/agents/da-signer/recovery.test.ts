import assert from 'node:assert/strict'
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Address, encodeEventTopics, getAddress } from 'viem'
import { entranceAbi } from '#client/da/abi.ts'
import type { DaEvent } from '#client/da/da-client.ts'
import type { Hash } from '#protocol/hex.ts'
import { mine } from '../../chain.ts'
import { type DaNet, openNet, seededBytes, until } from './harness.ts'

const CONFIRMATIONS = 2

let net: DaNet

before(async () => {
  net = await openNet({ confirmations: CONFIRMATIONS, deploy: { epochBlocks: 400 } })
})

after(() => net?.close())

/** Blocks keep coming while this runs; none comes after it. */
async function withBlocks<T>(work: () => Promise<T>): Promise<T> {
  const ending = new AbortController()
  const blocks = (async () => {
    while (!ending.signal.aborted) {
      await mine(net.anvil, 1)
      await delay(50, undefined, { signal: ending.signal }).catch(() => {})
    }
  })()
  try {
    return await work()
  } finally {
    ending.abort()
    await blocks
  }
}

/** How often the chain, as it stands, has a blob paid. */
async function payments(dataRoot: Hash): Promise<number> {
  const topics = encodeEventTopics({ abi: entranceAbi, eventName: 'BlobSubmitted', args: { dataRoot } })
  const filter = { address: net.contracts.entrance, topics, fromBlock: '0x0', toBlock: 'latest' }
  return ((await net.anvil.rpc('eth_getLogs', [filter])) as unknown[]).length
}

const knows = (dataRoot: Hash, epoch: number) => () =>
  net.signers.map(({ store }) => store.submission({ dataRoot, epoch, quorumId: 0 }) !== undefined)

// A payment taken back by a reorganisation deeper than the wanted depth is noticed: nobody signs, the client sends the
// same transaction again, and rows that are there need not travel twice.
test('a deep reorganisation is noticed and repaired, without paying or sending twice', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const data = seededBytes(21, 2_000)
  const blob = await client.encode(data)
  const { dataRoot } = blob.commitment
  const submission = await withBlocks(async () => {
    const [paid] = await client.submitBlobs({ blobs: [blob.commitment] })
    assert.ok(paid)
    const { signatures } = await client.collectSignatures({ blob, submission: paid })
    assert.equal(signatures.size, 4)
    return paid
  })
  blob.release()
  const head = Number(await net.anvil.rpc('eth_blockNumber'))
  const depth = head - (submission.block ?? head) + 1
  assert.ok(depth > CONFIRMATIONS)
  await net.anvil.rpc('anvil_reorg', [depth, []])
  assert.equal(await payments(dataRoot), 0)
  await withBlocks(() =>
    until('the signers to notice', () => knows(dataRoot, submission.epoch)().every((seen) => !seen)),
  )
  const uploads = net.signers.map(({ status }) => status().uploads.stored)
  const done = await withBlocks(() => client.disperse({ data }))
  assert.equal(done.feeWei, 0n, 'the payment of before counts')
  assert.equal(await payments(dataRoot), 1)
  assert.deepEqual(
    net.signers.map(({ status }) => status().uploads.stored),
    uploads,
  )
  assert.ok(net.signers.every(({ status }) => status().chain.reorgs > 0))
  const found = await client.retrieve({ dataRoot })
  assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
})

// A certificate that a reorganisation takes away is put back by the same call, for nothing.
test('a certificate that is lost is put back', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const data = seededBytes(22, 2_000)
  await mine(net.anvil, 5)
  const { certificate } = await withBlocks(() => client.disperse({ data }))
  const head = Number(await net.anvil.rpc('eth_blockNumber'))
  await net.anvil.rpc('anvil_reorg', [head - (certificate.block ?? head) + 1, []])
  const again = await withBlocks(() => client.disperse({ data }))
  assert.equal(again.feeWei, 0n)
  assert.equal(await payments(certificate.dataRoot), 1)
  assert.ok((await client.retrieve({ dataRoot: certificate.dataRoot })).blob.confirmed)
})

// A client that waits for depth does not take a payment for final that is taken back meanwhile.
test('a client waits for the depth it was told', async () => {
  const client = net.client({ confirmations: 6, limits: { graceMs: 5_000 } })
  const data = seededBytes(23, 700)
  // The account's earlier transactions are out of the reorganisation's reach: the chain would not bring them back.
  await mine(net.anvil, 5)
  let reorged = false
  const onEvent = (event: DaEvent): void => {
    if (event.type !== 'waiting' || event.for !== 'depth' || reorged) return
    reorged = true
    void net.anvil.rpc('anvil_reorg', [3, []])
  }
  const { certificate } = await withBlocks(() => client.disperse({ data, onEvent }))
  assert.equal(reorged, true)
  assert.equal(await payments(certificate.dataRoot), 1)
})

// A client that ends after it has signed a payment, whether or not that went out, pays once.
test('an interrupted dispersal goes on where it stopped', async () => {
  const data = seededBytes(24, 700)
  const blob = await net.client().encode(data)
  const { dataRoot } = blob.commitment
  blob.release()
  await net.anvil.rpc('evm_setAutomine', [false])
  let txHash: Hash | undefined
  const onEvent = (event: DaEvent): void => {
    if (event.type !== 'transaction-sent') return
    txHash = event.txHash
    throw new Error('the power went')
  }
  await assert.rejects(net.client().disperse({ data, onEvent }), /the power went/)
  // The endpoint forgets it, as if it had never been sent.
  await net.anvil.rpc('anvil_dropTransaction', [txHash])
  await net.anvil.rpc('evm_setAutomine', [true])
  const { certificate } = await withBlocks(() => net.client().disperse({ data }))
  assert.equal(await payments(dataRoot), 1)
  assert.equal(certificate.submitTx, txHash)
})

// A signer whose folder is an old copy catches up, gets back the rows it signed for, and signs again.
test('a signer restarted from an old copy of its folder is whole again', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const index = 2
  const copy = join(net.folder, 'old-copy')
  await net.signers[index]?.close()
  await cp(net.folderOf(index), copy, { recursive: true })
  await net.start(index)
  const data = seededBytes(25, 3_000)
  const { certificate } = await withBlocks(() => client.disperse({ data }))
  const { dataRoot, epoch } = certificate
  const key = { dataRoot, epoch, quorumId: 0 }
  assert.ok(net.signers[index]?.store.held.get(key))
  await net.signers[index]?.close()
  await rm(net.folderOf(index), { recursive: true })
  await cp(copy, net.folderOf(index), { recursive: true })
  // What a crash leaves: a file half written, and one that no table knows.
  await mkdir(join(net.folderOf(index), 'rows', '7'), { recursive: true })
  await writeFile(join(net.folderOf(index), 'rows', '7', '.0011223344556677.tmp'), 'half')
  await writeFile(join(net.folderOf(index), 'rows', '7', `${'ab'.repeat(32)}-0.rows`), 'unknown')
  const signer = await net.start(index, { repair: { enabled: true, intervalMs: 100 } })
  await withBlocks(() => until('the rows to be back', () => signer.status().held.repaired > 0))
  assert.equal(await signer.files.sizeOf({ dataRoot: `0x${'ab'.repeat(32)}`, epoch: 7, quorumId: 0 }), undefined)
  const { firstRow = -1 } = signer.store.held.get(key) ?? {}
  const rows = await fetch(`${signer.url}/v1/blobs/${dataRoot}/rows?epoch=${epoch}&from=${firstRow}&to=${firstRow + 2}`)
  assert.equal(rows.status, 200)
  assert.ok((await rows.arrayBuffer()).byteLength > 2 * 64)

  const next = await withBlocks(() => client.disperse({ data: seededBytes(26, 3_000) }))
  assert.deepEqual(next.failures, [])
  const chain = await client.connection.chain()
  const call = { address: net.contracts.entrance, abi: entranceAbi, functionName: 'blobOf' } as const
  const args = [next.certificate.dataRoot, BigInt(next.certificate.epoch), 0n] as const
  assert.equal((await chain.client.readContract({ ...call, args })).signedBitmap, 0b1111n)
})

// A folder belongs to one signer of one network.
test('a folder of another signer is refused', async () => {
  const [signer] = net.signers
  const address: Address = getAddress(signer?.address ?? '0x')
  await signer?.close()
  await rm(net.folderOf(7), { recursive: true, force: true })
  await cp(net.folderOf(0), net.folderOf(7), { recursive: true })
  await assert.rejects(net.start(7), (error: Error) => Reflect.get(error, 'code') === 'SIGNER_IDENTITY')
  assert.equal(getAddress((await net.start(0)).address), address)
})
