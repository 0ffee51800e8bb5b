import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { parseEther } from 'viem'
import { type Market, startMarket } from './market.ts'
import type { StandInProvider } from './stand-in-provider.ts'

let market: Market
let provider: StandInProvider
before(async () => {
  market = await startMarket()
  provider = await market.addProvider()
})
after(() => market.stop())

test('while the chain is down, known providers go on serving; a new client is told plainly', async () => {
  const client = await market.client()
  const ask = () => client.chat({ messages: [{ role: 'user', content: 'Hello?' }], provider: provider.address })
  await client.deposit({ amountWei: parseEther('3') })
  for await (const _ of (await ask()).text);
  await market.anvil.stop()

  const answer = await ask()
  for await (const _ of answer.text);

  const { checks, feeWei } = await answer.verification
  assert.ok((feeWei ?? 0n) > 0n, 'the receipt needs no chain')
  assert.ok(checks.find(({ name }) => name === 'signature')?.ok)
  const stranger = await market.client({ account: client.connection.account() })
  await assert.rejects(stranger.services(), { code: 'CHAIN_UNREACHABLE' })
  await assert.rejects(stranger.deposit({ amountWei: parseEther('3') }), { code: 'CHAIN_UNREACHABLE' })
})
