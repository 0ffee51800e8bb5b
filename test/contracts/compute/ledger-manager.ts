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
  INFERENCE,
  ZERO_ADDRESS,
} from './compute-fixture.ts'

describe('LedgerManager', () => {
  let f: ComputeFixture
  let user: Wallet
  let provider: Wallet
  let ledger: ComputeFixture['ledger']

  beforeEach(async () => {
    f = await deployCompute()
    user = await fundedWallet(f.connection, 'user')
    provider = await fundedWallet(f.connection, 'provider')
    ledger = f.ledger.connect(user) as typeof f.ledger
  })

  const balanceOf = (at: { getAddress(): Promise<string> }) =>
    at.getAddress().then((address) => f.connection.ethers.provider.getBalance(address))
  const wait = (seconds: number) => f.connection.networkHelpers.time.increase(seconds)
  const amounts = async () => {
    const { availableBalance, totalBalance } = await f.ledger.getLedger(user.address)
    return [availableBalance / ETHER, totalBalance / ETHER]
  }

  it('opens a ledger with the least deposit, once', async () => {
    await expect(ledger.addLedger('', { value: 2n * ETHER }))
      .to.be.revertedWithCustomError(f.ledger, 'MinimumDepositRequired')
      .withArgs(2n * ETHER, 3n * ETHER)
    await expect(f.ledger.getLedger(user.address)).to.be.revertedWithCustomError(f.ledger, 'LedgerNotExists')
    await ledger.addLedger('mine', { value: 3n * ETHER })
    await expect(ledger.addLedger('', { value: 3n * ETHER })).to.be.revertedWithCustomError(f.ledger, 'LedgerExists')
    expect((await f.ledger.getLedger(user.address)).additionalInfo).to.equal('mine')
  })

  it('takes deposits for others, and opens their ledgers', async () => {
    await ledger.depositFundFor(provider.address, { value: 3n * ETHER })
    await ledger.depositFundFor(provider.address, { value: 1n })
    expect((await f.ledger.getLedger(provider.address)).totalBalance).to.equal(3n * ETHER + 1n)
    await expect(ledger.depositFundFor(ZERO_ADDRESS, { value: 1n })).to.be.revertedWithCustomError(
      f.ledger,
      'ZeroAddressNotAllowed',
    )
    await expect(ledger.depositFund()).to.be.revertedWithCustomError(f.ledger, 'ZeroAmountNotAllowed')
  })

  it('keeps the total while money is set aside', async () => {
    await ledger.depositFund({ value: 10n * ETHER })
    await expect(ledger.transferFund(provider.address, INFERENCE, ETHER / 2n))
      .to.be.revertedWithCustomError(f.ledger, 'MinimumDepositRequired')
      .withArgs(ETHER / 2n, ETHER)
    await expect(ledger.transferFund(provider.address, 'nothing-v1', ETHER)).to.be.revertedWithCustomError(
      f.ledger,
      'ServiceNotFound',
    )
    await expect(ledger.transferFund(provider.address, INFERENCE, 11n * ETHER))
      .to.be.revertedWithCustomError(f.ledger, 'InsufficientAvailableBalance')
      .withArgs(10n * ETHER, 11n * ETHER)
    await ledger.transferFund(provider.address, INFERENCE, ETHER)
    await ledger.transferFund(provider.address, FINE_TUNING, 2n * ETHER)
    expect(await amounts()).to.deep.equal([7n, 10n])
    expect(await f.ledger.getLedgerProviders(user.address, INFERENCE)).to.deep.equal([provider.address])
  })

  it('passes on why a service contract refuses', async () => {
    await ledger.depositFund({ value: 3n * ETHER })
    // The reference says CallFailed and hides the reason.
    await expect(ledger.transferFund(user.address, INFERENCE, ETHER)).to.be.revertedWithCustomError(
      f.inference,
      'ProviderCannotBeUser',
    )
  })

  it('brings money back after the lock time, and removes what is empty', async () => {
    await fund(f, user, provider.address, 3n * ETHER)
    await ledger.retrieveFund([provider.address, f.stakes.target], INFERENCE)
    expect(await amounts()).to.deep.equal([0n, 3n])
    await wait(DAY)
    await ledger.retrieveFund([provider.address], INFERENCE)
    expect(await amounts()).to.deep.equal([3n, 3n])
    await expect(ledger.refund(ETHER)).to.be.revertedWithCustomError(f.ledger, 'MinimumDepositRequired')
    await expect(ledger.refund(4n * ETHER)).to.be.revertedWithCustomError(f.ledger, 'InsufficientBalance')
    await expect(ledger.deleteLedger()).to.be.revertedWithCustomError(f.ledger, 'MustWithdrawAllFundsFirst')
    await expect(ledger.refund(3n * ETHER)).to.changeEtherBalance(f.connection.ethers, user, 3n * ETHER)
    await expect(f.ledger.getLedger(user.address)).to.be.revertedWithCustomError(f.ledger, 'LedgerNotExists')
    expect(await f.inference.accountExists(user.address, provider.address)).to.equal(false)
    expect(await balanceOf(f.ledger)).to.equal(0n)
  })

  it('takes back a pending refund before it moves new money', async () => {
    await fund(f, user, provider.address, 5n * ETHER)
    await ledger.retrieveFund([provider.address], INFERENCE)
    await ledger.depositFund({ value: 3n * ETHER })
    await ledger.transferFund(provider.address, INFERENCE, 2n * ETHER)
    expect(await f.inference.getPendingRefund(user.address, provider.address)).to.equal(3n * ETHER)
    expect(await amounts()).to.deep.equal([3n, 8n])
    await ledger.transferFund(provider.address, INFERENCE, 4n * ETHER)
    expect(await f.inference.getPendingRefund(user.address, provider.address)).to.equal(0n)
    expect(await amounts()).to.deep.equal([2n, 8n])
  })

  it('merges a sixth refund into the newest instead of failing the whole retrieval', async () => {
    await fund(f, user, provider.address, 3n * ETHER)
    for (let i = 0; i < 7; i++) {
      await ledger.depositFund({ value: 3n * ETHER })
      // More than is pending, so that a little new money comes on top and nothing stays cancelled.
      await ledger.retrieveFund([provider.address], INFERENCE)
      const pending = await f.inference.getPendingRefund(user.address, provider.address)
      await ledger.transferFund(provider.address, INFERENCE, ETHER / 10n)
      await ledger.transferFund(provider.address, INFERENCE, ETHER / 10n)
      await ledger.retrieveFund([provider.address], INFERENCE)
      expect(await f.inference.getPendingRefund(user.address, provider.address)).to.be.at.least(pending)
    }
    const { validRefundsLength, balance, pendingRefund } = await f.inference.getAccount(user.address, provider.address)
    expect(validRefundsLength).to.be.at.most(5n)
    expect(pendingRefund).to.equal(balance)
    await wait(DAY)
    await ledger.retrieveFund([provider.address], INFERENCE)
    expect((await f.inference.getAccount(user.address, provider.address)).balance).to.equal(0n)
  })

  it('leaves refunds asked for before a change of the lock time as they were', async () => {
    await fund(f, user, provider.address, 3n * ETHER)
    await ledger.retrieveFund([provider.address], INFERENCE)
    await f.inference.updateLockTime(7 * DAY)
    await wait(DAY)
    await ledger.retrieveFund([provider.address], INFERENCE)
    expect(await amounts()).to.deep.equal([3n, 3n])
    await expect(f.inference.updateLockTime(7 * DAY + 1)).to.be.revertedWithCustomError(
      f.inference,
      'LockTimeOutOfRange',
    )
  })

  it('refuses a batch of more than twenty providers, and plain ether', async () => {
    await ledger.depositFund({ value: 3n * ETHER })
    const providers = Array.from({ length: 21 }, () => provider.address)
    await expect(ledger.retrieveFund(providers, INFERENCE))
      .to.be.revertedWithCustomError(f.ledger, 'TooManyProviders')
      .withArgs(21, 20)
    await expect(user.sendTransaction({ to: f.ledger.target, value: 1n })).to.be.revertedWithCustomError(
      f.ledger,
      'DirectDepositsDisabled',
    )
    await expect(user.sendTransaction({ to: f.inference.target, value: 1n })).to.be.revertedWithCustomError(
      f.inference,
      'DirectDepositsDisabled',
    )
  })

  it('halts deposits and nothing else', async () => {
    await fund(f, user, provider.address, 3n * ETHER)
    await f.ledger.pause()
    await expect(ledger.depositFund({ value: ETHER })).to.be.revertedWithCustomError(f.ledger, 'EnforcedPause')
    await ledger.retrieveFund([provider.address], INFERENCE)
    await wait(DAY)
    await ledger.retrieveFund([provider.address], INFERENCE)
    await expect(ledger.refund(3n * ETHER)).to.changeEtherBalance(f.connection.ethers, user, 3n * ETHER)
    await f.ledger.unpause()
    await ledger.depositFund({ value: 3n * ETHER })
  })

  it('registers service contracts by governance alone, after asking what they are', async () => {
    expect(await f.ledger.owner()).to.equal(f.governance.target)
    await expect(ledger.registerService('x', 'v1', f.stakes.target, '')).to.be.revertedWithCustomError(
      f.ledger,
      'AccessManagedUnauthorized',
    )
    await expect(f.ledger.registerService('x', 'v1', f.stakes.target, '')).to.be.revertedWithCustomError(
      f.ledger,
      'ServiceMustImplementIServing',
    )
    await expect(f.ledger.registerService('x', 'v1', f.inference.target, '')).to.be.revertedWithCustomError(
      f.ledger,
      'ServiceAlreadyRegistered',
    )
    await expect(f.ledger.setRecommendedService('inference', 'v9')).to.be.revertedWithCustomError(
      f.ledger,
      'ServiceNotFound',
    )
    const info = await f.ledger.getServiceInfo(f.inference.target)
    expect([info.fullName, info.isRecommended]).to.deep.equal([INFERENCE, true])
    expect((await f.ledger.getServiceInfo(user.address)).fullName).to.equal('')
    expect((await f.ledger.getAllActiveServices()).length).to.equal(2)
    await expect(ledger.spendFund(user.address, 1n)).to.be.revertedWithCustomError(
      f.ledger,
      'CallerNotRegisteredService',
    )
  })

  it('lists ledgers through removals', async () => {
    const users = []
    for (let i = 0; i < 4; i++) {
      const other = await fundedWallet(f.connection, `other ${i}`)
      await (f.ledger.connect(other) as typeof f.ledger).depositFund({ value: 3n * ETHER })
      users.push(other)
    }
    const leaving = f.ledger.connect(users[1] ?? null) as typeof f.ledger
    await leaving.refund(3n * ETHER)
    const [ledgers, total] = await f.ledger.getAllLedgers(0, 0)
    expect(total).to.equal(3n)
    expect(ledgers.map(({ user: owner }: { user: string }) => owner)).to.have.members(
      [users[0], users[2], users[3]].map((wallet) => wallet?.address),
    )
    expect((await f.ledger.getAllLedgers(3, 10))[0]).to.have.length(0)
  })
})
