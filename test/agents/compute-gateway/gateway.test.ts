import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { after, before, beforeEach, test } from 'node:test'
import OpenAI, { APIError } from 'openai'
import { pino } from 'pino'
import { parseEther } from 'viem'
import { connectCompute } from '#client/compute/compute-client.ts'
import { gatewayConfigSchema, type RunningGateway, startGateway } from '#compute/gateway/main.ts'
import type { Logger } from '#kit/log.ts'
import { type Market, MODEL, PRICES, startMarket } from '../client-compute/market.ts'
import type { StandInProvider } from '../client-compute/stand-in-provider.ts'

const SECRET_QUESTION = 'What is the colour of the hidden door?'
const SECRET_ANSWER = ['It', ' is', ' vermilion']

let market: Market
let cheap: StandInProvider
let dear: StandInProvider
let gateway: RunningGateway
let openai: OpenAI
/** Of a gateway that waits a second for the first token. */
let hasty: OpenAI
const logged: string[] = []

before(async () => {
  market = await startMarket()
  cheap = await market.addProvider({ words: SECRET_ANSWER })
  const prices = { inputPriceWei: 2n * PRICES.inputPriceWei, outputPriceWei: 2n * PRICES.outputPriceWei }
  dear = await market.addProvider({
    ...{
      words: SECRET_ANSWER,
      prices,
      supportedParameters: ['temperature', 'max_tokens'],
      info: { ProviderIdentity: 'acme' },
    },
  })
  gateway = await start()
  openai = new OpenAI({ baseURL: gateway.baseUrl, apiKey: 'any', maxRetries: 0 })
  const { baseUrl } = await start({ firstTokenTimeoutMs: 1_000 })
  hasty = new OpenAI({ baseURL: baseUrl, apiKey: 'any', maxRetries: 0 })
})
after(() => market.stop())
beforeEach(() => {
  cheap.fault = 'none'
  dear.fault = 'none'
})

async function start(change: object = {}, depositWei = parseEther('20')): Promise<RunningGateway> {
  const account = await market.account()
  const dataDir = await market.folder()
  const chain = { rpcUrls: [market.anvil.url], ledger: market.contracts.ledger }
  if (depositWei > 0n) {
    await using client = connectCompute({ rpcUrl: market.anvil.url, ledger: market.contracts.ledger, account, dataDir })
    await client.deposit({ amountWei: depositWei })
  }
  const config = gatewayConfigSchema.parse({ port: 0, chain, dataDir, ...change })
  const stream = new Writable({
    write: (line: Buffer, _, done) => {
      logged.push(line.toString())
      done()
    },
  })
  const running = await startGateway(config, { account, log: pino({ level: 'debug' }, stream) as Logger })
  closers.push(running.close)
  return running
}
const closers: (() => Promise<void>)[] = []
after(async () => {
  for (const close of closers) await close()
})

const messages = [{ role: 'user' as const, content: SECRET_QUESTION }]
const chat = (more: object = {}) =>
  openai.chat.completions.create({
    model: MODEL,
    messages,
    max_tokens: 32,
    ...more,
  } as never) as unknown as Promise<OpenAI.ChatCompletion>

async function streamOf(more: object = {}, client = openai): Promise<string[]> {
  const stream = await client.chat.completions.create({
    model: MODEL,
    messages,
    max_tokens: 32,
    stream: true,
    ...more,
  } as never)
  const parts: string[] = []
  for await (const chunk of stream as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>) {
    const part = chunk.choices[0]?.delta.content
    if (part) parts.push(part)
  }
  return parts
}

test('the OpenAI client streams through the gateway, token by token', async () => {
  assert.deepEqual(await streamOf(), SECRET_ANSWER)
})

test('the OpenAI client gets a whole answer, with provider, cost and verification in the headers', async () => {
  const { data, response } = await openai.chat.completions
    .create({ model: MODEL, messages, max_completion_tokens: 32 })
    .withResponse()
  assert.equal(data.choices[0]?.message.content, SECRET_ANSWER.join(''))
  assert.equal(response.headers.get('x-weightless-provider'), cheap.address)
  assert.equal(response.headers.get('x-weightless-verified'), 'true')
  assert.ok(BigInt(response.headers.get('x-weightless-fee-wei') ?? '0') > 0n)
  const receipt = await fetch(`${gateway.baseUrl}/receipts/${response.headers.get('zg-res-key')}`)
  const kept = (await receipt.json()) as { verified: boolean; intact: boolean; digest: string }
  assert.equal(kept.verified && kept.intact, true)
  assert.equal(kept.digest, response.headers.get('x-weightless-receipt'))
})

test('plain completions and embeddings go the same way', async () => {
  const completion = await openai.completions.create({ model: MODEL, prompt: 'a' })
  assert.equal(completion.choices[0]?.text, SECRET_ANSWER.join(''))
  const embedding = await openai.embeddings.create({ model: MODEL, input: 'a', encoding_format: 'float' })
  assert.deepEqual(embedding.data[0]?.embedding, [0.5, 0.25])
})

test('models are listed with prices and providers', async () => {
  const models = await openai.models.list()
  assert.deepEqual(
    models.data.map(({ id }) => id),
    [MODEL],
  )
  const [model] = models.data as unknown as { pricing: object; providers: string[]; context_length: number }[]
  assert.deepEqual(model?.pricing, { prompt: '0.000001', completion: '0.000002' })
  assert.deepEqual(model?.providers, [cheap.address, dear.address])
  assert.equal(model?.context_length, 8_192)
})

test('a request that needs no change reaches the provider byte for byte', async () => {
  const body = `{ "model": "${MODEL}",\t"max_tokens":3,\n"messages":[{"role":"user","content":"ä"}] }`
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${gateway.baseUrl}/chat/completions`, { method: 'POST', body, headers })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('x-weightless-verified'), 'true')
  assert.equal(cheap.requests.at(-1)?.body.toString(), body)
})

test('OpenRouter preferences choose the provider', async () => {
  const served = async (more: object) => {
    const [before1, before2] = [cheap.requests.length, dear.requests.length]
    await chat(more)
    return [cheap.requests.length - before1, dear.requests.length - before2]
  }
  assert.deepEqual(await served({}), [1, 0])
  assert.deepEqual(await served({ provider: { order: ['acme'] } }), [0, 1])
  assert.deepEqual(await served({ provider: { only: [dear.address] } }), [0, 1])
  assert.deepEqual(await served({ provider: { ignore: [cheap.address] } }), [0, 1])
  assert.deepEqual(await served({ provider: { require_parameters: true }, temperature: 0 }), [0, 1])
  assert.deepEqual(await served({ provider: { max_price: { completion: 2 } } }), [1, 0])
  assert.equal('provider' in (JSON.parse(dear.requests.at(-1)?.body.toString() ?? '{}') as object), false)
  await assert.rejects(chat({ provider: { max_price: { completion: 1 } } }), { status: 503, code: 'no_provider' })
})

for (const fault of ['dies-before-token', 'error-before-token', 'busy', 'hangs', 'demands-too-much'] as const) {
  test(`when the best provider ${fault.replaceAll('-', ' ')}, the next one answers and the client notices nothing`, async () => {
    await chat({ provider: { only: [dear.address] } })
    cheap.fault = fault
    const before = dear.requests.length
    const client = fault === 'hangs' ? hasty : openai
    assert.deepEqual(await streamOf({ provider: { order: [cheap.address] } }, client), SECRET_ANSWER)
    assert.equal(dear.requests.length, before + 1)
  })
}

test('without allow_fallbacks the failure of the one provider is the answer', async () => {
  cheap.fault = 'dies-before-token'
  const before = dear.requests.length
  const wishes = { provider: { order: [cheap.address], allow_fallbacks: false } }
  await assert.rejects(streamOf(wishes), (error) => error instanceof APIError && error.status === 502)
  assert.equal(dear.requests.length, before)
})

test('a model that nobody serves falls back on the next of `models`', async () => {
  const answer = await chat({ model: 'nobody/has-this', models: [MODEL] })
  assert.equal(answer.choices[0]?.message.content, SECRET_ANSWER.join(''))
  await assert.rejects(chat({ model: 'nobody/has-this' }), { status: 404, code: 'model_not_found' })
})

test('a provider that dies after the first token is an error in the stream, after the text that came', async () => {
  cheap.fault = 'dies-after-token'
  const stream = await openai.chat.completions.create({
    ...{ model: MODEL, messages, max_tokens: 32, stream: true as const },
    ...({ provider: { only: [cheap.address] } } as object),
  })
  let text = ''
  await assert.rejects(
    async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
    },
    (error) => error instanceof APIError && /broke its answer off/.test(error.message),
  )
  assert.equal(text, SECRET_ANSWER[0])
})

test('a client that leaves ends the request at the provider', async () => {
  const words = Array.from({ length: 60 }, () => ' and')
  const slow = await market.addProvider({ words, pauseMs: 20, model: 'slow' })
  const served = (answer: Promise<unknown>) =>
    answer.then(
      () => true,
      () => false,
    )
  await until(() => served(chat({ model: 'slow', max_tokens: 1 })))
  const stream = await openai.chat.completions.create({ model: 'slow', messages, max_tokens: 64, stream: true })
  for await (const _ of stream) break
  await until(async () => slow.abandoned === 1)
  slow.fault = 'hangs'
  const before = slow.requests.length
  const controller = new AbortController()
  const hanging = openai.chat.completions.create(
    { model: 'slow', messages, stream: true },
    { signal: controller.signal },
  )
  await until(async () => slow.requests.length === before + 1)
  controller.abort()
  await assert.rejects(hanging)
})

test('errors have the shape of OpenAI’s API, and say what to run', async () => {
  await assert.rejects(chat({ max_tokens: 0 }), { status: 400, param: 'max_tokens' })
  await assert.rejects(chat({ provider: { sort: 'beauty' } }), { status: 400, param: 'provider.sort' })
  cheap.fault = 'refuses'
  await assert.rejects(chat({ provider: { order: [cheap.address] } }), { status: 400, param: 'temperature' })
  const poor = await start({}, 0n)
  const client = new OpenAI({ baseURL: poor.baseUrl, apiKey: 'x', maxRetries: 0 })
  await assert.rejects(client.chat.completions.create({ model: MODEL, messages }), (error) => {
    assert(error instanceof APIError)
    assert.equal(error.status, 402)
    assert.equal(error.code, 'insufficient_quota')
    assert.match(error.message, /run: weightless deposit 3$/)
    return true
  })
})

test('with an API key strangers are turned away; pages of other origins and names never get in', async () => {
  const guarded = await start({ apiKey: 'a-secret-of-mine' })
  const ask = (headers: Record<string, string>) =>
    fetch(`${guarded.baseUrl}/chat/completions`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ model: MODEL, messages, max_tokens: 3 }),
    })
  const type = { 'content-type': 'application/json' }
  assert.equal((await ask({ ...type, authorization: 'Bearer a-secret-of-yours' })).status, 401)
  assert.equal((await ask(type)).status, 401)
  assert.equal((await ask({ ...type, authorization: 'Bearer a-secret-of-mine' })).status, 200)
  const noPreflight = { 'content-type': 'text/plain', authorization: 'Bearer a-secret-of-mine' }
  assert.equal((await ask(noPreflight)).status, 415)
  await assert.rejects(start({ host: '0.0.0.0' }), { code: 'CONFIG_INVALID' })
})

test('a chain that is down is a 503 that says so', async () => {
  const rpcUrls = ['http://127.0.0.1:1']
  const alone = await startGateway(
    gatewayConfigSchema.parse({
      port: 0,
      dataDir: await market.folder(),
      chain: { rpcUrls, ledger: market.contracts.ledger },
    }),
    { account: await market.account(), log: pino({ level: 'silent' }) as Logger },
  )
  closers.push(alone.close)
  const client = new OpenAI({ baseURL: alone.baseUrl, apiKey: 'x', maxRetries: 0 })
  await assert.rejects(client.chat.completions.create({ model: MODEL, messages }), {
    status: 503,
    code: 'chain_unreachable',
  })
})

test('metrics count answers and spending, and no prompt or answer was ever logged', async () => {
  await until(async () => {
    const text = await (await fetch(`${gateway.url}/metrics`)).text()
    const value = (name: string) => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1] ?? 0)
    const verified = value('weightless_gateway_requests_total{outcome="verified"}'.replaceAll(/[{}]/g, '\\$&'))
    return (
      verified > 5 &&
      value('weightless_gateway_spent_wei_total') > 0 &&
      value('weightless_gateway_fail_overs_total') >= 4
    )
  })
  const everything = logged.join('')
  assert.ok(everything.includes('answered'))
  assert.equal(everything.includes('hidden door'), false)
  assert.equal(everything.includes('vermilion'), false)
})

async function until(check: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!(await check())) {
    assert.ok(Date.now() < deadline, 'it did not come to pass in time')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
