import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { privateKeyToAccount } from 'viem/accounts'
import { signingKey, startProvider } from '#compute/provider/main.ts'
import { openProviderWallet } from '#compute/provider/registration.ts'
import { silentLog } from '#kit/log.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'
import { type Market, openMarket, until } from './market.ts'
import { startUpstream, type Upstream } from './upstream.ts'

const HASH = `0x${'77'.repeat(32)}` as const
let market: Market
let upstream: Upstream

before(async () => {
  market = await openMarket()
  upstream = await startUpstream()
})
after(async () => {
  await market?.close()
  await upstream?.close()
})

test('registers with the least stake, changes prices, and gets its stake back after the delay', async () => {
  const config = market.config({ upstream: upstream.url })
  const signer = await signingKey(config.dataDir)
  assert.equal((await signingKey(config.dataDir)).address, signer.address)
  await using wallet = await openProviderWallet({ config, account: market.provider.account, log: silentLog() })
  const none = await wallet.registration()
  assert.equal(none.registered, false)
  const terms = { url: 'http://127.0.0.1:9', model: 'm', inputPriceWei: 1n, outputPriceWei: 2n, signer: signer.address }
  await assert.rejects(wallet.register({ ...terms, url: 'http://127.0.0.1:9/' }), { code: 'PROVIDER_TERMS' })
  const first = await wallet.register({ ...terms, modelRoot: HASH })
  assert.deepEqual([first.registered, first.model, first.bondedWei], [true, 'm', none.minimumStakeWei])
  const changed = await wallet.register({ ...terms, outputPriceWei: 5n, modelRoot: HASH })
  assert.deepEqual([changed.outputPriceWei, changed.bondedWei], [5n, none.minimumStakeWei])
  const removed = await wallet.remove()
  assert.deepEqual([removed.registered, removed.unbondingWei], [false, none.minimumStakeWei])
  await assert.rejects(wallet.claimStake())
  const { timestamp } = await wallet.chain.client.getBlock()
  await market.anvil.rpc('evm_increaseTime', [Number(removed.releaseAtS - timestamp) + 1])
  await market.anvil.rpc('evm_mine', [])
  assert.equal(await wallet.claimStake(), none.minimumStakeWei)
})

// A provider serves before it is registered, says so, and needs no restart once it is.
test('a provider that is not registered says so and begins when it is', async () => {
  const config = market.config({ upstream: upstream.url, dataDir: `${market.folder}/late` })
  const provider = await market.start(config)
  const user = market.user(3)
  const ask = async () => {
    const response = await fetch(`${provider.url}/v1/chat/completions`, {
      ...{ method: 'POST', headers: { authorization: `Bearer ${await user.token()}` } },
      body: JSON.stringify({ model: 'test-model', messages: [{ role: 'user', content: 'x' }], max_tokens: 5 }),
    })
    return { status: response.status, text: await response.text() }
  }
  const before = await ask()
  assert.equal(before.status, 503)
  assert.match(before.text, /service_missing/)
  await user.fund('2')
  await market.register(config, { approve: false })
  const waiting = await until(async () => {
    const answer = await ask()
    return answer.text.includes('service_missing') ? undefined : answer
  }, 'the registration is seen')
  assert.match(waiting.text, /signer_not_acknowledged/)
  await market.owner().call(market.contracts.inference, 'acknowledgeTEESignerByOwner', [provider.address])
  await until(async () => (await ask()).status === 200, 'the approval is seen')
})

test('refuses to start without an engine, with two, and at an address without a contract', async () => {
  const start = (overrides: Record<string, unknown>) =>
    market.start(market.config({ dataDir: `${market.folder}/wrong`, ...overrides }))
  await assert.rejects(start({}), { code: 'PROVIDER_ENGINE' })
  await assert.rejects(start({ model: 'x.gguf', upstream: upstream.url }), { code: 'PROVIDER_ENGINE' })
  const inference = `0x${'34'.repeat(20)}`
  await assert.rejects(start({ upstream: upstream.url, chain: { inference } }), { code: 'PROVIDER_CONTRACT' })
})

// What users owe under one contract is never settled under another, and never to another wallet.
test('a folder with the books of another provider or contract is refused', async () => {
  const config = market.config({ upstream: upstream.url, dataDir: `${market.folder}/claimed` })
  const provider = await market.start(config)
  await provider.close()
  const other = { ...config, chain: { ...config.chain, inference: market.contracts.ledger } }
  await assert.rejects(market.start(other), { code: 'DATA_FOLDER_FOREIGN', message: /contract 0x.*configured 0x/ })
  const known = DEV_ACCOUNTS[2]
  assert.ok(known)
  const account = privateKeyToAccount(known.privateKey)
  await assert.rejects(startProvider(config, { log: silentLog(), account, env: {} }), { code: 'DATA_FOLDER_FOREIGN' })
  const again = await market.start(config)
  await again.close()
})
