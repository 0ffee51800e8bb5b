import { setTimeout as delay } from 'node:timers/promises'
import { type Address, decodeFunctionResult, encodeFunctionData } from 'viem'
import { accountsAbi } from '#client/da/abi.ts'
import { accountsContract, callAccounts, type DisperserAccount, lockSeconds, readAccount } from '#client/da/accounts.ts'
import type { DaConnection } from '#client/da/connection.ts'
import type { Logger } from '#kit/log.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { DisperserConfig } from '../config.ts'
import { type ChosenClaim, chooseClaims } from './choose-claims.ts'
import type { DuePayer, FeeBook } from './fee-book.ts'

export interface ClaimJobParameters {
  connection: DaConnection
  book: FeeBook
  disperser: Address
  config: Pick<DisperserConfig, 'fees'> & { chain: Pick<DisperserConfig['chain'], 'confirmations'> }
  log: Logger
  now: () => number
  signal: AbortSignal
  /** Told before a claim goes out and after it is mined. */
  onStep?: ((step: 'claiming' | 'claimed') => void) | undefined
}

/** What one look did. */
export interface ClaimRound {
  users: number
  earnedWei: bigint
  txHash: Hash | undefined
}

/** Accounts looked at in one round, and how many at a time. */
const MAX_DUE = 1_000
const READ_WIDTH = 20
/** The contract takes a hundred at once. */
const MAX_ITEMS = 100
/** Who was refused is left out for so many rounds. */
const REFUSED_ROUNDS = 10

/**
 * Turns charges into money: looks at intervals, and claims what is worth its gas, what is about to be withdrawn, and
 * what would expire. Remembers nothing that the contract does not know better: after a crash at any point the next
 * look finds what is left to claim, and a claim made twice pays once.
 */
export class ClaimJob {
  readonly #parameters: ClaimJobParameters
  readonly #refused = new Map<Hex, number>()
  #running: Promise<ClaimRound> | undefined
  #lastError: string | undefined

  constructor(parameters: ClaimJobParameters) {
    this.#parameters = parameters
  }

  /** What went wrong last, if the last round did not end well. */
  get lastError(): string | undefined {
    return this.#lastError
  }

  /** Claims what is worth it now; rounds do not overlap. */
  claim(): Promise<ClaimRound> {
    this.#running ??= this.#round().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Claims at intervals until the signal. */
  async run(): Promise<void> {
    const { config, log, signal } = this.#parameters
    let isTold = false
    while (!signal.aborted) {
      try {
        if (!isTold) isTold = await this.#tellLock()
        await this.claim()
        this.#lastError = undefined
      } catch (error) {
        if (signal.aborted) return
        this.#lastError = error instanceof Error ? error.message : String(error)
        log.warn({ err: error }, 'fees could not be claimed; they are tried again')
      }
      await delay(config.fees.claimIntervalMs, undefined, { signal }).catch(() => {})
    }
  }

  /** Users must not be able to withdraw between two looks. */
  async #tellLock(): Promise<true> {
    const { connection, config, log } = this.#parameters
    const lockMs = 1_000 * (await lockSeconds(connection))
    const { claimIntervalMs } = config.fees
    if (lockMs < 3 * claimIntervalMs) {
      log.warn({ lockMs, claimIntervalMs }, 'users may withdraw before fees are claimed: shorten fees.claimIntervalMs')
    }
    return true
  }

  async #round(): Promise<ClaimRound> {
    const { book, connection, config, now, onStep, log } = this.#parameters
    const due = book.due(MAX_DUE)
    if (due.length === 0) return { users: 0, earnedWei: 0n, txHash: undefined }
    const accounts = await this.#look(due)
    const { client } = await connection.chain()
    const { earnOverGas, maxUnclaimedMs, minVoucherLifetimeMs } = config.fees
    const chosen = await this.#accepted(
      chooseClaims({
        ...{ due: accounts, nowMs: now(), gasPriceWei: await client.getGasPrice(), earnOverGas, maxUnclaimedMs },
        ...{ expiringMs: minVoucherLifetimeMs / 2, maxItems: MAX_ITEMS },
      }),
    )
    if (chosen.length === 0) return { users: 0, earnedWei: 0n, txHash: undefined }
    const { signal } = this.#parameters
    onStep?.('claiming')
    const txHash = await callAccounts(connection, { data: claimData(chosen), purpose: 'claim', signal })
    onStep?.('claimed')
    const earnedWei = chosen.reduce((sum, { gainWei }) => sum + gainWei, 0n)
    log.info({ users: chosen.length, earnedWei: earnedWei.toString(), txHash }, 'fees claimed')
    return { users: chosen.length, earnedWei, txHash }
  }

  /** The accounts as they are, after entering what is claimed beyond doubt. Those paid are left out. */
  async #look(due: readonly DuePayer[]): Promise<{ payer: DuePayer; account: DisperserAccount }[]> {
    const { connection, book, disperser, config } = this.#parameters
    const { client } = await connection.chain()
    const head = await client.getBlockNumber()
    const deep = head - BigInt(config.chain.confirmations) + 1n
    const found: { payer: DuePayer; account: DisperserAccount }[] = []
    for (let from = 0; from < due.length; from += READ_WIDTH) {
      const looks = due.slice(from, from + READ_WIDTH).map(async (payer) => {
        const { user } = payer
        if (deep > BigInt(connection.startBlock)) {
          book.claimed(user, (await readAccount(connection, { user, disperser, blockNumber: deep })).claimedWei)
        }
        return { payer, account: await readAccount(connection, { user, disperser, blockNumber: head }) }
      })
      found.push(...(await Promise.all(looks)))
    }
    return found.filter(({ payer, account }) => account.claimedWei < payer.chargedWei)
  }

  /** Asks the contract what it would say; who would be refused is left out for a while. */
  async #accepted(chosen: readonly ChosenClaim[]): Promise<ChosenClaim[]> {
    const { connection, disperser, log } = this.#parameters
    for (const [user, rounds] of this.#refused) {
      if (rounds <= 1) this.#refused.delete(user)
      else this.#refused.set(user, rounds - 1)
    }
    const asked = chosen.filter(({ payer }) => !this.#refused.has(payer.user))
    if (asked.length === 0) return []
    const { client } = await connection.chain()
    const to = accountsContract(connection)
    const { data = '0x' } = await client.call({ account: disperser, to, data: claimData(asked) })
    const statuses = decodeFunctionResult({ abi: accountsAbi, functionName: 'claim', data })
    return asked.filter(({ payer: { user } }, index) => {
      const status = statuses[index] ?? 0
      if (status <= 1) return true
      this.#refused.set(user, REFUSED_ROUNDS)
      log.warn({ user, status }, 'the contract would refuse this claim; trying again later')
      return false
    })
  }
}

function claimData(chosen: readonly ChosenClaim[]): Hex {
  const items = chosen.map(({ payer: { user, held }, claimWei }) => ({
    ...{ user, cumulativeFee: held.voucher.cumulativeFeeWei, claim: claimWei },
    ...{ expiry: BigInt(held.voucher.expiresAtS), signature: held.signature },
  }))
  return encodeFunctionData({ abi: accountsAbi, functionName: 'claim', args: [items] })
}
