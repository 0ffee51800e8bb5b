import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import * as current from '@0gfoundation/0g-compute-ts-sdk'
import * as legacy from '@0glabs/0g-serving-broker'
import { ethers } from 'ethers'
import OpenAI from 'openai'
import type { RunningProvider } from '#compute/provider/main.ts'
import { INPUT_PRICE_WEI, type Market, OUTPUT_PRICE_WEI, openMarket, until } from '../agents/compute-provider/market.ts'
import { PROMPT_TOKENS, startUpstream, type Upstream } from '../agents/compute-provider/upstream.ts'
import { DEV_ACCOUNTS } from '../chain.ts'
import { releaseLongTimers } from './compute-packages.ts'

releaseLongTimers()

/** The parts of the public packages that are used here; both have them. */
interface Broker {
  ledger: {
    addLedger(coins: number): Promise<unknown>
    depositFund(coins: number): Promise<unknown>
    getLedger(): Promise<{ availableBalance: bigint; totalBalance: bigint }>
    transferFund(provider: string, service: string, amount: bigint): Promise<unknown>
    retrieveFund(service: string): Promise<unknown>
  }
  inference: {
    listService(offset?: number, limit?: number, includeUnacknowledged?: boolean): Promise<unknown[]>
    acknowledgeProviderSigner(provider: string): Promise<unknown>
    getServiceMetadata(provider: string): Promise<{ endpoint: string; model: string }>
    getRequestHeaders(provider: string, content?: string): Promise<Record<string, string>>
    processResponse(provider: string, chatId?: string, content?: string): Promise<boolean | null>
    verifyService(
      provider: string,
      folder: string,
      log?: (step: unknown) => void,
    ): Promise<{
      signerVerification: { allMatch: boolean }
      composeVerification: { passed: boolean }
    } | null>
    getAccount(provider: string): Promise<{ balance: bigint; pendingRefund: bigint; generation: bigint }>
    revokeApiKey(provider: string, id: number): Promise<unknown>
    revokeAllTokens(provider: string): Promise<unknown>
    requestProcessor: {
      createApiKey(provider: string, options: object): Promise<{ rawToken: string; tokenId: number }>
    }
  }
}

const PACKAGES = [
  { name: '@0gfoundation/0g-compute-ts-sdk 0.9.0', module: current, account: 3 },
  { name: '@0glabs/0g-serving-broker 0.7.4', module: legacy, account: 4 },
] as const

let market: Market
let upstream: Upstream
let provider: RunningProvider
let rpc: ethers.JsonRpcProvider
let folder: string

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'compat-compute-'))
  market = await openMarket({ minimumsInCoins: true })
  upstream = await startUpstream()
  const config = market.config({ upstream: upstream.url, attestation: { kind: 'simulated' } })
  provider = await market.start(config)
  await market.register(config, { url: provider.url })
  rpc = new ethers.JsonRpcProvider(market.anvil.url, undefined, { cacheTimeout: -1, pollingInterval: 50 })
})
after(async () => {
  rpc?.destroy()
  await market?.close()
  await upstream?.close()
  rmSync(folder, { recursive: true, force: true })
})

async function openBroker(module: (typeof PACKAGES)[number]['module'], account: number): Promise<Broker> {
  const wallet = new ethers.Wallet(DEV_ACCOUNTS[account]?.privateKey ?? '', rpc)
  // At the addresses that the packages know for chain 31337: none is passed.
  return (await module.createZGComputeNetworkBroker(wallet as never)) as unknown as Broker
}

for (const { name, module, account } of PACKAGES) {
  describe(name, () => {
    let broker: Broker
    const address = () => market.provider.account.address

    test('finds the service, opens and fills an account', async () => {
      broker = await openBroker(module, account)
      const services = await broker.inference.listService()
      assert.equal(services.length, 1)
      await assert.rejects(broker.ledger.getLedger())
      await broker.ledger.addLedger(10)
      await broker.ledger.depositFund(5)
      await broker.ledger.transferFund(address(), 'inference', 10n ** 18n)
      await broker.inference.acknowledgeProviderSigner(address())
      assert.equal((await broker.inference.getAccount(address())).balance, 10n ** 18n)
      const ledger = await broker.ledger.getLedger()
      assert.equal(ledger.totalBalance, 15n * 10n ** 18n)
    })

    // The headers top the account up; the OpenAI library talks through them; the answer's signature is accepted by the
    // id in the header and by the one in the body.
    test('chats, whole and streamed, and accepts the signature of each answer', async () => {
      const { endpoint, model } = await broker.inference.getServiceMetadata(address())
      assert.equal(endpoint, `${provider.url}/v1/proxy`)
      const openai = new OpenAI({ baseURL: endpoint, apiKey: 'unused', maxRetries: 0 })
      const messages = [{ role: 'user' as const, content: JSON.stringify({ tokens: 6 }) }]
      for (const stream of [false, true]) {
        const headers = await broker.inference.getRequestHeaders(address(), 'question')
        assert.match(headers.Authorization ?? '', /^Bearer app-sk-/)
        const request = openai.chat.completions.create({ model, messages, stream } as never, { headers })
        const { response } = await request.withResponse()
        const chatId = response.headers.get('ZG-Res-Key') ?? undefined
        const answer: unknown = await request
        const found = { text: '', id: '', usage: {} as unknown }
        if (stream) {
          for await (const chunk of answer as AsyncIterable<OpenAI.ChatCompletionChunk>) {
            found.text += chunk.choices[0]?.delta.content ?? ''
            found.id = chunk.id
            found.usage = chunk.usage ?? found.usage
          }
        } else {
          const whole = answer as OpenAI.ChatCompletion
          Object.assign(found, { text: whole.choices[0]?.message.content, id: whole.id, usage: whole.usage })
        }
        assert.equal(found.text, 'word '.repeat(6))
        const usage = JSON.stringify(found.usage)
        assert.equal(await broker.inference.processResponse(address(), chatId, usage), true, 'by the header')
        assert.equal(await broker.inference.processResponse(address(), found.id, usage), true, 'by the body')
        assert.equal(await broker.inference.processResponse(address(), undefined, usage), null)
      }
      await assert.rejects(broker.inference.processResponse(address(), 'unknown-id', '{}'))
    })

    test('verifies the simulated attestation, which says that it is one', async () => {
      mkdirSync(join(folder, String(account)))
      const report = await broker.inference.verifyService(address(), join(folder, String(account)), () => {})
      assert.equal(report?.signerVerification.allMatch, true)
      assert.equal(report?.composeVerification.passed, true)
      const written = JSON.parse(readFileSync(join(folder, String(account), 'attestation_report.json'), 'utf8'))
      assert.deepEqual([written.attestation, written.simulated], ['simulated', true])
    })

    test('makes an API key, and a revoked one is refused', async () => {
      const { rawToken, tokenId } = await broker.inference.requestProcessor.createApiKey(address(), { expiresIn: 0 })
      const ask = async () => {
        const body = JSON.stringify({ model: 'test-model', messages: [{ role: 'user', content: 'x' }], max_tokens: 5 })
        const headers = { authorization: `Bearer ${rawToken}` }
        const response = await fetch(`${provider.url}/v1/proxy/chat/completions`, { method: 'POST', body, headers })
        return { status: response.status, text: await response.text() }
      }
      assert.equal((await ask()).status, 200)
      await broker.inference.revokeApiKey(address(), tokenId)
      const refused = await until(async () => {
        const answer = await ask()
        return answer.status === 401 ? answer : undefined
      }, 'the key is refused')
      assert.match(refused.text, /revoked/)
      await broker.inference.revokeAllTokens(address())
      assert.equal((await broker.inference.getAccount(address())).generation, 1n)
    })

    test('draws its money back', async () => {
      await broker.ledger.retrieveFund('inference')
      const { balance, pendingRefund } = await (await openBroker(module, account)).inference.getAccount(address())
      assert.equal(balance, pendingRefund)
    })
  })
}

// What the two packages used is on the books to the last token.
test('bills the packages for exactly what they used', () => {
  const { billedWei, earnedWei, unsettledWei } = provider.status()
  // Two answers of 6 tokens and at least one of 5, by each of two packages.
  const answer = (tokens: number) => BigInt(PROMPT_TOKENS) * INPUT_PRICE_WEI + BigInt(tokens) * OUTPUT_PRICE_WEI
  // The revoked key may have been served once or twice more until its event was seen.
  const rest = billedWei - 4n * answer(6)
  assert.ok(rest >= 2n * answer(5) && rest % answer(5) === 0n, `${billedWei}`)
  assert.equal(billedWei, earnedWei + unsettledWei)
})
