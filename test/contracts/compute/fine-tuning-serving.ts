import { expect } from 'chai'
import type { Wallet } from 'ethers'
import {
  type ComputeFixture,
  DAY,
  deployCompute,
  ETHER,
  FINE_TUNING,
  fund,
  fundedWallet,
  registerFineTuning,
} from './compute-fixture.ts'

const ROOT = `0x${'22'.repeat(32)}`

describe('FineTuningServing', () => {
  let f: ComputeFixture
  let user: Wallet
  let provider: Wallet
  let other: Wallet
  let signer: Wallet
  let tuning: ComputeFixture['fineTuning']
  let users: ComputeFixture['fineTuning']
  let book: ComputeFixture['book']
  let nonce: bigint

  beforeEach(async () => {
    f = await deployCompute()
    user = await fundedWallet(f.connection, 'user')
    provider = await fundedWallet(f.connection, 'provider')
    other = await fundedWallet(f.connection, 'other')
    signer = await fundedWallet(f.connection, 'signer')
    tuning = f.fineTuning.connect(provider) as typeof f.fineTuning
    users = f.fineTuning.connect(user) as typeof f.fineTuning
    book = f.book.connect(provider) as typeof f.book
    nonce = 0n
    await registerFineTuning(f, provider, signer.address)
    await fund(f, user, provider.address, 3n * ETHER, FINE_TUNING)
  })

  const message = async (id: string, { taskFee = ETHER, secret = '0x' } = {}) => {
    const domain = {
      name: '0G Fine-Tuning Serving',
      version: '1',
      chainId: f.chainId,
      verifyingContract: String(f.fineTuning.target),
    }
    const types = {
      VerifierMessage: [
        { name: 'id', type: 'string' },
        { name: 'encryptedSecret', type: 'bytes' },
        { name: 'modelRootHash', type: 'bytes' },
        { name: 'nonce', type: 'uint256' },
        { name: 'taskFee', type: 'uint256' },
        { name: 'user', type: 'address' },
      ],
    }
    nonce += 1n
    const fields = { id, encryptedSecret: secret, modelRootHash: ROOT, nonce, taskFee, user: user.address }
    return { ...fields, signature: await signer.signTypedData(domain, types, fields) }
  }
  const terms = async (id: string, { maxFee = 2n * ETHER, days = 3, by = user } = {}) => {
    const deliverBy = BigInt((await f.connection.networkHelpers.time.latest()) + days * DAY)
    const domain = {
      name: 'Weightless Fine-Tuning',
      version: '1',
      chainId: f.chainId,
      verifyingContract: String(f.book.target),
    }
    const types = {
      TaskTerms: [
        { name: 'user', type: 'address' },
        { name: 'provider', type: 'address' },
        { name: 'id', type: 'string' },
        { name: 'maxFee', type: 'uint256' },
        { name: 'deliverBy', type: 'uint64' },
      ],
    }
    const value = { user: user.address, id, maxFee, deliverBy }
    const signature = await by.signTypedData(domain, types, { ...value, provider: provider.address })
    return [value, signature] as const
  }
  const wait = (seconds: number) => f.connection.networkHelpers.time.increase(seconds)
  const account = () => f.fineTuning.getAccount(user.address, provider.address)

  it('pays for a deliverable that was acknowledged and keeps its key', async () => {
    await tuning.addDeliverable(user.address, 'a', ROOT)
    await users.acknowledgeDeliverable(provider.address, 'a')
    await expect(tuning.settleFees(await message('a'))).to.be.revertedWithCustomError(
      f.fineTuning,
      'SecretShouldNotBeEmpty',
    )
    const paid = await message('a', { secret: '0x1234' })
    await expect(tuning.settleFees(paid)).to.changeEtherBalance(f.connection.ethers, f.fineTuning, -ETHER)
    const deliverable = await f.fineTuning.getDeliverable(user.address, provider.address, 'a')
    expect([deliverable.encryptedSecret, deliverable.settled]).to.deep.equal(['0x1234', true])
    expect((await f.ledger.getLedger(user.address)).totalBalance).to.equal(2n * ETHER)
    await expect(tuning.settleFees(await message('a', { secret: '0x12' }))).to.be.revertedWithCustomError(
      f.fineTuning,
      'DeliverableAlreadySettled',
    )
    await expect(tuning.settleFees(paid)).to.be.revertedWithCustomError(f.fineTuning, 'InvalidVerifierInput')
  })

  it('pays part of the fee without acknowledgement, and goes on with the next', async () => {
    await tuning.addDeliverable(user.address, 'a', ROOT)
    await expect(tuning.addDeliverable(user.address, 'b', ROOT))
      .to.be.revertedWithCustomError(f.fineTuning, 'PreviousDeliverableNotAcknowledged')
      .withArgs('a')
    await expect(tuning.settleFees(await message('a', { secret: '0x12' }))).to.be.revertedWithCustomError(
      f.fineTuning,
      'SecretShouldBeEmpty',
    )
    await expect(tuning.settleFees(await message('a'))).to.changeEtherBalance(
      f.connection.ethers,
      f.fineTuning,
      (-ETHER * 30n) / 100n,
    )
    // In the reference the pair is blocked for good from here on.
    await tuning.addDeliverable(user.address, 'b', ROOT)
    await expect(users.acknowledgeDeliverable(provider.address, 'a')).to.be.revertedWithCustomError(
      f.fineTuning,
      'CannotAcknowledgeSettledDeliverable',
    )
    await tuning.abandonDeliverable(user.address, 'b')
    await tuning.addDeliverable(user.address, 'c', ROOT)
    await expect(tuning.abandonDeliverable(user.address, 'b')).to.be.revertedWithCustomError(
      f.fineTuning,
      'CannotAbandonSettledDeliverable',
    )
  })

  it('keeps the penalty of a deliverable as it was when it was added', async () => {
    await tuning.addDeliverable(user.address, 'a', ROOT)
    await f.fineTuning.updatePenaltyPercentage(100)
    await expect(tuning.settleFees(await message('a'))).to.changeEtherBalance(
      f.connection.ethers,
      f.fineTuning,
      (-ETHER * 30n) / 100n,
    )
    await expect(f.fineTuning.updatePenaltyPercentage(101)).to.be.revertedWithCustomError(
      f.fineTuning,
      'PenaltyPercentageTooHigh',
    )
  })

  it('keeps the last twenty deliverables', async () => {
    for (let i = 0; i < 20; i++) {
      await tuning.addDeliverable(user.address, `id ${i}`, ROOT)
      await users.acknowledgeDeliverable(provider.address, `id ${i}`)
      if (i > 0) await tuning.settleFees(await message(`id ${i}`, { taskFee: 1n, secret: '0x01' }))
    }
    await expect(tuning.addDeliverable(user.address, 'more', ROOT)).to.be.revertedWithCustomError(
      f.fineTuning,
      'CannotEvictUnsettledDeliverable',
    )
    await tuning.settleFees(await message('id 0', { taskFee: 1n, secret: '0x01' }))
    await expect(tuning.addDeliverable(user.address, 'more', ROOT)).to.emit(f.fineTuning, 'DeliverableEvicted')
    await expect(f.fineTuning.getDeliverable(user.address, provider.address, 'id 0')).to.be.revertedWithCustomError(
      f.fineTuning,
      'DeliverableNotExists',
    )
    const list = await f.fineTuning.getDeliverables(user.address, provider.address)
    expect([list.length, list[0].id, list[19].id, list[19].settled]).to.deep.equal([20, 'id 1', 'more', false])
    expect(list[19].encryptedSecret).to.equal('0x')
    await expect(tuning.addDeliverable(user.address, '', ROOT)).to.be.revertedWithCustomError(
      f.fineTuning,
      'DeliverableIdInvalidLength',
    )
    await expect(tuning.addDeliverable(user.address, 'id 7', ROOT)).to.be.revertedWithCustomError(
      f.fineTuning,
      'DeliverableAlreadyExists',
    )
  })

  it('gives a signer to one provider for good, so that nothing can be replayed at another', async () => {
    await expect(registerFineTuning(f, other, signer.address))
      .to.be.revertedWithCustomError(f.fineTuning, 'SignerBound')
      .withArgs(signer.address, provider.address)
    await tuning.removeService()
    await expect(f.fineTuning.acknowledgeTEESignerByOwner(other.address)).to.be.revertedWithCustomError(
      f.fineTuning,
      'SignerBound',
    )
  })

  it('holds what terms agree on, against refunds and other charges', async () => {
    await book.openTask(...(await terms('t')))
    expect(await f.book.heldOf(user.address, provider.address)).to.equal(2n * ETHER)
    const ledger = f.ledger.connect(user) as typeof f.ledger
    await ledger.retrieveFund([provider.address], FINE_TUNING)
    expect((await account()).pendingRefund).to.equal(ETHER)
    await tuning.addDeliverable(user.address, 'free', ROOT)
    await users.acknowledgeDeliverable(provider.address, 'free')
    await expect(
      tuning.settleFees(await message('free', { taskFee: ETHER + 1n, secret: '0x01' })),
    ).to.be.revertedWithCustomError(f.fineTuning, 'InvalidVerifierInput')
    await tuning.settleFees(await message('free', { taskFee: ETHER / 2n, secret: '0x01' }))
    expect((await account()).pendingRefund).to.equal(ETHER / 2n)

    await tuning.addDeliverable(user.address, 't', ROOT)
    await users.acknowledgeDeliverable(provider.address, 't')
    await expect(
      tuning.settleFees(await message('t', { taskFee: 2n * ETHER + 1n, secret: '0x01' })),
    ).to.be.revertedWithCustomError(f.book, 'FeeAboveTerms')
    await tuning.settleFees(await message('t', { taskFee: ETHER, secret: '0x01' }))
    expect(await f.book.heldOf(user.address, provider.address)).to.equal(0n)
    expect((await account()).balance).to.equal((3n * ETHER) / 2n)
    await expect(book.openTask(...(await terms('t', { maxFee: 1n })))).to.be.revertedWithCustomError(
      f.book,
      'TaskExists',
    )
  })

  it('gives the money back at once when a deadline passes', async () => {
    await book.openTask(...(await terms('late')))
    await expect(f.book.expireTask(user.address, provider.address, 'late')).to.be.revertedWithCustomError(
      f.book,
      'TaskNotExpired',
    )
    await wait(3 * DAY + 1)
    await tuning.addDeliverable(user.address, 'late', ROOT)
    await f.book.expireTask(user.address, provider.address, 'late')
    expect((await f.ledger.getLedger(user.address)).availableBalance).to.equal(2n * ETHER)
    expect((await account()).balance).to.equal(ETHER)
    await expect(f.book.expireTask(user.address, provider.address, 'late')).to.be.revertedWithCustomError(
      f.book,
      'TaskNotExpired',
    )
    // Too late for a fee that the user does not want to pay.
    await expect(tuning.settleFees(await message('late'))).to.be.revertedWithCustomError(f.book, 'DeliveredLate')
    await users.acknowledgeDeliverable(provider.address, 'late')
    await tuning.settleFees(await message('late', { taskFee: ETHER / 2n, secret: '0x01' }))
  })

  it('gives a provider that delivered in time the lock time to settle', async () => {
    await book.openTask(...(await terms('slow')))
    await tuning.addDeliverable(user.address, 'slow', ROOT)
    await wait(3 * DAY + 1)
    await expect(f.book.expireTask(user.address, provider.address, 'slow')).to.be.revertedWithCustomError(
      f.book,
      'TaskNotExpired',
    )
    await wait(DAY)
    await f.book.expireTask(user.address, provider.address, 'slow')
    expect((await f.ledger.getLedger(user.address)).availableBalance).to.equal(2n * ETHER)
  })

  it('opens tasks only on what the user signed and can pay', async () => {
    await expect(book.openTask(...(await terms('x', { by: other })))).to.be.revertedWithCustomError(
      f.book,
      'TermsSignatureInvalid',
    )
    await expect(book.openTask(...(await terms('x', { maxFee: 4n * ETHER })))).to.be.revertedWithCustomError(
      f.book,
      'TermsNotCovered',
    )
    await expect(book.openTask(...(await terms('x', { days: 91 })))).to.be.revertedWithCustomError(
      f.book,
      'TermsDeadlineInvalid',
    )
    await expect(f.fineTuning.returnHeld(user.address, provider.address, 1n)).to.be.revertedWithCustomError(
      f.fineTuning,
      'CallerNotTaskBook',
    )
    await expect(f.book.settle(user.address, provider.address, ROOT, 0, 0, true)).to.be.revertedWithCustomError(
      f.book,
      'CallerNotServing',
    )
  })

  it('charges nothing without terms once the user asked for that', async () => {
    await users.setSignedChargesOnly(provider.address, true)
    await wait(DAY + 1)
    await tuning.addDeliverable(user.address, 'a', ROOT)
    await expect(tuning.settleFees(await message('a'))).to.be.revertedWithCustomError(
      f.fineTuning,
      'InvalidVerifierInput',
    )
    await tuning.abandonDeliverable(user.address, 'a')
    await book.openTask(...(await terms('b')))
    await tuning.addDeliverable(user.address, 'b', ROOT)
    await tuning.settleFees(await message('b'))
  })

  it('agrees with the known digest of a signed fee', async () => {
    // compute.md section 10: the contract's known address on chain 31337, and the signature of its signer.
    const { ethers } = f.connection
    const digest = ethers.TypedDataEncoder.hash(
      {
        name: '0G Fine-Tuning Serving',
        version: '1',
        chainId: 31337,
        verifyingContract: '0xA51c1fc2f0D1a1b8494Ed1FE312d7C3a78Ed91C0',
      },
      {
        VerifierMessage: [
          { name: 'id', type: 'string' },
          { name: 'encryptedSecret', type: 'bytes' },
          { name: 'modelRootHash', type: 'bytes' },
          { name: 'nonce', type: 'uint256' },
          { name: 'taskFee', type: 'uint256' },
          { name: 'user', type: 'address' },
        ],
      },
      {
        id: '6f9619ff-8b86-4d01-b42d-00cf4fc964ff',
        encryptedSecret: '0x',
        modelRootHash: ROOT,
        nonce: 17_000_000_000_000_040n,
        taskFee: 10n ** 16n,
        user: '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266',
      },
    )
    expect(digest).to.equal('0xa2498447f6d5b6b2ddce51eb0efd885acf1080119d1d08b6f628d1c77350e13f')
  })
})
