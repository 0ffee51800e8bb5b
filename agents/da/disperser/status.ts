import type { Hash } from '#protocol/hex.ts'
import type { Disperser } from './disperser.ts'
import type { ClaimJob } from './fees/claim-job.ts'
import type { FeeBook } from './fees/fee-book.ts'
import type { FeeDesk } from './fees/fee-desk.ts'
import type { RequestState } from './request-store.ts'

/** How a disperser does, as `/v1/status` tells it. Amounts in wei, as decimal text. */
export interface DisperserStatus {
  /** The account that pays for blobs and is paid by users. */
  readonly disperser: Hash
  /** Blobs by their state. */
  readonly requests: Readonly<Record<RequestState, number>>
  readonly fees: {
    readonly mode: 'required' | 'optional' | 'free'
    /** Users with an account here. */
    readonly payers: number
    /** For blobs under way. */
    readonly reservedWei: string
    /** For final blobs, over all time. */
    readonly chargedWei: string
    /** Of that, claimed as far as the chain has it deep enough. */
    readonly claimedWei: string
    /** What went wrong with the last claim. */
    readonly lastError: string | null
  }
}

/** The state of a disperser now. */
export function disperserStatus(parts: {
  disperser: Disperser
  desk: FeeDesk
  book: FeeBook
  claims: ClaimJob | undefined
  address: Hash
}): DisperserStatus {
  const { disperser, desk, book, claims, address } = parts
  const { payers, reservedWei, chargedWei, claimedWei } = book.totals()
  const wei = { reservedWei: String(reservedWei), chargedWei: String(chargedWei), claimedWei: String(claimedWei) }
  const fees = { mode: desk.mode, payers, ...wei, lastError: claims?.lastError ?? null }
  return { disperser: address, requests: disperser.counts(), fees }
}
