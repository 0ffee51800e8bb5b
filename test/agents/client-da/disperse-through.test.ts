import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { connectDa, type DaClient } from '#client/da/da-client.ts'
import { DisperserFailedError } from '#client/da/disperser/disperser-http.ts'
import { VoucherBook, type VoucherKey } from '#client/da/disperser/voucher-book.ts'
import type { RunningDisperser } from '#da/disperser/main.ts'
import {
  decodeDispersalVoucher,
  encodeDispersalVoucher,
  encodeVoucherShortfall,
  signDispersalVoucher,
} from '#protocol/da/dispersal-voucher.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { mine } from '../../chain.ts'
import { DISPERSER_ACCOUNT, openDisperser } from '../da-disperser/harness.ts'
import { accountOf, type DaNet, openNet, rejectsWith, seededBytes, until } from '../da-signer/harness.ts'

const ETHER = 10n ** 18n
const DISPERSER = accountOf(DISPERSER_ACCOUNT).address.toLowerCase() as Hex

let net: DaNet
let running: RunningDisperser
const clients: DaClient[] = []

before(async () => {
  net = await openNet()
  running = await openDisperser(net, {
    fees: { accounts: net.contracts.accounts, earnOverGas: 1 },
    retentionEpochs: 50,
  })
})

after(async () => {
  await Promise.all(clients.map((client) => client.close()))
  await running?.close()
  await net?.close()
})

function clientOf(accountIndex: number): DaClient {
  const client = connectDa({
    ...{ rpcUrl: net.anvil.url, contracts: net.contracts, account: accountOf(accountIndex), codec: net.codec },
    ...{ startBlock: net.contracts.block, journalDir: `${net.folder}/journal`, limits: { pollIntervalMs: 30 } },
  })
  clients.push(client)
  return client
}

async function rich(accountIndex: number): Promise<DaClient> {
  const client = clientOf(accountIndex)
  await client.deposit({ disperser: DISPERSER, amountWei: ETHER })
  await mine(net.anvil, 3)
  return client
}

async function keyOf(client: DaClient): Promise<VoucherKey> {
  const chain = await client.connection.chain()
  const { hash: genesis } = await chain.client.getBlock({ blockNumber: 0n })
  const user = client.connection.payer('test').address
  return { chainId: 31337, genesis, contract: net.contracts.accounts, user, disperser: DISPERSER }
}

const tally = async (client: DaClient) => (await client.disperserAccount({ disperser: DISPERSER })).claimedWei

async function claimed(client: DaClient, wei: bigint): Promise<void> {
  await until('the claim', async () => {
    await mine(net.anvil, 1)
    return (await tally(client)) >= wei
  })
  assert.equal(await tally(client), wei)
}

// Blob after blob: the user pays the sum of the quotes it was shown, and nothing else leaves its account.
test('disperses through a disperser, and pays the quotes', async () => {
  const client = await rich(10)
  const book = VoucherBook.open({ dir: ':memory:' })
  let paidWei = 0n
  for (const seed of [201, 202, 203]) {
    const data = seededBytes(seed, 20_000 * (seed - 200))
    let quotedWei: bigint | undefined
    const onQuote = ({ totalWei }: { totalWei: bigint }) => {
      quotedWei = totalWei
    }
    const { certificate, feeWei } = await client.disperseThrough({ url: running.url, data, book, onQuote })
    assert.equal(feeWei, quotedWei)
    paidWei += feeWei
    const { data: copy } = await client.retrieve({ dataRoot: certificate.dataRoot })
    assert.deepEqual(Buffer.from(copy), Buffer.from(data))
  }
  const account = book.account(await keyOf(client))
  assert.deepEqual(account, { billedWei: paidWei, openWei: 0n, signedWei: paidWei })
  await claimed(client, paidWei)
  // The same again is free.
  const again = await client.disperseThrough({ url: running.url, data: seededBytes(201, 20_000), book })
  assert.equal(again.feeWei, 0n)
  assert.equal(book.account(await keyOf(client)).billedWei, paidWei)
  book.close()
})

// Without a deposit nothing is taken, and the book owes nothing for it.
test('says what to deposit', async () => {
  const client = clientOf(11)
  const book = VoucherBook.open({ dir: ':memory:' })
  const data = seededBytes(210, 1_000)
  const error = await rejectsWith('DEPOSIT_INSUFFICIENT', client.disperseThrough({ url: running.url, data, book }))
  assert.match(String(Reflect.get(error, 'fix')), /deposit at least \d+ wei/)
  assert.equal(book.account(await keyOf(client)).openWei, 0n)
  const limited = client.disperseThrough({ url: running.url, data, book, maxFeeWei: 1n })
  await rejectsWith('FEE_ABOVE_LIMIT', limited)
  book.close()
})

// A user that lost its book goes on: from the voucher that the disperser shows, which the user did sign.
test('goes on after the book is lost', async () => {
  const client = await rich(12)
  const first = VoucherBook.open({ dir: ':memory:' })
  const one = await client.disperseThrough({ url: running.url, data: seededBytes(220, 1_000), book: first })
  first.close()
  const second = VoucherBook.open({ dir: ':memory:' })
  const two = await client.disperseThrough({ url: running.url, data: seededBytes(221, 1_000), book: second })
  assert.equal(second.account(await keyOf(client)).billedWei, one.feeWei + two.feeWei)
  second.close()
  await claimed(client, one.feeWei + two.feeWei)
})

// A call that was cut off after the hand-over is looked up by the next one, and its blob counted once.
test('catches up with a blob it did not see through', async () => {
  const client = await rich(13)
  const book = VoucherBook.open({ dir: ':memory:' })
  const cut = client.disperseThrough({ url: running.url, data: seededBytes(230, 1_000), book, timeoutMs: 0 })
  await rejectsWith('DISPERSER_TIMEOUT', cut)
  assert.equal(book.open(await keyOf(client), 9).length, 1)
  const two = await client.disperseThrough({ url: running.url, data: seededBytes(231, 1_000), book })
  await until('the first to be confirmed', () => running.disperser.counts().processing === 0)
  const three = await client.disperseThrough({ url: running.url, data: seededBytes(232, 1_000), book })
  assert.equal(book.open(await keyOf(client), 9).length, 0)
  assert.equal(book.account(await keyOf(client)).billedWei, 2n * two.feeWei + three.feeWei)
  book.close()
  await claimed(client, 3n * three.feeWei)
})

/** A disperser that answers as it is told, and records the vouchers it is sent. */
async function fakeDisperser(answers: {
  payment?: object
  post: (voucher: string) => { status: number; body: object }
  status?: object
}): Promise<{ url: string; vouchers: string[]; server: Server }> {
  const vouchers: string[] = []
  const server = createServer((request, response) => {
    const answer = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    request.resume()
    request.on('end', () => {
      if (request.url?.startsWith('/v1/quote')) {
        const payment = {
          ...{ mode: 'required', chainId: 31337, contract: net.contracts.accounts, disperser: DISPERSER },
          ...{ lockSeconds: 3_600, minVoucherLifetimeMs: 3_600_000, ...answers.payment },
        }
        const fees = { chainFeeWei: '90', serviceFeeWei: '10', totalWei: '100' }
        answer(200, { sizeBytes: 1_000, retentionEpochs: 1, ...fees, payment })
      } else if (request.method === 'POST') {
        const voucher = String(request.headers['x-weightless-voucher'])
        vouchers.push(voucher)
        const { status, body } = answers.post(voucher)
        answer(status, body)
      } else answer(200, answers.status ?? {})
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, vouchers, server }
}

// A disperser that lies about what is owed, or about the blob, gets no more signed than one quote above the chain's word.
test('signs no more than the quote for a disperser that asks for more', async () => {
  const client = clientOf(14)
  const book = VoucherBook.open({ dir: ':memory:' })
  const data = seededBytes(240, 1_000)
  const greedy = await fakeDisperser({
    post: () => ({
      status: 402,
      body: {
        ...{ code: 'VOUCHER_INSUFFICIENT', message: 'more' },
        details: encodeVoucherShortfall({
          ...{ cumulativeFeeWei: 10n ** 20n, requiredCumulativeFeeWei: 10n ** 20n + 100n, lastVoucher: undefined },
        }),
      },
    }),
  })
  await rejectsWith('VOUCHER_UNJUSTIFIED', client.disperseThrough({ url: greedy.url, data, book }))
  assert.deepEqual(
    greedy.vouchers.map((header) => decodeDispersalVoucher(header).voucher.cumulativeFeeWei),
    [100n],
  )
  // The same with a voucher that somebody else signed, as a proof.
  const forger = accountOf(15)
  const forged = await signDispersalVoucher({
    ...{ chainId: 31337, contract: net.contracts.accounts, signer: forger },
    voucher: {
      ...{ user: accountOf(14).address.toLowerCase() as Hex, disperser: DISPERSER, cumulativeFeeWei: 10n ** 20n },
      expiresAtS: 9_999_999_999,
    },
  })
  const forging = await fakeDisperser({
    post: () => ({
      status: 402,
      body: {
        ...{ code: 'VOUCHER_INSUFFICIENT', message: 'more' },
        details: encodeVoucherShortfall({
          ...{ cumulativeFeeWei: 10n ** 19n, requiredCumulativeFeeWei: 10n ** 19n + 100n, lastVoucher: forged },
        }),
      },
    }),
  })
  assert.ok(encodeDispersalVoucher(forged).length < 2_048)
  await rejectsWith('VOUCHER_UNJUSTIFIED', client.disperseThrough({ url: forging.url, data, book }))
  // And with the voucher it was just sent.
  const mirroring = await fakeDisperser({
    post: (voucher) => {
      const lastVoucher = decodeDispersalVoucher(voucher)
      const { cumulativeFeeWei } = lastVoucher.voucher
      const shortfall = { cumulativeFeeWei, requiredCumulativeFeeWei: cumulativeFeeWei + 100n, lastVoucher }
      return {
        status: 402,
        body: { code: 'VOUCHER_INSUFFICIENT', message: 'more', details: encodeVoucherShortfall(shortfall) },
      }
    },
  })
  await rejectsWith('VOUCHER_UNJUSTIFIED', client.disperseThrough({ url: mirroring.url, data, book }))
  assert.equal(mirroring.vouchers.length, 1)
  const elsewhere = await fakeDisperser({
    payment: { contract: `0x${'12'.repeat(20)}` },
    post: () => ({ status: 500, body: {} }),
  })
  await rejectsWith('DISPERSER_DISHONEST', client.disperseThrough({ url: elsewhere.url, data, book }))
  assert.equal(elsewhere.vouchers.length, 0)
  const swapped: Hash = `0x${'34'.repeat(32)}`
  const confirmed = { requestId: 'one', state: 'confirmed', dataRoot: swapped, epoch: 1, quorumId: 0 }
  const swapping = await fakeDisperser({ post: () => ({ status: 202, body: confirmed }) })
  const error = await rejectsWith('DISPERSER_DISHONEST', client.disperseThrough({ url: swapping.url, data, book }))
  assert.ok(error instanceof DisperserFailedError)
  // Whatever they did: at most a quote more than was signed before, each time.
  const { signedWei, billedWei } = book.account(await keyOf(client))
  assert.equal(billedWei, 0n)
  assert.ok(signedWei <= 103n, String(signedWei))
  book.close()
  for (const { server } of [greedy, forging, mirroring, elsewhere, swapping]) server.close()
})

// A blob that was paid for and then left for epochs is moved to the one that is now, and not paid for again.
test('moves a blob that was left for two epochs', async () => {
  const client = clientOf(17)
  const data = seededBytes(250, 2_000)
  const encoded = await client.encode(data)
  const [submission] = await client.submitBlobs({ blobs: [encoded.commitment], retentionEpochs: 50 })
  encoded.release()
  await net.nextEpoch()
  await net.nextEpoch()
  const { certificate, feeWei } = await client.disperse({ data })
  assert.equal(feeWei, 0n)
  assert.ok(certificate.epoch >= (submission?.epoch ?? 0) + 2)
})

// The book survives its process: what was signed and owed is read back, and a blob under way is not counted twice.
test('keeps its book on the disk', async () => {
  const dir = `${net.folder}/book`
  const key = await keyOf(clientOf(16))
  const blob = { dataRoot: `0x${'ab'.repeat(32)}` as Hash, feeWei: 50n, expiresAtS: 2_000_000_000 }
  const first = VoucherBook.open({ dir })
  assert.equal(first.reserve(key, blob).cumulativeFeeWei, 50n)
  first.close()
  const second = VoucherBook.open({ dir })
  const again = second.reserve(key, blob)
  assert.deepEqual({ isNew: again.isNew, wei: again.cumulativeFeeWei }, { isNew: false, wei: 51n })
  assert.equal(second.bill(key, { id: again.id, feeWei: 50n, charge: 7 }), 50n)
  assert.equal(second.bill(key, { id: again.id, feeWei: 50n, charge: 7 }), 0n)
  const equal = second.reserve(key, blob)
  assert.equal(second.bill(key, { id: equal.id, feeWei: 50n, charge: 7 }), 0n)
  assert.deepEqual(second.account(key), { billedWei: 50n, openWei: 0n, signedWei: 100n })
  const other = { ...key, genesis: `0x${'00'.repeat(32)}` as Hash }
  assert.equal(second.account(other).signedWei, 0n)
  second.close()
})
