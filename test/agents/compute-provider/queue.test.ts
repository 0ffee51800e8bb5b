import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startProvider } from '#compute/provider/main.ts'
import { createLog } from '#kit/log.ts'
import { findProgram, startRedis } from '../kit/queue/servers.ts'
import { type Market, openMarket, until } from './market.ts'
import { startUpstream, type Upstream } from './upstream.ts'

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

// Through the durable queue a settlement does the same as without; and whatever happens to requests, no word of a
// prompt, an answer, a token or a voucher is in the log.
test('settles through the queue, and logs no prompt, no answer, no credentials', async () => {
  const lines: string[] = []
  const log = createLog({
    name: 'test',
    level: 'trace',
    pretty: false,
    stream: { write: (line) => void lines.push(line) },
  })
  const settlement = { enabled: false, embeddedQueue: true, earnOverGas: 1 }
  const config = { ...market.config({ upstream: upstream.url }), settlement: market.config({ settlement }).settlement }
  await market.register(config)
  const user = market.user(3)
  await user.fund('5')
  const provider = await startProvider(config, { log, account: market.provider.account, env: {} })
  try {
    const token = await user.token()
    const voucher = await user.voucher(10n ** 18n)
    const secret = 'the-prompt-nobody-may-see'
    for (const order of [{ tokens: 900, text: 'unspeakable ' }, { status: 500 }, { tokens: 2, ending: 'break' }]) {
      for (const stream of [true, false]) {
        const messages = [
          { role: 'user', content: secret },
          { role: 'user', content: JSON.stringify(order) },
        ]
        const response = await fetch(`${provider.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { authorization: `Bearer ${token}`, 'x-weightless-voucher': voucher },
          body: JSON.stringify({ model: 'test-model', messages, max_tokens: 1_000, stream }),
        })
        await response.text()
      }
    }
    const owed = provider.status().unsettledWei
    const round = await provider.settle()
    assert.deepEqual([round.users, round.earnedWei], [1, owed])
    assert.equal((await provider.settle()).batches, 0)
    const all = lines.join('\n')
    assert.ok(lines.length > 5)
    for (const word of [secret, 'unspeakable', 'secret details', token.slice(10, 60), voucher.slice(0, 40)]) {
      assert.ok(!all.includes(word), `the log holds ${word}`)
    }
  } finally {
    await provider.close()
  }
})

const redis = findProgram('redis-server')
const skip = redis === undefined && 'redis-server is not installed'

// Several machines serve one provider: they share its wallet, its signing key and, on Redis, one queue of settlements.
// Whichever of them handles a job, what each of them served is paid, and paid once.
test('two providers with one wallet settle through one queue on Redis', { skip }, async () => {
  assert.ok(redis !== undefined)
  const server = await startRedis(redis)
  const settlement = { queueUrl: server.url, earnOverGas: 1 }
  const dataDir = join(market.folder, 'second')
  mkdirSync(dataDir)
  copyFileSync(join(market.folder, 'provider', 'signer.key'), join(dataDir, 'signer.key'))
  const providers = [
    await market.start(market.config({ upstream: upstream.url, settlement })),
    await market.start(market.config({ upstream: upstream.url, settlement, dataDir })),
  ]
  try {
    const user = market.user(4)
    await user.fund('5')
    const earnedBefore = providers.map((provider) => provider.status().earnedWei)
    const before = await user.balance()
    const authorization = `Bearer ${await user.token()}`
    for (const [index, { url }] of providers.entries()) {
      const messages = [{ role: 'user', content: JSON.stringify({ tokens: 500 + 200 * index }) }]
      const body = JSON.stringify({ model: 'test-model', messages, max_tokens: 1_000 })
      const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers: { authorization }, body })
      assert.equal(response.status, 200)
      await response.text()
    }
    const owed = providers.map((provider) => provider.status().unsettledWei)
    assert.ok(owed.every((wei) => wei > 0n))
    for (const provider of providers) {
      await until(async () => (await provider.settle()).batches === 0, 'nothing is left to settle', 30_000)
    }
    const earned = providers.map((provider, index) => provider.status().earnedWei - (earnedBefore[index] ?? 0n))
    assert.deepEqual(earned, owed)
    assert.equal(
      before - (await user.balance()),
      owed.reduce((sum, wei) => sum + wei, 0n),
    )
  } finally {
    for (const provider of providers) await provider.close()
    await server.stop()
  }
})
