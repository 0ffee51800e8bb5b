import { type Address, encodeFunctionData } from 'viem'
import type { Hash, Hex } from '#protocol/hex.ts'
import { accountsAbi } from './abi.ts'
import type { DaConnection } from './connection.ts'
import { awaitCall, sendToContract } from './contract-call.ts'
import { contractRefusal } from './contract-refusal.ts'
import { AccountsRefusedError, DaSettingError } from './errors.ts'
import type { CallPurpose, DaListener } from './events.ts'
import { passingJournal } from './submit-journal.ts'

/** What a user holds with a disperser. */
export interface DisperserAccount {
  readonly user: Address
  readonly disperser: Address
  readonly balanceWei: bigint
  /** Claimed by the disperser in all, over the life of the account. */
  readonly claimedWei: bigint
  /** Announced to be withdrawn; it may be more than is there when claims came since. */
  readonly withdrawingWei: bigint
  /** When that is free, in seconds since 1970; 0 when nothing is announced. */
  readonly unlockAtS: number
}

interface CallOptions {
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/** What to do about the contract's own errors. */
const FIX: Readonly<Record<string, string>> = {
  NothingDeposited: 'give an amount above zero',
  InsufficientBalance: 'ask for at most what the account has',
  WithdrawalNotRequested: 'announce the withdrawal first',
  WithdrawalLocked: 'wait until the time of the message, in seconds since 1970: until then the disperser may claim',
  PaymentRefused: 'let the account take payments',
}

/** The address of the contract. @throws DaSettingError `SETTING_MISSING` */
export function accountsContract({ contracts }: DaConnection): Address {
  if (contracts.accounts !== undefined) return contracts.accounts
  throw new DaSettingError({ setting: 'contracts.accounts', purpose: 'pay a disperser' })
}

/**
 * What `user` (default: the connection's account) has with a disperser. Zeros where there is nothing.
 *
 * @throws AccountsRefusedError where there is no such contract
 */
export async function readAccount(
  connection: DaConnection,
  {
    disperser,
    user = connection.payer('look at an account').address,
    blockNumber,
  }: { disperser: Address; user?: Address | undefined; blockNumber?: bigint | undefined },
): Promise<DisperserAccount> {
  const address = accountsContract(connection)
  const { client } = await connection.chain()
  try {
    const [balanceWei, claimedWei, withdrawingWei, unlockTime] = await client.readContract({
      ...{ address, abi: accountsAbi, functionName: 'accountOf', args: [user, disperser] },
      ...(blockNumber === undefined ? {} : { blockNumber }),
    })
    return { user, disperser, balanceWei, claimedWei, withdrawingWei, unlockAtS: Number(unlockTime) }
  } catch (error) {
    throw accountsError(error, address)
  }
}

/** Seconds from the announcement of a withdrawal until it can be made. */
export async function lockSeconds(connection: DaConnection): Promise<number> {
  const address = accountsContract(connection)
  const { client } = await connection.chain()
  try {
    return Number(await client.readContract({ address, abi: accountsAbi, functionName: 'lockSeconds' }))
  } catch (error) {
    throw accountsError(error, address)
  }
}

/**
 * Deposit coins for a disperser; only that disperser can claim them, and only what was signed for.
 *
 * @throws AccountsRefusedError, InsufficientFundsError
 * @example
 * await depositAt(connection, { disperser, amountWei: parseEther('0.1') })
 */
export function depositAt(
  connection: DaConnection,
  { disperser, amountWei, ...options }: { disperser: Address; amountWei: bigint } & CallOptions,
): Promise<Hash> {
  const data = encodeFunctionData({ abi: accountsAbi, functionName: 'deposit', args: [disperser] })
  return callAccounts(connection, { data, valueWei: amountWei, purpose: 'deposit', ...options })
}

/** Announce that coins will be taken back; 0 takes the announcement back. @throws AccountsRefusedError */
export function requestWithdrawal(
  connection: DaConnection,
  { disperser, amountWei, ...options }: { disperser: Address; amountWei: bigint } & CallOptions,
): Promise<Hash> {
  const args = [disperser, amountWei] as const
  const data = encodeFunctionData({ abi: accountsAbi, functionName: 'requestWithdrawal', args })
  return callAccounts(connection, { data, purpose: 'request-withdrawal', ...options })
}

/** Take back what was announced, after the lock time. @throws AccountsRefusedError */
export function withdrawFrom(
  connection: DaConnection,
  { disperser, ...options }: { disperser: Address } & CallOptions,
): Promise<Hash> {
  const data = encodeFunctionData({ abi: accountsAbi, functionName: 'withdraw', args: [disperser] })
  return callAccounts(connection, { data, purpose: 'withdraw', ...options })
}

/** Sends a call to the contract and waits for it. */
export async function callAccounts(
  connection: DaConnection,
  { data, valueWei = 0n, purpose, ...options }: { data: Hex; valueWei?: bigint; purpose: CallPurpose } & CallOptions,
): Promise<Hash> {
  const to = accountsContract(connection)
  const call = { to, purpose, journal: passingJournal(), root: to, ...options }
  const refusal = (error: unknown) => accountsError(error, to)
  const entry = await sendToContract(connection, { ...call, data, valueWei, refusal })
  const receipt = await awaitCall(connection, entry, call)
  if (receipt !== undefined) return receipt.transactionHash
  throw new AccountsRefusedError({
    code: 'ACCOUNTS_REFUSED',
    message: 'the transaction was replaced by another one of the same account',
    fix: 'look at the account, then run the same command again; let no other program send from it at the same time',
    details: { contract: to },
  })
}

/** An error of a call to the contract: its refusal by name, or what it was. */
function accountsError(error: unknown, contract: Address): unknown {
  const refusal = contractRefusal({ error, contract, abi: accountsAbi })
  if (refusal === undefined) return error
  const { said, errorName = '', args } = refusal
  return new AccountsRefusedError({
    code: 'ACCOUNTS_REFUSED',
    message: `the contract of accounts ${contract} refused: ${said}`,
    fix: FIX[errorName] ?? 'check the address of the contract and the network',
    details: { contract, errorName: refusal.errorName, args },
    cause: error,
  })
}
