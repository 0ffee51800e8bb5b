import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { INPUT_PRICE_WEI, type Market, OUTPUT_PRICE_WEI, openMarket } from './market.ts'
import { PROMPT_TOKENS, startUpstream, type Upstream } from './upstream.ts'

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

// The process is killed while several users are being streamed to. Who got tokens pays for them, less at most those of
// the last few milliseconds and never for more; the chain moves exactly that; the other charges are as they were.
test('a provider killed in the middle of streams settles what was delivered', async () => {
  const settlement = { enabled: false, embeddedQueue: false, earnOverGas: 1 }
  const options = { dataDir: join(market.folder, 'killed'), upstream: upstream.url }
  const config = market.config({ ...options, settlement })
  await market.register(config)
  const users = [3, 4].map((index) => market.user(index))
  for (const user of users) await user.fund('5')
  const configPath = join(market.folder, 'killed.json')
  const chain = { rpcUrls: [market.anvil.url], inference: market.contracts.inference, pollIntervalMs: 50 }
  writeFileSync(configPath, JSON.stringify({ ...options, port: 0, minimumReserveWei: '0', chain, settlement }))

  const script = new URL('./provider-process.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [script, configPath], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const url = String(line).trim()
  const received = await Promise.all(
    users.map(async (user, index) => {
      const messages = [{ role: 'user', content: JSON.stringify({ tokens: 5_000, delayMs: 2 + index }) }]
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${await user.token()}` },
        body: JSON.stringify({ model: 'test-model', messages, max_tokens: 5_000, stream: true }),
      })
      let tokens = 0
      const reader = response.body?.getReader()
      try {
        for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
          tokens += Buffer.from(part.value).toString().match(/word /g)?.length ?? 0
          if (tokens >= 150) child.kill('SIGKILL')
        }
      } catch {
        // The connection ends with the process.
      }
      return tokens
    }),
  )
  await exited

  const before = await Promise.all(users.map((user) => user.balance()))
  const provider = await market.start(config)
  const round = await provider.settle()
  assert.equal(round.users, 2)
  for (const [index, user] of users.entries()) {
    const paid = (before[index] ?? 0n) - (await user.balance())
    const got = received[index] ?? 0
    // Whether the prompt counts depends on the upstream having told its length by then.
    const most = BigInt(got + 2) * OUTPUT_PRICE_WEI + BigInt(PROMPT_TOKENS) * INPUT_PRICE_WEI
    assert.ok(paid <= most, `user ${index} paid ${paid} for ${got} tokens`)
    assert.ok(paid >= BigInt(got - 40) * OUTPUT_PRICE_WEI, `user ${index} paid only ${paid} for ${got} tokens`)
  }
  const { billedWei, earnedWei, unsettledWei } = provider.status()
  assert.deepEqual([earnedWei, unsettledWei], [billedWei, 0n])
})
