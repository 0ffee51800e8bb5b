import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { recoverTypedDataAddress } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import {
  decodeVoucherHeader,
  encodeVoucherHeader,
  signVoucher,
  VoucherError,
  verifyVoucher,
  voucherTypedData,
} from '#protocol/compute/voucher.ts'
import { decodeVoucherDemand, encodeVoucherDemand } from '#protocol/compute/voucher-demand.ts'

const user = privateKeyToAccount(`0x${'01'.repeat(32)}`)
const provider = privateKeyToAccount(`0x${'03'.repeat(32)}`).address
const domain = { chainId: 31_337, contract: `0x${'ab'.repeat(20)}` } as const
const voucher = {
  user: user.address,
  provider,
  cumulativeFeeWei: 2n ** 100n + 1n,
  expiresAtS: 2_000_000_000,
  generation: 2,
}
const refusedWith = (code: string) => (error: unknown) => error instanceof VoucherError && error.code === code

test('a voucher survives its header and names its signer to any EIP-712 library', async () => {
  const signature = await signVoucher({ ...domain, voucher, signer: user })
  assert.equal(signature, await user.signTypedData(voucherTypedData({ ...domain, voucher })))
  assert.equal(await recoverTypedDataAddress({ ...voucherTypedData({ ...domain, voucher }), signature }), user.address)
  const read = decodeVoucherHeader(encodeVoucherHeader({ voucher, signature }))
  assert.deepEqual(read, {
    voucher: { ...voucher, user: user.address.toLowerCase(), provider: provider.toLowerCase() },
    signature,
  })
  await verifyVoucher({ ...domain, ...read, nowMs: 1_999_999_999_999 })
})

test('no field of a voucher can be changed, nor chain or contract, nor time stopped', async () => {
  const signature = await signVoucher({ ...domain, voucher, signer: user })
  const changes = [
    { cumulativeFeeWei: voucher.cumulativeFeeWei + 1n },
    { expiresAtS: voucher.expiresAtS + 1 },
    { generation: 3 },
    { provider: user.address },
    { user: provider },
  ]
  for (const change of changes) {
    const forged = verifyVoucher({ ...domain, voucher: { ...voucher, ...change }, signature })
    await assert.rejects(forged, refusedWith('VOUCHER_SIGNATURE'), Object.keys(change)[0])
  }
  await assert.rejects(verifyVoucher({ ...domain, chainId: 1, voucher, signature }), refusedWith('VOUCHER_SIGNATURE'))
  await assert.rejects(
    verifyVoucher({ ...domain, contract: provider, voucher, signature }),
    refusedWith('VOUCHER_SIGNATURE'),
  )
  await assert.rejects(
    verifyVoucher({ ...domain, voucher, signature, nowMs: 2_000_000_000_000 }),
    refusedWith('VOUCHER_EXPIRED'),
  )
})

test('whatever stands in the header, the answer is a voucher or a VoucherError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      assert.throws(() => decodeVoucherHeader(text), VoucherError)
      assert.throws(() => decodeVoucherHeader(Buffer.from(text).toString('base64url')), VoucherError)
    }),
    { numRuns: 200 },
  )
})

test('a demand survives the answer with status 402; other errors are no demand', async () => {
  const signature = await signVoucher({ ...domain, voucher, signer: user })
  const lastVoucher = encodeVoucherHeader({ voucher, signature })
  const body = encodeVoucherDemand({
    cumulativeFeeWei: 5n,
    requiredCumulativeFeeWei: 2n ** 90n,
    lastVoucher,
    chatIds: ['a-1'],
  })
  const demand = decodeVoucherDemand(JSON.parse(JSON.stringify(body)))
  assert.equal(demand?.cumulativeFeeWei, 5n)
  assert.equal(demand?.requiredCumulativeFeeWei, 2n ** 90n)
  assert.deepEqual(demand?.chatIds, ['a-1'])
  assert.equal(demand?.lastVoucher?.signature, signature)
  assert.equal(decodeVoucherDemand({ error: { code: 'rate_limited' } }), undefined)
  assert.equal(decodeVoucherDemand({ error: 'insufficient balance' }), undefined)
  assert.equal(decodeVoucherDemand('x'), undefined)
})
