import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import type { Voucher } from '#protocol/compute/voucher.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { MIGRATIONS, type ReceiptRow, type RequestRow } from './book-tables.ts'
import type { RequestTerms } from './receipt-fee.ts'

/** Whose vouchers for whom, on which chain: everything in the book is kept by this. */
export interface BookKey {
  readonly chainId: number
  /** Hash of the chain's first block: a development chain that began anew owes nothing. `0x` where it is not known. */
  readonly genesis: string
  readonly contract: Hex
  readonly user: Hex
  readonly provider: Hex
}

/** What the user's side knows of one account. */
export interface BookAccount {
  /** Fees that checked receipts justify, over the life of the account. */
  readonly billedWei: bigint
  /** The highest amount ever signed. */
  readonly signedWei: bigint
  /** The most that requests under way may add. */
  readonly openWei: bigint
}

/** A request written down before it was sent. */
export interface Reservation {
  readonly id: number
  /** What the voucher of this request says. */
  readonly cumulativeFeeWei: bigint
  /** The highest amount signed before this request. */
  readonly signedBeforeWei: bigint
}

/** What tells one voucher of an account from another. */
export type VoucherTerms = Pick<Voucher, 'cumulativeFeeWei' | 'expiresAtS'>

/** A request that was sent and never got its receipt. */
export interface LostRequest {
  readonly id: number
  readonly requestHash: Hash
  readonly maxFeeWei: bigint
  readonly terms: RequestTerms
  readonly chatId: string | undefined
}

/** A request still open after this belongs to a process that is gone. */
const STALE_MS = 3_600_000

/**
 * The user's books: what was signed, what receipts justify, the receipts themselves, and how providers did. One SQLite
 * file, safe for several processes at a time. The folder is the user's alone: receipts tell what was asked.
 */
export class ComputeBook {
  readonly #db: Database
  readonly #accounts = new Map<string, number>()

  /**
   * Only what is signed must survive a power cut (see {@link reserve}); what else is lost then is found again with the
   * help of the provider's receipts, so it need not wait for the disk.
   */
  private constructor(db: Database) {
    this.#db = db
    db.exec('pragma synchronous = normal')
  }

  static open({ dir }: { dir: string }): ComputeBook {
    if (dir === ':memory:') return new ComputeBook(openDatabase({ path: ':memory:', migrations: MIGRATIONS }))
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    chmodSync(dir, 0o700)
    return new ComputeBook(openDatabase({ path: join(dir, 'vouchers.db'), migrations: MIGRATIONS }))
  }

  /** What is known of an account; zeros where nothing is. */
  account(key: BookKey): BookAccount {
    return this.#read(this.#accountId(key))
  }

  /** Whether this book has ever signed for the account. */
  isFresh(key: BookKey): boolean {
    return this.account(key).signedWei === 0n
  }

  /**
   * Takes over what a book elsewhere must have known: after this the account is billed at least `billedWei`. For a book
   * that has not signed as much itself.
   */
  adopt(key: BookKey, { billedWei, signedWei }: { billedWei: bigint; signedWei: bigint }): void {
    this.#db.transaction(() => {
      const id = this.#accountId(key)
      const known = this.#read(id)
      this.#write(id, { billedWei: max(known.billedWei, billedWei), signedWei: max(known.signedWei, signedWei) })
    })
  }

  /**
   * Writes a request down and says what its voucher is to be: billed + what requests under way may cost + what this one
   * may cost. Durable before it returns, so a crash cannot forget what was signed.
   */
  reserve(
    key: BookKey,
    request: { requestHash: Hash; maxFeeWei: bigint; terms: RequestTerms; nowMs: number },
  ): Reservation {
    const { requestHash, maxFeeWei, nowMs, terms } = request
    const { bodyBytes, maxTokens, inputPriceWei, outputPriceWei } = terms
    const account = this.#accountId(key)
    return this.#durably(() => {
      this.#db.run(
        "update request set state = 'lost' where account = ? and state = 'open' and created_ms < ?",
        ...[account, nowMs - STALE_MS],
      )
      const { billedWei, signedWei, openWei } = this.#read(account)
      const cumulativeFeeWei = billedWei + openWei + maxFeeWei
      this.#write(account, { billedWei, signedWei: max(signedWei, cumulativeFeeWei) })
      const { lastInsertRowid } = this.#db.run(
        `insert into request
           (account, request_hash, max_fee_wei, body_bytes, max_tokens, input_price_wei, output_price_wei, state, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, 'open', ?)`,
        ...[account, requestHash, String(maxFeeWei), bodyBytes, maxTokens],
        ...[String(inputPriceWei), String(outputPriceWei), nowMs],
      )
      return { id: Number(lastInsertRowid), cumulativeFeeWei, signedBeforeWei: signedWei }
    })
  }

  /** The voucher of a request under way, anew: after books were put right. */
  renew(key: BookKey, id: number): bigint {
    return this.#durably(() => {
      const account = this.#accountId(key)
      const { billedWei, signedWei, openWei } = this.#read(account)
      const row = this.#db.get<{ state: string }>('select state from request where id = ?', id)
      const cumulativeFeeWei = row?.state === 'open' ? billedWei + openWei : billedWei
      this.#write(account, { billedWei, signedWei: max(signedWei, cumulativeFeeWei) })
      return cumulativeFeeWei
    })
  }

  /** Remembers a voucher that is about to be sent, until it has expired. */
  noteVoucher(key: BookKey, { cumulativeFeeWei, expiresAtS }: VoucherTerms, nowMs: number): void {
    const account = this.#accountId(key)
    this.#db.transaction(() => {
      this.#db.run('delete from signed_voucher where account = ? and expires_s < ?', account, Math.floor(nowMs / 1_000))
      this.#db.run(
        'insert into signed_voucher (account, cumulative_fee_wei, expires_s) values (?, ?, ?) on conflict do nothing',
        ...[account, String(cumulativeFeeWei), expiresAtS],
      )
    })
  }

  /** Whether these books signed such a voucher that has not expired. */
  hasSigned(key: BookKey, { cumulativeFeeWei, expiresAtS }: VoucherTerms): boolean {
    const found = this.#db.get(
      'select 1 from signed_voucher where account = ? and cumulative_fee_wei = ? and expires_s = ?',
      ...[this.#accountId(key), String(cumulativeFeeWei), expiresAtS],
    )
    return found !== undefined
  }

  /** The provider answered under this id. */
  named(id: number, chatId: string): void {
    this.#db.run('update request set chat_id = ? where id = ?', chatId, id)
  }

  /** A checked receipt names the fee of this request. */
  settle(key: BookKey, { id, feeWei }: { id: number; feeWei: bigint }): void {
    this.#db.transaction(() => {
      const account = this.#accountId(key)
      const { changes } = this.#db.run(
        "update request set state = 'settled', fee_wei = ? where id = ? and state in ('open', 'lost')",
        ...[String(feeWei), id],
      )
      if (Number(changes) === 0) return
      const known = this.#read(account)
      this.#write(account, { ...known, billedWei: known.billedWei + feeWei })
    })
  }

  /** The provider did not serve the request: nothing is owed. */
  fail(id: number): void {
    this.#db.run("update request set state = 'failed' where id = ? and state = 'open'", id)
  }

  /** The answer or its receipt went missing: nothing is justified until the receipt turns up. */
  lose(id: number): void {
    this.#db.run("update request set state = 'lost' where id = ? and state = 'open'", id)
  }

  /** Requests without a receipt, newest first, at most `limit`. */
  lost(key: BookKey, { limit = 64 }: { limit?: number } = {}): LostRequest[] {
    const rows = this.#db.all<RequestRow>(
      "select * from request where account = ? and state = 'lost' order by id desc limit ?",
      ...[this.#accountId(key), limit],
    )
    return rows.map((row) => ({
      id: row.id,
      requestHash: row.request_hash as Hash,
      maxFeeWei: BigInt(row.max_fee_wei),
      terms: {
        ...{ bodyBytes: row.body_bytes, maxTokens: row.max_tokens },
        ...{ inputPriceWei: BigInt(row.input_price_wei), outputPriceWei: BigInt(row.output_price_wei) },
      },
      chatId: row.chat_id ?? undefined,
    }))
  }

  /** Keeps a receipt. False where the provider has used its nonce before: such a receipt justifies nothing. */
  keepReceipt(key: BookKey, receipt: NewReceipt): boolean {
    const { chatId, digest, nonce, signer, model, verified, checks, json, feeWei, nowMs } = receipt
    const { changes } = this.#db.run(
      `insert or ignore into receipt
         (account, chat_id, digest, nonce, signer, model, verified, checks, json, fee_wei, created_ms)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[this.#accountId(key), chatId, digest, String(nonce), signer, model, verified ? 1 : 0],
      ...[JSON.stringify(checks), JSON.stringify(json), String(feeWei), nowMs],
    )
    return Number(changes) === 1
  }

  /** The receipt with this digest or of this chat. */
  receipt(idOrDigest: string): StoredReceipt | undefined {
    const [row] = this.#receipts('where receipt.digest = ? or receipt.chat_id = ? order by receipt.id desc limit 1', [
      idOrDigest,
      idOrDigest.replace(/^chatcmpl-/, ''),
    ])
    return row
  }

  /** The newest receipts, at most `limit`. */
  receipts({ limit }: { limit: number }): StoredReceipt[] {
    return this.#receipts('order by receipt.id desc limit ?', [limit])
  }

  /** How providers have done so far. */
  performance(provider: Hex): ProviderPerformance | undefined {
    const row = this.#db.get<{
      first_token_ms: number | null
      tokens_per_second: number | null
      successes: number
      failures: number
      last_failure_ms: number | null
    }>('select * from performance where provider = ?', provider)
    if (row === undefined) return undefined
    return {
      firstTokenMs: row.first_token_ms ?? undefined,
      tokensPerSecond: row.tokens_per_second ?? undefined,
      successes: row.successes,
      failures: row.failures,
      lastFailureMs: row.last_failure_ms ?? undefined,
    }
  }

  /** Notes how one request went. Times are averaged with a weight of 0.3 for the newest. */
  notePerformance(provider: Hex, note: PerformanceNote): void {
    const { ok, firstTokenMs, tokensPerSecond, nowMs } = note
    this.#db.run(
      `insert into performance (provider, first_token_ms, tokens_per_second, successes, failures, last_failure_ms)
       values (?1, ?2, ?3, ?4, ?5, ?6)
       on conflict (provider) do update set
         first_token_ms = case when ?2 is null then first_token_ms else coalesce(0.7 * first_token_ms, 0.7 * ?2) + 0.3 * ?2 end,
         tokens_per_second = case when ?3 is null then tokens_per_second else coalesce(0.7 * tokens_per_second, 0.7 * ?3) + 0.3 * ?3 end,
         successes = successes + ?4, failures = failures + ?5, last_failure_ms = coalesce(?6, last_failure_ms)`,
      ...[provider, firstTokenMs ?? null, tokensPerSecond ?? null, ok ? 1 : 0, ok ? 0 : 1, ok ? null : nowMs],
    )
  }

  close(): void {
    this.#db.close()
  }

  /** A transaction that is on the disk when this returns. */
  #durably<T>(work: () => T): T {
    this.#db.exec('pragma synchronous = full')
    try {
      return this.#db.transaction(work)
    } finally {
      this.#db.exec('pragma synchronous = normal')
    }
  }

  #accountId({ chainId, genesis, contract, user, provider }: BookKey): number {
    const values = [chainId, genesis, ...[contract, user, provider].map((address) => address.toLowerCase())]
    const name = values.join()
    const known = this.#accounts.get(name)
    if (known !== undefined) return known
    const columns = '(chain_id, genesis, contract, user, provider)'
    this.#db.run(`insert into account ${columns} values (?, ?, ?, ?, ?) on conflict ${columns} do nothing`, ...values)
    const where = 'chain_id = ? and genesis = ? and contract = ? and user = ? and provider = ?'
    const id = this.#db.get<{ id: number }>(`select id from account where ${where}`, ...values)?.id ?? 0
    this.#accounts.set(name, id)
    return id
  }

  #read(id: number): BookAccount {
    const row = this.#db.get<{ billed_wei: string; signed_wei: string }>('select * from account where id = ?', id)
    const open = this.#db.all<{ max_fee_wei: string }>(
      "select max_fee_wei from request where account = ? and state = 'open'",
      id,
    )
    return {
      billedWei: BigInt(row?.billed_wei ?? 0),
      signedWei: BigInt(row?.signed_wei ?? 0),
      openWei: open.reduce((sum, { max_fee_wei }) => sum + BigInt(max_fee_wei), 0n),
    }
  }

  #write(id: number, { billedWei, signedWei }: { billedWei: bigint; signedWei: bigint }): void {
    this.#db.run(
      'update account set billed_wei = ?, signed_wei = ? where id = ?',
      ...[String(billedWei), String(signedWei), id],
    )
  }

  #receipts(tail: string, values: (string | number)[]): StoredReceipt[] {
    return this.#db
      .all<ReceiptRow>(
        `select receipt.*, account.chain_id, account.genesis, account.contract, account.user, account.provider
         from receipt join account on account.id = receipt.account ${tail}`,
        ...values,
      )
      .map((row) => ({
        ...{
          chainId: row.chain_id,
          genesis: row.genesis,
          contract: row.contract as Hex,
          user: row.user as Hex,
          provider: row.provider as Hex,
        },
        ...{ chatId: row.chat_id, digest: row.digest as Hash, signer: row.signer as Hex, model: row.model },
        ...{ verified: row.verified === 1, feeWei: BigInt(row.fee_wei), receivedMs: row.created_ms },
        checks: JSON.parse(row.checks) as Check[],
        json: JSON.parse(row.json) as unknown,
      }))
  }
}

/** One thing that was looked at when an answer was verified. */
export interface Check {
  readonly name: string
  readonly ok: boolean
  /** What was found, for people. */
  readonly detail: string
}

export interface NewReceipt {
  chatId: string
  digest: Hash
  nonce: bigint
  signer: Hex
  model: string
  verified: boolean
  checks: readonly Check[]
  /** As the provider sent it. */
  json: unknown
  feeWei: bigint
  nowMs: number
}

/** A receipt out of the book. */
export interface StoredReceipt extends BookKey {
  readonly chatId: string
  readonly digest: Hash
  readonly signer: Hex
  readonly model: string
  /** Whether everything checked out when it came. */
  readonly verified: boolean
  readonly checks: readonly Check[]
  readonly json: unknown
  readonly feeWei: bigint
  readonly receivedMs: number
}

export interface ProviderPerformance {
  readonly firstTokenMs: number | undefined
  readonly tokensPerSecond: number | undefined
  readonly successes: number
  readonly failures: number
  readonly lastFailureMs: number | undefined
}

export interface PerformanceNote {
  ok: boolean
  firstTokenMs?: number | undefined
  tokensPerSecond?: number | undefined
  nowMs: number
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
