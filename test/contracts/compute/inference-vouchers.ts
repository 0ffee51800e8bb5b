import { expect } from 'chai'
import type { Wallet } from 'ethers'
import {
  type ComputeFixture,
  DAY,
  deployCompute,
  ETHER,
  fund,
  fundedWallet,
  INFERENCE,
  packVouchers,
  registerInference,
  signSettlement,
  signVoucher,
} from './compute-fixture.ts'

const PAID = 0n
const PARTIAL = 1n
const NO_ACCOUNT = 2n
const EXPIRED = 3n
const WRONG_GENERATION = 4n
const WRONG_SIGNATURE = 5n
const ABOVE_VOUCHER = 6n

describe('vouchers', () => {
  let f: ComputeFixture
  let user: Wallet
  let stranger: Wallet
  let provider: Wallet
  let signer: Wallet
  let inference: ComputeFixture['inference']

  beforeEach(async () => {
    f = await deployCompute()
    user = await fundedWallet(f.connection, 'user')
    stranger = await fundedWallet(f.connection, 'stranger')
    provider = await fundedWallet(f.connection, 'provider')
    signer = await fundedWallet(f.connection, 'signer')
    inference = f.inference.connect(provider) as typeof f.inference
    await fund(f, user, provider.address, 3n * ETHER)
  })

  type Item = Awaited<ReturnType<typeof signVoucher>>
  const voucher = (cumulativeFee: bigint, more: Partial<Parameters<typeof signVoucher>[1]> = {}) =>
    signVoucher(f, { user, provider: provider.address, cumulativeFee, ...more })
  /** Both ways of settling say and do the same; the packed one is only asked. */
  const settle = async (...items: Item[]) => {
    const packed = await inference.settlePackedVouchers.staticCall(packVouchers(f, items))
    const statuses: bigint[] = [...(await inference.settleVouchers.staticCall(items))]
    expect([...Buffer.from(packed.slice(2), 'hex')].map(BigInt)).to.deep.equal(statuses)
    const before = await f.connection.ethers.provider.getBalance(provider.address)
    const receipt = await (await inference.settleVouchers(items)).wait()
    const after = await f.connection.ethers.provider.getBalance(provider.address)
    return { statuses, earned: after - before + BigInt(receipt.gasUsed * receipt.gasPrice) }
  }
  const balance = async () => (await f.inference.getAccount(user.address, provider.address)).balance

  it('pay what is claimed, once, and never more than signed', async () => {
    const first = await voucher(1000n, { claim: 400n })
    expect(await settle(first)).to.deep.equal({ statuses: [PAID], earned: 400n })
    expect(await settle(first, first)).to.deep.equal({ statuses: [PAID, PAID], earned: 0n })
    expect(await settle({ ...first, claim: 1000n })).to.deep.equal({ statuses: [PAID], earned: 600n })
    expect(await settle({ ...first, claim: 1001n })).to.deep.equal({ statuses: [ABOVE_VOUCHER], earned: 0n })
    expect(await f.inference.voucherPaid(user.address, provider.address)).to.equal(1000n)
    expect(await balance()).to.equal(3n * ETHER - 1000n)
    expect((await f.ledger.getLedger(user.address)).totalBalance).to.equal(3n * ETHER - 1000n)
  })

  it('pay as far as the balance goes, and the rest when there is more', async () => {
    const large = await voucher(5n * ETHER)
    expect(await settle(large)).to.deep.equal({ statuses: [PARTIAL], earned: 3n * ETHER })
    await fund(f, user, provider.address, 3n * ETHER)
    expect(await settle(large)).to.deep.equal({ statuses: [PAID], earned: 2n * ETHER })
    expect(await balance()).to.equal(ETHER)
  })

  it('are refused one by one', async () => {
    const good = await voucher(7n)
    const stolen = await signVoucher(f, { user, provider: stranger.address, cumulativeFee: 7n })
    const results = await settle(
      await voucher(9n, { signer: stranger }),
      await voucher(9n, { expiry: 1n }),
      await voucher(9n, { generation: 1n }),
      await signVoucher(f, { user: stranger, provider: provider.address, cumulativeFee: 9n }),
      stolen,
      good,
    )
    expect(results).to.deep.equal({
      statuses: [WRONG_SIGNATURE, EXPIRED, WRONG_GENERATION, NO_ACCOUNT, WRONG_SIGNATURE, PAID],
      earned: 7n,
    })
  })

  it('are refused with the malleable twin of a signature', async () => {
    const { ethers } = f.connection
    const item = await voucher(7n)
    const { r, s, v } = ethers.Signature.from(item.signature)
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
    const twin = ethers.concat([r, ethers.toBeHex(order - BigInt(s), 32), v === 27 ? '0x1c' : '0x1b'])
    expect([...(await inference.settleVouchers.staticCall([{ ...item, signature: twin }]))]).to.deep.equal([
      WRONG_SIGNATURE,
    ])
  })

  it('of an earlier generation are good for the lock time after a revocation, not longer, and never again', async () => {
    const old = await voucher(10n, { claim: 4n })
    const users = f.inference.connect(user) as typeof f.inference
    await users.revokeAllTokens(provider.address)
    expect((await settle(old)).statuses).to.deep.equal([PAID])
    await f.connection.networkHelpers.time.increase(DAY + 1)
    const late = { ...old, claim: 10n }
    expect((await settle(late)).statuses).to.deep.equal([WRONG_GENERATION])
    await users.revokeAllTokens(provider.address)
    expect((await settle(late)).statuses).to.deep.equal([WRONG_GENERATION])
    expect((await settle(await voucher(10n, { generation: 1n }))).earned).to.equal(6n)
    expect((await settle(await voucher(11n, { generation: 2n }))).earned).to.equal(1n)
  })

  it('reach money under a pending refund, which gives way', async () => {
    const ledger = f.ledger.connect(user) as typeof f.ledger
    await ledger.retrieveFund([provider.address], INFERENCE)
    expect((await settle(await voucher(ETHER))).earned).to.equal(ETHER)
    expect(await f.inference.getPendingRefund(user.address, provider.address)).to.equal(2n * ETHER)
  })

  it('outlive the sub-account: what was paid stays paid', async () => {
    const all = await voucher(3n * ETHER)
    await settle(all)
    await (f.ledger.connect(user) as typeof f.ledger).deleteLedger()
    await fund(f, user, provider.address, 3n * ETHER)
    expect((await settle(all)).earned).to.equal(0n)
  })

  it('can be all that a provider may charge: a stolen signing key takes nothing', async () => {
    await registerInference(f, provider, signer.address)
    const users = f.inference.connect(user) as typeof f.inference
    const steal = await signSettlement(f, {
      ...{ user: user.address, provider: provider.address, totalFee: 3n * ETHER, nonce: 1n, signer },
    })
    await users.setSignedChargesOnly(provider.address, true)
    // What was served before can still be charged for the lock time.
    expect([...(await inference.settleFeesWithTEE.staticCall([steal]))]).to.deep.equal([0n])
    await f.connection.networkHelpers.time.increase(DAY + 1)
    expect([...(await inference.settleFeesWithTEE.staticCall([steal]))]).to.deep.equal([3n])
    expect((await settle(await voucher(5n))).earned).to.equal(5n)
    await users.setSignedChargesOnly(provider.address, false)
    expect([...(await inference.settleFeesWithTEE.staticCall([steal]))]).to.deep.equal([PARTIAL])

    // Before the first coin it is in force at once.
    const careful = f.inference.connect(stranger) as typeof f.inference
    await careful.setSignedChargesOnly(provider.address, true)
    await fund(f, stranger, provider.address, ETHER)
    const other = await signSettlement(f, {
      ...{ user: stranger.address, provider: provider.address, totalFee: 1n, nonce: 1n, signer },
    })
    expect([...(await inference.settleFeesWithTEE.staticCall([other]))]).to.deep.equal([3n])
  })

  it('come in batches of 1 to 100', async () => {
    await expect(inference.settleVouchers([])).to.be.revertedWithCustomError(f.inference, 'NoSettlementsProvided')
    const item = await voucher(1n)
    await expect(inference.settleVouchers(Array.from({ length: 101 }, () => item)))
      .to.be.revertedWithCustomError(f.inference, 'TooManySettlements')
      .withArgs(101, 100)
    await expect(inference.settlePackedVouchers('0x00')).to.be.revertedWithCustomError(
      f.inference,
      'PackedLengthInvalid',
    )
  })

  it('packed pay the same and say so', async () => {
    await fund(f, stranger, provider.address, ETHER)
    const items = [
      await voucher(5n),
      await signVoucher(f, { user: stranger, provider: provider.address, cumulativeFee: 8n }),
    ]
    const payments = f.connection.ethers.solidityPacked(
      ['address', 'uint96', 'address', 'uint96'],
      [user.address, 5n, stranger.address, 8n],
    )
    await expect(inference.settlePackedVouchers(packVouchers(f, items)))
      .to.emit(f.inference, 'VouchersSettled')
      .withArgs(provider.address, payments)
    expect(await f.inference.voucherPaid(stranger.address, provider.address)).to.equal(8n)
  })
})
