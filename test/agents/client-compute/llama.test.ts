import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { modelFileTexts } from '#client/compute/model-texts.ts'
import { providerConfigSchema, type RunningProvider, startProvider } from '#compute/provider/main.ts'
import { silentLog } from '#kit/log.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import { type Market, MODEL, startMarket } from './market.ts'

let market: Market
let provider: RunningProvider
let weights: string
before(async () => {
  market = await startMarket()
  const bytes = writeGguf(randomModel({ seed: 7n }))
  const dir = await market.folder()
  weights = join(dir, 'random.gguf')
  await writeFile(weights, bytes)
  const { root } = await buildFileTree({ source: memorySource(bytes) })
  const privateKey = market.providerKey()
  const config = providerConfigSchema.parse({
    ...{ port: 0, dataDir: join(dir, 'provider'), model: weights, modelRoot: root },
    chain: { rpcUrls: [market.anvil.url], inference: market.contracts.inference, pollIntervalMs: 50 },
    settlement: { enabled: false, embeddedQueue: false },
  })
  provider = await startProvider(config, { log: silentLog(), account: privateKeyToAccount(privateKey), env: {} })
  await market.register({ privateKey, url: provider.url, signer: provider.signer, weights: root })
})
after(async () => {
  await provider?.close()
  await market?.stop()
})

// The whole way with nothing stood in for: llama.cpp samples with the seed that the request gives, the provider signs
// the tokens, the client finds the text in them with the tokenizer of the weights named on the chain.
test('an answer of llama.cpp verifies down to its text', async () => {
  const limits = { firstTokenTimeoutMs: 60_000, idleTimeoutMs: 60_000 }
  const client = await market.client({ modelTexts: modelFileTexts([weights]), limits })
  await client.deposit({ amountWei: parseEther('3') })
  for (const temperature of [0, 1]) {
    const messages = [{ role: 'user' as const, content: 'Hello there' }]
    const answer = await client.chat({ messages, model: MODEL, maxTokens: 24, temperature })
    let text = ''
    for await (const part of answer.text) text += part
    const { verified, checks, level } = await answer.verification
    assert.deepEqual(
      checks.filter(({ ok }) => !ok),
      [],
    )
    assert.equal(verified, true)
    assert.equal(level, 2)
    assert.match(checks.find(({ name }) => name === 'tokens')?.detail ?? '', /they give the text received/)
    // Drawn at random, an answer may end before its first word.
    if (temperature === 0) assert.ok(text.length > 0)
  }
})
