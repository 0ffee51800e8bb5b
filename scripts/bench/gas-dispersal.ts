import type { ContractTransactionResponse } from 'ethers'
import {
  type AccountsFixture,
  deployAccounts,
  LOCK_SECONDS,
  voucherClaim,
  wallets,
} from '../../test/contracts/da/accounts-fixture.ts'
import type { BenchContext } from './context.ts'

/** Users of one claim. */
const USERS = 50

/**
 * Measures what accounts with dispersers cost: deposits, claims alone and of 50 users, withdrawals; transaction and
 * calldata included. Runs on a simulated chain inside this process.
 */
export async function measureDispersalGas(): Promise<Record<string, number>> {
  const fixture = await deployAccounts()
  const [disperser, one] = await wallets(fixture, ['disperser', 'one'])
  const users = await wallets(
    fixture,
    Array.from({ length: USERS }, (_, index) => `user ${index}`),
  )
  const as = (wallet: (typeof users)[number]) => fixture.accounts.connect(wallet) as AccountsFixture['accounts']
  const claim = async (of: typeof users, fee: bigint) => {
    const items = await Promise.all(of.map((user) => voucherClaim(fixture, { user, disperser, cumulativeFee: fee })))
    return await gasOf(await as(disperser).claim(items))
  }
  const deposit = (wallet: (typeof users)[number]) => as(wallet).deposit(disperser.address, { value: 10n ** 18n })

  const first = await gasOf(await deposit(one))
  const again = await gasOf(await deposit(one))
  for (const user of users) await deposit(user)
  const figures = {
    'dispersal deposit, first': first,
    'dispersal deposit, again': again,
    'dispersal claim of one user, first': await claim([one], 1_000n),
    'dispersal claim of one user, again': await claim([one], 2_000n),
    'dispersal claim of 50 users, first, each': Math.round((await claim(users, 10n ** 14n)) / USERS),
    'dispersal claim of 50 users, again, each': Math.round((await claim(users, 2n * 10n ** 14n)) / USERS),
    'dispersal withdrawal, announced': await gasOf(await as(one).requestWithdrawal(disperser.address, 10n ** 18n)),
  }
  await fixture.connection.networkHelpers.time.increase(LOCK_SECONDS)
  const withdrawn = await gasOf(await as(one).withdraw(disperser.address))
  await fixture.connection.close()
  return { ...figures, 'dispersal withdrawal, made': withdrawn }
}

/** Reports `gas.dispersal-claim-50`. */
export async function benchDispersalGas({ report }: Pick<BenchContext, 'report'>): Promise<void> {
  const figures = await measureDispersalGas()
  const value = figures['dispersal claim of 50 users, again, each'] ?? Number.NaN
  report({ name: 'gas.dispersal-claim-50', value, unit: 'gas', detail: figures })
}

async function gasOf(response: ContractTransactionResponse): Promise<number> {
  const receipt = await response.wait()
  if (receipt?.status !== 1) throw new Error(`transaction ${response.hash} failed`)
  return Number(receipt.gasUsed)
}
