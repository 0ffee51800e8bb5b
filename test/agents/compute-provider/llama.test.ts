import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import OpenAI from 'openai'
import { createLlamaEngine } from '#compute/engines/llama-engine.ts'
import type { RunningProvider } from '#compute/provider/main.ts'
import { RANDOMNESS_HEADER, receiptSeed, requestHash, verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import { INPUT_PRICE_WEI, type Market, OUTPUT_PRICE_WEI, openMarket, type User } from './market.ts'

let market: Market
let provider: RunningProvider
let user: User

before(async () => {
  market = await openMarket()
  const model = join(market.folder, 'random.gguf')
  await writeGgufFile({ path: model, content: randomModel() })
  const config = market.config({ model, modelName: 'test-model', contextTokens: 512 })
  await market.register(config)
  provider = await market.start(config)
  user = market.user(3)
  await user.fund('5')
})
after(() => market?.close())

const messages = [{ role: 'user' as const, content: 'Tell me something.' }]

test('serves a model file, streamed and whole, the same at temperature 0', async () => {
  const openai = new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: await user.token(), maxRetries: 0 })
  const request = { model: 'test-model', messages, max_tokens: 12, temperature: 0 }
  const whole = await openai.chat.completions.create(request)
  assert.ok((whole.usage?.completion_tokens ?? 0) > 0)
  let text = ''
  for await (const chunk of await openai.chat.completions.create({ ...request, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? ''
  }
  assert.equal(text, whole.choices[0]?.message.content)
})

// A receipt names the tokens themselves, and the seed that the user's own random bytes give.
test('its receipts carry the tokens and the seed of the request', async () => {
  const body = JSON.stringify({ model: 'test-model', messages, max_tokens: 10, temperature: 1 })
  const randomness = `0x${'5a'.repeat(32)}` as const
  const headers = { authorization: `Bearer ${await user.token()}`, [RANDOMNESS_HEADER]: randomness }
  const response = await fetch(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body })
  const answer = (await response.json()) as OpenAI.ChatCompletion
  assert.equal(response.status, 200, JSON.stringify(answer))
  const id = response.headers.get('zg-res-key')
  const signed = decodeReceipt(await (await fetch(`${provider.url}/v1/receipts/${id}`)).json())
  const hash = requestHash(Buffer.from(body))
  verifyReceipt({
    ...{ ...signed, chainId: 31_337, contract: market.contracts.inference, signers: [provider.signer] },
    expected: { user: user.address, requestHash: hash, seed: receiptSeed({ requestHash: hash, randomness }) },
  })
  const { receipt, promptTokens, outputTokens } = signed
  assert.equal(promptTokens?.length, answer.usage?.prompt_tokens)
  assert.equal(outputTokens?.length, answer.usage?.completion_tokens)
  assert.deepEqual([receipt.level, receipt.profile], [2, 'gumbel-philox-1'])
  const usage = answer.usage ?? { prompt_tokens: 0, completion_tokens: 0 }
  assert.equal(
    receipt.feeWei,
    BigInt(usage.prompt_tokens) * INPUT_PRICE_WEI + BigInt(usage.completion_tokens) * OUTPUT_PRICE_WEI,
  )
})

test('a prompt past the context is refused by its own code, and costs nothing', async () => {
  const before = provider.status().billedWei
  const openai = new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: await user.token(), maxRetries: 0 })
  const long = [{ role: 'user' as const, content: 'many words '.repeat(2_000) }]
  await assert.rejects(openai.chat.completions.create({ model: 'test-model', messages: long, max_tokens: 5 }), {
    ...{ status: 400, code: 'context_length_exceeded' },
  })
  assert.equal(provider.status().billedWei, before)
})

// The process of the model is killed while it answers: the client is told in OpenAI's shape, pays for the tokens it was
// sent and no other, and the next request is answered as if nothing had been.
test('an engine that crashes in the middle of a stream ends it with an error, and what came is billed', async (t) => {
  const engine = await createLlamaEngine({ modelPath: join(market.folder, 'random.gguf'), contextTokens: 512 })
  const dataDir = join(market.folder, 'crash')
  const crashing = await market.start(market.config({ upstream: 'http://127.0.0.1:1', dataDir }), { engine })
  t.after(() => crashing.close())
  const ask = async (maxTokens: number) =>
    await fetch(`${crashing.url}/v1/chat/completions`, {
      ...{ method: 'POST', headers: { authorization: `Bearer ${await user.token()}` } },
      body: JSON.stringify({ messages, max_tokens: maxTokens, temperature: 0, stream: true }),
    })
  const response = await ask(400)
  const reader = response.body?.getReader()
  let text = Buffer.from((await reader?.read())?.value ?? []).toString()
  assert.ok(engine.pid !== undefined)
  process.kill(engine.pid, 'SIGKILL')
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
    text += Buffer.from(part.value).toString()
  }
  assert.match(text, /data: \{"error":\{"message":.*"type":"server_error".*"code":"engine_crashed"/)
  assert.doesNotMatch(text, /\[DONE\]/)
  const chunks = text.match(/data: \{"id"/g)?.length ?? 0
  const { billedWei } = crashing.status()
  assert.ok(billedWei > 0n && billedWei <= BigInt(chunks) * OUTPUT_PRICE_WEI + 100n * INPUT_PRICE_WEI, `${billedWei}`)
  assert.match(await (await ask(3)).text(), /\[DONE\]/)
})
