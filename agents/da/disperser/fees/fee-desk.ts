import type { Address } from 'viem'
import { accountsContract, type DisperserAccount, lockSeconds, readAccount } from '#client/da/accounts.ts'
import type { DaConnection } from '#client/da/connection.ts'
import { quoteBlob } from '#client/da/quote.ts'
import {
  DISPERSAL_VOUCHER_HEADER,
  DISPERSAL_VOUCHER_INSUFFICIENT,
  decodeDispersalVoucher,
  encodeVoucherShortfall,
  type SignedDispersalVoucher,
  verifyDispersalVoucher,
} from '#protocol/da/dispersal-voucher.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { DisperserConfig } from '../config.ts'
import { DisperserError } from '../error.ts'
import type { FeeBook, Standing } from './fee-book.ts'

/** What a blob costs, wei. */
export interface BlobQuote {
  sizeBytes: number
  retentionEpochs: number
  /** What the disperser pays the contract for it. */
  chainFeeWei: bigint
  /** The disperser's own share, its gas included; 0 where blobs are free. */
  serviceFeeWei: bigint
  /** What the user is charged; 0 where blobs are free. */
  totalWei: bigint
  /** The chain's epoch. */
  epoch: number
}

/** How blobs are paid for; undefined where they are free. */
export interface PaymentTerms {
  mode: 'required' | 'optional'
  chainId: number
  contract: Address
  disperser: Address
  lockSeconds: number
  /** A voucher must be good for so long yet. */
  minVoucherLifetimeMs: number
}

/** A voucher that was checked, with all that its admission needs from the chain. */
export interface Offer {
  readonly signed: SignedDispersalVoucher
  readonly quote: BlobQuote
  readonly account: DisperserAccount
}

export interface FeeDeskParameters {
  connection: DaConnection
  book: FeeBook
  /** The account that pays for blobs and is paid by users, lower case. */
  disperser: Address
  config: Pick<DisperserConfig, 'fees' | 'retentionEpochs'> & { chain: Pick<DisperserConfig['chain'], 'confirmations'> }
  now: () => number
}

/** Says what blobs cost, and takes vouchers for them. */
export class FeeDesk {
  readonly #parameters: FeeDeskParameters

  constructor(parameters: FeeDeskParameters) {
    this.#parameters = parameters
  }

  /** Whether blobs need a voucher, may have one, or are free. */
  get mode(): 'required' | 'optional' | 'free' {
    const { mode, accounts } = this.#parameters.config.fees
    return accounts === undefined ? 'free' : mode
  }

  /** @throws EntranceRefusedError for a size out of bounds */
  async quote(sizeBytes: number): Promise<BlobQuote> {
    const { connection, config } = this.#parameters
    const quote = await quoteBlob(connection, { sizeBytes, retentionEpochs: config.retentionEpochs })
    const { retentionEpochs, feeWei: chainFeeWei, epoch } = quote
    const { marginBps, gasFeeWei } = config.fees
    const isFree = this.mode === 'free'
    // Rounded up: a margin of a fee below 10,000 wei is one wei.
    const serviceFeeWei = isFree ? 0n : (chainFeeWei * BigInt(marginBps) + 9_999n) / 10_000n + gasFeeWei
    const totalWei = isFree ? 0n : chainFeeWei + serviceFeeWei
    return { sizeBytes, retentionEpochs, chainFeeWei, serviceFeeWei, totalWei, epoch }
  }

  async terms(): Promise<PaymentTerms | undefined> {
    const { connection, disperser, config } = this.#parameters
    const { mode } = this
    if (mode === 'free') return undefined
    const chain = await connection.chain()
    return {
      ...{ mode, chainId: chain.id, contract: accountsContract(connection), disperser },
      lockSeconds: await connection.cached('accounts', 'lock', () => lockSeconds(connection)),
      minVoucherLifetimeMs: config.fees.minVoucherLifetimeMs,
    }
  }

  /**
   * Reads and verifies a voucher, and looks at the chain for what it is drawn on. Undefined where the blob is free.
   *
   * @throws DisperserError `VOUCHER_MISSING`, `VOUCHER_FOREIGN`; DispersalVoucherError
   */
  async offer({ sizeBytes, header }: { sizeBytes: number; header: string | undefined }): Promise<Offer | undefined> {
    const { connection, disperser, config, now } = this.#parameters
    const { mode } = this
    if (mode === 'free' || (mode === 'optional' && header === undefined)) return undefined
    if (header === undefined) throw missing()
    const signed = decodeDispersalVoucher(header)
    if (signed.voucher.disperser !== disperser) throw foreign(signed.voucher.disperser, disperser)
    const chain = await connection.chain()
    const nowMs = now() + config.fees.minVoucherLifetimeMs
    verifyDispersalVoucher({ ...signed, chainId: chain.id, contract: accountsContract(connection), nowMs })
    const [quote, account] = await Promise.all([this.quote(sizeBytes), this.account(signed.voucher.user)])
    return { signed, quote, account }
  }

  /**
   * A user's account as it can be relied on: deposits count once they are as deep as a confirmation, what leaves it
   * counts at once.
   */
  async account(user: Hex): Promise<DisperserAccount> {
    const { connection, disperser, config } = this.#parameters
    const { client } = await connection.chain()
    const head = await client.getBlockNumber()
    const deep = head - BigInt(config.chain.confirmations) + 1n
    const [latest, settled] = await Promise.all([
      readAccount(connection, { user, disperser, blockNumber: head }),
      deep > BigInt(connection.startBlock)
        ? readAccount(connection, { user, disperser, blockNumber: deep })
        : undefined,
    ])
    const balanceWei = least(latest.balanceWei, settled?.balanceWei ?? 0n)
    return { ...latest, balanceWei }
  }

  /** What of an account is neither owed, set aside nor about to be withdrawn, wei; below zero where too much is owed. */
  freeWei({ balanceWei, withdrawingWei, claimedWei }: DisperserAccount, standing: Standing): bigint {
    return balanceWei - withdrawingWei - (standing.chargedWei - claimedWei) - standing.reservedWei
  }

  /**
   * Refuses an offer that does not cover its blob. Waits for nothing, so that {@link take} can follow in the same step.
   * A blob that equals one under a charge costs nothing more.
   *
   * @throws DisperserError `VOUCHER_INSUFFICIENT`, `DEPOSIT_INSUFFICIENT`
   */
  check({ signed, quote, account }: Offer, contentHash: Hash): void {
    if (this.#sharedCharge(contentHash, quote.epoch) !== undefined) return
    const standing = this.#parameters.book.standing(signed.voucher.user, account.claimedWei)
    const { held } = standing
    const cumulativeFeeWei = standing.chargedWei + standing.reservedWei
    const neededWei = cumulativeFeeWei + quote.totalWei
    const heldWei = held?.voucher.cumulativeFeeWei ?? 0n
    // A voucher is good for one blob: whoever saw it pass, or read it on the chain, can buy nothing with it.
    const requiredCumulativeFeeWei = heldWei >= neededWei ? heldWei + 1n : neededWei
    if (signed.voucher.cumulativeFeeWei < requiredCumulativeFeeWei) {
      const shortfall = { cumulativeFeeWei, requiredCumulativeFeeWei, lastVoucher: held }
      throw new DisperserError({
        code: DISPERSAL_VOUCHER_INSUFFICIENT,
        message: `a voucher over at least ${requiredCumulativeFeeWei} wei in all is needed (${cumulativeFeeWei} charged or set aside so far, ${quote.totalWei} for this blob)`,
        fix: 'ask for a quote, and sign a voucher over what is required',
        details: { ...encodeVoucherShortfall(shortfall), feeWei: String(quote.totalWei) },
      })
    }
    const freeWei = this.freeWei(account, standing)
    if (freeWei >= quote.totalWei) return
    throw new DisperserError({
      code: 'DEPOSIT_INSUFFICIENT',
      message: `the account has ${freeWei < 0n ? 0n : freeWei} wei to spare, this blob costs ${quote.totalWei} wei`,
      fix: `deposit at least ${quote.totalWei - freeWei} wei for this disperser, and wait until that is confirmed`,
      details: {
        ...{ freeWei: String(freeWei), feeWei: String(quote.totalWei), missingWei: String(quote.totalWei - freeWei) },
        ...{ balanceWei: String(account.balanceWei), withdrawingWei: String(account.withdrawingWei) },
      },
    })
  }

  /** Keeps the voucher and sets the fee aside. Returns the charge. Call in the transaction that writes the request. */
  take(offer: Offer, contentHash: Hash): number {
    const { book, now } = this.#parameters
    this.check(offer, contentHash)
    const { signed, quote, account } = offer
    const shared = this.#sharedCharge(contentHash, quote.epoch)
    if (shared !== undefined) return shared
    const { user } = signed.voucher
    const { totalWei: feeWei } = quote
    const charge = book.reserve({ contentHash, user, feeWei, claimedWei: account.claimedWei, nowMs: now() })
    book.keep(signed)
    return charge
  }

  /** The charge of an equal blob that is worked on, or kept for longer than this epoch. */
  #sharedCharge(contentHash: Hash, epoch: number): number | undefined {
    const found = this.#parameters.book.chargeOf(contentHash)
    if (found === undefined) return undefined
    const isLive = found.charge.state === 'reserved' || (found.expiryEpoch ?? 0) > epoch
    return isLive ? found.charge.id : undefined
  }
}

function missing(): DisperserError {
  return new DisperserError({
    code: 'VOUCHER_MISSING',
    message: `blobs are paid for here, and ${DISPERSAL_VOUCHER_HEADER} is missing`,
    fix: 'ask /v1/quote for the fee and the contract, deposit there for this disperser, and send a voucher',
    details: { field: DISPERSAL_VOUCHER_HEADER },
  })
}

function foreign(named: Address, disperser: Address): DisperserError {
  return new DisperserError({
    code: 'VOUCHER_FOREIGN',
    message: `the voucher is for the disperser ${named}, this is ${disperser}`,
    fix: 'sign a voucher for this disperser',
    details: { field: 'disperser', named, disperser },
  })
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
