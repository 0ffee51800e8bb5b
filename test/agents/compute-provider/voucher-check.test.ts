import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { privateKeyToAccount } from 'viem/accounts'
import { VoucherCheck } from '#compute/provider/admit/voucher-check.ts'
import { type SignedVoucher, signVoucher, voucherDigest } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'

const domain = { chainId: 31_337, contract: `0x${'ab'.repeat(20)}` as Hex }
const signer = privateKeyToAccount(DEV_ACCOUNTS[3]?.privateKey ?? '0x')
const NOW = 1_700_000_000_000

async function sign(cumulativeFeeWei: bigint, expiresAtS = 1_800_000_000, generation = 0): Promise<SignedVoucher> {
  const user = signer.address.toLowerCase() as Hex
  const voucher = { user, provider: `0x${'cd'.repeat(20)}` as Hex, cumulativeFeeWei, expiresAtS, generation }
  return { voucher, signature: await signVoucher({ signer, ...domain, voucher }) }
}

// The digest is the one of EIP-712 for every voucher.
test('hashes vouchers as EIP-712 does', () => {
  const check = new VoucherCheck(domain)
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 128n - 1n), fc.nat(2 ** 31 - 1), fc.nat(1_000), (fee, expiresAtS, generation) => {
      const user: Hex = `0x${'12'.repeat(20)}`
      const voucher = { user, provider: user, cumulativeFeeWei: fee, expiresAtS, generation }
      const digest = `0x${Buffer.from(check.digest({ voucher, signature: '0x' })).toString('hex')}`
      assert.equal(digest, voucherDigest({ ...domain, voucher }))
    }),
    { seed: 20_261_121, numRuns: 50 },
  )
})

// Also once a user's key is prepared, only what the contract would accept is accepted.
test('accepts good vouchers and refuses changed, flipped and expired ones, by the short way as by the long one', async () => {
  const check = new VoucherCheck(domain)
  for (let n = 1n; n <= 6n; n += 1n) await check.verify(await sign(n), NOW)
  const good = await sign(1_000n)
  const refused = async (signed: SignedVoucher, code = 'VOUCHER_SIGNATURE') =>
    await assert.rejects(check.verify(signed, NOW), { code })
  await refused({ ...good, voucher: { ...good.voucher, cumulativeFeeWei: 1_001n } })
  await refused({ ...good, voucher: { ...good.voucher, generation: 1 } })
  const bytes = Buffer.from(good.signature.slice(2), 'hex')
  const flipped = Buffer.from(bytes)
  flipped[64] = bytes[64] === 27 ? 28 : 27
  await refused({ ...good, signature: `0x${flipped.toString('hex')}` })
  // The other signature of the same message: s in the upper half, v turned.
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
  const s = order - BigInt(`0x${bytes.subarray(32, 64).toString('hex')}`)
  flipped.write(s.toString(16).padStart(64, '0'), 32, 'hex')
  await refused({ ...good, signature: `0x${flipped.toString('hex')}` })
  await refused(await sign(2_000n, 1_600_000_000), 'VOUCHER_EXPIRED')
  await check.verify(good, NOW)
})
