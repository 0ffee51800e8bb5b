import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { parseEther } from 'viem'
import type { ComputeClient } from '#client/compute/compute-client.ts'
import { bookKey } from '#client/compute/connection.ts'
import { verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import { type Market, startMarket } from './market.ts'
import type { Fault, StandInProvider } from './stand-in-provider.ts'

const FAULTS: readonly Fault[] = [
  ...(['none', 'none', 'none', 'dies-before-token', 'error-before-token', 'busy', 'refuses'] as const),
  ...(['dies-after-token', 'error-after-token', 'ends-without-done', 'forged-receipt', 'overpriced'] as const),
  ...(['same-nonce', 'signs-other-answer', 'demands-too-much', 'forgets-token-once', 'foreign-request'] as const),
]

let market: Market
let provider: StandInProvider
before(async () => {
  market = await startMarket()
  provider = await market.addProvider()
})
after(() => market.stop())

/** mulberry32: small, and the same everywhere. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

// Invariant: whatever a provider does, in whatever order, the user owes exactly what sound receipts say, and was never
// bound to more than that plus the most that the requests under way could cost.
test('through random faults the user never signs for more than receipts and requests under way', async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.diagnostic(`seed ${seed}`)
  const random = generator(seed)
  let answered = 0
  // After a bill without a receipt a provider is done for: each user meets it afresh.
  for (let users = 0; users < 6; users++) {
    const client = await market.client({ limits: { receiptTimeoutMs: 300 } })
    await client.deposit({ amountWei: parseEther('3') })
    const { book } = client.connection
    const key = await bookKey(client.connection, { provider: provider.address })
    for (let round = 0; round < 6; round++) {
      provider.fault = FAULTS[Math.floor(random() * FAULTS.length)] ?? 'none'
      const { openWei } = book.account(key)
      const seen = provider.requests.length
      const maxFeeWei = await ask(client)
      const sent = provider.requests.slice(seen)
      answered += sent.length
      // A demand may have brought receipts of lost requests into the books, hence as they are by now.
      const boundWei = book.account(key).billedWei + openWei + maxFeeWei
      for (const { cumulativeFeeWei = 0n } of sent) assert.ok(cumulativeFeeWei <= boundWei, `seed ${seed}`)
    }
    const receipts = book.receipts({ limit: 100 })
    for (const { json } of receipts) {
      verifyReceipt({ ...key, ...decodeReceipt(json), signers: [provider.address] })
    }
    const { billedWei, openWei } = book.account(key)
    assert.equal(billedWei, sum(receipts.map(({ feeWei }) => feeWei)), `seed ${seed}`)
    assert.equal(openWei, 0n, `seed ${seed}: nothing is left under way`)
    assert.ok(billedWei <= provider.billedWei(key.user), `seed ${seed}: nothing is owed that was not billed`)
  }
  assert.ok(answered >= 36, 'every request reached the provider')
})

/** One chat to its end, however that is; tells the most it could cost. */
async function ask(client: ComputeClient): Promise<bigint> {
  let maxFeeWei = 0n
  try {
    const answer = await client.chat({
      ...{ messages: [{ role: 'user', content: 'Hello?' }], maxTokens: 16, provider: provider.address },
      onEvent: (event) => {
        if (event.type === 'quote') maxFeeWei = event.maxFeeWei
      },
    })
    try {
      for await (const _ of answer.text);
    } finally {
      await answer.verification
    }
  } catch (error) {
    assert.match(String(Reflect.get(Object(error), 'code')), /^(PROVIDER_|VOUCHER_)/, String(error))
  }
  return maxFeeWei
}

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n)
}
