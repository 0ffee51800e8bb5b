import { type TokenPrices, type TokenUsage, usageFee } from '#protocol/compute/fees.ts'
import type { Hex } from '#protocol/hex.ts'
import type { ProviderStore } from '../store/provider-store.ts'
import { least } from './amounts.ts'

/** How a charge is settled: by the signer's word, by the user's voucher, or not at all (users served for free). */
export type PaymentMode = 'token' | 'voucher' | 'free'

/** What one user owes, in wei. */
export interface Standing {
  /** Billed and not settled. */
  readonly unsettledWei: bigint
  /** Set aside for requests in flight. */
  readonly reservedWei: bigint
}

export interface OpenChargeParameters {
  /** The chat's id: lower-case UUID. */
  id: string
  /** Lower case. */
  user: Hex
  mode: PaymentMode
  kind: 'chat' | 'completion' | 'embedding'
  prices: TokenPrices
  /** No more than this is ever billed. */
  reservedWei: bigint
}

export interface CashierParameters {
  store: ProviderStore
  now: () => number
  /** Progress is stored this often while tokens flow. A killed provider forgets at most so much. Default 10 ms. */
  progressIntervalMs?: number | undefined
  /** Let no token leave before its charge would survive a power cut, too. Costs a disk write per request. Default false. */
  waitForDisk?: boolean | undefined
  /** Told when the disk refuses. */
  onSyncError?: ((error: unknown) => void) | undefined
  /** Told of each fee, inside the transaction that writes it. */
  onBilled?: ((charge: { user: Hex; mode: PaymentMode; feeWei: bigint }) => void) | undefined
  /** Cached prompt tokens cost the input price over this. Default 1. */
  cacheDivisor?: number | undefined
}

interface ChargeRow {
  seq: number
  user: Hex
  mode: PaymentMode
  input_price_wei: string
  output_price_wei: string
  reserved_wei: string
  prompt_tokens: number
  cached_tokens: number
  completion_tokens: number
}

/** Milliseconds from writing a charge to the disk's being told, where nobody waits for it. */
const SYNC_MS = 5
const NOTHING: Standing = { unsettledWei: 0n, reservedWei: 0n }

/**
 * The provider's till: every charge is a row before its first token leaves, its progress is stored while it runs, and
 * what a user owes is always the sum of rows. Reserving and billing are synchronous, so requests cannot race each other.
 *
 * What must be stored when: reserving is in memory alone, as a reservation means nothing to the next process; the row
 * must be there before the first byte of an answer leaves, else a killed provider could not bill what was delivered.
 * Between the two the engine is at work already: the row is written in that time, see {@link Cashier.durable}.
 */
export class Cashier {
  readonly #store: ProviderStore
  readonly #now: () => number
  readonly #cacheDivisor: number
  readonly #onBilled: NonNullable<CashierParameters['onBilled']>
  readonly #intervalMs: number
  readonly #waitForDisk: boolean
  readonly #onSyncError: (error: unknown) => void
  readonly #standings = new Map<string, { unsettledWei: bigint; reservedWei: bigint }>()
  readonly #dirty = new Set<Charge>()
  readonly #open = new Set<Charge>()
  /** Opened, and not a row yet. */
  readonly #unwritten = new Set<Charge>()
  #writing: Promise<void> | undefined
  #billedWei: bigint
  #timer: NodeJS.Timeout | undefined
  #syncTimer: NodeJS.Timeout | undefined
  #lastFlush = 0

  constructor(parameters: CashierParameters) {
    const {
      store,
      now,
      progressIntervalMs = 10,
      cacheDivisor = 1,
      onBilled,
      waitForDisk = false,
      onSyncError,
    } = parameters
    this.#waitForDisk = waitForDisk
    this.#onSyncError = onSyncError ?? (() => {})
    this.#store = store
    this.#now = now
    this.#intervalMs = progressIntervalMs
    this.#cacheDivisor = cacheDivisor
    this.#onBilled = onBilled ?? (() => {})
    this.#billedWei = readTotals(store).billedWei
    for (const { user, mode, fee_wei: fee } of store.database.all<{ user: Hex; mode: PaymentMode; fee_wei: string }>(
      `select user, mode, fee_wei from charge where state in ('closed', 'settling')`,
    )) {
      this.#edit(user, mode).unsettledWei += BigInt(fee)
    }
  }

  /** Requests in flight. */
  get openCount(): number {
    return this.#open.size
  }

  /** What a user owes in one mode. */
  standing(user: Hex, mode: PaymentMode): Standing {
    return this.#standings.get(`${mode}:${user}`) ?? NOTHING
  }

  /** What a user owes in both modes. */
  total(user: Hex): Standing {
    const token = this.standing(user, 'token')
    const voucher = this.standing(user, 'voucher')
    return {
      unsettledWei: token.unsettledWei + voucher.unsettledWei,
      reservedWei: token.reservedWei + voucher.reservedWei,
    }
  }

  /** Bills what requests had delivered when the provider last ended. Call once, before anything is served. */
  recover(): { charges: number; billedWei: bigint } {
    const { database } = this.#store
    const rows = database.all<ChargeRow>(`select * from charge where state = 'open'`)
    let billedWei = 0n
    database.transaction(() => {
      for (const row of rows) {
        const usage = {
          promptTokens: row.prompt_tokens,
          cachedTokens: row.cached_tokens,
          completionTokens: row.completion_tokens,
        }
        const feeWei = this.#fee({
          prices: { inputPriceWei: BigInt(row.input_price_wei), outputPriceWei: BigInt(row.output_price_wei) },
          usage,
          mode: row.mode,
          reservedWei: BigInt(row.reserved_wei),
        })
        const { seq, user, mode } = row
        this.#bill({ seq, user, mode, usage }, feeWei, 'interrupted', '')
        billedWei += feeWei
      }
    })
    return { charges: rows.length, billedWei }
  }

  /** Sets the most of a charge aside. The caller has made sure that the user can pay it, in this same tick. */
  open(parameters: OpenChargeParameters): Charge {
    const { user, mode, reservedWei } = parameters
    const charge = new Charge({ parameters, openedMs: this.#now(), cashier: this })
    this.#edit(user, mode).reservedWei += reservedWei
    this.#open.add(charge)
    this.#unwritten.add(charge)
    return charge
  }

  /**
   * Resolves when the first token of what was opened may leave: when its row is written, in one transaction for all that
   * was opened in this turn of the event loop, at the turn's end. Until then the engine can be asked. A row survives the
   * end of this process at once. Where the cashier was told to wait for the disk, this does; else the way to the disk
   * begins a few milliseconds later, out of the first token's way and once for all that was written by then.
   *
   * @throws what the database throws
   */
  durable(): Promise<void> {
    this.#writing ??= new Promise<void>((resolve, reject) => {
      setImmediate(() => {
        this.#writing = undefined
        try {
          this.#write()
          if (this.#waitForDisk) return resolve(this.#store.sync())
          this.#syncSoon()
          resolve()
        } catch (error) {
          reject(error)
        }
      })
    })
    return this.#writing
  }

  #syncSoon(): void {
    this.#syncTimer ??= setTimeout(() => {
      this.#syncTimer = undefined
      this.#store.sync().catch((error: unknown) => this.#onSyncError(error))
    }, SYNC_MS)
  }

  /** @internal Called by {@link Charge}: store how far it is, soon. */
  touched(charge: Charge): void {
    this.#dirty.add(charge)
    if (this.#timer !== undefined) return
    const sinceMs = performance.now() - this.#lastFlush
    this.#timer = setTimeout(() => this.flush(), Math.max(0, this.#intervalMs - sinceMs))
  }

  /** Stores the progress of every running charge now. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#lastFlush = performance.now()
    if (this.#dirty.size === 0) return
    const { database } = this.#store
    this.#write(() => {
      for (const { seq, usage } of this.#dirty) {
        database.run(
          'update charge set prompt_tokens = ?, cached_tokens = ?, completion_tokens = ? where seq = ?',
          ...[usage.promptTokens, usage.cachedTokens ?? 0, usage.completionTokens, seq],
        )
      }
    })
    this.#dirty.clear()
  }

  /** @internal Called by {@link Charge}. */
  close(charge: Charge, finish: string, requestHash: string): bigint {
    const { usage } = charge
    const { user, mode, prices, reservedWei } = charge.parameters
    const feeWei = this.#fee({ prices, usage, mode, reservedWei })
    this.#dirty.delete(charge)
    this.#open.delete(charge)
    try {
      this.#write(() => this.#bill({ seq: charge.seq, user, mode, usage }, feeWei, finish, requestHash))
    } catch (error) {
      // What never was a row was never delivered. Of a row, the next start bills what was stored of it.
      if (this.#unwritten.delete(charge)) this.#release(user, mode, reservedWei)
      throw error
    }
    this.#release(user, mode, reservedWei)
    this.#syncSoon()
    return feeWei
  }

  /** @internal What a user owes has fallen: it was settled or lost. */
  cleared(user: Hex, mode: PaymentMode, wei: bigint): void {
    this.#edit(user, mode).unsettledWei -= wei
    this.#drop(user, mode)
  }

  /** Stops the timers; stores what is left. */
  stop(): void {
    clearTimeout(this.#syncTimer)
    this.#syncTimer = undefined
    this.flush()
  }

  /** One transaction: makes rows of what was opened, then does `work`. Where it fails, both are as before. */
  #write(work?: () => void): void {
    const { database } = this.#store
    const fresh = [...this.#unwritten]
    database.transaction(() => {
      for (const charge of fresh) {
        const { id, user, mode, kind, prices, reservedWei } = charge.parameters
        const { lastInsertRowid } = database.run(
          `insert into charge (id, user, mode, kind, state, input_price_wei, output_price_wei, reserved_wei, opened_ms)
           values (?, ?, ?, ?, 'open', ?, ?, ?, ?)`,
          ...[id, user, mode, kind, String(prices.inputPriceWei), String(prices.outputPriceWei), String(reservedWei)],
          charge.openedMs,
        )
        charge.seq = Number(lastInsertRowid)
      }
      work?.()
    })
    for (const charge of fresh) this.#unwritten.delete(charge)
  }

  #release(user: Hex, mode: PaymentMode, wei: bigint): void {
    this.#edit(user, mode).reservedWei -= wei
    this.#drop(user, mode)
  }

  /** Nothing delivered costs nothing. No charge passes what was set aside for it. */
  #fee(parameters: { prices: TokenPrices; usage: TokenUsage; mode: PaymentMode; reservedWei: bigint }): bigint {
    const { prices, usage, mode, reservedWei } = parameters
    if (mode === 'free') return 0n
    const feeWei = usageFee({ ...usage, ...prices, cacheDivisor: this.#cacheDivisor })
    return least(feeWei, reservedWei)
  }

  #bill(
    { seq, user, mode, usage }: { seq: number; user: Hex; mode: PaymentMode; usage: TokenUsage },
    feeWei: bigint,
    finish: string,
    requestHash: string,
  ): void {
    const state = feeWei === 0n ? 'settled' : 'closed'
    this.#store.database.run(
      `update charge set state = ?, fee_wei = ?, finish = ?, request_hash = ?, closed_ms = ?, prompt_tokens = ?,
         cached_tokens = ?, completion_tokens = ? where seq = ?`,
      ...[state, String(feeWei), finish, requestHash, this.#now()],
      ...[usage.promptTokens, usage.cachedTokens ?? 0, usage.completionTokens, seq],
    )
    if (feeWei === 0n) return
    // Only this class adds to this total, so its own count is the table's.
    this.#billedWei += feeWei
    this.#store.database.run(`update total set wei = ? where name = 'billed'`, String(this.#billedWei))
    this.#onBilled({ user, mode, feeWei })
    this.#edit(user, mode).unsettledWei += feeWei
  }

  #edit(user: Hex, mode: PaymentMode) {
    const key = `${mode}:${user}`
    const known = this.#standings.get(key)
    if (known !== undefined) return known
    const fresh = { unsettledWei: 0n, reservedWei: 0n }
    this.#standings.set(key, fresh)
    return fresh
  }

  /** Users who owe nothing take no memory. */
  #drop(user: Hex, mode: PaymentMode): void {
    const key = `${mode}:${user}`
    const standing = this.#standings.get(key)
    if (standing?.unsettledWei === 0n && standing.reservedWei === 0n) this.#standings.delete(key)
  }
}

/** One request's charge while it runs. */
export class Charge {
  /** @internal Its row; 0 before it has one. */
  seq = 0
  /** @internal */
  readonly openedMs: number
  readonly parameters: OpenChargeParameters
  readonly #cashier: Cashier
  #usage: TokenUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 }
  #feeWei: bigint | undefined

  constructor({
    parameters,
    openedMs,
    cashier,
  }: { parameters: OpenChargeParameters; openedMs: number; cashier: Cashier }) {
    this.openedMs = openedMs
    this.parameters = parameters
    this.#cashier = cashier
  }

  /** What was delivered so far. */
  get usage(): TokenUsage {
    return this.#usage
  }

  /** What it came to, once closed. */
  get feeWei(): bigint | undefined {
    return this.#feeWei
  }

  /** Tells what has been delivered by now. Stored within the cashier's interval. */
  delivered(usage: TokenUsage): void {
    if (this.#feeWei !== undefined) return
    this.#usage = usage
    this.#cashier.touched(this)
  }

  /** Bills what was delivered and gives back the rest of what was set aside. Later calls change nothing. */
  close(parameters: {
    usage?: TokenUsage | undefined
    /** Why it ended; not shown to anyone but the operator. */
    finish: string
    /** keccak-256 of the request's body, for the settlement's commitment. */
    requestHash?: string | undefined
  }): bigint {
    const { usage = this.#usage, finish, requestHash = '' } = parameters
    if (this.#feeWei === undefined) {
      this.#usage = usage
      this.#feeWei = this.#cashier.close(this, finish, requestHash)
    }
    return this.#feeWei
  }
}

/** Adds to one of the running totals (`billed`, `earned`, `lost`, `gas`). */
export function addTotal(store: ProviderStore, name: string, wei: bigint): void {
  if (wei === 0n) return
  const { database } = store
  const before = BigInt(database.get<{ wei: string }>('select wei from total where name = ?', name)?.wei ?? '0')
  database.run('update total set wei = ? where name = ?', String(before + wei), name)
}

/** The running totals, in wei. */
export function readTotals(store: ProviderStore): {
  billedWei: bigint
  earnedWei: bigint
  lostWei: bigint
  gasWei: bigint
} {
  const rows = store.database.all<{ name: string; wei: string }>('select name, wei from total')
  const of = (name: string) => BigInt(rows.find((row) => row.name === name)?.wei ?? '0')
  return { billedWei: of('billed'), earnedWei: of('earned'), lostWei: of('lost'), gasWei: of('gas') }
}
