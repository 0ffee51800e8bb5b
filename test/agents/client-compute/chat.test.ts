import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { parseEther } from 'viem'
import type { ChatEvent } from '#client/compute/chat.ts'
import type { ComputeClient } from '#client/compute/compute-client.ts'
import { bookKey } from '#client/compute/connection.ts'
import { mayFailOver, ProviderError } from '#client/compute/errors.ts'
import { maximumFee } from '#protocol/compute/fees.ts'
import { type Market, PRICES, startMarket } from './market.ts'
import type { Fault, StandInProvider } from './stand-in-provider.ts'

let market: Market
let provider: StandInProvider
before(async () => {
  market = await startMarket()
  provider = await market.addProvider()
})
after(() => market.stop())
beforeEach(() => {
  provider.fault = 'none'
})

const ask = (client: ComputeClient, more: object = {}) =>
  client.chat({ messages: [{ role: 'user', content: 'Hello?' }], maxTokens: 64, provider: provider.address, ...more })

async function read(text: AsyncIterable<string>): Promise<string> {
  let whole = ''
  for await (const part of text) whole += part
  return whole
}

/** Deposits, asks, reads to the end. */
async function fundedClient(change = {}): Promise<ComputeClient> {
  const client = await market.client(change)
  await client.deposit({ amountWei: parseEther('3') })
  return client
}

test('two steps to a verified answer: deposit, chat', async () => {
  const client = await market.client()
  await client.deposit({ amountWei: parseEther('3') })
  const events: ChatEvent[] = []
  const answer = await ask(client, { onEvent: (event: ChatEvent) => void events.push(event) })
  assert.equal(await read(answer.text), 'Hello from the stand-in')
  const checked = await answer.verification
  assert.deepEqual(
    checked.checks.filter(({ ok }) => !ok),
    [],
  )
  assert.equal(checked.verified, true)
  assert.equal(checked.level, 1)
  const { promptTokens = 0, completionTokens = 0 } = checked.usage ?? {}
  assert.equal(completionTokens, 5)
  assert.equal(checked.feeWei, BigInt(promptTokens) * PRICES.inputPriceWei + 5n * PRICES.outputPriceWei)
  assert.equal(provider.billedWei(client.connection.account().address), checked.feeWei)

  // The price was told first, then what was moved, and neither was passed.
  assert.deepEqual(
    events.map(({ type }) => type),
    ['quote', 'account-guard', 'account-open'],
  )
  const [quote] = events
  assert(quote?.type === 'quote')
  assert.ok(quote.estimatedFeeWei <= quote.maxFeeWei && (checked.feeWei ?? 0n) <= quote.maxFeeWei)
  const sent = provider.requests.at(-1)
  const maxFeeWei = maximumFee({ bodyBytes: sent?.body.length ?? 0, maxTokens: 64, ...PRICES })
  assert.equal(quote.maxFeeWei, maxFeeWei)
  assert.equal(sent?.cumulativeFeeWei, maxFeeWei, 'the first voucher covers this request and no more')
  const [account] = await client.accounts()
  assert.equal(account?.balanceWei, parseEther('1') + maxFeeWei, 'the minimum and what the request may cost')

  // The receipt is kept and holds by itself.
  const shown = client.receipt({ id: checked.digest ?? '' })
  assert.equal(shown.intact, true)
  assert.equal(shown.signed.receipt.feeWei, checked.feeWei)
  assert.equal(client.receipt({ id: checked.chatId ?? '' }).digest, checked.digest)
  assert.equal(client.receipts().length, 1)
})

test('later vouchers build on receipts, not on what earlier vouchers allowed', async () => {
  const client = await fundedClient()
  let billedWei = 0n
  for (let i = 0; i < 3; i++) {
    const answer = await ask(client)
    await read(answer.text)
    assert.equal(provider.requests.at(-1)?.cumulativeFeeWei, billedWei + answer.maxFeeWei)
    billedWei += (await answer.verification).feeWei ?? 0n
  }
  assert.equal(billedWei, provider.billedWei(client.connection.account().address))
})

test('requests at the same time are each covered', async () => {
  const client = await fundedClient()
  const answers = await Promise.all([ask(client), ask(client), ask(client), ask(client)])
  const texts = await Promise.all(answers.map(({ text }) => read(text)))
  assert.deepEqual(new Set(texts), new Set(['Hello from the stand-in']))
  const checks = await Promise.all(answers.map(({ verification }) => verification))
  assert.ok(checks.every(({ verified }) => verified))
})

const unverified: { fault: Fault; check: string; owed: boolean }[] = [
  { fault: 'forged-receipt', check: 'signature', owed: false },
  { fault: 'foreign-request', check: 'signature', owed: false },
  { fault: 'own-seed', check: 'signature', owed: false },
  { fault: 'overpriced', check: 'fee', owed: false },
  { fault: 'no-receipt', check: 'receipt', owed: false },
  { fault: 'signs-other-answer', check: 'answer', owed: true },
  { fault: 'miscounts', check: 'tokens', owed: true },
]
for (const { fault, check, owed } of unverified) {
  test(`an answer whose provider ${fault.replaceAll('-', ' ')} is delivered and called unverified`, async () => {
    const client = await fundedClient(fault === 'no-receipt' ? { limits: { receiptTimeoutMs: 500 } } : {})
    provider.fault = fault
    const answer = await ask(client)
    assert.equal(await read(answer.text), 'Hello from the stand-in')
    const { verified, checks, feeWei } = await answer.verification
    assert.equal(verified, false)
    assert.deepEqual(
      checks.filter(({ ok }) => !ok).map(({ name }) => name),
      [check],
    )
    assert.equal(feeWei !== undefined, owed)
    const key = await bookKey(client.connection, { provider: provider.address })
    assert.equal(client.connection.book.account(key).billedWei > 0n, owed, 'only a sound receipt is owed')
  })
}

for (const fault of ['forged-receipt', 'overpriced', 'foreign-request', 'same-nonce'] as const) {
  test(`a provider that bills with a receipt of the kind ${fault} gets no voucher for it`, async () => {
    const client = await fundedClient()
    // Until its receipt is there the first answer is covered by its highest price, which would pay for a third one too.
    const first = await ask(client)
    await read(first.text)
    await first.verification
    provider.fault = fault
    const answer = await ask(client)
    await read(answer.text)
    await answer.verification
    provider.fault = 'none'
    await assert.rejects(ask(client), (error) => error instanceof ProviderError && error.code === 'VOUCHER_UNJUSTIFIED')
  })
}

test('a receipt number used twice justifies nothing', async () => {
  const client = await fundedClient()
  await read((await ask(client)).text)
  provider.fault = 'same-nonce'
  const answer = await ask(client)
  await read(answer.text)
  const { verified, checks } = await answer.verification
  assert.equal(verified, false)
  assert.equal(checks.at(-1)?.name, 'nonce')
})

test('a receipt that comes late is waited for', async () => {
  const client = await fundedClient()
  provider.fault = 'late-receipt'
  const answer = await ask(client)
  await read(answer.text)
  assert.equal((await answer.verification).verified, true)
})

test('a demand beyond receipts and this request is refused before anything is signed for it', async () => {
  const client = await fundedClient()
  provider.fault = 'demands-too-much'
  const seen = provider.requests.length
  await assert.rejects(ask(client), (error) => {
    assert(error instanceof ProviderError && error.code === 'VOUCHER_UNJUSTIFIED')
    assert.equal(
      BigInt(String(error.details.requiredCumulativeFeeWei)),
      BigInt(String(error.details.justifiedWei)) + 1n,
    )
    return true
  })
  assert.equal(provider.requests.length, seen + 1, 'it was asked once')
})

// A voucher that these books signed themselves, in this request or in another one under way, proves no debt.
test('a provider that shows back what it was just sent gets nothing more', async () => {
  const client = await fundedClient()
  provider.fault = 'mirrors'
  const seen = provider.requests.length
  const asked = await Promise.allSettled([ask(client), ask(client)])
  for (const each of asked) {
    assert.equal(each.status, 'rejected')
    assert.ok(each.reason instanceof ProviderError && each.reason.code === 'VOUCHER_UNJUSTIFIED')
  }
  // Both were under way at once: that much was justified, and no more.
  const signed = provider.requests.slice(seen).map(({ cumulativeFeeWei = 0n }) => cumulativeFeeWei)
  const [lowest = 0n, highest = 0n] = [...signed]
    .sort((a, b) => Number(a - b))
    .filter((_, i, all) => i % (all.length - 1) === 0)
  assert.ok(lowest > 0n && highest <= 2n * lowest, signed.join())
  const key = await bookKey(client.connection, { provider: provider.address })
  assert.equal(client.connection.book.account(key).billedWei, 0n)
})

test('books that were lost go on from the voucher the provider shows', async () => {
  const account = await market.account()
  const first = await fundedClient({ account })
  await read((await ask(first)).text)
  const second = await market.client({ account })
  const answer = await ask(second)
  assert.equal(await read(answer.text), 'Hello from the stand-in')
  assert.equal((await answer.verification).verified, true)
  const third = await ask(second)
  await read(third.text)
  assert.equal((await third.verification).verified, true)
})

const beforeToken: { fault: Fault; code: string; failOver: boolean }[] = [
  { fault: 'dies-before-token', code: 'PROVIDER_UNREACHABLE', failOver: true },
  { fault: 'error-before-token', code: 'PROVIDER_FAILED', failOver: true },
  { fault: 'busy', code: 'PROVIDER_BUSY', failOver: true },
  { fault: 'hangs', code: 'PROVIDER_TIMEOUT', failOver: true },
  { fault: 'refuses', code: 'PROVIDER_REFUSED', failOver: false },
]
for (const { fault, code, failOver } of beforeToken) {
  test(`a provider that ${fault.replaceAll('-', ' ')} is a typed error before any text`, async () => {
    const client = await fundedClient(fault === 'hangs' ? { limits: { firstTokenTimeoutMs: 1_000 } } : {})
    provider.fault = fault
    await assert.rejects(ask(client), (error) => {
      assert(error instanceof ProviderError, String(error))
      assert.equal(error.code, code)
      assert.equal(mayFailOver(error), failOver)
      return true
    })
    provider.fault = 'none'
    assert.equal(await read((await ask(client)).text), 'Hello from the stand-in')
  })
}

for (const fault of ['dies-after-token', 'error-after-token', 'hangs-after-token', 'ends-without-done'] as const) {
  test(`a provider that ${fault.replaceAll('-', ' ')} is a typed error after the text that came`, async () => {
    const idleTimeoutMs = fault === 'hangs-after-token' ? 500 : 30_000
    const client = await fundedClient({ limits: { idleTimeoutMs, receiptTimeoutMs: 500 } })
    provider.fault = fault
    const answer = await ask(client)
    let text = ''
    await assert.rejects(
      async () => {
        for await (const part of answer.text) text += part
      },
      (error) => error instanceof ProviderError && error.code === 'PROVIDER_BROKE_OFF' && !mayFailOver(error),
    )
    assert.ok(text.startsWith('Hello'))
    assert.equal((await answer.verification).verified, false)
  })
}

test('a broken-off answer is owed once its receipt can be had, and the next voucher covers it', async () => {
  const client = await fundedClient()
  provider.fault = 'ends-without-done'
  const answer = await ask(client)
  await assert.rejects(read(answer.text), { code: 'PROVIDER_BROKE_OFF' })
  const { feeWei } = await answer.verification
  provider.fault = 'none'
  const next = await ask(client)
  await read(next.text)
  assert.equal(
    feeWei,
    provider.billedWei(client.connection.account().address) - ((await next.verification).feeWei ?? 0n),
  )
})

test('an abort ends the request at the provider and is the caller’s own reason', async () => {
  const slow = await market.addProvider({ words: Array.from({ length: 60 }, () => ' and'), pauseMs: 20 })
  const client = await fundedClient()
  const controller = new AbortController()
  const answer = await ask(client, { provider: slow.address, signal: controller.signal })
  const reason = new Error('enough')
  await assert.rejects(
    async () => {
      for await (const _ of answer.text) controller.abort(reason)
    },
    (error) => error === reason,
  )
  await answer.verification
  const deadline = Date.now() + 5_000
  while (slow.abandoned === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(slow.abandoned, 1)
})

test('a token the provider no longer takes is made anew, an account that runs low is topped up', async () => {
  const client = await fundedClient()
  await read((await ask(client)).text)
  provider.fault = 'forgets-token-once'
  assert.equal(await read((await ask(client)).text), 'Hello from the stand-in')
  provider.fault = 'lacks-balance-once'
  const events: string[] = []
  const answer = await ask(client, { onEvent: ({ type }: ChatEvent) => void events.push(type) })
  assert.equal(await read(answer.text), 'Hello from the stand-in')
  assert.deepEqual(events, ['quote', 'account-top-up'])
})

test('the model of the receipt is compared with the weights registered on the chain', async () => {
  const weights = `0x${'aa'.repeat(32)}` as const
  const honest = await market.addProvider({ weights, modelId: weights })
  const other = await market.addProvider({ weights, modelId: `0x${'bb'.repeat(32)}` })
  const client = await fundedClient()
  const answer = await ask(client, { provider: honest.address })
  await read(answer.text)
  assert.equal((await answer.verification).verified, true)
  const swapped = await ask(client, { provider: other.address })
  await read(swapped.text)
  assert.deepEqual(
    (await swapped.verification).checks.filter(({ ok }) => !ok).map(({ name }) => name),
    ['model'],
  )
})

test('with a tokenizer at hand the text must be that of the signed tokens', async () => {
  const words = ['Hello', ' from', ' the', ' stand', '-in']
  const textOf = (ids: readonly number[]) => ids.map((id) => words[id - 1_000]).join('')
  const verify = async (modelTexts: () => Promise<(ids: readonly number[]) => string>) => {
    const answer = await ask(await fundedClient({ modelTexts }))
    await read(answer.text)
    return (await answer.verification).checks.find(({ name }) => name === 'tokens')
  }
  const same = await verify(async () => textOf)
  assert.deepEqual([same?.ok, same?.detail], [true, 'ids under the signed roots, and they give the text received'])
  assert.equal((await verify(async () => (ids) => textOf(ids.slice(1))))?.ok, false)
})

test('a provider that became dearer is quoted anew, within the wishes of the request', async () => {
  const changing = await market.addProvider()
  const client = await fundedClient({ limits: { cacheMs: 60_000 } })
  const first = await ask(client, { provider: changing.address })
  await read(first.text)
  await first.verification
  await market.reprice(changing, 3n * PRICES.outputPriceWei)
  changing.reprice({ ...PRICES, outputPriceWei: 3n * PRICES.outputPriceWei })
  const quotes: bigint[] = []
  const onEvent = (event: ChatEvent) => void (event.type === 'quote' && quotes.push(event.maxFeeWei))
  const answer = await ask(client, { provider: changing.address, onEvent })
  await read(answer.text)
  const { checks } = await answer.verification
  assert.deepEqual(
    checks.filter(({ ok }) => !ok),
    [],
  )
  const [before = 0n, after = 0n] = quotes
  assert.equal(after - before, 64n * 2n * PRICES.outputPriceWei)
  await market.reprice(changing, 9n * PRICES.outputPriceWei)
  changing.reprice({ ...PRICES, outputPriceWei: 9n * PRICES.outputPriceWei })
  const preferences = { max_price: { completion: 6 } }
  await assert.rejects(ask(client, { provider: changing.address, preferences }), { code: 'NO_PROVIDER' })
})

test('a fee at a price raised a moment ago is owed if it stays within what the request could cost', async () => {
  const changing = await market.addProvider()
  const client = await fundedClient({ limits: { cacheMs: 60_000 } })
  const known = await ask(client, { provider: changing.address })
  await read(known.text)
  await known.verification
  // Two requests under way leave room in the voucher of the second for a higher price than it was quoted.
  changing.fault = 'late-receipt'
  const first = await ask(client, { provider: changing.address })
  await read(first.text)
  await market.reprice(changing, 2n * PRICES.outputPriceWei)
  changing.reprice({ ...PRICES, outputPriceWei: 2n * PRICES.outputPriceWei })
  const second = await ask(client, { provider: changing.address })
  await read(second.text)
  const { verified, feeWei = 0n } = await second.verification
  assert.equal(verified, true)
  assert.ok(feeWei <= second.maxFeeWei)
  assert.equal((await first.verification).verified, true)
})
