import type { Database } from '#kit/sqlite.ts'
import type { SignedDispersalVoucher } from '#protocol/da/dispersal-voucher.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

/** `reserved` while its blob is worked on, then `charged` when that is final or `released` when it failed. */
export type ChargeState = 'reserved' | 'charged' | 'released'

/** What one blob costs one user. */
export interface Charge {
  readonly id: number
  readonly contentHash: Hash
  /** Lower case. */
  readonly user: Hex
  readonly feeWei: bigint
  readonly state: ChargeState
}

/** How a user stands with this disperser, wei. */
export interface Standing {
  /** In all, over the life of the account; never less than was claimed. */
  readonly chargedWei: bigint
  /** For blobs that are neither final nor failed. */
  readonly reservedWei: bigint
  /** The voucher with the largest amount. */
  readonly held: SignedDispersalVoucher | undefined
}

/** A user from whom something can be claimed. */
export interface DuePayer {
  readonly user: Hex
  readonly chargedWei: bigint
  readonly held: SignedDispersalVoucher
  /** Since when. */
  readonly dueSinceMs: number
}

/** Sums over all users, wei. */
export interface FeeTotals {
  readonly payers: number
  readonly reservedWei: bigint
  readonly chargedWei: bigint
  readonly claimedWei: bigint
}

interface ChargeRow {
  id: number
  contentHash: Hash
  user: Hex
  feeWei: string
  state: ChargeState
}

interface PayerRow {
  user: Hex
  chargedWei: string
  claimedWei: string
  cumulativeWei: string
  expiresAtS: number
  signature: Hex | ''
  dueSinceMs: number | null
}

/**
 * What users owe, in the database of the requests. Nothing here waits, so that callers can write a charge together with
 * the request it is for. What was claimed is the contract's to say; here is only what was last seen there.
 */
export class FeeBook {
  readonly #database: Database
  readonly #disperser: Hex

  /** @param disperser the account that vouchers are made out to, lower case */
  constructor({ database, disperser }: { database: Database; disperser: Hex }) {
    this.#database = database
    this.#disperser = disperser
  }

  /** How a user stands. `claimedWei` is the chain's word: a book that was lost begins there. */
  standing(user: Hex, claimedWei: bigint): Standing {
    const row = this.#payer(user)
    const reserved = this.#database
      .all<{ feeWei: string }>(`select feeWei from charges where user = ? and state = 'reserved'`, user)
      .reduce((sum, { feeWei }) => sum + BigInt(feeWei), 0n)
    return {
      chargedWei: greatest(BigInt(row?.chargedWei ?? '0'), claimedWei),
      reservedWei: reserved,
      held: row === undefined ? undefined : this.#voucherOf(row),
    }
  }

  /** The charge that an equal blob is under already, if that is not released. `liveUntil` tells when it was final. */
  chargeOf(contentHash: Hash): { charge: Charge; expiryEpoch: number | undefined } | undefined {
    const row = this.#database.get<ChargeRow>(
      `select * from charges where contentHash = ? and state in ('reserved', 'charged') order by id desc limit 1`,
      contentHash,
    )
    if (row === undefined) return undefined
    const { expiryEpoch } = this.#database.get<{ expiryEpoch: number | null }>(
      'select max(expiryEpoch) as expiryEpoch from requests where charge = ?',
      row.id,
    ) ?? { expiryEpoch: null }
    return { charge: asCharge(row), expiryEpoch: expiryEpoch ?? undefined }
  }

  charge(id: number): Charge | undefined {
    const row = this.#database.get<ChargeRow>('select * from charges where id = ?', id)
    return row === undefined ? undefined : asCharge(row)
  }

  /** Sets a fee aside. Raises what was charged to what the chain says was claimed. */
  reserve(parameters: { contentHash: Hash; user: Hex; feeWei: bigint; claimedWei: bigint; nowMs: number }): number {
    const { contentHash, user, feeWei, claimedWei, nowMs } = parameters
    return this.#database.transaction(() => {
      this.#ensure(user)
      this.#raise(user, claimedWei)
      const { lastInsertRowid } = this.#database.run(
        `insert into charges (contentHash, user, feeWei, state, openedAtMs) values (?, ?, ?, 'reserved', ?)`,
        ...[contentHash, user, String(feeWei), nowMs],
      )
      return Number(lastInsertRowid)
    })
  }

  /** Keeps a verified voucher if it is worth more than the one held, or as much for longer. */
  keep({ voucher, signature }: SignedDispersalVoucher): void {
    const { user, cumulativeFeeWei, expiresAtS } = voucher
    this.#ensure(user)
    const held = this.standing(user, 0n).held?.voucher
    const isBetter =
      held === undefined ||
      cumulativeFeeWei > held.cumulativeFeeWei ||
      (cumulativeFeeWei === held.cumulativeFeeWei && expiresAtS > held.expiresAtS)
    if (!isBetter) return
    this.#database.run(
      'update payers set cumulativeWei = ?, expiresAtS = ?, signature = ? where user = ?',
      ...[String(cumulativeFeeWei), expiresAtS, signature, user],
    )
  }

  /** The blob is final: what was set aside is owed. Once, however often it is called. */
  settle(id: number, nowMs: number): Charge | undefined {
    return this.#close(id, 'charged', nowMs, ({ user, feeWei }) => {
      const chargedWei = BigInt(this.#payer(user)?.chargedWei ?? '0') + feeWei
      this.#database.run(
        'update payers set chargedWei = ?, dueSinceMs = coalesce(dueSinceMs, ?) where user = ?',
        ...[String(chargedWei), nowMs, user],
      )
    })
  }

  /** A request failed: nothing is owed, unless an equal blob under the same charge is still worked on or confirmed. */
  release(id: number, nowMs: number): Charge | undefined {
    const others = this.#database.get(`select 1 from requests where charge = ? and state <> 'failed' limit 1`, id)
    if (others !== undefined) return undefined
    return this.#close(id, 'released', nowMs, () => {})
  }

  /** Users of whom not all that is charged was seen as claimed, those waiting longest first. */
  due(limit: number): DuePayer[] {
    const rows = this.#database.all<PayerRow>(
      `select * from payers where dueSinceMs is not null and signature <> '' order by dueSinceMs limit ?`,
      limit,
    )
    return rows.flatMap((row) => {
      const held = this.#voucherOf(row)
      if (held === undefined || row.dueSinceMs === null) return []
      return [{ user: row.user, chargedWei: BigInt(row.chargedWei), held, dueSinceMs: row.dueSinceMs }]
    })
  }

  /** The chain says, deep enough, that so much was claimed. */
  claimed(user: Hex, claimedWei: bigint): void {
    this.#database.transaction(() => {
      this.#raise(user, claimedWei)
      const row = this.#payer(user)
      if (row === undefined) return
      const isPaid = claimedWei >= BigInt(row.chargedWei)
      this.#database.run(
        `update payers set claimedWei = ?${isPaid ? ', dueSinceMs = null' : ''} where user = ?`,
        ...[String(claimedWei), user],
      )
    })
  }

  totals(): FeeTotals {
    const payers = this.#database.all<PayerRow>('select chargedWei, claimedWei from payers')
    const reserved = this.#database.all<{ feeWei: string }>(`select feeWei from charges where state = 'reserved'`)
    return {
      payers: payers.length,
      reservedWei: reserved.reduce((sum, { feeWei }) => sum + BigInt(feeWei), 0n),
      chargedWei: payers.reduce((sum, { chargedWei }) => sum + BigInt(chargedWei), 0n),
      claimedWei: payers.reduce((sum, { claimedWei }) => sum + BigInt(claimedWei), 0n),
    }
  }

  #close(id: number, state: ChargeState, nowMs: number, then: (charge: Charge) => void): Charge | undefined {
    return this.#database.transaction(() => {
      const { changes } = this.#database.run(
        `update charges set state = ?, closedAtMs = ? where id = ? and state = 'reserved'`,
        ...[state, nowMs, id],
      )
      const charge = Number(changes) === 0 ? undefined : this.charge(id)
      if (charge !== undefined) then(charge)
      return charge
    })
  }

  #payer(user: Hex): PayerRow | undefined {
    return this.#database.get<PayerRow>('select * from payers where user = ?', user)
  }

  #ensure(user: Hex): void {
    this.#database.run('insert or ignore into payers (user) values (?)', user)
  }

  /** What was claimed was charged, whatever this book remembers. */
  #raise(user: Hex, claimedWei: bigint): void {
    if (claimedWei <= BigInt(this.#payer(user)?.chargedWei ?? '0')) return
    this.#database.run('update payers set chargedWei = ? where user = ?', String(claimedWei), user)
  }

  #voucherOf({ user, cumulativeWei, expiresAtS, signature }: PayerRow): SignedDispersalVoucher | undefined {
    if (signature === '') return undefined
    const voucher = { user, disperser: this.#disperser, cumulativeFeeWei: BigInt(cumulativeWei), expiresAtS }
    return { voucher, signature }
  }
}

function asCharge({ id, contentHash, user, feeWei, state }: ChargeRow): Charge {
  return { id, contentHash, user, feeWei: BigInt(feeWei), state }
}

function greatest(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
