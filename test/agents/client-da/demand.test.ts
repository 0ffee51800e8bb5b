import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { mine } from '../../chain.ts'
import { type DaNet, openNet, rejectsWith, seededBytes, until } from '../da-signer/harness.ts'

let net: DaNet

// The first signer answers demands, the second does not.
before(async () => {
  net = await openNet({ stakes: [10, 10, 10], overrides: (index) => ({ custody: { answer: index !== 1 } }) })
})

after(async () => {
  await net?.close()
})

// What a reader demands on chain is answered there by the signer itself, and the answer is the row.
test('a demanded row comes back over the chain', async () => {
  const client = net.client()
  const data = seededBytes(1, 200_000)
  const { certificate } = await client.disperse({ data })
  const { data: row, slashedWei } = await client.demandRow({ dataRoot: certificate.dataRoot, row: 3 })
  assert.equal(slashedWei, 0n)
  const rowBytes = 64 * Math.ceil(data.length / 65_536)
  assert.deepEqual(Buffer.from(row ?? []), Buffer.from(data.subarray(3 * rowBytes, 4 * rowBytes)))
})

// A signer that withholds a row loses stake, and the reader's bond and its share are there to be drawn.
test('a signer that does not answer is slashed', async () => {
  const client = net.client({ accountIndex: 9 })
  const { certificate } = await net.client().disperse({ data: seededBytes(2, 100_000) })
  let deadline = 0
  const done = client.demandRow({
    ...{ dataRoot: certificate.dataRoot, row: 1_500 },
    onEvent: (event) => {
      if (event.type === 'asked') deadline = event.deadlineBlock
    },
  })
  await until('the demand', () => deadline > 0)
  await mine(net.anvil, 25)
  const { data, slashedWei, signer } = await done
  assert.equal(data, undefined)
  assert.equal(signer.toLowerCase(), net.signers[1]?.address.toLowerCase())
  assert.equal(slashedWei, 10n ** 18n / 2n)
})

test('rows and blobs that nobody must hold are refused', async () => {
  const client = net.client()
  const { certificate } = await client.disperse({ data: seededBytes(3, 1_000) })
  await assert.rejects(client.demandRow({ dataRoot: certificate.dataRoot, row: 3_072 }), /UnknownRow/)
  await rejectsWith('BLOB_UNKNOWN', client.demandRow({ dataRoot: `0x${'12'.repeat(32)}`, row: 0 }))
})
