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
  registerInference,
  SERVICE,
  signSettlement,
  ZERO_ADDRESS,
} from './compute-fixture.ts'

const PROVIDER_MISMATCH = 2n
const NO_TEE_SIGNER = 3n
const INVALID_NONCE = 4n
const INVALID_SIGNATURE = 5n

describe('InferenceServing', () => {
  let f: ComputeFixture
  let user: Wallet
  let stranger: Wallet
  let provider: Wallet
  let signer: Wallet
  let inference: ComputeFixture['inference']
  let users: ComputeFixture['inference']

  beforeEach(async () => {
    f = await deployCompute()
    user = await fundedWallet(f.connection, 'user')
    stranger = await fundedWallet(f.connection, 'stranger')
    provider = await fundedWallet(f.connection, 'provider')
    signer = await fundedWallet(f.connection, 'signer')
    inference = f.inference.connect(provider) as typeof f.inference
    users = f.inference.connect(user) as typeof f.inference
  })

  const offer = (changes: Partial<typeof SERVICE> = {}) => ({
    ...SERVICE,
    ...changes,
    teeSignerAddress: signer.address,
  })
  const approved = async () => (await f.inference.getService(provider.address)).teeSignerAcknowledged
  const settlement = (more: Partial<Parameters<typeof signSettlement>[1]> = {}) =>
    signSettlement(f, {
      ...{ user: user.address, provider: provider.address, totalFee: 100n, nonce: 5n, signer },
      ...more,
    })

  it('bonds a stake with a new service and takes no value with an update', async () => {
    await expect(inference.addOrUpdateService(offer(), { value: 99n * ETHER }))
      .to.be.revertedWithCustomError(f.inference, 'InsufficientStake')
      .withArgs(99n * ETHER, 100n * ETHER)
    await expect(inference.addOrUpdateService(offer(), { value: 100n * ETHER }))
      .to.emit(f.inference, 'ProviderStaked')
      .withArgs(provider.address, 100n * ETHER)
    await expect(inference.addOrUpdateService(offer(), { value: 1n })).to.be.revertedWithCustomError(
      f.inference,
      'CannotAddStakeWhenUpdating',
    )
    const [services, total] = await f.inference.getAllServices(0, 50)
    expect([services.length, total]).to.deep.equal([1, 1n])
    await expect(f.inference.getService(user.address)).to.be.revertedWithCustomError(f.inference, 'ServiceNotExist')
    await expect(f.inference.getAllServices(0, 51)).to.be.revertedWithCustomError(f.inference, 'LimitTooLarge')
  })

  it('keeps an approval through prices and address, and drops it when the service becomes another', async () => {
    await registerInference(f, provider, signer.address)
    await inference.addOrUpdateService(offer({ inputPrice: 9n, url: 'http://127.0.0.1:2' }))
    expect(await approved()).to.equal(true)
    await inference.addOrUpdateService(offer({ additionalInfo: '{}' }))
    expect(await approved()).to.equal(false)
    await f.inference.acknowledgeTEESignerByOwner(provider.address)
    await inference.setServiceModel(f.connection.ethers.id('weights'))
    expect(await approved()).to.equal(false)
    expect(await f.inference.serviceModel(provider.address)).to.equal(f.connection.ethers.id('weights'))
  })

  it('approves by governance, and only what was looked at', async () => {
    await inference.addOrUpdateService(offer(), { value: 100n * ETHER })
    await expect(inference.acknowledgeTEESignerByOwner(provider.address)).to.be.revertedWithCustomError(
      f.inference,
      'AccessManagedUnauthorized',
    )
    const identity = await f.inference.serviceIdentity(provider.address)
    await inference.addOrUpdateService(offer({ model: 'another' }))
    // The provider changed its service in front of the approval.
    await expect(f.inference.approveSigner(provider.address, signer.address, identity)).to.be.revertedWithCustomError(
      f.inference,
      'ServiceChanged',
    )
    const now = await f.inference.serviceIdentity(provider.address)
    await expect(f.inference.approveSigner(provider.address, signer.address, now))
      .to.emit(f.inference, 'ProviderTEESignerAcknowledged')
      .withArgs(provider.address, signer.address, true)
    await f.inference.revokeTEESignerAcknowledgement(provider.address)
    expect(await approved()).to.equal(false)
  })

  it('approves by a quorum to which governance gave the right', async () => {
    const { ethers } = f.connection
    const members = [user, stranger, signer].sort((a, b) => (BigInt(a.address) < BigInt(b.address) ? -1 : 1))
    const quorum = await ethers.deployContract('SignerQuorum', [members.map(({ address }) => address), 2])
    const role = 77n
    await f.governance.grantRole(role, quorum.target, 0)
    const selector = f.inference.interface.getFunction('approveSigner')?.selector
    await f.governance.setTargetFunctionRole(f.inference.target, [selector], role)
    await inference.addOrUpdateService(offer(), { value: 100n * ETHER })

    const identity = await f.inference.serviceIdentity(provider.address)
    const approval = { serving: f.inference.target, provider: provider.address, signer: signer.address, identity }
    const domain = {
      name: 'Weightless Attestation',
      version: '1',
      chainId: f.chainId,
      verifyingContract: String(quorum.target),
    }
    const types = {
      Approval: [
        { name: 'serving', type: 'address' },
        { name: 'provider', type: 'address' },
        { name: 'signer', type: 'address' },
        { name: 'identity', type: 'bytes32' },
        { name: 'expiry', type: 'uint64' },
      ],
    }
    const expiry = 4_000_000_000n
    const sign = (wallet: Wallet) => wallet.signTypedData(domain, types, { ...approval, expiry })
    const signatures = await Promise.all(members.map(sign))
    const approve = (chosen: (string | undefined)[]) =>
      quorum.getFunction('approve')(...[f.inference.target, provider.address, signer.address, identity, expiry, chosen])
    await expect(approve([signatures[0]])).to.be.revertedWithCustomError(quorum, 'QuorumNotReached')
    await expect(approve([signatures[0], signatures[0]])).to.be.revertedWithCustomError(quorum, 'SignatureNotOfMember')
    await approve([signatures[0], signatures[2]])
    expect(await approved()).to.equal(true)
  })

  it('lets a stake go only after it has unbonded', async () => {
    await registerInference(f, provider, signer.address)
    const stakes = f.stakes.connect(provider) as typeof f.stakes
    await stakes.addStake(f.inference.target, { value: 50n * ETHER })
    await expect(stakes.requestUnstake(f.inference.target, 51n * ETHER)).to.be.revertedWithCustomError(
      f.stakes,
      'InsufficientStake',
    )
    await stakes.requestUnstake(f.inference.target, 50n * ETHER)
    await inference.removeService()
    expect(await f.inference.serviceExists(provider.address)).to.equal(false)
    await expect(stakes.claimStake(f.inference.target)).to.be.revertedWithCustomError(f.stakes, 'StakeNotReleased')
    await f.connection.networkHelpers.time.increase(7 * DAY)
    await expect(stakes.claimStake(f.inference.target)).to.changeEtherBalance(
      f.connection.ethers,
      provider,
      150n * ETHER,
    )
    await expect(stakes.claimStake(f.inference.target)).to.be.revertedWithCustomError(f.stakes, 'StakeNotReleased')
    // Back again, with a new stake and no approval left over.
    await inference.addOrUpdateService(offer(), { value: 100n * ETHER })
    expect(await approved()).to.equal(false)
  })

  it('lets a slasher take a bounded part, after a notice long enough to leave', async () => {
    await registerInference(f, provider, signer.address)
    const slasher = f.stakes.connect(stranger) as typeof f.stakes
    await expect(slasher.announceSlasher(stranger.address)).to.be.revertedWithCustomError(
      f.stakes,
      'AccessManagedUnauthorized',
    )
    await f.stakes.announceSlasher(stranger.address)
    const slash = (amount: bigint) => slasher.slash(f.inference.target, provider.address, amount)
    await f.connection.networkHelpers.time.increase(13 * DAY)
    await expect(slash(ETHER)).to.be.revertedWithCustomError(f.stakes, 'CallerNotSlasher')
    await f.connection.networkHelpers.time.increase(DAY)
    await expect(slash(26n * ETHER)).to.be.revertedWithCustomError(f.stakes, 'SlashNotAllowed')
    const dead = '0x000000000000000000000000000000000000dEaD'
    await expect(slash(20n * ETHER)).to.changeEtherBalances(
      f.connection.ethers,
      [f.stakes, stranger, dead],
      [-20n * ETHER, 10n * ETHER, 10n * ETHER],
    )
    expect(await approved()).to.equal(false)
    await expect(f.inference.acknowledgeTEESignerByOwner(provider.address)).to.be.revertedWithCustomError(
      f.inference,
      'InsufficientStake',
    )
    await expect(slash(ETHER)).to.be.revertedWithCustomError(f.stakes, 'SlashNotAllowed')
    // What is unbonding can be slashed as well.
    await inference.removeService()
    await f.connection.networkHelpers.time.increase(DAY)
    await slash(20n * ETHER)
    expect((await f.stakes.stakeOf(f.inference.target, provider.address)).unbonding).to.equal(60n * ETHER)
  })

  it('settles what the signer signed, item by item, as its preview says', async () => {
    await registerInference(f, provider, signer.address)
    await fund(f, user, provider.address, 3n * ETHER)
    await fund(f, stranger, provider.address, ETHER)
    const poor = await settlement({ user: stranger.address, totalFee: 2n * ETHER })
    const items = [
      await settlement(),
      poor,
      await settlement({ provider: stranger.address }),
      await settlement({ user: signer.address }),
      { ...(await settlement({ nonce: 9n })), totalFee: 101n },
      await settlement({ nonce: 5n }),
    ]
    const preview = await inference.previewSettlementResults.staticCall(items)
    expect([...preview.partialUsers]).to.deep.equal([stranger.address])
    expect([...preview.partialAmounts]).to.deep.equal([ETHER])
    expect([...preview.failureReasons]).to.deep.equal([PROVIDER_MISMATCH, INVALID_SIGNATURE, INVALID_SIGNATURE])
    expect([...(await inference.settleFeesWithTEE.staticCall(items))]).to.deep.equal([
      ...[0n, 1n, PROVIDER_MISMATCH, INVALID_SIGNATURE, INVALID_SIGNATURE, INVALID_NONCE],
    ])
    const call = await inference.settleFeesWithTEE(items)
    await expect(call).to.emit(f.inference, 'TEESettlementResult').withArgs(stranger.address, 1, ETHER)
    await expect(call)
      .to.emit(f.inference, 'BalanceUpdated')
      .withArgs(user.address, provider.address, 3n * ETHER - 100n, 0)
    await expect(call).to.emit(f.ledger, 'FundSpent').withArgs(user.address, f.inference.target, 100n)
    await expect(call).to.changeEtherBalance(f.connection.ethers, f.inference, -(ETHER + 100n))
    expect((await f.ledger.getLedger(user.address)).totalBalance).to.equal(3n * ETHER - 100n)
    await expect(inference.settleFeesWithTEE([])).to.be.revertedWithCustomError(f.inference, 'NoSettlementsProvided')
    await expect(inference.settleFeesWithTEE(Array.from({ length: 51 }, () => poor))).to.be.revertedWithCustomError(
      f.inference,
      'TooManySettlements',
    )
  })

  it('settles nothing for a signer that is not approved', async () => {
    await inference.addOrUpdateService(offer(), { value: 100n * ETHER })
    await fund(f, user, provider.address, ETHER)
    expect([...(await inference.settleFeesWithTEE.staticCall([await settlement()]))]).to.deep.equal([NO_TEE_SIGNER])
    await inference.removeService()
    expect([...(await inference.settleFeesWithTEE.staticCall([await settlement()]))]).to.deep.equal([PROVIDER_MISMATCH])
  })

  it('charges through a pending refund, the newest first', async () => {
    await registerInference(f, provider, signer.address)
    await fund(f, user, provider.address, 3n * ETHER)
    const ledger = f.ledger.connect(user) as typeof f.ledger
    await ledger.retrieveFund([provider.address], INFERENCE)
    await inference.settleFeesWithTEE([await settlement({ totalFee: ETHER })])
    const account = await f.inference.getAccount(user.address, provider.address)
    expect([account.balance, account.pendingRefund]).to.deep.equal([2n * ETHER, 2n * ETHER])
  })

  it('revokes session tokens at once', async () => {
    await expect(users.revokeToken(provider.address, 3)).to.be.revertedWithCustomError(f.inference, 'AccountNotExists')
    await fund(f, user, provider.address, ETHER)
    await users.revokeTokens(provider.address, [3, 250])
    expect(await f.inference.isTokenRevoked(user.address, provider.address, 250)).to.equal(true)
    expect(await f.inference.isTokenRevoked(user.address, provider.address, 4)).to.equal(false)
    await expect(users.revokeAllTokens(provider.address))
      .to.emit(f.inference, 'AllTokensRevoked')
      .withArgs(user.address, provider.address, 1)
    const { generation, revokedBitmap } = await f.inference.getAccount(user.address, provider.address)
    expect([generation, revokedBitmap]).to.deep.equal([1n, 0n])
  })

  it('acknowledges by funding, and takes that back from an empty sub-account alone', async () => {
    await fund(f, user, provider.address, ETHER)
    expect((await f.inference.getAccount(user.address, provider.address)).acknowledged).to.equal(true)
    await users.acknowledgeTEESigner(provider.address, true)
    await expect(users.acknowledgeTEESigner(provider.address, false)).to.be.revertedWithCustomError(
      f.inference,
      'CannotRevokeWithNonZeroBalance',
    )
  })

  it('keeps nonce and generation through removal and return', async () => {
    await registerInference(f, provider, signer.address)
    await fund(f, user, provider.address, 3n * ETHER)
    await users.revokeAllTokens(provider.address)
    await inference.settleFeesWithTEE([await settlement({ totalFee: 3n * ETHER, nonce: 12n })])
    const ledger = f.ledger.connect(user) as typeof f.ledger
    await expect(ledger.deleteLedger())
      .to.emit(f.inference, 'AccountDeleted')
      .withArgs(user.address, provider.address, 0)
    await expect(f.inference.getAccount(user.address, provider.address)).to.be.revertedWithCustomError(
      f.inference,
      'AccountNotExists',
    )
    await fund(f, user, provider.address, ETHER)
    const { nonce, generation, balance } = await f.inference.getAccount(user.address, provider.address)
    expect([nonce, generation, balance]).to.deep.equal([12n, 1n, ETHER])
  })

  it('lists sub-accounts by user, by provider, of all, and in a batch', async () => {
    await fund(f, user, provider.address, ETHER)
    await fund(f, user, signer.address, ETHER)
    await fund(f, stranger, provider.address, ETHER)
    const [own, ofUser] = await f.inference.getAccountsByUser(user.address, 0, 0)
    expect([own.map((account: { provider: string }) => account.provider), ofUser]).to.deep.equal([
      [provider.address, signer.address],
      2n,
    ])
    expect((await f.inference.getAccountsByProvider(provider.address, 1, 50)).accounts[0].user).to.equal(
      stranger.address,
    )
    expect((await f.inference.getAllAccounts(0, 0)).total).to.equal(3n)
    const batch = await inference.getBatchAccountsByUsers.staticCall([stranger.address, signer.address])
    expect(batch.map((account: { user: string }) => account.user)).to.deep.equal([stranger.address, ZERO_ADDRESS])
  })

  it('lets only the ledger move sub-accounts', async () => {
    await expect(users.addAccount(user.address, provider.address, '', { value: ETHER }))
      .to.be.revertedWithCustomError(f.inference, 'CallerNotLedger')
      .withArgs(user.address)
    for (const call of ['processRefund', 'requestRefundAll', 'deleteAccount'] as const) {
      await expect(users[call](user.address, provider.address)).to.be.revertedWithCustomError(
        f.inference,
        'CallerNotLedger',
      )
    }
    expect(await f.inference.supportsInterface('0x160841b1')).to.equal(true)
    expect(await f.inference.supportsInterface('0xffffffff')).to.equal(false)
  })
})
