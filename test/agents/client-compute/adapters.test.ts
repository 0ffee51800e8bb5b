import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import type { ComputeClient } from '#client/compute/compute-client.ts'
import { modelFileTexts } from '#client/compute/model-texts.ts'
import { listModels } from '#compute/gateway/models.ts'
import { providerConfigSchema, type RunningProvider, startProvider } from '#compute/provider/main.ts'
import { silentLog } from '#kit/log.ts'
import { adaptedModel, adapterOfEngine, engineText } from '#protocol/compute/adapter-name.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import type { Hash } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import { type StorageNetwork, startStorageNetwork } from '../client/storage-network.ts'
import { randomAdapter } from '../engines/random-adapter.ts'
import { type Market, startMarket } from './market.ts'

const MODEL = 'weightless/adapted'
const LYING = 'weightless/lying'
const base = randomModel({ seed: 7n, config: { layers: 2, context: 256 } })

let market: Market
let storage: StorageNetwork
let provider: RunningProvider
let weights: string
let adapter: Hash
before(async () => {
  ;[market, storage] = await Promise.all([startMarket(), startStorageNetwork()])
  const dir = await market.folder()
  weights = join(dir, 'base.gguf')
  const bytes = writeGguf(base)
  await writeFile(weights, bytes)
  const { root } = await buildFileTree({ source: memorySource(bytes) })
  const owner = await storage.client()
  const source = memorySource(writeGguf(randomAdapter({ config: base.config, seed: 1 })))
  adapter = (await owner.storage.upload({ source })).root
  const privateKey = market.providerKey()
  const config = providerConfigSchema.parse({
    ...{ port: 0, dataDir: join(dir, 'provider'), model: weights, modelRoot: root, contextTokens: 256 },
    chain: { rpcUrls: [market.anvil.url], inference: market.contracts.inference, pollIntervalMs: 50 },
    settlement: { enabled: false, embeddedQueue: false },
    storage: { nodes: storage.nodes.map(({ url }) => url) },
  })
  provider = await startProvider(config, { log: silentLog(), account: privateKeyToAccount(privateKey), env: {} })
  const service = { privateKey, url: provider.url, signer: provider.signer, model: MODEL, weights: root }
  await market.register(service)
})
after(async () => {
  await provider?.close()
  await storage?.stop()
  await market?.stop()
})

async function ask(client: ComputeClient, model: string) {
  const messages = [{ role: 'user' as const, content: 'Hello there' }]
  const answer = await client.chat({ messages, model, maxTokens: 16, temperature: 0 })
  let text = ''
  for await (const part of answer.text) text += part
  return { text, ...(await answer.verification) }
}

async function funded(change = {}): Promise<ComputeClient> {
  const limits = { firstTokenTimeoutMs: 60_000, idleTimeoutMs: 60_000, cacheMs: 0 }
  const client = await market.client({ limits, ...change })
  await client.deposit({ amountWei: parseEther('5') })
  return client
}

// From a root to a verified answer: a provider of the base is found, fetches the adapter, answers with it, and its
// receipt says so. The text differs from the plain model's, and each verifies as what was asked for.
test('a model with an adapter is asked for by its root, and the answer verifies', async () => {
  const client = await funded({ modelTexts: modelFileTexts([weights]) })
  const plain = await ask(client, MODEL)
  const adapted = await ask(client, `${MODEL}:${adapter}`)
  for (const { verified, checks } of [plain, adapted]) {
    assert.deepEqual(
      checks.filter(({ ok }) => !ok),
      [],
    )
    assert.equal(verified, true)
  }
  assert.notEqual(adapted.text, plain.text)
  assert.equal(adapted.checks.find(({ name }) => name === 'adapter')?.detail, `adapter ${adapter}`)
  assert.equal(
    plain.checks.some(({ name }) => name === 'adapter'),
    false,
  )
  const listed = await listModels(client.connection)
  assert.ok(listed.some(({ id, adapter_root }) => id === `${MODEL}:${adapter}` && adapter_root === adapter))
})

test('an adapter that is nowhere is told of by its root', async () => {
  const nowhere = `0x${'cd'.repeat(32)}`
  await assert.rejects(ask(await funded(), `${MODEL}:${nowhere}`), (error: Error) => {
    assert.match(error.message, new RegExp(`there is no adapter ${nowhere}`))
    return true
  })
})

// Invariant: an answer verifies only if the receipt names the adapter that was asked for, or none where none was.
test('a receipt that names another adapter, or none, does not verify', async () => {
  const liar = await market.addProvider({ model: LYING })
  const client = await funded()
  const other: Hash = `0x${'ee'.repeat(32)}`
  const cases = [
    [`${LYING}:${adapter}`, adapter, true],
    [`${LYING}:${adapter}`, other, false],
    [`${LYING}:${adapter}`, undefined, false],
    [LYING, other, false],
    [LYING, undefined, true],
  ] as const
  for (const [model, named, holds] of cases) {
    liar.engine = engineText({ engine: 'stand-in 1', adapter: named })
    const { verified, checks } = await ask(client, model)
    assert.equal(verified, holds, `${model} answered by ${named}: ${JSON.stringify(checks)}`)
    const failed = checks.filter(({ ok }) => !ok).map(({ name }) => name)
    assert.deepEqual(failed, holds ? [] : ['adapter'])
  }
})

test('names and engine texts are taken apart as they were put together', () => {
  const root: Hash = `0x${'0f'.repeat(32)}`
  assert.deepEqual(adaptedModel(`llama3:8b:${root.toUpperCase().replace('0X', '0x')}`), { base: 'llama3:8b', root })
  for (const name of ['llama3:8b', root, `:${root}`, `base:${root}00`, 'base:0x12', ''])
    assert.equal(adaptedModel(name), undefined, name)
  const long = engineText({ engine: 'e'.repeat(400), adapter: root })
  assert.equal(adapterOfEngine(long), root)
  assert.ok(long.length <= 256)
  assert.equal(engineText({ engine: 'llama 1', adapter: undefined }), 'llama 1')
  assert.equal(adapterOfEngine('llama 1'), undefined)
})
