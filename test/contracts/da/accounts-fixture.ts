import type { Wallet } from 'ethers'
import { network } from 'hardhat'
import { privateKeyToAccount } from 'viem/accounts'
import type { dispersalAccountsAbi } from '#protocol/abi/dispersal-accounts.ts'
import { signDispersalVoucher } from '#protocol/da/dispersal-voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { fundedWallet } from '../compute/compute-fixture.ts'
import type { Bound, Connection } from '../storage/storage-fixture.ts'

export const LOCK_SECONDS = 86_400n

/** Statuses of claims, as the interface names them. */
export const [PAID, PARTIAL, EXPIRED, WRONG_SIGNATURE, ABOVE_VOUCHER] = [0n, 1n, 2n, 3n, 4n]

export type Accounts = Bound<typeof dispersalAccountsAbi>

export interface AccountsFixture {
  connection: Connection
  accounts: Accounts
  address: Hex
  chainId: number
}

/** The contract on a fresh chain. */
export async function deployAccounts({ lockSeconds = LOCK_SECONDS } = {}): Promise<AccountsFixture> {
  const connection = await network.create()
  const accounts = (await connection.ethers.deployContract('DispersalAccounts', [lockSeconds])) as unknown as Accounts
  const { chainId } = await connection.ethers.provider.getNetwork()
  return { connection, accounts, address: (await accounts.getAddress()) as Hex, chainId: Number(chainId) }
}

/** Wallets with a thousand coins each. */
export async function wallets<const Names extends readonly string[]>(
  { connection }: AccountsFixture,
  names: Names,
): Promise<{ [Key in keyof Names]: Wallet }> {
  const made: Wallet[] = []
  for (const name of names) made.push(await fundedWallet(connection, name))
  return made as { [Key in keyof Names]: Wallet }
}

export interface VoucherWish {
  user: Wallet
  disperser: { address: string }
  cumulativeFee: bigint
  /** Default: all of it. */
  claim?: bigint
  /** Default: far away. */
  expiry?: number
  /** Whose key signs. Default the user's. */
  signer?: Wallet
  /** Where it is signed for. Default the fixture's contract and chain. */
  contract?: string
  chainId?: number
}

/** An item of a claim, with the voucher as the protocol's own code signs it. */
export async function voucherClaim(f: AccountsFixture, wish: VoucherWish) {
  const { user, disperser, cumulativeFee, claim = cumulativeFee, expiry = 10_000_000_000, signer = user } = wish
  const { signature } = await signDispersalVoucher({
    chainId: wish.chainId ?? f.chainId,
    contract: (wish.contract ?? f.address) as Hex,
    voucher: {
      user: user.address as Hex,
      disperser: disperser.address as Hex,
      cumulativeFeeWei: cumulativeFee,
      expiresAtS: expiry,
    },
    signer: privateKeyToAccount(signer.privateKey as Hex),
  })
  return { user: user.address, cumulativeFee, claim, expiry: BigInt(expiry), signature }
}

export type ClaimItem = Awaited<ReturnType<typeof voucherClaim>>
