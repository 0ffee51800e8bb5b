import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startProvider } from '#compute/provider/main.ts'
import { createLog } from '#kit/log.ts'
import { type Market, openMarket } from './market.ts'
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
