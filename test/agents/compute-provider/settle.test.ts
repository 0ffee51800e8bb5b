import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync } from 'node:fs'
import { after, afterEach, before, test } from 'node:test'
import { decodeFunctionData, encodeFunctionData } from 'viem'
import type { RunningProvider } from '#compute/provider/main.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { decodeVoucherPayments } from '#protocol/compute/packed-vouchers.ts'
import { decodeVoucherHeader } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { openDoor } from './door.ts'
import { type Market, openMarket, type User, until } from './market.ts'
import { startUpstream, type Upstream } from './upstream.ts'

let market: Market
let upstream: Upstream
let provider: RunningProvider
let users: User[]
/** A cheap chain, so that small fees are worth settling. */
const SETTLEMENT = { earnOverGas: 1, retryMs: 1 }

before(async () => {
  market = await openMarket()
  upstream = await startUpstream()
  const config = market.config({ upstream: upstream.url, settlement: SETTLEMENT })
  await market.register(config)
  users = [3, 4, 5].map((index) => market.user(index))
  for (const user of users) await user.fund('5')
})
after(async () => {
  await market?.close()
  await upstream?.close()
})
afterEach(async () => {
  await provider?.close()
})

async function start(overrides: Record<string, unknown> = {}): Promise<RunningProvider> {
  provider = await market.start(
    market.config({
      upstream: upstream.url,
      ...overrides,
      settlement: { ...SETTLEMENT, ...(overrides.settlement ?? {}) },
    }),
  )
  return provider
}

/** Sends a chat of so many tokens, by session token or by voucher. */
async function chat(user: User, tokens: number, voucher?: string): Promise<number> {
  const messages = [{ role: 'user', content: JSON.stringify({ tokens }) }]
  const response = await fetch(`${provider.url}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      ...(voucher === undefined
        ? { authorization: `Bearer ${await user.token()}` }
        : { 'x-weightless-voucher': voucher }),
    },
    body: JSON.stringify({ model: 'test-model', messages, max_tokens: 1_000 }),
  })
  await response.text()
  return response.status
}

const balances = async () => await Promise.all(users.map((user) => user.balance()))
const sum = (amounts: readonly bigint[]) => amounts.reduce((total, amount) => total + amount, 0n)

// What users lose is what the provider earns, no more and no less than it billed; nothing is settled twice.
test('settles session tokens and vouchers in one batch each, once', async () => {
  await start()
  const [first, second, third] = users as [User, User, User]
  const before = sum(await balances())
  assert.equal(await chat(first, 500), 200)
  assert.equal(await chat(first, 500), 200)
  assert.equal(await chat(second, 700), 200)
  assert.equal(await chat(third, 900, await third.voucher(10n ** 17n)), 200)
  const { billedWei, unsettledWei } = provider.status()
  assert.equal(unsettledWei, billedWei)
  const round = await provider.settle()
  assert.deepEqual([round.batches, round.users, round.earnedWei], [2, 3, billedWei])
  assert.ok(round.earnedWei > round.gasWei)
  assert.equal(before - sum(await balances()), billedWei)
  assert.deepEqual(
    [provider.status().unsettledWei, provider.status().earnedWei, provider.status().gasWei],
    [0n, billedWei, round.gasWei],
  )
  assert.equal((await provider.settle()).batches, 0)
  assert.equal(before - sum(await balances()), billedWei)
})

// One voucher beyond what the packed form holds takes a call of its own; the others stay cheap, and all are paid once.
test('packs the vouchers that can be packed, and settles the others too', async () => {
  await start()
  const payers = [12, 13, 14].map((index) => market.user(index))
  for (const user of payers) await user.fund('1')
  const fromBlock = await market.client.getBlockNumber()
  const paid = new Map<Hex, bigint>()
  for (const [index, user] of payers.entries()) {
    const before = provider.status().billedWei
    const cumulativeWei = index === 0 ? 2n ** 96n : 10n ** 17n
    assert.equal(await chat(user, 900 - 100 * index, await user.voucher(cumulativeWei)), 200)
    paid.set(user.address, provider.status().billedWei - before)
  }
  const round = await provider.settle()
  assert.deepEqual([round.batches, round.users, round.earnedWei], [2, 3, sum([...paid.values()])])
  const logs = await market.client.getContractEvents({
    ...{ address: market.contracts.inference, abi: inferenceServingAbi, eventName: 'VouchersSettled', fromBlock },
  })
  const calls = await Promise.all(
    logs.map(async ({ transactionHash: hash, args }) => {
      const { input } = await market.client.getTransaction({ hash })
      const { functionName } = decodeFunctionData({ abi: inferenceServingAbi, data: input })
      return { functionName, payments: decodeVoucherPayments(args.payments ?? '0x') }
    }),
  )
  const payment = ({ address }: User) => ({ user: address, paidWei: paid.get(address) })
  const [odd, ...packed] = payers as [User, User, User]
  assert.deepEqual(calls, [
    { functionName: 'settlePackedVouchers', payments: packed.map(payment) },
    { functionName: 'settleVouchers', payments: [payment(odd)] },
  ])
  assert.equal((await provider.settle()).batches, 0)
})

test('waits while fees are not worth their gas', async () => {
  await start({ settlement: { earnOverGas: 1_000 } })
  const [first] = users as [User]
  assert.equal(await chat(first, 5), 200)
  assert.equal((await provider.settle()).batches, 0)
  assert.ok(provider.status().unsettledWei > 0n)
})

// A user who draws the account away while it owes pays what is left; the rest stays on the books, and what was under
// refund counts for no new request.
test('a user who drains the account while it owes pays as far as the balance goes', async () => {
  await start()
  const drainer = market.user(6)
  await drainer.fund('1')
  assert.equal(await chat(drainer, 1_000), 200)
  await drainer.call(market.contracts.ledger, 'retrieveFund', [[market.provider.address], 'inference-v1.0'])
  await until(async () => (await chat(drainer, 1)) === 402, 'no new request is admitted', 5_000)
  const owed = provider.status().unsettledWei
  const before = await drainer.balance()
  const round = await provider.settle()
  assert.ok(round.earnedWei > 0n && round.earnedWei <= owed)
  assert.equal(before - (await drainer.balance()) <= owed, true)
  const { billedWei, earnedWei, unsettledWei } = provider.status()
  assert.equal(billedWei, earnedWei + unsettledWei)
})

// Between the process and its chain stands a door: while it is shut, known users are served, and nothing is lost.
test('serves known users and keeps the books while the chain cannot be reached', async () => {
  const door = await openDoor(market.anvil.url)
  await start({ chain: { rpcUrls: [door.url], maxAgeMs: 50, readTimeoutMs: 500 } })
  const [first, second] = users as [User, User]
  assert.equal(await chat(first, 400), 200)
  const earnedBefore = provider.status().earnedWei
  door.shut = true
  await until(async () => (await health()) === 'degraded', 'the chain is gone')
  assert.equal(await chat(first, 400), 200)
  const unknown = market.user(7)
  const refused = await fetch(`${provider.url}/v1/chat/completions`, {
    ...{ method: 'POST', headers: { authorization: `Bearer ${await unknown.token()}` } },
    body: JSON.stringify({ model: 'test-model', messages: [{ role: 'user', content: 'x' }] }),
  })
  const body = (await refused.json()) as { error: { code: string } }
  assert.deepEqual([refused.status, body.error.code], [503, 'chain_unavailable'])
  assert.ok(refused.headers.get('retry-after'))
  await assert.rejects(provider.settle())
  const owed = provider.status().unsettledWei
  assert.ok(owed > 0n)
  door.shut = false
  const round = await until(() => provider.settle().catch(() => undefined), 'the chain is back', 20_000)
  assert.ok(round.earnedWei > 0n)
  assert.equal(provider.status().earnedWei, earnedBefore + round.earnedWei)
  assert.ok(second.address)
  await door.close()
})

// The process ends between sending and knowing: the next one finds out from the chain, and nobody is charged twice.
for (const mode of ['token', 'voucher'] as const) {
  test(`finds out after a crash what became of a settlement by ${mode}`, async () => {
    await start()
    const [first] = users as [User]
    assert.equal(await chat(first, 800, mode === 'voucher' ? await first.voucher(4n * 10n ** 18n) : undefined), 200)
    const before = await first.balance()
    const owed = provider.status().unsettledWei
    // Answers are lost from the moment on when the transaction is in.
    await market.anvil.rpc('evm_setAutomine', [false])
    const lost = provider.settle().catch(() => undefined)
    await until(async () => (await pendingCount()) > 0, 'the settlement is in the pool')
    await provider.close()
    await lost
    await market.anvil.rpc('evm_setAutomine', [true])
    await market.anvil.rpc('evm_mine', [])
    await start()
    const round = await provider.settle()
    assert.equal(round.earnedWei, owed)
    assert.equal(before - (await first.balance()), owed)
    assert.equal(provider.status().unsettledWei, 0n)
    assert.equal((await provider.settle()).earnedWei, 0n)
  })
}

async function pendingCount(): Promise<number> {
  const status = (await market.anvil.rpc('txpool_status')) as { pending: string }
  return Number(status.pending)
}

// Two processes with one wallet: neither is paid for what the other did, and no user pays twice.
test('two providers with one key do not charge anybody twice', async () => {
  await start()
  const other = await market.start(
    market.config({ upstream: upstream.url, dataDir: `${market.folder}/other`, settlement: SETTLEMENT }),
  )
  const [first, second] = users as [User, User]
  const before = sum(await balances())
  const startedWei = provider.status().earnedWei
  assert.equal(await chat(second, 600, await second.voucher(10n ** 18n)), 200)
  const mine = provider
  provider = other
  assert.equal(await chat(second, 600, await second.voucher(2n * 10n ** 18n)), 200)
  provider = mine
  assert.equal(await chat(first, 300), 200)
  await mine.settle()
  await other.settle()
  const paid = before - sum(await balances())
  for (const { billedWei, earnedWei, unsettledWei } of [mine.status(), other.status()]) {
    assert.equal(billedWei, earnedWei + unsettledWei)
  }
  assert.equal(paid, mine.status().earnedWei - startedWei + other.status().earnedWei)
  await other.close()
})

// Both have read what the contract paid before either is paid: both claims then rest on the same base, and one payment
// covers the other's claim too. Who sent it counts it, alone; the other's fees stay due, and are paid in the end.
for (const mode of ['voucher', 'token'] as const) {
  test(`one payment by ${mode} is counted once where two providers with one key settle at the same time`, async () => {
    await start()
    const mine = provider
    const dataDir = `${market.folder}/race-${mode}`
    // Session tokens are settled by the word of the signing key, so they share that one, too.
    mkdirSync(dataDir)
    copyFileSync(`${market.folder}/provider/signer.key`, `${dataDir}/signer.key`)
    const other = await market.start(market.config({ upstream: upstream.url, dataDir, settlement: SETTLEMENT }))
    const user = market.user(mode === 'voucher' ? 16 : 17)
    await user.fund('2')
    const voucher = mode === 'voucher' ? await user.voucher(10n ** 18n) : undefined
    const before = await user.balance()
    const startedWei = mine.status().earnedWei
    const billedWei: bigint[] = []
    for (const [index, each] of [mine, other].entries()) {
      provider = each
      const earlierWei = each.status().billedWei
      assert.equal(await chat(user, 500 + 200 * index, voucher), 200)
      billedWei.push(each.status().billedWei - earlierWei)
    }
    provider = mine
    await market.anvil.rpc('evm_setAutomine', [false])
    const rounds: Promise<unknown>[] = []
    for (const [index, each] of [mine, other].entries()) {
      rounds.push(each.settle())
      await until(async () => (await pendingCount()) > index, `settlement ${index} is in the pool`)
    }
    await market.anvil.rpc('evm_mine', [])
    await market.anvil.rpc('evm_setAutomine', [true])
    await Promise.all(rounds)
    const earnedWei = () => mine.status().earnedWei - startedWei + other.status().earnedWei
    assert.equal(earnedWei(), before - (await user.balance()))
    for (const { billedWei: billed, earnedWei: earned, unsettledWei } of [mine.status(), other.status()]) {
      assert.equal(billed, earned + unsettledWei)
    }
    for (const each of [mine, other]) {
      await until(async () => (await each.settle()).batches === 0, 'nothing is left to settle')
    }
    assert.equal(before - (await user.balance()), sum(billedWei))
    assert.equal(earnedWei(), sum(billedWei))
    await other.close()
  })
}

test('holds back a user whom the contract would refuse, and settles the others', async () => {
  await start({ settlement: { retryMs: 60_000 } })
  const [first, second] = users as [User, User]
  const revoker = market.user(8)
  await revoker.fund('1')
  assert.equal(await chat(revoker, 600, await revoker.voucher(10n ** 17n)), 200)
  assert.equal(await chat(second, 900, await second.voucher(3n * 10n ** 18n)), 200)
  assert.equal(await chat(first, 600), 200)
  await market.owner().call(market.contracts.inference, 'revokeTEESignerAcknowledgement', [market.provider.address])
  const round = await until(
    async () =>
      ((await fetch(`${provider.url}/healthz`).then((r) => r.json())) as { status: string }).status === 'degraded',
    'the approval is gone',
  ).then(() => provider.settle())
  assert.equal(round.users, 2)
  await market.owner().call(market.contracts.inference, 'acknowledgeTEESignerByOwner', [market.provider.address])
  await until(async () => (await provider.settle()).users === 1, 'the session token is settled too')
})

// What is remembered of an account ends with the event of a settlement that somebody else sent.
test('a voucher settled elsewhere is seen at once', async () => {
  await start()
  const user = market.user(15)
  await user.fund('1')
  assert.equal(await chat(user, 1), 200)
  const { voucher, signature } = decodeVoucherHeader(await user.voucher(10n ** 18n))
  const terms = { user: user.address, cumulativeFee: 10n ** 18n, claim: 10n ** 18n, generation: 0n, signature }
  const data = encodeFunctionData({
    ...{ abi: inferenceServingAbi, functionName: 'settleVouchers' },
    args: [[{ ...terms, expiry: BigInt(voucher.expiresAtS) }]],
  })
  const { account } = market.provider
  const hash = await market.client.sendTransaction({ account, chain: null, to: market.contracts.inference, data })
  await market.client.waitForTransactionReceipt({ hash, pollingInterval: 20 })
  assert.equal(await user.balance(), 0n)
  await until(async () => (await chat(user, 1)) === 402, 'the account is known to be empty', 5_000)
})

async function health(): Promise<string> {
  return ((await (await fetch(`${provider.url}/healthz`)).json()) as { status: string }).status
}
