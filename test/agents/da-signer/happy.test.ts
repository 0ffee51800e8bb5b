import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type DaNet, openNet, seededBytes, until } from './harness.ts'

let net: DaNet

before(async () => {
  net = await openNet()
})

after(() => net?.close())

// A blob that was dispersed can be read back from the signers, byte for byte, and its certificate is on the chain.
test('a blob goes out, is certified, and comes back', async () => {
  const data = seededBytes(1, 10_000)
  const client = net.client()
  const { certificate, feeWei, existed } = await client.disperse({ data })
  assert.equal(existed, false)
  assert.ok(feeWei > 0n)
  assert.ok(certificate.confirmTx !== undefined && certificate.submitTx !== undefined)

  const reader = net.client({ accountIndex: 9 })
  const found = await reader.retrieve({ dataRoot: certificate.dataRoot })
  assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
  assert.equal(found.blob.epoch, certificate.epoch)
  assert.deepEqual(found.failures, [])
})

// The same blob again costs nothing and gives the same certificate.
test('a blob that is there is not paid twice', async () => {
  const data = seededBytes(1, 10_000)
  const client = net.client()
  const balance = async () =>
    (await client.connection.chain()).client.getBalance({ address: client.connection.payer('x').address })
  const before = await balance()
  const { certificate, feeWei, existed } = await client.disperse({ data })
  assert.equal(existed, true)
  assert.equal(feeWei, 0n)
  assert.equal(await balance(), before)
  assert.ok(certificate.epoch > 0)
})

// A sample of every row passes for an honest quorum, and says what its confidence rests on.
test('random rows and sub-lines verify', async () => {
  const data = seededBytes(2, 70_000)
  const client = net.client()
  const { certificate } = await client.disperse({ data })
  const rows = await client.sample({ dataRoot: certificate.dataRoot })
  assert.equal(rows.samples, 69)
  assert.equal(rows.passed, 69)
  assert.ok(rows.misled < 2 ** -40)
  assert.ok(rows.restsOn.length > 0)
  const sublines = await client.sample({ dataRoot: certificate.dataRoot, mode: 'sublines', samples: 20 })
  assert.equal(sublines.passed, 20)
  assert.ok(sublines.misled < 3 ** -20 * 1.1)
})

// What a signer shows as its state agrees with what it holds.
test('the status tells of rows, stake and signatures', async () => {
  await until('all signers to see the certificates', () =>
    net.signers.every(({ status }) => status().blobs.recorded >= 2),
  )
  for (const signer of net.signers) {
    const status = signer.status()
    assert.equal(status.state, 'signing')
    assert.equal(status.rows?.count, 768)
    assert.equal(status.stake.percent, 25)
    assert.equal(status.held.blobs, status.uploads.stored)
    assert.equal(status.blobs.recorded, 2)
    assert.deepEqual(status.problems, [])
  }
  const signed = net.signers.reduce((sum, { status }) => sum + status().blobs.signed, 0)
  assert.ok(signed >= 6, `two thirds of the signers signed each of two blobs, ${signed} did`)
})

// Many dispersals of one account at once are all certified and can all be read.
test('one account disperses many blobs at once', async () => {
  const client = net.client()
  const blobs = Array.from({ length: 6 }, (_, i) => seededBytes(40 + (i % 5), 1_000 + i))
  const done = await Promise.all(blobs.map((data) => client.disperse({ data })))
  const reader = net.client({ accountIndex: 9 })
  for (const [i, { certificate }] of done.entries()) {
    const { data } = await reader.retrieve({ dataRoot: certificate.dataRoot, epoch: certificate.epoch })
    assert.deepEqual(Buffer.from(data), Buffer.from(blobs[i] ?? []))
  }
})

// The same blob dispersed twice at the same moment is paid once: by one client, and by two that do not know each other.
test('a blob dispersed twice at once is paid once', async () => {
  const client = net.client()
  const data = seededBytes(60, 5_000)
  const { feeWei: price } = await client.quote({ sizeBytes: data.length })
  const before = await entranceBalance()
  const [one, two] = await Promise.all([client.disperse({ data }), client.disperse({ data })])
  assert.equal(one.certificate.dataRoot, two.certificate.dataRoot)
  assert.deepEqual([one.existed, two.existed].sort(), [false, true])
  assert.equal((await entranceBalance()) - before, price)
  const other = seededBytes(61, 5_000)
  await Promise.all([client, net.client({ accountIndex: 9 })].map((each) => each.disperse({ data: other })))
  assert.equal((await entranceBalance()) - before, 2n * price)
})

async function entranceBalance(): Promise<bigint> {
  const chain = await net.client().connection.chain()
  return chain.client.getBalance({ address: net.contracts.entrance })
}
