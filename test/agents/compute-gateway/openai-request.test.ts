import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { GatewayError } from '#compute/gateway/openai-error.ts'
import { readRequest } from '#compute/gateway/openai-request.ts'

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const decode = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
const chat = (body: object) => readRequest({ path: 'chat/completions', bytes: encode({ messages: [], ...body }) })

const offer = (maxCompletionTokens: number, contextTokens?: number) => ({
  ...{ id: 'm', supportedParameters: undefined, maxCompletionTokens, contextTokens },
})

test('a request that needs no change goes on byte for byte, white space and all', () => {
  const bytes = new TextEncoder().encode('{ "model":"m",\n "messages":[], "max_tokens": 5 }')
  const routed = readRequest({ path: 'chat/completions', bytes }).bodyFor({ model: 'm', offer: undefined })
  assert.equal(routed.bytes, bytes)
  assert.equal(routed.maxTokens, 5)
})

test('fields for the gateway are taken out, the provider’s model name and a bound put in, the rest kept', () => {
  const wanted = chat({ model: 'auto', provider: { sort: 'price' }, models: ['x'], tools: [{ a: 1 }], stream: true })
  assert.deepEqual(wanted.models, [undefined, 'x'])
  assert.equal(wanted.preferences.sort, 'price')
  assert.deepEqual(wanted.parameters, ['tools'])
  const { bytes, maxTokens } = wanted.bodyFor({ model: 'org/m', offer: offer(300) })
  assert.equal(maxTokens, 300)
  assert.deepEqual(decode(bytes), { messages: [], model: 'org/m', tools: [{ a: 1 }], stream: true, max_tokens: 300 })
})

test('the bound counts every choice', () => {
  const bound = (body: object) => chat(body).bodyFor({ model: 'm', offer: undefined }).maxTokens
  assert.equal(bound({ max_completion_tokens: 7, max_tokens: 9, n: 3 }), 21)
  assert.equal(bound({ max_tokens: 9 }), 9)
  assert.equal(bound({}), 4_096)
  const small = chat({}).bodyFor({ model: 'm', offer: offer(512, 512) })
  assert.ok(small.maxTokens < 512 && small.maxTokens > 400, 'what the context leaves')
  const completion = readRequest({ path: 'completions', bytes: encode({ prompt: 'a', best_of: 4, n: 2 }) })
  assert.equal(completion.bodyFor({ model: 'm', offer: undefined }).maxTokens, 64)
  const embedding = readRequest({ path: 'embeddings', bytes: encode({ input: 'a', stream: true }) })
  assert.equal(embedding.stream, false)
  assert.equal(embedding.bodyFor({ model: 'm', offer: undefined }).maxTokens, 0)
})

test('what is wrong is refused by name', () => {
  const cases: [string, object][] = [
    ['max_tokens', { max_tokens: 0 }],
    ['n', { n: 1_000 }],
    ['model', { model: 5 }],
    ['models', { models: 'm' }],
    ['provider.sort', { provider: { sort: 'beauty' } }],
    ['provider.max_price.prompt', { provider: { max_price: { prompt: -1 } } }],
  ]
  for (const [param, body] of cases) {
    assert.throws(
      () => chat(body),
      (error) => error instanceof GatewayError && error.statusCode === 400 && error.param === param,
      param,
    )
  }
})

test('whatever the body, the answer is a request or a GatewayError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
      try {
        const wanted = readRequest({ path: 'chat/completions', bytes: new TextEncoder().encode(text) })
        wanted.bodyFor({ model: 'm', offer: offer(5) })
      } catch (error) {
        assert.ok(error instanceof GatewayError)
      }
    }),
  )
})
