import { expect } from 'chai'
import type { Wallet } from 'ethers'
import fc from 'fast-check'
import {
  ABOVE_VOUCHER,
  type AccountsFixture,
  type ClaimItem,
  deployAccounts,
  EXPIRED,
  LOCK_SECONDS,
  PAID,
  PARTIAL,
  voucherClaim,
  WRONG_SIGNATURE,
  wallets,
} from './accounts-fixture.ts'

/** What may happen, by numbers; users and dispersers are 0 or 1. */
type Action =
  | { do: 'deposit'; user: number; at: number; amount: bigint }
  | { do: 'request'; user: number; at: number; amount: bigint }
  | { do: 'withdraw'; user: number; at: number }
  | { do: 'wait'; seconds: number }
  | { do: 'claim'; by: number; items: readonly Presented[] }

/** A voucher as it is presented: signed for `at` by `user`, perhaps with something changed since. */
interface Presented {
  user: number
  at: number
  fee: bigint
  claim: bigint
  /** Seconds from now. */
  life: number
  fault: 'none' | 'fee' | 'signer' | 'user' | 'expiry'
}

/** What an account should hold by now, and what moved through it. */
interface Expected {
  balance: bigint
  claimed: bigint
  withdrawing: bigint
  unlockTime: bigint
  deposited: bigint
  withdrawn: bigint
}

const one = fc.integer({ min: 0, max: 1 })
const small = fc.bigInt({ min: 0n, max: 200n })
const presented = fc.record<Presented>({
  ...{ user: one, at: one, fee: small, claim: small, life: fc.integer({ min: -5, max: 100_000 }) },
  fault: fc.constantFrom('none', 'none', 'none', 'fee', 'signer', 'user', 'expiry'),
})
const action = fc.oneof(
  fc.record({ do: fc.constant('deposit' as const), user: one, at: one, amount: fc.bigInt({ min: 1n, max: 100n }) }),
  fc.record({ do: fc.constant('request' as const), user: one, at: one, amount: small }),
  fc.record({ do: fc.constant('withdraw' as const), user: one, at: one }),
  fc.record({ do: fc.constant('wait' as const), seconds: fc.integer({ min: 1, max: 2 * Number(LOCK_SECONDS) }) }),
  fc.record({
    do: fc.constant('claim' as const),
    // The third is a thief.
    by: fc.integer({ min: 0, max: 2 }),
    items: fc.array(presented, { minLength: 1, maxLength: 4 }),
  }),
) as fc.Arbitrary<Action>

class Model {
  readonly f: AccountsFixture
  readonly users: readonly Wallet[]
  readonly claimers: readonly Wallet[]
  readonly expected = new Map<string, Expected>()

  constructor(f: AccountsFixture, users: readonly Wallet[], claimers: readonly Wallet[]) {
    this.f = f
    this.users = users
    this.claimers = claimers
    for (const user of [0, 1]) {
      for (const at of [0, 1]) {
        const nothing = { balance: 0n, claimed: 0n, withdrawing: 0n, unlockTime: 0n, deposited: 0n, withdrawn: 0n }
        this.expected.set(`${user} ${at}`, nothing)
      }
    }
  }

  of(user: number, at: number): Expected {
    const found = this.expected.get(`${user} ${at}`)
    if (found === undefined) throw new RangeError(`no account ${user} ${at}`)
    return found
  }

  async run(step: Action): Promise<void> {
    const { networkHelpers } = this.f.connection
    if (step.do === 'wait') {
      await networkHelpers.time.increase(step.seconds)
      return
    }
    // Every transaction has a second of its own, known before.
    const now = BigInt(await networkHelpers.time.latest()) + 1n
    await networkHelpers.time.setNextBlockTimestamp(now)
    if (step.do === 'claim') await this.claim(step, now)
    else await this.move(step, now)
  }

  async move(step: Exclude<Action, { do: 'claim' } | { do: 'wait' }>, now: bigint): Promise<void> {
    const account = this.of(step.user, step.at)
    const wallet = at(this.users, step.user)
    const disperser = at(this.claimers, step.at).address
    const contract = this.f.accounts.connect(wallet) as AccountsFixture['accounts']
    if (step.do === 'deposit') {
      await contract.deposit(disperser, { value: step.amount })
      account.balance += step.amount
      account.deposited += step.amount
    } else if (step.do === 'request') {
      const sent = contract.requestWithdrawal(disperser, step.amount)
      if (step.amount > account.balance) {
        await expect(sent).to.be.revertedWithCustomError(contract, 'InsufficientBalance')
        return
      }
      await sent
      account.withdrawing = step.amount
      account.unlockTime = step.amount === 0n ? 0n : now + LOCK_SECONDS
    } else {
      const before = await this.f.connection.ethers.provider.getBalance(wallet.address)
      const sent = contract.withdraw(disperser)
      const { unlockTime } = account
      if (unlockTime === 0n || now < unlockTime) {
        const name = unlockTime === 0n ? 'WithdrawalNotRequested' : 'WithdrawalLocked'
        await expect(sent).to.be.revertedWithCustomError(contract, name)
        return
      }
      const receipt = await (await sent).wait()
      const got = (await this.f.connection.ethers.provider.getBalance(wallet.address)) - before
      const paid = least(account.withdrawing, account.balance)
      expect(got + BigInt(receipt.gasUsed * receipt.gasPrice), 'the user got it').to.equal(paid)
      account.balance -= paid
      account.withdrawn += paid
      account.withdrawing = 0n
      account.unlockTime = 0n
    }
  }

  async claim({ by, items }: Extract<Action, { do: 'claim' }>, now: bigint): Promise<void> {
    const { provider } = this.f.connection.ethers
    const claimer = at(this.claimers, by)
    const sent = await Promise.all(items.map((item) => this.item(item, now)))
    const contract = this.f.accounts.connect(claimer) as AccountsFixture['accounts']
    // Asked in the block in which it will be done.
    const statuses: bigint[] = [...(await contract.claim.staticCall(sent, { blockTag: 'pending' }))]
    const before = await provider.getBalance(claimer.address)
    const receipt = await (await contract.claim(sent)).wait()
    const earned = (await provider.getBalance(claimer.address)) - before + BigInt(receipt.gasUsed * receipt.gasPrice)
    const wanted = items.map((item) => this.judge(item, by))
    expect(statuses, 'statuses').to.deep.equal(wanted.map(({ status }) => status))
    const sum = wanted.reduce((total, { amount }) => total + amount, 0n)
    expect(earned, 'the claimer got what is due to it').to.equal(sum)
  }

  /** What must become of an item, from the rules alone. */
  judge({ user, at, fee, claim, life, fault }: Presented, by: number): { status: bigint; amount: bigint } {
    if (claim > fee) return { status: ABOVE_VOUCHER, amount: 0n }
    if (life < 0) return { status: EXPIRED, amount: 0n }
    if (fault !== 'none' || by !== at) return { status: WRONG_SIGNATURE, amount: 0n }
    const account = this.of(user, at)
    const due = claim > account.claimed ? claim - account.claimed : 0n
    const amount = least(due, account.balance)
    account.balance -= amount
    account.claimed += amount
    return { status: amount < due ? PARTIAL : PAID, amount }
  }

  async item({ user, at: disperser, fee, claim, life, fault }: Presented, now: bigint): Promise<ClaimItem> {
    const owner = at(this.users, user)
    const other = at(this.users, 1 - user)
    const signed = await voucherClaim(this.f, {
      ...{ user: owner, disperser: at(this.claimers, disperser), claim, expiry: Number(now) + life },
      cumulativeFee: fault === 'fee' ? fee + 1n : fee,
      signer: fault === 'signer' ? other : owner,
    })
    const presentedAs = { ...signed, cumulativeFee: fee }
    if (fault === 'user') return { ...presentedAs, user: other.address }
    if (fault === 'expiry') return { ...presentedAs, expiry: signed.expiry + 1n }
    return presentedAs
  }

  async check(): Promise<void> {
    let held = 0n
    for (const [key, want] of this.expected) {
      const [user, disperser] = key.split(' ').map(Number)
      const [balance, claimed, withdrawing, unlockTime] = await this.f.accounts.accountOf(
        at(this.users, user ?? 0).address,
        at(this.claimers, disperser ?? 0).address,
      )
      const { deposited, withdrawn, ...account } = want
      expect({ balance, claimed, withdrawing, unlockTime }, `account ${key}`).to.deep.equal(account)
      expect(claimed + withdrawn + balance, 'nothing appears or vanishes').to.equal(deposited)
      held += balance
    }
    expect(await this.f.connection.ethers.provider.getBalance(this.f.address), 'held').to.equal(held)
  }
}

// After any sequence of deposits, claims, withdrawals and waits, with vouchers replayed, changed, foreign, misdirected or
// expired: every account holds what the rules say, all accounts together are what the contract holds, what was paid in
// is there, claimed or withdrawn, and each wei went to the user or disperser it belongs to.
describe('DispersalAccounts and its model', () => {
  it('agree after any sequence of actions', async function () {
    this.timeout(180_000)
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 25 }), async (actions) => {
        const f = await deployAccounts()
        try {
          const users = await wallets(f, ['first user', 'second user'])
          const claimers = await wallets(f, ['first disperser', 'second disperser', 'thief'])
          const model = new Model(f, users, claimers)
          for (const step of actions) await model.run(step)
          await model.check()
        } finally {
          await f.connection.close()
        }
      }),
      { numRuns: Math.ceil(Number(process.env.FUZZ_RUNS ?? 64) / 4) },
    )
  })
})

function at<T>(list: readonly T[], index: number): T {
  const found = list[index]
  if (found === undefined) throw new RangeError(`nothing at ${index}`)
  return found
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
