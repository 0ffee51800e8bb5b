import assert from 'node:assert/strict'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { RunningProvider } from '#compute/provider/main.ts'
import { adapterOfEngine } from '#protocol/compute/adapter-name.ts'
import { verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import type { Hash } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import { type FaultProxy, startFaultProxy } from '../client/fault-proxy.ts'
import { seededRandom, testSeed } from '../client/seeded.ts'
import { type StorageNetwork, startStorageNetwork } from '../client/storage-network.ts'
import { randomAdapter } from '../engines/random-adapter.ts'
import { type Market, openMarket, type User } from './market.ts'
import { startUpstream } from './upstream.ts'

const seed = testSeed()
const MAX_BYTES = 200_000
const shape = { layers: 2, context: 256 }
const base = randomModel({ seed: 3n, config: shape })
const other = randomModel({ seed: 4n, config: { ...shape, dim: 128, heads: 4, headDim: 32 } })

let market: Market
let storage: StorageNetwork
let proxy: FaultProxy
let provider: RunningProvider
let user: User
let poor: User
let model: string
/** Roots of adapters that are stored, by name. */
const roots = new Map<string, Hash>()

before(async () => {
  ;[market, storage] = await Promise.all([openMarket(), startStorageNetwork()])
  proxy = await startFaultProxy(storage.nodes[0]?.url ?? '')
  model = join(market.folder, 'base.gguf')
  await writeGgufFile({ path: model, content: base })
  const { root: modelRoot } = await buildFileTree({ source: memorySource(writeGguf(base)) })
  const client = await storage.client()
  const files: [string, Uint8Array][] = [
    ['one', writeGguf(randomAdapter({ config: base.config, seed: 1 }))],
    ['two', writeGguf(randomAdapter({ config: base.config, seed: 2 }))],
    ['three', writeGguf(randomAdapter({ config: base.config, seed: 5 }))],
    ['four', writeGguf(randomAdapter({ config: base.config, seed: 6 }))],
    ['foreign', writeGguf(randomAdapter({ config: other.config, seed: 1 }))],
    ['own', writeGguf(randomAdapter({ config: base.config, seed: 8, baseRoot: modelRoot }))],
    ['cousin', writeGguf(randomAdapter({ config: base.config, seed: 8, baseRoot: `0x${'77'.repeat(32)}` }))],
    ['nonsense', Buffer.from('this is no GGUF file at all, whatever its root says')],
    ['large', new Uint8Array(MAX_BYTES + 1).fill(7)],
  ]
  for (const [name, bytes] of files) {
    const { root } = await client.storage.upload({ source: memorySource(bytes) })
    roots.set(name, root)
  }
  const config = configOf('provider', { modelRoot })
  await market.register(config)
  provider = await market.start(config)
  user = market.user(3)
  poor = market.user(4)
  await user.fund('10')
})
after(async () => {
  await market?.close()
  await proxy?.close()
  await storage?.stop()
})

function configOf(name: string, overrides: Record<string, unknown> = {}, limits: Record<string, unknown> = {}) {
  return market.config({
    ...{ model, modelName: 'test-model', contextTokens: 256, dataDir: join(market.folder, name) },
    storage: { nodes: [proxy.url], timeoutMs: 2_000 },
    adapterLimits: { maxBytes: MAX_BYTES, refusedMs: 200, fetchMs: 10_000, contexts: 2, ...limits },
    ...overrides,
  })
}

const rootOf = (name: string) => roots.get(name) ?? assert.fail(`no adapter ${name}`)
const named = (name: string) => `test-model:${rootOf(name)}`

interface Answered {
  status: number
  headers: Headers
  text: string
  /** Where the request failed. */
  error: { code: string; message: string; fix?: string } | undefined
  cachedTokens: number
}

async function ask(
  asked: string,
  options: { who?: User; at?: RunningProvider; content?: string; signal?: AbortSignal | undefined } = {},
): Promise<Answered> {
  const { who = user, at = provider, content = 'Tell me something about rivers.', signal } = options
  const messages = [{ role: 'user', content }]
  const response = await fetch(`${at.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${await who.token()}` },
    body: JSON.stringify({ model: asked, messages, max_tokens: 16, temperature: 0 }),
    ...(signal === undefined ? {} : { signal }),
  })
  const body = (await response.json()) as {
    model?: string
    choices?: { message: { content: string } }[]
    usage?: { prompt_tokens_details: { cached_tokens: number } }
    error?: Answered['error']
  }
  if (response.ok) assert.equal(body.model, asked)
  const text = body.choices?.[0]?.message.content ?? ''
  const cachedTokens = body.usage?.prompt_tokens_details.cached_tokens ?? 0
  return { status: response.status, headers: response.headers, text, error: body.error, cachedTokens }
}

/** Everything that was asked of the storage node. */
const fetches = () => [...proxy.seen.values()].reduce((sum, count) => sum + count, 0)
/** Pieces of files among it. */
const pieces = () => [...proxy.seen].filter(([key]) => key.startsWith('GET')).reduce((sum, [, count]) => sum + count, 0)
/** Pieces of one adapter; all here are of one size. */
let piecesOfOne = 0

async function receiptOf({ headers }: Answered, at = provider) {
  const response = await fetch(`${at.url}/v1/receipts/${headers.get('zg-res-key')}`)
  const signed = decodeReceipt(await response.json())
  verifyReceipt({ ...signed, chainId: 31_337, contract: market.contracts.inference, signers: [at.signer] })
  return signed
}

describe('adapters by root', () => {
  // Invariant: an adapter changes its own answers and nobody else's, however requests are mixed, and a cache filled by
  // one is never read by another.
  it('answer side by side with their base, each as if it were alone', async () => {
    const names = ['test-model', named('one'), named('two')]
    const alone = new Map<string, string>()
    for (const name of names) {
      const before = pieces()
      const first = await ask(name)
      piecesOfOne = pieces() - before
      assert.equal(first.status, 200, JSON.stringify(first.error))
      assert.equal(first.cachedTokens, 0, `${name} reads nothing that was cached for another`)
      alone.set(name, first.text)
    }
    assert.equal(new Set(alone.values()).size, 3, 'three different answers')
    const mixed = [...names, ...names.toReversed(), ...names]
    const answers = await Promise.all(mixed.map((name) => ask(name)))
    for (const [i, name] of mixed.entries()) assert.equal(answers[i]?.text, alone.get(name), `${i}: ${name}`)
    assert.equal(
      (await ask(named('one').toUpperCase().replace('TEST-MODEL:0X', 'test-model:0x'))).text,
      alone.get(names[1] ?? ''),
    )
  })

  // A receipt is signed for the base's weights and the adapter that took part; for the plain model it names none.
  it('are named by receipts', async () => {
    const plain = await receiptOf(await ask('test-model'))
    const adapted = await receiptOf(await ask(named('one')))
    assert.equal(adapterOfEngine(plain.engine), undefined)
    assert.equal(adapterOfEngine(adapted.engine), rootOf('one'))
    assert.ok(adapted.engine.startsWith(plain.engine))
    assert.equal(adapted.receipt.modelId, plain.receipt.modelId)
    assert.notEqual(adapted.receipt.engine, plain.receipt.engine)
  })

  // Requests that come while an adapter is being fetched wait for that fetch; none begins another.
  it('are fetched once, however many ask first', async () => {
    const before = fetches()
    const piecesBefore = pieces()
    await ask('test-model')
    assert.equal(fetches(), before, 'the base needs no storage')
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask(named('three'))))
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 200, 200, 200],
    )
    assert.equal(new Set(answers.map(({ text }) => text)).size, 1)
    assert.ok(piecesOfOne > 0)
    assert.equal(pieces() - piecesBefore, piecesOfOne)
    const files = await readdir(join(market.folder, 'provider', 'adapters'))
    assert.ok(files.includes(`${rootOf('three')}.gguf`))
    const once = fetches() - before
    await ask(named('three'))
    assert.equal(fetches() - before, once, 'a loaded adapter needs no storage')
  })

  // Invariant: who cannot pay makes the provider fetch nothing.
  it('are not fetched for users without money', async () => {
    const before = fetches()
    const { status, error } = await ask(named('four'), { who: poor })
    assert.equal(status, 402, JSON.stringify(error))
    assert.equal(fetches(), before)
    assert.equal((await ask(named('four'), { who: poor })).error?.code, 'account_missing')
  })

  // Every way to be no adapter of this base has its own code, costs nothing, and is not tried again at once.
  it('are refused where they do not fit', async () => {
    assert.equal((await ask(named('own'))).status, 200)
    const billed = provider.status().billedWei
    const unknown = `0x${'ab'.repeat(32)}`
    const cases = [
      [named('foreign'), 400, 'invalid_adapter'],
      [named('cousin'), 400, 'invalid_adapter'],
      [named('nonsense'), 400, 'invalid_adapter'],
      [named('large'), 413, 'adapter_too_large'],
      [`test-model:${unknown}`, 404, 'model_not_found'],
      ['test-model:nobody', 404, 'model_not_found'],
      [`another:${rootOf('one')}`, 404, 'model_not_found'],
    ] as const
    for (const [asked, status, code] of cases) {
      const answer = await ask(asked)
      assert.deepEqual([answer.status, answer.error?.code], [status, code], asked)
      assert.ok(answer.error?.fix)
    }
    const before = fetches()
    for (const [asked] of cases.slice(0, 4)) assert.notEqual((await ask(asked)).status, 200)
    assert.equal(fetches(), before, 'what bytes decide is remembered')
    assert.equal(provider.status().billedWei, billed)
    const left = await readdir(join(market.folder, 'provider', 'adapters'))
    assert.ok(!left.some((name) => name.includes(rootOf('foreign'))), 'what is of no use is not kept')
  })

  it('are listed once they are there', async () => {
    const list = (await (await fetch(`${provider.url}/v1/models`)).json()) as {
      data: { id: string; adapter_root?: string; adapters?: { by_root: boolean } }[]
    }
    assert.equal(list.data[0]?.adapters?.by_root, true)
    assert.equal(list.data.find(({ id }) => id === named('one'))?.adapter_root, rootOf('one'))
  })
})

describe('a storage network that fails', () => {
  // Bytes that are not those of the root never reach the engine, and the file is fetched again when the network is well.
  it('gives wrong bytes: refused, and had as soon as they are right', async (t) => {
    const config = configOf('wrong-bytes')
    const strict = await startSecond(config, t)
    proxy.fault = ({ method }) => (method === 'GET' ? { type: 'flip', atByte: 300 } : undefined)
    t.after(() => {
      proxy.fault = () => undefined
    })
    const wrong = await ask(named('one'), { at: strict })
    assert.deepEqual([wrong.status, wrong.error?.code], [503, 'adapter_unavailable'], JSON.stringify(wrong.error))
    assert.equal(wrong.headers.get('retry-after'), '5')
    assert.ok(!JSON.stringify(wrong.error).includes('127.0.0.1'), 'the answer tells no addresses')
    proxy.fault = () => undefined
    await untilOk(named('one'), strict)
  })

  it('is gone: 503 with a time to come back, while what is loaded goes on', async (t) => {
    proxy.fault = () => ({ type: 'refuse' })
    t.after(() => {
      proxy.fault = () => undefined
    })
    const gone = await ask(named('four'))
    assert.deepEqual([gone.status, gone.error?.code], [503, 'adapter_unavailable'])
    assert.equal((await ask(named('one'))).status, 200)
    proxy.fault = () => undefined
    await untilOk(named('four'), provider)
  })

  it('stalls: the fetch ends at its limit', async (t) => {
    const config = configOf('stalled', { storage: { nodes: [proxy.url], timeoutMs: 60_000 } }, { fetchMs: 700 })
    const strict = await startSecond(config, t)
    proxy.fault = ({ method }) => (method === 'GET' ? { type: 'stall', afterBytes: 100 } : undefined)
    t.after(() => {
      proxy.fault = () => undefined
    })
    const late = await ask(named('one'), { at: strict })
    assert.deepEqual([late.status, late.error?.code], [503, 'adapter_unavailable'], JSON.stringify(late.error))
  })
})

describe('the places for adapters', () => {
  // Invariant: no more adapters are loaded than allowed; the one longest unused makes room, and comes back when asked for.
  it('go to those used last', async (t) => {
    const config = configOf('small', {}, { loaded: 2, contexts: 1 })
    const small = await startSecond(config, t)
    const first = await ask(named('one'), { at: small })
    for (const name of ['two', 'three', 'four']) assert.equal((await ask(named(name), { at: small })).status, 200)
    const list = (await (await fetch(`${small.url}/v1/models`)).json()) as { data: { id: string }[] }
    assert.deepEqual(list.data.map(({ id }) => id).toSorted(), ['test-model', named('three'), named('four')].toSorted())
    const before = fetches()
    assert.equal((await ask(named('one'), { at: small })).text, first.text)
    assert.equal(fetches(), before, 'its file was still here')
  })

  it('on the disk are bounded too', async (t) => {
    const sizeBytes = writeGguf(randomAdapter({ config: base.config, seed: 1 })).length
    const config = configOf('small-disk', {}, { loaded: 1, cacheBytes: 2 * sizeBytes + 100 })
    const small = await startSecond(config, t)
    for (const name of ['one', 'two', 'three']) assert.equal((await ask(named(name), { at: small })).status, 200)
    const files = await readdir(join(market.folder, 'small-disk', 'adapters'))
    assert.deepEqual(files.toSorted(), [`${rootOf('two')}.gguf`, `${rootOf('three')}.gguf`].toSorted())
  })

  // A file that changed on the disk is found out by its root and fetched anew.
  it('hold only what has its root', async (t) => {
    const config = configOf('spoiled', {}, { loaded: 1 })
    const once = await startSecond(config, t)
    const { text } = await ask(named('one'), { at: once })
    await ask(named('two'), { at: once })
    await writeFile(join(market.folder, 'spoiled', 'adapters', `${rootOf('one')}.gguf`), 'something else')
    assert.equal((await ask(named('one'), { at: once })).text, text)
  })

  it('cost a user a share of an hour', async (t) => {
    const config = configOf('shared', {}, { fetchesPerUserPerHour: 1 })
    const shared = await startSecond(config, t)
    assert.equal((await ask(named('one'), { at: shared })).status, 200)
    const more = await ask(named('two'), { at: shared })
    assert.deepEqual([more.status, more.error?.code], [429, 'adapter_fetch_limit'])
    assert.ok(Number(more.headers.get('retry-after')) > 60)
    assert.equal((await ask(named('one'), { at: shared })).status, 200)
  })
})

describe(`adapters under random load (seed ${seed})`, () => {
  // Invariant: however requests for many adapters, clients that leave, and a network that fails come together, an answer
  // that is given is the right one; what is not answered is refused with a code; and in the end everything works.
  it('answer rightly or say why not', async (t) => {
    const limits = { loaded: 2, contexts: 1, refusedMs: 50, fetches: 2, fetchesPerUserPerHour: 0 }
    const config = configOf('random', { limits: { requestsPerMinute: 0, concurrentPerUser: 64 } }, limits)
    const small = await startSecond(config, t)
    const random = seededRandom(seed)
    const names = ['test-model', ...['one', 'two', 'three', 'four'].map(named)]
    const right = new Map<string, string>()
    for (const name of names) right.set(name, (await ask(name, { at: small })).text)
    assert.equal(new Set(right.values()).size, names.length)
    t.after(() => {
      proxy.fault = () => undefined
    })
    proxy.fault = () => (random(6) === 0 ? { type: 'refuse' } : undefined)
    const codes = new Map<string, number>()
    for (let round = 0; round < 6; round++) {
      // Files go, so that there is something to fetch.
      if (random(2) === 0) {
        const file = `${rootOf(['one', 'two', 'three', 'four'][random(4)] ?? '')}.gguf`
        await rm(join(market.folder, 'random', 'adapters', file), { force: true })
      }
      const asked = Array.from({ length: 8 }, () => names[random(names.length)] ?? '')
      const outcomes = await Promise.allSettled(
        asked.map((name) =>
          ask(name, { at: small, signal: random(5) === 0 ? AbortSignal.timeout(1 + random(20)) : undefined }),
        ),
      )
      for (const [i, outcome] of outcomes.entries()) {
        const name = asked[i] ?? ''
        if (outcome.status === 'rejected') {
          assert.match(String(outcome.reason), /Timeout|abort/i)
          continue
        }
        const { status, text, error } = outcome.value
        codes.set(error?.code ?? 'answered', (codes.get(error?.code ?? 'answered') ?? 0) + 1)
        if (status === 200) assert.equal(text, right.get(name), `${round}.${i}: ${name}`)
        else assert.ok(['adapters_busy', 'adapter_unavailable'].includes(error?.code ?? ''), JSON.stringify(error))
      }
      const list = (await (await fetch(`${small.url}/v1/models`)).json()) as { data: { id: string }[] }
      assert.ok(list.data.length <= 3, 'no more than two adapters are loaded')
    }
    t.diagnostic(JSON.stringify(Object.fromEntries(codes)))
    assert.ok((codes.get('answered') ?? 0) > 0)
    proxy.fault = () => undefined
    for (const name of names) {
      await untilOk(name, small)
      assert.equal((await ask(name, { at: small })).text, right.get(name))
    }
    assert.equal(small.status().running, 0)
  })
})

describe('adapters of the configuration', () => {
  it('are asked for by name, from a file or by root, and receipts name their roots', async (t) => {
    const bytes = writeGguf(randomAdapter({ config: base.config, seed: 9 }))
    const path = join(market.folder, 'nine.gguf')
    await writeFile(path, bytes)
    const { root } = await buildFileTree({ source: memorySource(bytes) })
    const adapters = [
      { name: 'nine', path, root },
      { name: 'stored', root: rootOf('two') },
    ]
    const set = await startSecond(configOf('configured', { adapters }), t)
    const nine = await ask('test-model:nine', { at: set })
    assert.equal(nine.status, 200, JSON.stringify(nine.error))
    assert.equal(adapterOfEngine((await receiptOf(nine, set)).engine), root)
    assert.equal((await ask(`test-model:${root}`, { at: set })).text, nine.text)
    assert.equal((await ask('nine', { at: set })).text, nine.text, 'as 0G’s clients ask')
    const stored = await ask('test-model:stored', { at: set })
    assert.equal(stored.text, (await ask(named('two'))).text)
    const list = (await (await fetch(`${set.url}/v1/lora/adapters`)).json()) as {
      adapters: { adapterName: string; storageRootHash: string }[]
    }
    assert.deepEqual(
      list.adapters.map(({ adapterName, storageRootHash }) => [adapterName, storageRootHash]),
      [
        ['nine', root],
        ['stored', rootOf('two')],
      ],
    )
  })

  it('are checked at the start', async () => {
    const path = join(market.folder, 'nine.gguf')
    const refused = (adapters: object[], overrides: object = {}) =>
      assert.rejects(market.start(configOf('refused', { adapters, ...overrides })), { code: 'PROVIDER_ADAPTER' })
    await refused([{ name: 'a', path, root: rootOf('one') }])
    await refused([{ name: 'a' }])
    await refused([{ name: 'a', path: join(market.folder, 'missing.gguf') }])
    await refused([{ name: 'a', root: rootOf('one') }], { storage: {} })
    await refused([
      { name: 'a', path },
      { name: 'a', path },
    ])
  })

  // An upstream has its adapters loaded itself: what is configured is passed on by name, and nothing else is.
  it('of an upstream are passed on by name', async (t) => {
    const upstream = await startUpstream()
    t.after(() => upstream.close())
    const adapters = [{ name: 'poet', root: rootOf('one'), upstreamModel: 'loras/poet' }]
    const config = configOf('upstream', { model: undefined, upstream: upstream.url, adapters })
    const passed = await startSecond(config, t)
    const script = { content: JSON.stringify({ tokens: 3 }), at: passed }
    const answer = await ask('test-model:poet', script)
    assert.equal(answer.status, 200, JSON.stringify(answer.error))
    assert.equal(upstream.bodies.at(-1)?.model, 'loras/poet')
    assert.equal(adapterOfEngine((await receiptOf(answer, passed)).engine), rootOf('one'))
    await ask('test-model', script)
    assert.notEqual(upstream.bodies.at(-1)?.model, 'loras/poet')
    const other = await ask(named('two'), script)
    assert.deepEqual([other.status, other.error?.code], [404, 'model_not_found'])
  })
})

/** Another provider on the same market, ended with the test. Only one serves at a time under the wallet's name. */
async function startSecond(config: ReturnType<typeof configOf>, t: { after(work: () => unknown): void }) {
  const started = await market.start(config)
  t.after(() => started.close())
  return started
}

async function untilOk(asked: string, at: RunningProvider): Promise<void> {
  const giveUpAt = Date.now() + 20_000
  for (;;) {
    const { status, error } = await ask(asked, { at })
    if (status === 200) return
    assert.ok(Date.now() < giveUpAt, `still ${status}: ${JSON.stringify(error)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
