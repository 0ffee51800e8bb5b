import { expect } from 'chai'
import { Signature, type Wallet } from 'ethers'
import {
  ABOVE_VOUCHER,
  type AccountsFixture,
  type ClaimItem,
  deployAccounts,
  EXPIRED,
  LOCK_SECONDS,
  PAID,
  PARTIAL,
  type VoucherWish,
  voucherClaim,
  WRONG_SIGNATURE,
  wallets,
} from './accounts-fixture.ts'

const ETHER = 10n ** 18n

describe('DispersalAccounts', () => {
  let f: AccountsFixture
  let user: Wallet
  let disperser: Wallet
  let stranger: Wallet

  beforeEach(async () => {
    f = await deployAccounts()
    ;[user, disperser, stranger] = await wallets(f, ['user', 'disperser', 'stranger'])
    await as(user).deposit(disperser.address, { value: ETHER })
  })
  afterEach(() => f.connection.close())

  const as = (wallet: Wallet) => f.accounts.connect(wallet) as typeof f.accounts
  const voucher = (cumulativeFee: bigint, more: Partial<VoucherWish> = {}) =>
    voucherClaim(f, { user, disperser, cumulativeFee, ...more })
  const balanceOf = (who: { address: string }) => f.connection.ethers.provider.getBalance(who.address)
  const accountOf = async (of: Wallet = user, at: Wallet = disperser) => {
    const [balance, claimed, withdrawing, unlockTime] = await f.accounts.accountOf(of.address, at.address)
    return { balance, claimed, withdrawing, unlockTime }
  }
  /** What the contract says of the items, and what the caller earned by them, gas aside. */
  const claim = async (items: ClaimItem[], by: Wallet = disperser) => {
    const statuses: bigint[] = [...(await as(by).claim.staticCall(items))]
    const before = await balanceOf(by)
    const receipt = await (await as(by).claim(items, { gasLimit: 3_000_000 })).wait()
    return { statuses, earned: (await balanceOf(by)) - before + BigInt(receipt.gasUsed * receipt.gasPrice) }
  }
  const later = (seconds: bigint) => f.connection.networkHelpers.time.increase(seconds)

  it('takes deposits for a disperser by name', async () => {
    await expect(as(user).deposit(disperser.address, { value: 5n }))
      .to.emit(f.accounts, 'Deposited')
      .withArgs(user.address, disperser.address, 5n)
    expect((await accountOf()).balance, 'both deposits').to.equal(ETHER + 5n)
    expect((await accountOf(user, stranger)).balance, 'another disperser has nothing').to.equal(0n)
    await expect(as(user).deposit(disperser.address)).to.be.revertedWithCustomError(f.accounts, 'NothingDeposited')
  })

  it('pays what is claimed, once, and never more than was signed', async () => {
    const first = await voucher(1_000n, { claim: 400n })
    expect(await claim([first])).to.deep.equal({ statuses: [PAID], earned: 400n })
    expect(await claim([first]), 'again').to.deep.equal({ statuses: [PAID], earned: 0n })
    expect(await claim([{ ...first, claim: 1_000n }]), 'the rest').to.deep.equal({ statuses: [PAID], earned: 600n })
    expect(await claim([await voucher(900n)]), 'an older voucher').to.deep.equal({ statuses: [PAID], earned: 0n })
    expect(await claim([{ ...first, claim: 1_001n }])).to.deep.equal({ statuses: [ABOVE_VOUCHER], earned: 0n })
    expect(await accountOf()).to.include({ balance: ETHER - 1_000n, claimed: 1_000n })
  })

  it('says what it paid', async () => {
    await claim([await voucher(100n)])
    const items = [await voucher(250n)]
    await expect(as(disperser).claim(items))
      .to.emit(f.accounts, 'Claimed')
      .withArgs(user.address, disperser.address, 150n, 250n)
  })

  // Mutated, foreign, misdirected and expired vouchers pay nothing, and do not stop the sound one beside them.
  it('pays for nothing else than what the user signed for this disperser here', async () => {
    const good = await voucher(1_000n)
    const past = (await f.connection.networkHelpers.time.latest()) - 1
    const items = [
      { ...good, cumulativeFee: 2_000n, claim: 2_000n },
      { ...good, expiry: good.expiry + 1n },
      { ...good, user: stranger.address },
      { ...good, signature: `${good.signature.slice(0, -2)}00` as `0x${string}` },
      { ...good, signature: '0x' as const },
      await voucher(1_000n, { signer: stranger }),
      await voucher(1_000n, { disperser: stranger }),
      await voucher(1_000n, { chainId: 1 }),
      await voucher(1_000n, { contract: stranger.address }),
      await voucher(1_000n, { expiry: past }),
      { ...good, claim: 1_001n },
      good,
    ]
    const wrong = Array.from({ length: 9 }, () => WRONG_SIGNATURE)
    const { statuses, earned } = await claim(items)
    expect(statuses).to.deep.equal([...wrong, EXPIRED, ABOVE_VOUCHER, PAID])
    expect(earned).to.equal(1_000n)
  })

  it('refuses the malleable twin of a signature, and takes the compact form', async () => {
    const good = await voucher(1_000n)
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
    const { r, s, v } = Signature.from(good.signature)
    const high = (order - BigInt(s)).toString(16).padStart(64, '0')
    const twin = `${r}${high}${v === 27 ? '1c' : '1b'}` as `0x${string}`
    const compact = Signature.from(good.signature).compactSerialized as `0x${string}`
    const { statuses, earned } = await claim([
      { ...good, signature: twin },
      { ...good, signature: compact },
    ])
    expect(statuses).to.deep.equal([WRONG_SIGNATURE, PAID])
    expect(earned).to.equal(1_000n)
  })

  it('pays a voucher to its disperser alone, whoever presents it', async () => {
    expect(await claim([await voucher(1_000n)], stranger)).to.deep.equal({ statuses: [WRONG_SIGNATURE], earned: 0n })
    expect(await claim([await voucher(1_000n)], user)).to.deep.equal({ statuses: [WRONG_SIGNATURE], earned: 0n })
  })

  it('pays in part what the account does not cover, and the rest after a deposit', async () => {
    const item = await voucher(3n * ETHER)
    expect(await claim([item])).to.deep.equal({ statuses: [PARTIAL], earned: ETHER })
    await as(user).deposit(disperser.address, { value: 5n * ETHER })
    expect(await claim([item])).to.deep.equal({ statuses: [PAID], earned: 2n * ETHER })
    expect((await accountOf()).balance).to.equal(3n * ETHER)
  })

  it('pays many users at once', async () => {
    const users = await wallets(f, ['a', 'b', 'c'])
    for (const each of users) await as(each).deposit(disperser.address, { value: 100n })
    const items = await Promise.all(users.map((each, i) => voucher(BigInt(i + 1) * 10n, { user: each })))
    expect(await claim(items)).to.deep.equal({ statuses: [PAID, PAID, PAID], earned: 60n })
  })

  it('bounds what is claimed at once', async () => {
    await expect(as(disperser).claim([])).to.be.revertedWithCustomError(f.accounts, 'NoClaims')
    const item = await voucher(1n)
    const many = Array.from({ length: 101 }, () => item)
    await expect(as(disperser).claim(many))
      .to.be.revertedWithCustomError(f.accounts, 'TooManyClaims')
      .withArgs(101n, 100n)
  })

  // The user gets its money back, but not before the disperser had its time to claim.
  it('gives back what was announced after the lock time', async () => {
    await expect(as(user).withdraw(disperser.address)).to.be.revertedWithCustomError(
      f.accounts,
      'WithdrawalNotRequested',
    )
    await as(user).requestWithdrawal(disperser.address, ETHER)
    const { unlockTime } = await accountOf()
    await expect(as(user).withdraw(disperser.address))
      .to.be.revertedWithCustomError(f.accounts, 'WithdrawalLocked')
      .withArgs(unlockTime)
    expect(await claim([await voucher(1_000n)]), 'claimed meanwhile').to.include({ earned: 1_000n })
    await later(LOCK_SECONDS)
    const before = await balanceOf(user)
    const receipt = await (await as(user).withdraw(disperser.address)).wait()
    expect((await balanceOf(user)) - before + BigInt(receipt.gasUsed * receipt.gasPrice)).to.equal(ETHER - 1_000n)
    expect(await accountOf()).to.deep.equal({ balance: 0n, claimed: 1_000n, withdrawing: 0n, unlockTime: 0n })
    await expect(as(user).withdraw(disperser.address), 'once').to.be.revertedWithCustomError(
      f.accounts,
      'WithdrawalNotRequested',
    )
  })

  it('gives back no more than was announced', async () => {
    await as(user).requestWithdrawal(disperser.address, 10n)
    await later(LOCK_SECONDS)
    await as(user).deposit(disperser.address, { value: 5n })
    await as(user).withdraw(disperser.address)
    expect((await accountOf()).balance).to.equal(ETHER - 5n)
  })

  it('counts the time anew for a new announcement, and forgets one of nothing', async () => {
    await as(user).requestWithdrawal(disperser.address, 10n)
    await later(LOCK_SECONDS)
    await as(user).requestWithdrawal(disperser.address, 20n)
    await expect(as(user).withdraw(disperser.address)).to.be.revertedWithCustomError(f.accounts, 'WithdrawalLocked')
    await as(user).requestWithdrawal(disperser.address, 0n)
    expect(await accountOf()).to.include({ withdrawing: 0n, unlockTime: 0n })
    await later(LOCK_SECONDS)
    await expect(as(user).withdraw(disperser.address)).to.be.revertedWithCustomError(
      f.accounts,
      'WithdrawalNotRequested',
    )
    await expect(as(user).requestWithdrawal(disperser.address, ETHER + 1n))
      .to.be.revertedWithCustomError(f.accounts, 'InsufficientBalance')
      .withArgs(ETHER, ETHER + 1n)
  })

  it('has a lock time within bounds', async () => {
    for (const seconds of [0n, 30n * 86_400n + 1n]) {
      await expect(f.connection.ethers.deployContract('DispersalAccounts', [seconds])).to.be.revertedWithCustomError(
        f.accounts,
        'LockOutOfBounds',
      )
    }
    expect(await f.accounts.lockSeconds()).to.equal(LOCK_SECONDS)
  })

  describe('with contracts', () => {
    const deployUser = async (manner: number) => {
      const contract = await f.connection.ethers.deployContract('ContractUser')
      await contract.getFunction('behave')(manner)
      await contract.getFunction('deposit')(f.address, disperser.address, { value: 100n })
      return contract
    }

    // Contracts sign by what their code says; one that wastes gas or answers at length spoils nothing for the others.
    it('asks users that are contracts, within bounds', async () => {
      const good = await voucher(7n)
      const items: ClaimItem[] = []
      for (const manner of [0, 1, 2, 3]) {
        items.push({ ...good, user: await (await deployUser(manner)).getAddress(), signature: '0x' as const })
      }
      const { statuses, earned } = await claim([...items, good])
      expect(statuses).to.deep.equal([PAID, WRONG_SIGNATURE, WRONG_SIGNATURE, WRONG_SIGNATURE, PAID])
      expect(earned).to.equal(14n)
    })

    it('changes nothing when a receiver does not take the money', async () => {
      const contract = await deployUser(1)
      const at = { address: await contract.getAddress() }
      await as(user).deposit(at.address, { value: 50n })
      const item = await voucher(20n, { disperser: at })
      const data = f.accounts.interface.encodeFunctionData('claim', [[item]])
      await expect(contract.getFunction('call')(f.address, data))
        .to.be.revertedWithCustomError(f.accounts, 'PaymentRefused')
        .withArgs(at.address, 20n)
      const [balance] = await f.accounts.accountOf(user.address, at.address)
      expect(balance).to.equal(50n)
    })
  })
})
