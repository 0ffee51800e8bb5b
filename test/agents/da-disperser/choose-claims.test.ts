import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { chooseClaims } from '#da/disperser/fees/choose-claims.ts'
import type { Hex } from '#protocol/hex.ts'

const NOW_MS = 1_000_000_000_000
const DISPERSER: Hex = `0x${'dd'.repeat(20)}`

interface Facts {
  chargedWei: bigint
  cumulativeWei: bigint
  claimedWei: bigint
  balanceWei: bigint
  withdrawingWei: bigint
  lifeMs: number
  ageMs: number
}

function dueOf(facts: Facts, index = 0) {
  const user: Hex = `0x${index.toString(16).padStart(40, '0')}`
  const { chargedWei, cumulativeWei, claimedWei, balanceWei, withdrawingWei, lifeMs, ageMs } = facts
  const expiresAtS = Math.floor((NOW_MS + lifeMs) / 1_000)
  const voucher = { user, disperser: DISPERSER, cumulativeFeeWei: cumulativeWei, expiresAtS }
  return {
    payer: { user, chargedWei, held: { voucher, signature: '0x' as Hex }, dueSinceMs: NOW_MS - ageMs },
    account: { user, disperser: DISPERSER, balanceWei, claimedWei, withdrawingWei, unlockAtS: 0 },
  }
}

const PLAIN: Facts = {
  ...{ chargedWei: 1_000_000n, cumulativeWei: 1_000_000n, claimedWei: 0n, balanceWei: 1_000_000n },
  ...{ withdrawingWei: 0n, lifeMs: 86_400_000, ageMs: 0 },
}

const choose = (due: ReturnType<typeof dueOf>[], more: { gasPriceWei?: bigint; maxItems?: number } = {}) =>
  chooseClaims({
    ...{ due, nowMs: NOW_MS, gasPriceWei: 1n, earnOverGas: 10, expiringMs: 1_800_000, maxUnclaimedMs: 604_800_000 },
    ...{ maxItems: 100, ...more },
  })

// What is claimed is never more than was charged, signed for, or is there; and is more than was claimed before.
test('claims no more than is owed, signed and there', () => {
  const wei = fc.bigInt({ min: 0n, max: 10n ** 7n })
  const facts = fc.record<Facts>({
    ...{ chargedWei: wei, cumulativeWei: wei, claimedWei: wei, balanceWei: wei, withdrawingWei: wei },
    ...{ lifeMs: fc.integer({ min: -10_000, max: 10_000_000 }), ageMs: fc.integer({ min: 0, max: 10 ** 9 }) },
  })
  fc.assert(
    fc.property(fc.array(facts, { maxLength: 30 }), fc.bigInt({ min: 0n, max: 10n }), (all, gasPriceWei) => {
      const chosen = choose(
        all.map((one, index) => dueOf(one, index)),
        { gasPriceWei, maxItems: 8 },
      )
      assert.ok(chosen.length <= 8)
      let gainWei = 0n
      for (const { payer, claimWei, gainWei: gain } of chosen) {
        const one = all[Number(BigInt(payer.user))]
        assert.ok(one)
        assert.ok(claimWei <= one.chargedWei && claimWei <= one.cumulativeWei)
        assert.ok(gain > 0n && gain === claimWei - one.claimedWei && gain <= one.balanceWei)
        assert.ok(one.lifeMs > 0, 'a voucher that is over pays nothing')
        gainWei += gain
      }
      // All of them together are worth their transaction.
      if (chosen.length > 0) assert.ok(gainWei >= gasPriceWei * (45_000n + 20_000n * BigInt(chosen.length)))
    }),
  )
})

// It waits until it is worth ten times its gas, unless there is no time to wait.
test('waits, unless money may get out of reach', () => {
  const small = { ...PLAIN, chargedWei: 100_000n, cumulativeWei: 100_000n }
  assert.deepEqual(choose([dueOf(small)]), [])
  assert.equal(choose([dueOf({ ...small, withdrawingWei: 1n })])[0]?.urgent, 'withdrawal')
  assert.equal(choose([dueOf({ ...small, lifeMs: 600_000 })])[0]?.urgent, 'expiry')
  assert.equal(choose([dueOf({ ...small, ageMs: 604_800_000 })])[0]?.urgent, 'age')
  assert.equal(choose([dueOf(PLAIN)])[0]?.claimWei, 1_000_000n)
  assert.deepEqual(choose([dueOf({ ...PLAIN, lifeMs: 20_000 })]), [], 'too late to be mined')
  assert.deepEqual(choose([dueOf({ ...small, withdrawingWei: 1n })], { gasPriceWei: 3n }), [], 'not worth its gas')
})
