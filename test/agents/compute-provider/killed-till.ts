// Run as a process of its own, to be killed: delivers a token every half millisecond and says how many.
import { writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { openTill, USERS } from './till.ts'

const [folder = ''] = process.argv.slice(2)
const [user = '0x'] = USERS
const till = openTill({ folder })
const charge = till.cashier.open({
  ...{ id: crypto.randomUUID(), user, mode: 'token', kind: 'chat' },
  ...{ prices: { inputPriceWei: 3n, outputPriceWei: 7n }, reservedWei: 1_000_000n },
})
for (let tokens = 1; tokens < 100_000; tokens += 1) {
  // Said first: the parent must never have heard of fewer than were billed.
  writeSync(1, `${tokens}\n`)
  charge.delivered({ promptTokens: 10, completionTokens: tokens })
  await delay(0.5)
}
