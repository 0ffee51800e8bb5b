import assert from 'node:assert/strict'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { voucherPaid } from '#client/compute/accounts.ts'
import type { ComputeClient } from '#client/compute/compute-client.ts'
import { bookKey } from '#client/compute/connection.ts'
import { providerConfigSchema, type RunningProvider, startProvider } from '#compute/provider/main.ts'
import { silentLog } from '#kit/log.ts'
import { type Market, MODEL, startMarket } from './market.ts'

/** Dear enough for settling to be worth its gas. */
const PRICES = { inputPriceWei: 10n ** 14n, outputPriceWei: 2n * 10n ** 14n }
const WORDS = ['The', ' sky', ' is', ' blue', '.']

let market: Market
let upstream: Server
let provider: RunningProvider
before(async () => {
  market = await startMarket()
  upstream = createServer((request, response) => {
    if (request.url === '/v1/models') {
      response.setHeader('content-type', 'application/json')
      return void response.end(JSON.stringify({ object: 'list', data: [{ id: 'm', max_model_len: 2_048 }] }))
    }
    request.resume().once('end', () => speak(response))
  })
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  const privateKey = market.providerKey()
  const config = providerConfigSchema.parse({
    port: 0,
    dataDir: await market.folder(),
    upstream: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
    chain: { rpcUrls: [market.anvil.url], inference: market.contracts.inference, pollIntervalMs: 50 },
    settlement: { enabled: false, embeddedQueue: false },
  })
  provider = await startProvider(config, { log: silentLog(), account: privateKeyToAccount(privateKey), env: {} })
  await market.register({ privateKey, url: provider.url, signer: provider.signer, prices: PRICES })
})
after(async () => {
  await provider?.close()
  upstream?.closeAllConnections()
  await new Promise((resolve) => (upstream === undefined ? resolve(undefined) : upstream.close(resolve)))
  await market?.stop()
})

/** The engine at the edge: says its words, a token each. */
function speak(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const send = (choices: unknown[], usage?: unknown) =>
    response.write(
      `data: ${JSON.stringify({ id: 'u', object: 'chat.completion.chunk', model: 'm', choices, usage })}\n\n`,
    )
  for (const content of WORDS) send([{ index: 0, delta: { content }, finish_reason: null }])
  send([{ index: 0, delta: {}, finish_reason: 'stop' }])
  send([], { prompt_tokens: 9, completion_tokens: WORDS.length, total_tokens: 9 + WORDS.length })
  response.end('data: [DONE]\n\n')
}

async function ask(client: ComputeClient) {
  const messages = [{ role: 'user' as const, content: 'Why?' }]
  const answer = await client.chat({ messages, model: MODEL, maxTokens: 32 })
  let text = ''
  for await (const part of answer.text) text += part
  return { text, ...(await answer.verification) }
}

// The client and the provider of this project agree on every number: what one signs, the other takes.
test('a real provider takes the client’s vouchers, and its receipts verify', async () => {
  const client = await market.client()
  await client.deposit({ amountWei: parseEther('3') })
  let feesWei = 0n
  for (let i = 0; i < 3; i++) {
    const { text, verified, checks, feeWei } = await ask(client)
    assert.equal(text, WORDS.join(''))
    assert.deepEqual(
      checks.filter(({ ok }) => !ok),
      [],
    )
    assert.equal(verified, true)
    feesWei += feeWei ?? 0n
  }
  assert.ok(feesWei > 0n)
  const [account] = await client.accounts()
  assert.ok((account?.balanceWei ?? 0n) > feesWei)
  const key = await bookKey(client.connection, { provider: provider.address })
  assert.equal(client.connection.book.account(key).billedWei, feesWei)

  // Invariant: what the contract pays the provider is the sum of the receipts, to the wei.
  const before = account?.balanceWei ?? 0n
  await provider.settle()
  assert.equal(await voucherPaid(client.connection, { provider: provider.address }), feesWei)
  const [after] = await client.accounts()
  assert.equal(before - (after?.balanceWei ?? 0n), feesWei)
  assert.equal((await ask(client)).verified, true, 'the next voucher builds on what was paid')
})

test('requests at the same time are all served and all verified', async () => {
  const client = await market.client()
  await client.deposit({ amountWei: parseEther('3') })
  const answers = await Promise.all(Array.from({ length: 6 }, () => ask(client)))
  assert.ok(answers.every(({ text, verified }) => verified && text === WORDS.join('')))
})

test('a client that lost its books goes on', async () => {
  const account = await market.account()
  const first = await market.client({ account })
  await first.deposit({ amountWei: parseEther('3') })
  assert.equal((await ask(first)).verified, true)
  const second = await market.client({ account })
  assert.equal((await ask(second)).verified, true)
  assert.equal((await ask(second)).verified, true)
})
