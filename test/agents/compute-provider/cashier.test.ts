import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Charge } from '#compute/provider/money/cashier.ts'
import type { Hex } from '#protocol/hex.ts'
import { openTill, USERS } from './till.ts'

const PRICES = { inputPriceWei: 3n, outputPriceWei: 7n }

function user(index: number): Hex {
  const found = USERS[index % USERS.length]
  assert.ok(found !== undefined)
  return found
}

// A fee is what was delivered times the price; what was set aside comes back when the charge ends.
test('bills what was delivered and gives back the rest of the reservation', () => {
  using till = openTill()
  const id = crypto.randomUUID()
  const charge = till.cashier.open({
    ...{ id, user: user(0), mode: 'token', kind: 'chat', prices: PRICES, reservedWei: 1_000n },
  })
  assert.deepEqual(till.cashier.standing(user(0), 'token'), { unsettledWei: 0n, reservedWei: 1_000n })
  charge.delivered({ promptTokens: 10, completionTokens: 4 })
  assert.equal(charge.close({ finish: 'stop' }), 58n)
  assert.equal(charge.close({ usage: { promptTokens: 99, completionTokens: 99 }, finish: 'again' }), 58n)
  assert.deepEqual(till.cashier.standing(user(0), 'token'), { unsettledWei: 58n, reservedWei: 0n })
})

// No charge passes what was set aside for it, whatever an engine claims to have used.
test('never bills more than was reserved', () => {
  using till = openTill()
  const charge = till.cashier.open({
    ...{ id: crypto.randomUUID(), user: user(0), mode: 'voucher', kind: 'chat', prices: PRICES, reservedWei: 50n },
  })
  const fee = charge.close({ usage: { promptTokens: 1e9, completionTokens: 1e9 }, finish: 'stop' })
  assert.equal(fee, 50n)
  assert.equal(till.vouchers.billedWei(user(0), 0n), 50n)
})

// The money of a charge is set aside in the tick of its opening; its row is there when the first token may leave, also
// where many are opened at once.
test('has a row for every charge before its first token may leave', async () => {
  using till = openTill()
  const ids = [0, 1, 2].map(() => crypto.randomUUID())
  const parameters = { user: user(0), mode: 'token', kind: 'chat', prices: PRICES, reservedWei: 100n } as const
  for (const id of ids) till.cashier.open({ id, ...parameters })
  assert.equal(till.cashier.standing(user(0), 'token').reservedWei, 300n)
  await till.cashier.durable()
  assert.deepEqual(
    ids.map((id) => till.states()[id]),
    ['open', 'open', 'open'],
  )
})

// Where the disk refuses the row, no token may leave, nothing is billed, and what was set aside comes back; the charges
// that come after are as good as ever.
test('lets nothing leave without a row', async () => {
  using till = openTill()
  const open = () =>
    till.cashier.open({
      ...{ id: crypto.randomUUID(), user: user(0), mode: 'token', kind: 'chat', prices: PRICES, reservedWei: 100n },
    })
  const refused = open()
  till.refuseWrites(true)
  await assert.rejects(till.cashier.durable())
  assert.throws(() => refused.close({ usage: { promptTokens: 0, completionTokens: 0 }, finish: 'failed' }))
  assert.deepEqual(till.cashier.standing(user(0), 'token'), { unsettledWei: 0n, reservedWei: 0n })
  till.refuseWrites(false)
  const good = open()
  await till.cashier.durable()
  assert.equal(good.close({ usage: { promptTokens: 1, completionTokens: 1 }, finish: 'stop' }), 10n)
  assert.deepEqual(till.states(), { [good.parameters.id]: 'closed' })
  assert.equal(till.totals().billed, 10n)
})

// Whatever is opened, progresses, ends, is settled wholly, in part or not at all, and however often the process ends
// in between: billed = earned + owed, and nobody's standing differs from the rows.
test('conserves money over random histories with crashes', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('open' as const), user: fc.nat(2), reserve: fc.nat(500), voucher: fc.boolean() }),
    fc.record({ kind: fc.constant('deliver' as const), at: fc.nat(9), prompt: fc.nat(20), tokens: fc.nat(40) }),
    fc.record({ kind: fc.constant('close' as const), at: fc.nat(9) }),
    fc.record({ kind: fc.constant('settle' as const), voucher: fc.boolean(), paidPercent: fc.nat(100) }),
    fc.record({ kind: fc.constant('prepare' as const), voucher: fc.boolean() }),
    fc.record({ kind: fc.constant('crash' as const) }),
  )
  const seed = Number(process.env.FC_SEED ?? 20_261_121)
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      let till = openTill()
      let open: Charge[] = []
      try {
        for (const action of steps) {
          if (action.kind === 'open') {
            const mode = action.voucher ? 'voucher' : 'token'
            const parameters = { user: user(action.user), mode, reservedWei: BigInt(action.reserve) } as const
            const id = crypto.randomUUID()
            open.push(till.cashier.open({ id, kind: 'chat', prices: PRICES, ...parameters }))
          } else if (action.kind === 'deliver') {
            open[action.at]?.delivered({ promptTokens: action.prompt, completionTokens: action.tokens })
            till.cashier.flush()
          } else if (action.kind === 'close') {
            const [charge] = open.splice(action.at, 1)
            charge?.close({ finish: 'stop' })
          } else if (action.kind === 'crash') {
            till = till.reopen()
            open = []
            till.cashier.recover()
          } else {
            const mode = action.voucher ? 'voucher' : 'token'
            const due = till.settlements.due(mode)
            const items = USERS.flatMap((payer) => {
              const charges = due.filter((charge) => charge.user === payer)
              const owedWei = charges.reduce((sum, { feeWei }) => sum + feeWei, 0n)
              return owedWei === 0n ? [] : [{ item: item(payer, owedWei), charges }]
            })
            if (items.length > 0) till.settlements.prepare({ mode, fromBlock: 1, items })
            if (action.kind === 'settle') {
              for (const batch of till.settlements.open()) {
                const outcomes = batch.items.map(({ id, totalWei }) => ({
                  ...{ itemId: id, status: 'partial', paidWei: (totalWei * BigInt(action.paidPercent)) / 100n },
                }))
                till.settlements.finish({ batch, outcomes })
                // What a crash between the chain and the log would repeat changes nothing.
                till.settlements.finish({ batch, outcomes })
              }
            }
          }
          const { billed, earned, lost } = till.totals()
          assert.equal(billed, earned + lost + till.owedWei())
        }
        const standing = USERS.reduce((sum, payer) => sum + till.cashier.total(payer).unsettledWei, 0n)
        assert.equal(standing, till.owedWei())
      } finally {
        till[Symbol.dispose]()
      }
    }),
    { seed, numRuns: 60 },
  )
})

function item(payer: Hex, owedWei: bigint) {
  return {
    ...{ user: payer, owedWei, totalWei: owedWei, signature: '0x' as Hex, nonce: 1n, requestsHash: '0x' as Hex },
    ...{ paidBeforeWei: 0n, cumulativeWei: 0n, expiresS: 0, generation: 0 },
  }
}

// A process killed while it streams is billed for what it had handed out, less at most the last few milliseconds, and
// never for more.
test('bills a killed process for what it had delivered', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'till-kill-'))
  const script = new URL('./killed-till.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [script, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  let delivered = 0
  child.stdout.on('data', (data: Buffer) => {
    delivered = Number(String(data).trim().split('\n').at(-1))
    if (delivered >= 200) child.kill('SIGKILL')
  })
  await once(child, 'close')
  const till = openTill({ folder })
  try {
    const { charges } = till.cashier.recover()
    assert.equal(charges, 1)
    const billed = Number(till.totals().billed)
    const tokens = (billed - 10 * 3) / 7
    assert.ok(Number.isInteger(tokens), `billed ${billed}`)
    assert.ok(tokens <= delivered + 1, `billed ${tokens} of ${delivered} delivered`)
    assert.ok(tokens >= delivered - 60, `billed only ${tokens} of ${delivered} delivered`)
    assert.deepEqual(till.reopen().cashier.recover(), { charges: 0, billedWei: 0n })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
