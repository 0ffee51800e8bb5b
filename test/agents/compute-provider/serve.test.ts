import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import OpenAI from 'openai'
import type { RunningProvider } from '#compute/provider/main.ts'
import { maximumFee } from '#protocol/compute/fees.ts'
import { requestHash, verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import { checkResponseSignature } from '#protocol/compute/response-signature.ts'
import { decodeVoucherDemand } from '#protocol/compute/voucher-demand.ts'
import { INPUT_PRICE_WEI, type Market, OUTPUT_PRICE_WEI, openMarket, type User, until } from './market.ts'
import { PROMPT_TOKENS, type Script, startUpstream, type Upstream } from './upstream.ts'

let market: Market
let upstream: Upstream
let provider: RunningProvider
let user: User

before(async () => {
  market = await openMarket()
  upstream = await startUpstream()
  const config = market.config({ upstream: upstream.url, stallTimeoutMs: 400, firstTokenTimeoutMs: 600 })
  await market.register(config)
  provider = await market.start(config)
  user = market.user(3)
  await user.fund('10')
})
after(async () => {
  await market?.close()
  await upstream?.close()
})

const feeOf = (tokens: number, prompt = PROMPT_TOKENS) =>
  BigInt(prompt) * INPUT_PRICE_WEI + BigInt(tokens) * OUTPUT_PRICE_WEI

function chatBody(script: Script, extra: Record<string, unknown> = {}): string {
  const messages = [{ role: 'user', content: JSON.stringify(script) }]
  return JSON.stringify({ model: 'test-model', messages, max_tokens: 50, ...extra })
}

async function post(path: string, body: string, headers: Record<string, string>, signal?: AbortSignal) {
  const all = { 'content-type': 'application/json', ...headers }
  return await fetch(`${provider.url}${path}`, { method: 'POST', body, headers: all, ...(signal ? { signal } : {}) })
}

const bearer = async (who = user) => ({ authorization: `Bearer ${await who.token()}` })

async function unsettled(who = user): Promise<bigint> {
  const response = await fetch(`${provider.url}/v1/user/${who.account.address}/unsettledfee`, {
    headers: await bearer(who),
  })
  const body = (await response.json()) as { unsettledFee: string }
  assert.equal(response.status, 200, JSON.stringify(body))
  return BigInt(body.unsettledFee)
}

/** What `work` makes the user owe. */
async function billed(work: () => Promise<unknown>, who = user): Promise<bigint> {
  const owed = await unsettled(who)
  await work()
  await until(() => provider.status().running === 0, 'the request ends')
  return (await unsettled(who)) - owed
}

async function client(): Promise<OpenAI> {
  return new OpenAI({ baseURL: `${provider.url}/v1`, apiKey: await user.token(), maxRetries: 0 })
}

test('serves the openai package: whole, streamed, completions, embeddings, models', async () => {
  const openai = await client()
  const messages = [{ role: 'user' as const, content: JSON.stringify({ tokens: 4 }) }]
  const fee = await billed(async () => {
    const answer = await openai.chat.completions.create({ model: 'test-model', messages, max_tokens: 50 })
    assert.equal(answer.choices[0]?.message.content, 'word word word word ')
    assert.equal(answer.choices[0]?.finish_reason, 'stop')
    assert.deepEqual([answer.usage?.prompt_tokens, answer.usage?.completion_tokens], [PROMPT_TOKENS, 4])
  })
  assert.equal(fee, feeOf(4))
  const streamFee = await billed(async () => {
    const options = { stream: true as const, stream_options: { include_usage: true } }
    const stream = await openai.chat.completions.create({ model: 'test-model', messages, max_tokens: 50, ...options })
    let text = ''
    let usage: OpenAI.CompletionUsage | undefined | null
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? ''
      usage = chunk.usage ?? usage
    }
    assert.equal(text, 'word word word word ')
    assert.equal(usage?.completion_tokens, 4)
  })
  assert.equal(streamFee, feeOf(4))
  const completion = await openai.completions.create({ model: 'test-model', prompt: '{"tokens":2}', max_tokens: 9 })
  assert.equal(completion.choices[0]?.text, 'word word ')
  const embeddings = await openai.embeddings.create({ model: 'test-model', input: ['a', 'b'] })
  assert.deepEqual(embeddings.data[1]?.embedding, [0.5, -0.25, 1])
  const models = await openai.models.list()
  assert.equal(models.data[0]?.id, 'test-model')
  assert.equal((await openai.models.retrieve('test-model')).id, 'test-model')
})

test('passes tools, response_format, seed, stop and logprobs on, and gathers tool calls', async () => {
  const openai = await client()
  const answer = await openai.chat.completions.create({
    model: 'test-model',
    messages: [{ role: 'user', content: '{"tokens":3}' }],
    tools: [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }],
    ...{ response_format: { type: 'json_object' }, seed: 7, stop: ['x'], logprobs: true, top_logprobs: 2 },
  })
  const call = answer.choices[0]?.message.tool_calls?.[0]
  assert.deepEqual(call?.type === 'function' ? call.function : undefined, {
    name: 'weather',
    arguments: '{"city":"Oslo"}',
  })
  assert.equal(answer.choices[0]?.finish_reason, 'tool_calls')
  const sent = upstream.bodies.at(-1)
  assert.deepEqual([sent?.seed, sent?.logprobs, sent?.top_logprobs], [7, true, 2])
  assert.deepEqual(sent?.response_format, { type: 'json_object' })
})

// The header names the answer; its receipt and its older signature hold for exactly the bytes sent and received.
test('signs a receipt and the older signature over exactly what went over the wire', async () => {
  for (const stream of [false, true]) {
    const body = chatBody({ tokens: 3 }, { stream })
    const response = await post('/v1/proxy/chat/completions', body, await bearer())
    const bytes = new Uint8Array(await response.arrayBuffer())
    const id = response.headers.get('zg-res-key') ?? ''
    assert.match(id, /^[0-9a-f-]{36}$/)
    assert.equal(response.headers.get('provider'), provider.address)
    const signed = decodeReceipt(await (await fetch(`${provider.url}/v1/receipts/${id}`)).json())
    const domain = { chainId: 31_337, contract: market.contracts.inference }
    const expected = { user: user.address, provider: provider.address, requestHash: requestHash(Buffer.from(body)) }
    const { signer } = verifyReceipt({ ...signed, ...domain, signers: [provider.signer], expected })
    assert.equal(signer.toLowerCase(), provider.signer.toLowerCase())
    assert.equal(signed.receipt.feeWei, feeOf(3))
    const { createHash } = await import('node:crypto')
    for (const name of [id, id.toUpperCase(), `chatcmpl-${id}`]) {
      const answer = await (await fetch(`${provider.url}/v1/proxy/signature/${name}?model=test-model`)).json()
      const responseSha256 = createHash('sha256').update(bytes).digest('hex')
      const checked = checkResponseSignature({ answer, responseSha256 })
      assert.equal(checked.signer.toLowerCase(), provider.signer.toLowerCase())
      assert.equal(checked.requestSha256, createHash('sha256').update(body).digest('hex'))
    }
  }
  const unknown = await fetch(`${provider.url}/v1/proxy/signature/none`)
  assert.equal(unknown.status, 400)
  assert.match(JSON.stringify(await unknown.json()), /chat_id_not_found/)
})

// A client that leaves pays for what had been produced until then; the upstream is told to stop.
test('a client that leaves stops the engine and pays for what it was sent', async () => {
  const cutBefore = upstream.cut
  const tokensBefore = upstream.tokens
  const fee = await billed(async () => {
    const leave = new AbortController()
    const body = chatBody({ tokens: 10_000, delayMs: 5 }, { stream: true, max_tokens: 3_000 })
    const response = await post('/v1/chat/completions', body, await bearer(), leave.signal)
    let seen = 0
    const reader = response.body?.getReader()
    while (seen < 10) {
      const part = await reader?.read()
      seen +=
        Buffer.from(part?.value ?? [])
          .toString()
          .split('data: ').length - 1
    }
    leave.abort()
  })
  await until(() => upstream.cut > cutBefore, 'the upstream is cut off')
  const produced = upstream.tokens - tokensBefore
  assert.ok(produced < 1_000, `${produced} tokens were produced`)
  const tokens = Number(fee / OUTPUT_PRICE_WEI)
  assert.ok(tokens >= 10 && tokens <= produced + 8, `billed about ${tokens} of ${produced}`)
})

// A failure of the engine has a typed answer, and nothing is billed that was not delivered. What the upstream says of
// itself is not passed on.
test('an upstream that fails, hangs, breaks off or talks nonsense', async () => {
  const cases = [
    { script: { status: 500 }, status: 502, code: 'upstream_error' },
    { script: { status: 429 }, status: 429, code: 'engine_busy' },
    { script: { hang: true }, status: 504, code: 'engine_timeout' },
    { script: { tokens: 3, ending: 'break' as const }, status: 502, code: 'upstream_error' },
    { script: { tokens: 3, ending: 'garbage' as const }, status: 502, code: 'upstream_error' },
    { script: { tokens: 3, ending: 'silent' as const }, status: 504, code: 'engine_timeout' },
  ]
  for (const { script, status, code } of cases) {
    const fee = await billed(async () => {
      const response = await post('/v1/chat/completions', chatBody(script), await bearer())
      const body = (await response.json()) as { error: { code: string; type: string } }
      assert.deepEqual([response.status, body.error.code], [status, code], JSON.stringify(script))
      assert.doesNotMatch(JSON.stringify(body), /secret details/)
    })
    assert.equal(fee, 0n, JSON.stringify(script))
  }
})

test('an upstream that fails in the middle of a stream ends it with an error, and what came is billed', async () => {
  for (const ending of ['break', 'garbage', 'silent'] as const) {
    const fee = await billed(async () => {
      const body = chatBody({ tokens: 6, ending }, { stream: true })
      const text = await (await post('/v1/chat/completions', body, await bearer())).text()
      assert.equal(text.match(/word /g)?.length, 6)
      assert.match(text, /data: \{"error":\{"message":.*"code":"(upstream_error|engine_timeout)"/)
      assert.doesNotMatch(text, /\[DONE\]/)
    })
    assert.equal(fee % INPUT_PRICE_WEI, 0n)
    assert.ok(fee >= 6n * OUTPUT_PRICE_WEI && fee <= feeOf(6), `${ending}: ${fee}`)
  }
})

test('refuses what is no request, each with its own code', async () => {
  const auth = await bearer()
  const deep = `{"model":${'['.repeat(500)}${']'.repeat(500)}}`
  const cases: [string, string, number, string][] = [
    ['no body', '', 400, 'invalid_json'],
    ['no JSON', '{"model":', 400, 'invalid_json'],
    ['no object', '[1]', 400, 'invalid_json'],
    ['deep nesting', deep, 400, 'invalid_json'],
    ['no messages', '{"model":"test-model"}', 400, 'invalid_request'],
    ['a wrong field', chatBody({}, { temperature: 'hot' }), 400, 'invalid_request'],
    ['another model', chatBody({}, { model: 'gpt-4' }), 404, 'model_not_found'],
  ]
  for (const [name, body, status, code] of cases) {
    const fee = await billed(async () => {
      const response = await post('/v1/chat/completions', body, auth)
      const answer = (await response.json()) as { error: { code: string } }
      assert.deepEqual([response.status, answer.error.code], [status, code], name)
    })
    assert.equal(fee, 0n, name)
  }
  const large = await post('/v1/chat/completions', 'x'.repeat(33 * 2 ** 20), auth).catch(() => undefined)
  if (large !== undefined) assert.equal(large.status, 413)
})

test('answers in the shape of each interface', async () => {
  const plain = await post('/v1/chat/completions', chatBody({}), {})
  const plainBody = (await plain.json()) as { error: { code: string; type: string } }
  assert.deepEqual([plain.status, plainBody.error.type], [401, 'authentication_error'])
  const proxy = await post('/v1/proxy/chat/completions', chatBody({}), {})
  const proxyBody = (await proxy.json()) as { error: string }
  assert.deepEqual([proxy.status, typeof proxyBody.error], [401, 'string'])
  const doubled = await post('/v1/proxy/v1/chat/completions/', chatBody({}), await bearer())
  assert.equal(doubled.status, 200)
  const unknown = await post('/v1/proxy/unknown', '{}', await bearer())
  assert.deepEqual(await unknown.json(), {
    ...{ error: 'unsupported endpoint: endpoint not supported', code: 'unsupported_endpoint' },
  })
  const preflight = await fetch(`${provider.url}/v1/proxy/chat/completions`, {
    method: 'OPTIONS',
    headers: { origin: 'https://app.example', 'access-control-request-headers': 'authorization, x-stainless-os' },
  })
  assert.equal(preflight.status, 204)
  assert.equal(preflight.headers.get('access-control-allow-origin'), 'https://app.example')
  assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /x-stainless-os/)
  const shown = await post('/v1/chat/completions', chatBody({}), { ...(await bearer()), origin: 'https://app.example' })
  assert.match(shown.headers.get('access-control-expose-headers') ?? '', /ZG-Res-Key/)
  assert.ok(shown.headers.get('x-ratelimit-limit-requests'))
})

// Every token that is not the user's own, for this provider, now, is refused.
test('refuses forged, foreign, expired and altered session tokens', async () => {
  const other = market.user(4)
  const good = await user.token()
  const decoded = Buffer.from(good.slice('app-sk-'.length), 'base64').toString()
  const encode = (text: string) => `app-sk-${Buffer.from(text).toString('base64')}`
  const altered = encode(decoded.replace('"tokenId":255', '"tokenId":254'))
  const stolen = encode(decoded.replace(user.account.address, other.account.address))
  const hour = 3_600_000
  const cases: [string, string, string][] = [
    ['nothing', '', 'invalid_session_token'],
    ['no token', 'app-sk-%%%', 'invalid_session_token'],
    ['altered', altered, 'invalid_session_token'],
    ['of somebody else', stolen, 'invalid_session_token'],
    ['expired', await user.token({ nowMs: Date.now() - 2 * hour, lifetimeMs: hour }), 'session_token_expired'],
    ['made in the future', await user.token({ nowMs: Date.now() + 2 * hour }), 'invalid_session_token'],
    ['too long a life', await user.token({ lifetimeMs: 48 * hour }), 'invalid_session_token'],
    ['of a later generation', await user.token({ generation: 1 }), 'invalid_session_token'],
  ]
  for (const [name, token, code] of cases) {
    const response = await post('/v1/chat/completions', chatBody({}), { authorization: `Bearer ${token}` })
    const body = (await response.json()) as { error: { code: string } }
    assert.deepEqual([response.status, body.error.code], [401, code], name)
  }
  // A clock that is a few minutes off is no reason to refuse.
  const skewed = await user.token({ nowMs: Date.now() + 120_000 })
  const response = await post('/v1/chat/completions', chatBody({}), { authorization: `Bearer ${skewed}` })
  assert.equal(response.status, 200)
})

test('a revoked token stops working at once, one by its number and all by the generation', async () => {
  const revoker = market.user(5)
  await revoker.fund('5')
  const persistent = { authorization: `Bearer ${await revoker.token({ tokenId: 7, lifetimeMs: 0 })}` }
  const passing = await bearer(revoker)
  const status = async (headers: Record<string, string>) => {
    const response = await post('/v1/proxy/chat/completions', chatBody({}), headers)
    const text = await response.text()
    if (response.status !== 200) assert.match(text, /revoked/)
    return response.status
  }
  assert.deepEqual([await status(persistent), await status(passing)], [200, 200])
  await revoker.call(market.contracts.inference, 'revokeToken', [provider.address, 7])
  await until(async () => (await status(persistent)) === 401, 'token 7 is refused', 3_000)
  assert.equal(await status(passing), 200)
  await revoker.call(market.contracts.inference, 'revokeAllTokens', [provider.address])
  await until(async () => (await status(passing)) === 401, 'all tokens are refused', 3_000)
  const renewed = { authorization: `Bearer ${await revoker.token({ generation: 1 })}` }
  assert.equal(await status(renewed), 200)
})

test('refuses users without an account, and requests beyond their money, before any work', async () => {
  const poor = market.user(6)
  const served = upstream.bodies.length
  const none = await post('/v1/proxy/chat/completions', chatBody({}), await bearer(poor))
  assert.equal(none.status, 400)
  assert.match(await none.text(), /insufficient/)
  await poor.fund('1')
  const owed = { max_tokens: 400_000 }
  const dear = await post('/v1/chat/completions', chatBody({}, owed), await bearer(poor))
  const body = (await dear.json()) as { error: { code: string; type: string } }
  assert.deepEqual([dear.status, body.error.code, body.error.type], [402, 'insufficient_balance', 'insufficient_quota'])
  assert.equal(upstream.bodies.length, served)
})

// However many requests come at once, no more are admitted than the account can pay at their dearest.
test('parallel requests cannot be admitted for the same money', async () => {
  const tight = market.user(7)
  await tight.fund('1')
  const body = chatBody({ tokens: 2, delayMs: 150 }, { max_tokens: 60_000 })
  const most = maximumFee({
    ...{ bodyBytes: body.length, maxTokens: 60_000, inputPriceWei: INPUT_PRICE_WEI, outputPriceWei: OUTPUT_PRICE_WEI },
  })
  const affordable = Number(10n ** 18n / most)
  const headers = await bearer(tight)
  const answers = await Promise.all(Array.from({ length: 12 }, () => post('/v1/chat/completions', body, headers)))
  const served = answers.filter(({ status }) => status === 200)
  assert.equal(served.length, affordable)
  assert.ok(answers.every(({ status }) => status === 200 || status === 402))
  for (const { body: stream } of answers) await stream?.cancel()
})

// With a voucher: what is signed bounds what is billed; what is missing is said in numbers.
test('serves by voucher, says what is missing, and takes no voucher twice', async () => {
  const payer = market.user(8)
  await payer.fund('2')
  const body = chatBody({ tokens: 4 })
  const most = maximumFee({
    ...{ bodyBytes: body.length, maxTokens: 50, inputPriceWei: INPUT_PRICE_WEI, outputPriceWei: OUTPUT_PRICE_WEI },
  })
  const ask = async (voucher: string, path = '/v1/chat/completions', extra: Record<string, string> = {}) => {
    const response = await post(path, body, { 'x-weightless-voucher': voucher, ...extra })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const short = await ask(await payer.voucher(1n))
  assert.equal(short.status, 402)
  const demand = decodeVoucherDemand(short.body)
  assert.deepEqual([demand?.cumulativeFeeWei, demand?.requiredCumulativeFeeWei], [0n, most])
  const first = await payer.voucher(most)
  assert.equal((await ask(first)).status, 200)
  const replayed = await ask(first, '/v1/proxy/chat/completions')
  assert.equal(replayed.status, 402)
  const second = decodeVoucherDemand(replayed.body)
  assert.equal(second?.cumulativeFeeWei, feeOf(4))
  assert.equal(second?.requiredCumulativeFeeWei, feeOf(4) + most)
  assert.equal(second?.lastVoucher?.voucher.cumulativeFeeWei, most)
  assert.equal(second?.chatIds.length, 1)
  assert.equal((await ask(await payer.voucher(feeOf(4) + most))).status, 200)
  // With much room left a copy of the voucher is still good for nothing by itself.
  const wide = await payer.voucher(10n ** 18n)
  assert.equal((await ask(wide)).status, 200)
  assert.equal((await ask(wide)).status, 402)
  assert.equal((await ask(wide, '/v1/chat/completions', await bearer(payer))).status, 200)

  const forged = await market.user(9).voucher(10n ** 18n, { user: payer.address })
  const cases: [string, string, string][] = [
    ['forged', forged, 'invalid_voucher'],
    ['for another provider', await payer.voucher(most, { provider: `0x${'12'.repeat(20)}` }), 'invalid_voucher'],
    ['expired', await payer.voucher(most, { expiresAtS: 1_000 }), 'voucher_expired'],
    [
      'too short a life',
      await payer.voucher(most, { expiresAtS: Math.floor(Date.now() / 1000) + 60 }),
      'voucher_expired',
    ],
    ['of another generation', await payer.voucher(10n ** 18n, { generation: 4 }), 'voucher_revoked'],
    ['nonsense', 'AAAA', 'invalid_voucher'],
  ]
  for (const [name, voucher, code] of cases) {
    const { status, body: answer } = await ask(voucher)
    assert.deepEqual([status, (answer.error as { code: string }).code], [401, code], name)
  }
})

test('an account that pays only what it signed is not served by a session token', async () => {
  const careful = market.user(10)
  await careful.fund('1')
  const status = async () => (await post('/v1/chat/completions', chatBody({}), await bearer(careful))).status
  assert.equal(await status(), 200)
  await careful.call(market.contracts.inference, 'setSignedChargesOnly', [provider.address, true])
  await until(async () => (await status()) === 402, 'the token is not enough any more', 3_000)
})

test('shows a user its own fees only', async () => {
  const url = `${provider.url}/v1/user/${market.user(4).account.address}/unsettledfee`
  assert.equal((await fetch(url, { headers: await bearer() })).status, 403)
  assert.equal((await fetch(url)).status, 401)
})

test('tells who it is, how it is, and that no hardware vouches for it', async () => {
  const quote = (await (await fetch(`${provider.url}/v1/quote`)).json()) as Record<string, unknown>
  assert.equal(quote.attestation, 'none')
  const about = (await (await fetch(`${provider.url}/v1/provider`)).json()) as Record<string, unknown>
  assert.deepEqual([about.provider, about.attestation, about.vouchers], [provider.address, 'none', true])
  const status = (await (await fetch(`${provider.url}/v1/provider/status`)).json()) as Record<string, unknown>
  assert.equal(typeof status.billedWei, 'string')
  const health = (await (await fetch(`${provider.url}/healthz`)).json()) as Record<string, unknown>
  assert.equal(health.status, 'ok', JSON.stringify(health))
  const metrics = await (await fetch(`${provider.url}/metrics`)).text()
  assert.match(metrics, /weightless_provider_requests_total\{kind="chat",outcome="ok"\} [1-9]/)
})
