import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { RunningProvider } from '#compute/provider/main.ts'
import type { Hex } from '#protocol/hex.ts'
import { openDoor } from './door.ts'
import { type Market, openMarket, type User, until } from './market.ts'
import { startUpstream, type Upstream } from './upstream.ts'

let market: Market
let upstream: Upstream
let provider: RunningProvider
const SETTLEMENT = { earnOverGas: 1, retryMs: 1 }
const HOUR_MS = 3_600_000

before(async () => {
  market = await openMarket()
  upstream = await startUpstream()
  await market.register(market.config({ upstream: upstream.url }))
})
after(async () => {
  await market?.close()
  await upstream?.close()
})
afterEach(async () => {
  await provider?.close()
})

async function start(overrides: Record<string, unknown> = {}, now?: () => number): Promise<void> {
  const config = market.config({ upstream: upstream.url, ...overrides, settlement: SETTLEMENT })
  provider = await market.start(config, now === undefined ? {} : { now })
}

async function payer(index: number): Promise<User> {
  const user = market.user(index)
  await user.fund('2')
  return user
}

async function ask(
  user: User,
  script: Record<string, unknown>,
  extra: Record<string, unknown> = {},
): Promise<Response> {
  const messages = [{ role: 'user', content: JSON.stringify(script) }]
  return await fetch(`${provider.url}/v1/chat/completions`, {
    ...{ method: 'POST', headers: { authorization: `Bearer ${await user.token()}` } },
    body: JSON.stringify({ model: 'test-model', messages, max_tokens: 1_000, ...extra }),
  })
}

async function chat(user: User, tokens: number): Promise<void> {
  const response = await ask(user, { tokens })
  assert.equal(response.status, 200, await response.text())
}

/** What the books say is whole: everything billed was earned or is still owed. */
function checkBooks(): void {
  const { billedWei, earnedWei, unsettledWei } = provider.status()
  assert.equal(billedWei, earnedWei + unsettledWei)
}

// A settlement that the chain takes and turns down costs the user nothing and the provider no fee: it is sent again, and
// is paid once.
test('a settlement that reverts is paid by the next, once', async () => {
  await start()
  const user = await payer(3)
  await chat(user, 700)
  const before = await user.balance()
  const owedWei = provider.status().unsettledWei
  const { inference } = market.contracts
  const code = (await market.client.getCode({ address: inference })) as Hex
  await market.anvil.rpc('evm_setAutomine', [false])
  const failed = assert.rejects(provider.settle())
  await until(async () => (await pendingCount()) > 0, 'the settlement is in the pool')
  await market.anvil.rpc('anvil_setCode', [inference, '0xfe'])
  await market.anvil.rpc('evm_mine', [])
  await market.anvil.rpc('anvil_setCode', [inference, code])
  await market.anvil.rpc('evm_setAutomine', [true])
  await failed
  assert.equal(await user.balance(), before)
  assert.equal(provider.status().unsettledWei, owedWei)
  checkBooks()
  const round = await provider.settle()
  assert.equal(round.earnedWei, owedWei)
  assert.equal(before - (await user.balance()), owedWei)
  assert.equal((await provider.settle()).batches, 0)
  checkBooks()
})

// A wallet that cannot pay for gas settles nothing and loses nothing: the fees wait until it can.
test('fees wait while the wallet cannot pay for gas', async () => {
  await start()
  const user = await payer(4)
  await chat(user, 700)
  const before = await user.balance()
  const { address } = market.provider
  const coins = await market.client.getBalance({ address })
  await market.anvil.rpc('anvil_setBalance', [address, '0x1'])
  await assert.rejects(provider.settle())
  assert.equal(await user.balance(), before)
  checkBooks()
  await market.anvil.rpc('anvil_setBalance', [address, `0x${coins.toString(16)}`])
  const owedWei = provider.status().unsettledWei
  const round = await until(async () => {
    const done = await provider.settle().catch(() => undefined)
    return done !== undefined && done.batches > 0 ? done : undefined
  }, 'the fees are settled')
  assert.equal(round.earnedWei, owedWei)
  assert.equal(before - (await user.balance()), owedWei)
})

// A user who draws the account away in the middle of an answer gets the answer and pays for it from what is left: the
// lock of refunds gives way to what is owed. Nothing appears or vanishes, and there is no second answer.
test('a user who drains the account in the middle of a stream pays for what was streamed', async () => {
  await start()
  const user = await payer(5)
  const before = await user.balance()
  const response = await ask(
    user,
    { tokens: 60, delayMs: 10 },
    { stream: true, stream_options: { include_usage: true } },
  )
  const reader = response.body?.getReader()
  let text = Buffer.from((await reader?.read())?.value ?? []).toString()
  await user.call(market.contracts.ledger, 'retrieveFund', [[market.provider.address], 'inference-v1.0'])
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
    text += Buffer.from(part.value).toString()
  }
  assert.match(text, /"completion_tokens":60,/)
  assert.match(text, /data: \[DONE\]/)
  await until(async () => (await ask(user, { tokens: 1 })).status === 402, 'no new request is admitted')
  const owedWei = provider.status().unsettledWei
  const round = await provider.settle()
  assert.equal(round.earnedWei, owedWei)
  assert.equal(before - (await user.balance()), owedWei)
  checkBooks()
})

// An hour without the chain: who was known is served for as long as that can be answered for, then everybody is told to
// come back; no fee is lost, and all is settled when the chain is there again.
test('an hour without the chain costs no fee', async () => {
  let passedMs = 0
  const door = await openDoor(market.anvil.url)
  const now = () => Date.now() + passedMs
  const user = await payer(6)
  await start({ chain: { rpcUrls: [door.url], readTimeoutMs: 500, staleLimitMs: HOUR_MS / 2 } }, now)
  try {
    const before = await user.balance()
    // What the provider hears of an account makes it read that again: first it must have heard of the deposit.
    await until(() => provider.status().chainSynced, 'the chain is followed')
    await chat(user, 400)
    door.shut = true
    passedMs += HOUR_MS / 4
    await chat(user, 400)
    passedMs += (3 * HOUR_MS) / 4
    const refused = await ask(user, { tokens: 1 })
    const { error } = (await refused.json()) as { error: { code: string; type: string } }
    assert.deepEqual([refused.status, error.code, error.type], [503, 'chain_unavailable', 'server_error'])
    assert.ok(Number(refused.headers.get('retry-after')) > 0)
    await assert.rejects(provider.settle())
    const owedWei = provider.status().unsettledWei
    assert.equal(owedWei, provider.status().billedWei - provider.status().earnedWei)
    door.shut = false
    const round = await until(() => provider.settle().catch(() => undefined), 'the chain is back', 20_000)
    assert.equal(round.earnedWei, owedWei)
    assert.equal(before - (await user.balance()), owedWei)
    await until(async () => (await ask(user, { tokens: 1 })).status === 200, 'the user is served again', 20_000)
    checkBooks()
  } finally {
    await door.close()
  }
})

async function pendingCount(): Promise<number> {
  const status = (await market.anvil.rpc('txpool_status')) as { pending: string }
  return Number(status.pending)
}
