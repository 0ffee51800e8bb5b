import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseCompactSignature, parseSignature, serializeCompactSignature, signatureToCompactSignature } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import {
  decodePackedStatuses,
  decodeVoucherPayments,
  MAX_PACKED_VOUCHERS,
  PACKED_VOUCHER_BYTES,
  PackedVouchersError,
  packableVoucher,
  packVouchers,
  unpackVouchers,
} from '#protocol/compute/packed-vouchers.ts'
import { signVoucher, type Voucher } from '#protocol/compute/voucher.ts'
import { InvalidHexError, toHex } from '#protocol/hex.ts'

const SEED = Number(process.env.FC_SEED ?? 20_261_121)
const user = privateKeyToAccount(`0x${'01'.repeat(32)}`)
const provider = privateKeyToAccount(`0x${'03'.repeat(32)}`).address
const domain = { chainId: 31_337, contract: `0x${'ab'.repeat(20)}` } as const

const hex = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes }).map(toHex)
const wei = fc.bigInt({ min: 0n, max: 2n ** 96n - 1n })
const packed = fc.record(
  {
    ...{ user: hex(20), cumulativeFeeWei: wei, claimWei: wei, signature: hex(64) },
    expiresAtS: fc.integer({ min: 0, max: 2 ** 40 - 1 }),
    generation: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  },
  { noNullPrototype: true },
)
const anyBytes = fc.uint8Array({ maxLength: 5 * PACKED_VOUCHER_BYTES }).map(toHex)
const refusedWith = (code: string) => (error: unknown) => error instanceof PackedVouchersError && error.code === code
const whole = (voucher: Partial<Voucher> = {}): Voucher => ({
  ...{ user: user.address, provider, cumulativeFeeWei: 5n * 10n ** 18n, expiresAtS: 2_000_000_000, generation: 2 },
  ...voucher,
})

test('vouchers survive packing, in their order, at 117 bytes each', () => {
  fc.assert(
    fc.property(fc.array(packed, { minLength: 1, maxLength: MAX_PACKED_VOUCHERS }), (vouchers) => {
      const bytes = packVouchers(vouchers)
      assert.equal(bytes.length, 2 + 2 * PACKED_VOUCHER_BYTES * vouchers.length)
      assert.deepEqual(unpackVouchers(bytes), vouchers)
    }),
    { numRuns: 100, seed: SEED },
  )
})

test('no bytes but whole vouchers are read, and what is read packs to the same bytes', () => {
  fc.assert(
    fc.property(fc.oneof(hex(PACKED_VOUCHER_BYTES), hex(3 * PACKED_VOUCHER_BYTES), anyBytes), (bytes) => {
      const count = (bytes.length - 2) / 2 / PACKED_VOUCHER_BYTES
      if (Number.isInteger(count) && count > 0) assert.equal(packVouchers(unpackVouchers(bytes)), bytes)
      else assert.throws(() => unpackVouchers(bytes), refusedWith('PACKED_VOUCHERS_LENGTH'))
    }),
    { numRuns: 200, seed: SEED },
  )
})

test('what does not fit is refused by the name of its field', () => {
  const [voucher] = fc.sample(packed, { numRuns: 1, seed: SEED })
  assert.ok(voucher)
  assert.throws(() => packVouchers([]), refusedWith('PACKED_VOUCHERS_LENGTH'))
  assert.throws(() => packVouchers(Array(101).fill(voucher)), refusedWith('PACKED_VOUCHERS_LENGTH'))
  const tooLarge = { cumulativeFeeWei: 2n ** 96n, claimWei: -1n, expiresAtS: 2 ** 40, generation: 0.5 }
  for (const [name, value] of Object.entries(tooLarge)) {
    assert.throws(
      () => packVouchers([voucher, { ...voucher, [name]: value }]),
      (error) => refusedWith('PACKED_VOUCHERS_FIELD')(error) && String(error).includes(`vouchers[1].${name}`),
    )
  }
  assert.throws(() => packVouchers([{ ...voucher, signature: '0x12' }]), InvalidHexError)
  assert.throws(() => packVouchers([{ ...voucher, user: '0x12' }]), InvalidHexError)
})

// EIP-2098 as an independent library writes it; both forms of a signature pack to the same bytes.
test("a user's own signature becomes 64 bytes, whichever form it came in", async () => {
  const parities = new Set<number | undefined>()
  for (let generation = 0; generation < 12; generation += 1) {
    const voucher = whole({ generation })
    const signature = await signVoucher({ ...domain, voucher, signer: user })
    const compact = serializeCompactSignature(signatureToCompactSignature(parseSignature(signature)))
    const claimed = { ...domain, voucher, claimWei: 7n }
    const item = packableVoucher({ ...claimed, signature })
    assert.equal(item?.signature, compact)
    assert.deepEqual(packableVoucher({ ...claimed, signature: compact }), item)
    assert.deepEqual([item?.user, item?.claimWei, item?.generation], [user.address.toLowerCase(), 7n, generation])
    parities.add(parseSignature(signature).yParity)
    assert.ok(parseCompactSignature(compact))
  }
  assert.equal(parities.size, 2)
})

test('what only settleVouchers can judge is not packed', async () => {
  const sign = async (voucher: Voucher) => await signVoucher({ ...domain, voucher, signer: user })
  const good = whole()
  const signature = await sign(good)
  assert.ok(packableVoucher({ ...domain, voucher: good, signature, claimWei: 1n }))
  // The account is not the key that signed: it may be a contract that this key speaks for.
  const wallet = whole({ user: provider })
  assert.equal(packableVoucher({ ...domain, voucher: wallet, signature: await sign(wallet), claimWei: 1n }), undefined)
  for (const other of ['0x', `0x${'00'.repeat(65)}`, `0x${'00'.repeat(64)}`, `${signature}00`, '0xzz'] as const) {
    assert.equal(packableVoucher({ ...domain, voucher: good, signature: other, claimWei: 1n }), undefined)
  }
  for (const change of [{ cumulativeFeeWei: 2n ** 96n }, { expiresAtS: 2 ** 40 }, { generation: 2 ** 32 }]) {
    const voucher = whole(change)
    const item = packableVoucher({ ...domain, voucher, signature: await sign(voucher), claimWei: 1n })
    assert.equal(item, undefined, Object.keys(change)[0])
  }
  assert.equal(packableVoucher({ ...domain, voucher: good, signature, claimWei: 2n ** 96n }), undefined)
})

test('statuses and payments are read only when they are whole', () => {
  assert.deepEqual(decodePackedStatuses('0x000106', 3), [0, 1, 6])
  assert.throws(() => decodePackedStatuses('0x0001', 3), refusedWith('PACKED_VOUCHERS_LENGTH'))
  assert.deepEqual(decodeVoucherPayments('0x'), [])
  assert.deepEqual(decodeVoucherPayments(`0x${'ab'.repeat(20)}${'00'.repeat(10)}0102`), [
    { user: `0x${'ab'.repeat(20)}`, paidWei: 258n },
  ])
  assert.throws(() => decodeVoucherPayments(`0x${'ab'.repeat(33)}`), refusedWith('PACKED_VOUCHERS_LENGTH'))
})
