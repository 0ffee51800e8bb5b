import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { depositAt, readAccount, requestWithdrawal, withdrawFrom } from '#client/da/accounts.ts'
import { type DisperserClient, openDisperserClient } from '#client/da/disperser-client.ts'
import type { RunningDisperser } from '#da/disperser/main.ts'
import { decodeVoucherShortfall, encodeDispersalVoucher, signDispersalVoucher } from '#protocol/da/dispersal-voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { mine } from '../../chain.ts'
import { accountOf, type DaNet, openNet, seededBytes, until } from '../da-signer/harness.ts'
import { DISPERSER_ACCOUNT, openDisperser } from './harness.ts'

const ETHER = 10n ** 18n
const CONFIRMATIONS = 3
/** Long enough that no blob expires while blocks are mined. */
const RETENTION = 50
const DISPERSER = accountOf(DISPERSER_ACCOUNT).address.toLowerCase() as Hex

let net: DaNet
let running: RunningDisperser
let grpc: DisperserClient

before(async () => {
  net = await openNet({ deploy: { lockSeconds: 1_000 } })
  running = await openDisperser(net, { fees: feesOf(), retentionEpochs: RETENTION })
  grpc = openDisperserClient(running.grpcAddress)
})

after(async () => {
  grpc?.close()
  await running?.close()
  await net?.close()
})

function feesOf() {
  return { accounts: net.contracts.accounts, marginBps: 500, gasFeeWei: 7n, earnOverGas: 1 }
}

const clientOf = (accountIndex: number) =>
  net.client({ accountIndex, contracts: { ...net.contracts, accounts: net.contracts.accounts } }).connection

/** A deposit of one account, as deep as it must be to count. */
async function deposit(accountIndex: number, amountWei = ETHER): Promise<void> {
  await depositAt(clientOf(accountIndex), { disperser: DISPERSER, amountWei })
  await mine(net.anvil, CONFIRMATIONS)
}

async function voucher(accountIndex: number, cumulativeFeeWei: bigint, more: { expiresInS?: number } = {}) {
  const signer = accountOf(accountIndex)
  const signed = await signDispersalVoucher({
    ...{ chainId: 31337, contract: net.contracts.accounts, signer },
    voucher: {
      ...{ user: signer.address, disperser: DISPERSER, cumulativeFeeWei },
      expiresAtS: Math.floor(Date.now() / 1_000) + (more.expiresInS ?? 86_400),
    },
  })
  return encodeDispersalVoucher(signed)
}

async function post(data: Uint8Array, header?: string, url = running.url) {
  const headers = {
    'content-type': 'application/octet-stream',
    ...(header === undefined ? {} : { 'x-weightless-voucher': header }),
  }
  const response = await fetch(`${url}/v1/blobs`, { method: 'POST', headers, body: Buffer.from(data) })
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

async function json(path: string, url = running.url): Promise<Record<string, unknown>> {
  return (await (await fetch(`${url}${path}`)).json()) as Record<string, unknown>
}

async function quote(size: number): Promise<bigint> {
  return BigInt(String((await json(`/v1/quote?size=${size}`)).totalWei))
}

async function final(id: unknown): Promise<Record<string, unknown>> {
  await until('finality', async () => {
    await mine(net.anvil, 1)
    const { state } = await json(`/v1/blobs/${id}`)
    assert.notEqual(state, 'failed')
    return state === 'final'
  })
  return json(`/v1/blobs/${id}`)
}

const standingOf = (accountIndex: number) => json(`/v1/accounts/${accountOf(accountIndex).address}`)

// The quote says what the chain asks, what the disperser adds, and where and how it is paid.
test('quotes what is charged', async () => {
  const found = await json('/v1/quote?size=100000')
  const { feeWei } = await net.client().quote({ sizeBytes: 100_000, retentionEpochs: RETENTION })
  assert.equal(found.chainFeeWei, String(feeWei))
  assert.equal(found.serviceFeeWei, String((feeWei * 5n) / 100n + 7n))
  assert.equal(found.totalWei, String(feeWei + (feeWei * 5n) / 100n + 7n))
  const payment = found.payment as Record<string, unknown>
  assert.equal(String(payment.contract).toLowerCase(), net.contracts.accounts.toLowerCase())
  assert.equal(payment.disperser, DISPERSER)
  assert.equal(payment.mode, 'required')
  assert.equal(payment.chainId, 31337)
  assert.equal(payment.lockSeconds, 1_000)
  assert.equal((await fetch(`${running.url}/v1/quote?size=0`)).status, 400)
})

// A blob with a voucher is set aside for, charged once when it is final, and claimed; the user pays the quote.
test('charges a confirmed blob, and claims it', async () => {
  await deposit(10)
  const feeWei = await quote(50_000)
  const { status: accepted, json: body } = await post(seededBytes(101, 50_000), await voucher(10, feeWei))
  assert.equal(accepted, 202)
  const { id, ...charge } = body.charge as Record<string, unknown>
  assert.equal(typeof id, 'number')
  assert.deepEqual(charge, {
    user: accountOf(10).address.toLowerCase(),
    feeWei: String(feeWei),
    state: 'reserved',
  })
  assert.equal((await standingOf(10)).reservedWei, String(feeWei))
  const done = await final(body.requestId)
  assert.equal((done.charge as Record<string, unknown>).state, 'charged')
  await until('the claim', async () => {
    const { claimedWei } = await readAccount(clientOf(10), { disperser: DISPERSER })
    return claimedWei === feeWei
  })
  await until('the book to see it', async () => {
    await mine(net.anvil, 1)
    const fees = (await json('/v1/status')).fees as Record<string, unknown>
    return fees.claimedWei === fees.chargedWei && BigInt(String(fees.claimedWei)) >= feeWei
  })
  const { balanceWei, claimedWei } = await readAccount(clientOf(10), { disperser: DISPERSER })
  assert.equal(balanceWei + claimedWei, ETHER)
})

// What does not cover the blob is refused with what would, before anything is kept; the same by HTTP and gRPC.
test('refuses blobs that are not paid for, and says what is missing', async () => {
  const data = seededBytes(102, 1_000)
  const feeWei = await quote(1_000)
  const refused = async (header: string | undefined, statusCode: number, code: string) => {
    const { status: answered, json: body } = await post(data, header)
    assert.equal(body.code, code)
    assert.equal(answered, statusCode)
    return body
  }
  await refused(undefined, 402, 'VOUCHER_MISSING')
  await refused('!', 400, 'VOUCHER_FORMAT')
  // No deposit.
  const poor = await refused(await voucher(11, feeWei), 402, 'DEPOSIT_INSUFFICIENT')
  assert.equal((poor.details as Record<string, unknown>).missingWei, String(feeWei))
  await deposit(11, feeWei)
  const short = await refused(await voucher(11, feeWei - 1n), 402, 'VOUCHER_INSUFFICIENT')
  assert.deepEqual(decodeVoucherShortfall(short.details), {
    cumulativeFeeWei: 0n,
    requiredCumulativeFeeWei: feeWei,
    lastVoucher: undefined,
  })
  await refused(await voucher(11, feeWei, { expiresInS: 60 }), 402, 'VOUCHER_EXPIRED')
  const good = await voucher(11, feeWei)
  const fields = JSON.parse(Buffer.from(good, 'base64url').toString()) as Record<string, unknown>
  const changed = (change: object) => Buffer.from(JSON.stringify({ ...fields, ...change })).toString('base64url')
  await refused(changed({ cumulativeFee: String(2n * feeWei) }), 403, 'VOUCHER_SIGNATURE')
  await refused(changed({ disperser: accountOf(3).address }), 400, 'VOUCHER_FOREIGN')
  await refused(changed({ user: accountOf(10).address }), 403, 'VOUCHER_SIGNATURE')

  const byGrpc = async (header: string | undefined): Promise<ServiceError> => {
    const metadata = new Metadata()
    if (header !== undefined) metadata.set('x-weightless-voucher', header)
    return await grpc.call('DisperseBlob', { data }, { metadata }).then(
      () => assert.fail('nothing was refused'),
      (error: ServiceError) => error,
    )
  }
  assert.equal((await byGrpc(undefined)).code, status.FAILED_PRECONDITION)
  const error = await byGrpc(await voucher(11, feeWei - 1n))
  assert.equal(error.code, status.FAILED_PRECONDITION)
  assert.match(error.details, new RegExp(`VOUCHER_INSUFFICIENT: .*at least ${feeWei} wei`))

  const metadata = new Metadata()
  metadata.set('x-weightless-voucher', good)
  const reply = await grpc.call('DisperseBlob', { data }, { metadata })
  const done = await final(Buffer.from(reply.request_id as Uint8Array).toString('ascii'))
  assert.equal((done.charge as Record<string, unknown>).feeWei, String(feeWei))
})

// A voucher buys one blob: whoever saw it, on the wire or in a claim, buys nothing with it.
test('takes no voucher twice', async () => {
  await deposit(12)
  const feeWei = await quote(2_000)
  const header = await voucher(12, 10n * feeWei)
  const first = await post(seededBytes(103, 2_000), header)
  assert.equal(first.status, 202)
  const copied = await post(seededBytes(104, 2_000), header)
  assert.equal(copied.status, 402)
  const shortfall = decodeVoucherShortfall(copied.json.details)
  assert.equal(shortfall?.requiredCumulativeFeeWei, 10n * feeWei + 1n)
  assert.equal(shortfall?.cumulativeFeeWei, feeWei)
  assert.equal(shortfall?.lastVoucher?.voucher.cumulativeFeeWei, 10n * feeWei)
  const next = await post(seededBytes(104, 2_000), await voucher(12, 10n * feeWei + 1n))
  assert.equal(next.status, 202)
  await final(first.json.requestId)
  await final(next.json.requestId)
  await until('both are claimed', async () => {
    const { claimedWei } = await readAccount(clientOf(12), { disperser: DISPERSER })
    return claimedWei === 2n * feeWei
  })
})

// Equal blobs, of the same user or of another, are one charge.
test('charges equal blobs once', async () => {
  await deposit(13)
  const data = seededBytes(105, 3_000)
  const feeWei = await quote(3_000)
  const first = await post(data, await voucher(13, feeWei))
  const again = await post(data, await voucher(13, feeWei))
  const other = await post(data, await voucher(14, feeWei))
  for (const { status: accepted, json: body } of [first, again, other]) {
    assert.equal(accepted, 202)
    await final(body.requestId)
  }
  const late = await post(data, await voucher(13, 1n))
  assert.equal(late.status, 202)
  assert.equal((late.json.charge as Record<string, unknown>).state, 'charged')
  assert.equal((await standingOf(13)).chargedWei, String(feeWei))
  assert.equal((await standingOf(14)).chargedWei, '0')
})

// A deposit counts when it is as deep as a confirmation, so that a reorganisation cannot take it away from under a blob.
test('counts deposits when they are deep', async () => {
  const feeWei = await quote(100)
  const hash = await depositAt(clientOf(15), { disperser: DISPERSER, amountWei: feeWei })
  const data = seededBytes(106, 100)
  assert.equal((await post(data, await voucher(15, feeWei))).json.code, 'DEPOSIT_INSUFFICIENT')
  // What else is sent meanwhile has blocks of its own on top of it.
  for (let depth = 1; (await net.anvil.rpc('eth_getTransactionReceipt', [hash])) !== null; depth++) {
    assert.ok(depth < 20)
    await net.anvil.rpc('anvil_reorg', [depth, []])
  }
  await mine(net.anvil, CONFIRMATIONS)
  assert.equal((await standingOf(15)).balanceWei, '0')
  await deposit(15, feeWei)
  assert.equal((await post(data, await voucher(15, feeWei))).status, 202)
})

// What is announced to be withdrawn backs no blob any more, and what is owed is claimed before it can be withdrawn.
test('claims before a withdrawal', async () => {
  await deposit(16, ETHER)
  const thrifty = await openDisperser(net, {
    ...{ name: 'thrifty', accountIndex: 8, fees: { ...feesOf(), earnOverGas: 1_000, gasFeeWei: ETHER / 500n } },
  })
  try {
    const disperser = accountOf(8).address
    const user = clientOf(16)
    await depositAt(user, { disperser, amountWei: ETHER })
    await mine(net.anvil, CONFIRMATIONS)
    const feeWei = BigInt(String((await json('/v1/quote?size=4000', thrifty.url)).totalWei))
    const signer = accountOf(16)
    const sign = async (cumulativeFeeWei: bigint) =>
      encodeDispersalVoucher(
        await signDispersalVoucher({
          ...{ chainId: 31337, contract: net.contracts.accounts, signer },
          voucher: {
            ...{ user: signer.address, disperser, cumulativeFeeWei },
            expiresAtS: Math.floor(Date.now() / 1_000) + 86_400,
          },
        }),
      )
    const { json: body } = await post(seededBytes(107, 4_000), await sign(feeWei), thrifty.url)
    await until('finality', async () => {
      await mine(net.anvil, 1)
      return (await json(`/v1/blobs/${body.requestId}`, thrifty.url)).state === 'final'
    })
    // Worth its gas, but not a thousand times: it waits.
    assert.equal((await thrifty.claims?.claim())?.users, 0)
    await requestWithdrawal(user, { disperser, amountWei: ETHER })
    const refused = await post(seededBytes(108, 4_000), await sign(2n * feeWei), thrifty.url)
    assert.equal(refused.json.code, 'DEPOSIT_INSUFFICIENT')
    await until('the claim', async () => (await readAccount(user, { disperser })).claimedWei === feeWei)
    await net.anvil.rpc('evm_increaseTime', [1_001])
    await mine(net.anvil, 1)
    await withdrawFrom(user, { disperser })
    const left = await readAccount(user, { disperser })
    assert.equal(left.balanceWei, 0n)
    assert.equal(left.claimedWei, feeWei)
  } finally {
    await thrifty.close()
  }
})

// Where it is optional, who signs nothing pays nothing: clients of the field cannot sign.
test('takes blobs without vouchers where they are optional', async () => {
  const open = await openDisperser(net, { name: 'open', accountIndex: 7, fees: { ...feesOf(), mode: 'optional' } })
  try {
    const { status: accepted, json: body } = await post(seededBytes(109, 500), undefined, open.url)
    assert.equal(accepted, 202)
    assert.equal(body.charge, null)
    const client = openDisperserClient(open.grpcAddress)
    const { result } = await client.call('DisperseBlob', { data: seededBytes(110, 500) })
    assert.equal(result, 'PROCESSING')
    client.close()
  } finally {
    await open.close()
  }
})
