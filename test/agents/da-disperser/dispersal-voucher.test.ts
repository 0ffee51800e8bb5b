import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  DispersalVoucherError,
  decodeDispersalVoucher,
  decodeVoucherShortfall,
  encodeDispersalVoucher,
  encodeVoucherShortfall,
  signDispersalVoucher,
  verifyDispersalVoucher,
} from '#protocol/da/dispersal-voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { accountOf } from '../da-signer/harness.ts'

const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((array): Hex => `0x${Buffer.from(array).toString('hex')}`)
const signed = fc.record(
  {
    voucher: fc.record(
      {
        user: bytes(20),
        disperser: bytes(20),
        cumulativeFeeWei: fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }),
        expiresAtS: fc.nat(),
      },
      { noNullPrototype: true },
    ),
    signature: bytes(65),
  },
  { noNullPrototype: true },
)

// What travels in a header or in a refusal arrives as it was sent.
test('vouchers keep what they carry', () => {
  fc.assert(
    fc.property(signed, fc.bigInt({ min: 0n, max: 2n ** 100n }), (one, wei) => {
      assert.deepEqual(decodeDispersalVoucher(encodeDispersalVoucher(one)), one)
      const shortfall = { cumulativeFeeWei: wei, requiredCumulativeFeeWei: wei + 1n, lastVoucher: one }
      assert.deepEqual(decodeVoucherShortfall(encodeVoucherShortfall(shortfall)), shortfall)
    }),
  )
})

// Whatever is sent in their place is refused with a typed error that names the field, and never anything else.
test('anything else is refused by name', () => {
  const fields = fc.record(
    {
      user: fc.oneof(bytes(20), bytes(19), fc.string()),
      disperser: fc.oneof(bytes(20), fc.constant(null)),
      cumulativeFee: fc.oneof(fc.string(), fc.integer(), fc.constant(String(2n ** 128n)), fc.constant('1')),
      expiry: fc.oneof(fc.double(), fc.string(), fc.nat()),
      signature: fc.oneof(bytes(64), bytes(65)),
    },
    { requiredKeys: [] },
  )
  const text = fc.oneof(
    fc.string({ maxLength: 3_000 }),
    fc.oneof(fields, fc.anything()).map((value) => Buffer.from(JSON.stringify(value) ?? '').toString('base64url')),
  )
  fc.assert(
    fc.property(text, (header) => {
      try {
        decodeDispersalVoucher(header)
      } catch (error) {
        assert.ok(error instanceof DispersalVoucherError)
        assert.equal(error.code, 'VOUCHER_FORMAT')
        assert.ok(typeof error.details.field === 'string' && error.details.field !== '')
      }
    }),
  )
  for (const details of [undefined, null, 1, {}, { cumulativeFeeWei: '1' }, { cumulativeFeeWei: 1 }]) {
    assert.equal(decodeVoucherShortfall(details), undefined)
  }
})

// A signature is good for its user, its amount, its time, its contract and its chain alone.
test('a changed voucher is not signed', async () => {
  const signer = accountOf(1)
  const domain = { chainId: 31337, contract: accountOf(2).address }
  const voucher = {
    ...{ user: signer.address, disperser: accountOf(3).address },
    ...{ cumulativeFeeWei: 5n, expiresAtS: 2_000_000_000 },
  }
  const good = await signDispersalVoucher({ ...domain, voucher, signer })
  verifyDispersalVoucher({ ...domain, ...good, nowMs: 1_999_999_999_000 })
  const refuses = (code: string, change: object) =>
    assert.throws(
      () => verifyDispersalVoucher({ ...domain, ...good, ...change }),
      (error) => error instanceof DispersalVoucherError && error.code === code,
    )
  refuses('VOUCHER_EXPIRED', { nowMs: 2_000_000_000_000 })
  refuses('VOUCHER_SIGNATURE', { chainId: 1 })
  refuses('VOUCHER_SIGNATURE', { contract: accountOf(4).address })
  for (const change of [
    { user: accountOf(4).address },
    { disperser: accountOf(4).address },
    { cumulativeFeeWei: 6n },
    { expiresAtS: 2_000_000_001 },
  ]) {
    refuses('VOUCHER_SIGNATURE', { voucher: { ...voucher, ...change } })
  }
  refuses('VOUCHER_SIGNATURE', { signature: `0x${'00'.repeat(65)}` })
})
