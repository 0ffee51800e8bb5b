import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ProviderPerformance } from '#client/compute/book.ts'
import { type ProviderPreferencesInput, preferencesSchema } from '#client/compute/preferences.ts'
import { adapterOf, type Candidate, findModel, offerOf, rankProviders } from '#client/compute/rank.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

const NOW = 1_800_000_000_000
const addressOf = (n: number): Hex => `0x${n.toString(16).padStart(40, '0')}`

interface Shape {
  inPrice?: bigint
  outPrice?: bigint
  model?: string
  host?: string
  up?: boolean
  models?: string[]
  parameters?: string[]
  performance?: Partial<ProviderPerformance>
  identity?: string
}

function candidate(n: number, shape: Shape = {}): Candidate {
  const { inPrice = 10n, outPrice = 20n, model = 'org/Small', up = true, models = [], parameters } = shape
  const none = {
    firstTokenMs: undefined,
    tokensPerSecond: undefined,
    successes: 0,
    failures: 0,
    lastFailureMs: undefined,
  }
  return {
    service: {
      provider: addressOf(n),
      serviceType: 'chatbot',
      url: `http://${shape.host ?? `p${n}.example:80${n}`}`,
      inputPriceWei: inPrice,
      outputPriceWei: outPrice,
      model,
      verifiability: 'none',
      info: shape.identity === undefined ? {} : { ProviderIdentity: shape.identity },
      teeSigner: addressOf(1_000 + n),
      acknowledged: true,
      updatedAtS: 0,
    },
    health: {
      up,
      latencyMs: up ? 10 * n : undefined,
      models: [...models, ...(parameters === undefined ? [] : [model])].map((id) => ({
        id,
        contextTokens: undefined,
        maxCompletionTokens: undefined,
        supportedParameters: parameters,
      })),
      reason: up ? undefined : 'refused',
      checkedMs: NOW,
    },
    performance: shape.performance === undefined ? undefined : { ...none, ...shape.performance },
  }
}

function order(candidates: Candidate[], wishes: ProviderPreferencesInput = {}, more: object = {}): number[] {
  const preferences = preferencesSchema.parse(wishes)
  const { ranked } = rankProviders({ candidates, preferences, nowMs: NOW, ...more })
  return ranked.map(({ service }) => Number(service.provider))
}

test('without wishes the cheaper comes first, the faster of equals, the failing last', () => {
  const cheap = candidate(1, { inPrice: 1n, outPrice: 1n })
  const dear = candidate(2)
  const fast = candidate(3, { performance: { tokensPerSecond: 200, firstTokenMs: 100, successes: 9 } })
  const failing = candidate(4, { inPrice: 1n, outPrice: 1n, performance: { failures: 3, lastFailureMs: NOW - 1_000 } })
  assert.deepEqual(order([failing, dear, fast, cheap]), [1, 3, 2, 4])
})

test('a failure counts less as time passes', () => {
  const once = candidate(1, {
    inPrice: 1n,
    outPrice: 1n,
    performance: { failures: 1, successes: 9, lastFailureMs: NOW - 60_000 },
  })
  assert.deepEqual(order([candidate(2), once]), [1, 2])
})

test('OpenRouter preferences are honoured: order, only, ignore, by address, host or identity', () => {
  const all = [candidate(1, { identity: 'Acme' }), candidate(2), candidate(3, { inPrice: 1n, outPrice: 1n })]
  assert.deepEqual(order(all, { order: ['p2.example', 'acme'] }), [2, 1, 3])
  assert.deepEqual(order(all, { only: [addressOf(2), 'ACME'] }), [1, 2])
  assert.deepEqual(order(all, { ignore: ['p3.example:803'] }), [1, 2])
})

test('without fall-backs only those named are left, or the best one', () => {
  const all = [candidate(1), candidate(2), candidate(3, { inPrice: 1n, outPrice: 1n })]
  assert.deepEqual(order(all, { order: ['p2.example'], allow_fallbacks: false }), [2])
  assert.deepEqual(order(all, { allow_fallbacks: false }), [3])
})

test('sort goes by one figure alone', () => {
  const all = [
    candidate(1, { inPrice: 1n, outPrice: 1n, performance: { tokensPerSecond: 5, firstTokenMs: 900 } }),
    candidate(2, { performance: { tokensPerSecond: 50, firstTokenMs: 500 } }),
    candidate(3, { inPrice: 99n, performance: { tokensPerSecond: 20, firstTokenMs: 100 } }),
  ]
  assert.deepEqual(order(all, { sort: 'price' }), [1, 2, 3])
  assert.deepEqual(order(all, { sort: 'throughput' }), [2, 3, 1])
  assert.deepEqual(order(all, { sort: { by: 'latency' } }), [3, 2, 1])
})

test('max_price is in coins per million tokens and bounds each price', () => {
  // 2 × 10^12 wei per token are 2 coins per million tokens.
  const all = [
    candidate(1, { inPrice: 2n * 10n ** 12n, outPrice: 1n }),
    candidate(2, { inPrice: 1n, outPrice: 3n * 10n ** 12n }),
  ]
  assert.deepEqual(order(all, { max_price: { prompt: 2, completion: 3 } }), [1, 2])
  assert.deepEqual(order(all, { max_price: { prompt: 1.99 } }), [2])
  assert.deepEqual(order(all, { max_price: { completion: '2.99' } }), [1])
})

test('require_parameters keeps those that say they support every parameter', () => {
  const all = [
    candidate(1),
    candidate(2, { parameters: ['temperature'] }),
    candidate(3, { parameters: ['temperature', 'tools'] }),
  ]
  const parameters = ['temperature', 'tools']
  assert.deepEqual(order(all, { require_parameters: true }, { parameters }), [3])
  assert.deepEqual(order(all, {}, { parameters }), [1, 2, 3])
})

test('who is down, lacks the model, or is the user himself is left out with the reason', () => {
  const all = [candidate(1, { up: false }), candidate(2, { model: 'other' }), candidate(3), candidate(4)]
  const preferences = preferencesSchema.parse({})
  const { ranked, left } = rankProviders({
    candidates: all,
    preferences,
    model: 'Small',
    user: addressOf(4),
    nowMs: NOW,
  })
  assert.deepEqual(
    ranked.map(({ service }) => Number(service.provider)),
    [3],
  )
  assert.deepEqual(
    left.map(({ code }) => code),
    ['PROVIDER_UNREACHABLE', 'NO_MODEL', 'OWN'],
  )
})

test('a model is found by its name, with or without the organisation, on the chain or in the list', () => {
  assert.equal(findModel(candidate(1), undefined), 'org/Small')
  assert.equal(findModel(candidate(1), 'small'), 'org/Small')
  assert.equal(findModel(candidate(1, { models: ['org/Small', 'org/Large'] }), 'org/Large'), 'org/Large')
  assert.equal(findModel(candidate(1), 'huge'), undefined)
})

test('ranking loses nobody: every provider is ranked or left out, never both', () => {
  const shape = fc.record({
    inPrice: fc.bigInt(0n, 1_000n),
    outPrice: fc.bigInt(0n, 1_000n),
    up: fc.boolean(),
    model: fc.constantFrom('a', 'b'),
  })
  fc.assert(
    fc.property(fc.array(shape, { maxLength: 20 }), fc.constantFrom(undefined, 'a'), (shapes, model) => {
      const candidates = shapes.map((one, n) => candidate(n + 1, one))
      const preferences = preferencesSchema.parse({})
      const { ranked, left } = rankProviders({ candidates, preferences, model, nowMs: NOW })
      const seen = [...ranked.map(({ service }) => service.provider), ...left.map(({ provider }) => provider)]
      assert.deepEqual(seen.toSorted(), candidates.map(({ service }) => service.provider).toSorted())
    }),
  )
})

test('wishes that cannot be kept are refused rather than ignored', () => {
  for (const wishes of [{ data_collection: 'deny' }, { zdr: true }, { order: 'a' }, { sort: 'beauty' }]) {
    assert.equal(preferencesSchema.safeParse(wishes).success, false, JSON.stringify(wishes))
  }
})

// A model with an adapter is had from whoever has the base and loads adapters, or lists this very one; the provider is
// then asked under its own name of the base, and judged by what it says of it.
test('a model with an adapter is had where its base is', () => {
  const root: Hash = `0x${'ab'.repeat(32)}`
  const offer = { contextTokens: 512, maxCompletionTokens: 256, supportedParameters: ['seed'] }
  const plain = candidate(1, { models: ['org/Small'] })
  const loads = { ...plain, health: { ...plain.health, models: [{ id: 'org/Small', takesAdapters: true, ...offer }] } }
  const named = { id: 'org/Small:poet', adapterRoot: root, ...offer }
  const lists = { ...plain, health: { ...plain.health, models: [{ id: 'org/Small', ...offer }, named] } }
  assert.equal(findModel(plain, `org/Small:${root}`), undefined)
  assert.equal(findModel(loads, `org/Small:${root}`), `org/Small:${root}`)
  assert.equal(findModel(loads, `other/small:0x${'AB'.repeat(32)}`), `org/Small:${root}`)
  assert.equal(findModel(loads, `org/Large:${root}`), undefined)
  assert.equal(findModel(loads, 'org/Small:poet'), undefined)
  assert.equal(findModel(lists, `org/Small:${root}`), `org/Small:${root}`)
  assert.equal(findModel(lists, `org/Small:0x${'cd'.repeat(32)}`), undefined)
  assert.equal(findModel(lists, 'org/Small:poet'), 'org/Small:poet')
  assert.equal(offerOf(loads, `org/Small:${root}`)?.contextTokens, 512)
  assert.equal(adapterOf(lists, 'org/Small:poet'), root)
  assert.equal(adapterOf(loads, `org/Small:${root}`), root)
  assert.equal(adapterOf(lists, 'org/Small'), undefined)
})
