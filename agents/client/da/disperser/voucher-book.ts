import { chmodSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

/** Whose vouchers for whom, on which chain: everything in the book is kept by this. */
export interface VoucherKey {
  readonly chainId: number
  /** Hash of the chain's first block: a development chain that began anew owes nothing. */
  readonly genesis: Hash
  /** DispersalAccounts. */
  readonly contract: Hex
  readonly user: Hex
  readonly disperser: Hex
}

/** What the user's side knows of one account, wei. */
export interface VoucherAccount {
  /** For blobs that were confirmed, over the life of the account; never less than the chain says was claimed. */
  readonly billedWei: bigint
  /** For blobs under way. */
  readonly openWei: bigint
  /** The highest amount ever signed. */
  readonly signedWei: bigint
}

/** A blob that was signed for and whose outcome is not known yet. */
export interface OpenBlob {
  readonly id: number
  readonly dataRoot: Hash
  readonly feeWei: bigint
  /** By which the disperser knows it; undefined when its answer never came. */
  readonly requestId: string | undefined
  /** After this the disperser can claim nothing for it. */
  readonly expiresAtS: number
}

const MIGRATIONS = [
  `create table account (
     id integer primary key,
     chainId integer not null, genesis text not null, contract text not null, user text not null, disperser text not null,
     billedWei text not null default '0', signedWei text not null default '0',
     unique (chainId, genesis, contract, user, disperser)
   ) strict;
   create table blob (
     id integer primary key,
     account integer not null references account (id),
     dataRoot text not null,
     feeWei text not null,
     state text not null,
     requestId text,
     charge integer,
     expiresAtS integer not null
   ) strict;
   create index blobByAccount on blob (account, state);
   create unique index blobByCharge on blob (account, dataRoot, charge);`,
]

interface BlobRow {
  id: number
  dataRoot: Hash
  feeWei: string
  requestId: string | null
  expiresAtS: number
}

/**
 * The user's book of vouchers: one SQLite file, safe for several processes at a time, and durable before anything that
 * is in it is signed: after a crash nobody signs twice for the same blob, or forgets what was signed.
 */
export class VoucherBook {
  readonly #db: Database

  private constructor(db: Database) {
    this.#db = db
  }

  /** @param dir folder of the file, made for the user alone; `:memory:` for a passing book */
  static open({ dir = defaultBookDir() }: { dir?: string | undefined } = {}): VoucherBook {
    if (dir === ':memory:') return new VoucherBook(openDatabase({ path: dir, migrations: MIGRATIONS }))
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    chmodSync(dir, 0o700)
    return new VoucherBook(openDatabase({ path: join(dir, 'vouchers.db'), migrations: MIGRATIONS }))
  }

  /** What is known of an account; zeros where nothing is. */
  account(key: VoucherKey): VoucherAccount {
    return this.#read(this.#accountId(key))
  }

  /**
   * Writes down that a blob will be signed for, and says over how much in all: what was billed, what is under way, and
   * this; and more than any voucher before, as each is good for one blob. The same blob, under way already, is not
   * counted twice.
   */
  reserve(
    key: VoucherKey,
    { dataRoot, feeWei, expiresAtS }: { dataRoot: Hash; feeWei: bigint; expiresAtS: number },
  ): { id: number; isNew: boolean; cumulativeFeeWei: bigint; signedBeforeWei: bigint } {
    return this.#db.transaction(() => {
      const account = this.#accountId(key)
      const { signedWei: signedBeforeWei } = this.#read(account)
      const known = this.#db.get<{ id: number }>(
        `select id from blob where account = ? and dataRoot = ? and state = 'open'`,
        ...[account, dataRoot],
      )
      const id = known?.id ?? this.#insert(account, dataRoot)
      const fields = [String(feeWei), expiresAtS, id] as const
      this.#db.run('update blob set feeWei = ?, expiresAtS = max(expiresAtS, ?) where id = ?', ...fields)
      return { id, isNew: known === undefined, cumulativeFeeWei: this.#sign(account), signedBeforeWei }
    })
  }

  /** The voucher of a blob under way, anew: after the book was put right. */
  renew(key: VoucherKey): bigint {
    return this.#db.transaction(() => this.#sign(this.#accountId(key)))
  }

  /** So much was claimed by the disperser, says the chain; or charged, says a voucher signed elsewhere. */
  raise(key: VoucherKey, { billedWei, signedWei = 0n }: { billedWei: bigint; signedWei?: bigint }): void {
    this.#db.transaction(() => {
      const account = this.#accountId(key)
      const known = this.#read(account)
      this.#write(account, greatest(known.billedWei, billedWei), greatest(known.signedWei, signedWei))
    })
  }

  /** The disperser took the blob under this id. */
  named(id: number, requestId: string): void {
    this.#db.run('update blob set requestId = ? where id = ?', requestId, id)
  }

  /**
   * The blob is confirmed: what it was charged is owed. Once, and once for equal blobs, which are one charge of the
   * disperser. Returns what is owed for this one.
   */
  bill(key: VoucherKey, { id, feeWei, charge }: { id: number; feeWei: bigint; charge: number | undefined }): bigint {
    return this.#db.transaction(() => {
      if (!this.#close(id, 'billed') || charge === undefined) return 0n
      const account = this.#accountId(key)
      const { changes } = this.#db.run(
        `update blob set charge = ?1 where id = ?2 and not exists
           (select 1 from blob as equal where equal.account = ?3 and equal.dataRoot = blob.dataRoot and equal.charge = ?1)`,
        ...[charge, id, account],
      )
      if (Number(changes) === 0) return 0n
      const known = this.#read(account)
      this.#write(account, known.billedWei + feeWei, known.signedWei)
      return feeWei
    })
  }

  /** The blob was not taken, or failed: nothing is owed. */
  fail(id: number): void {
    this.#close(id, 'failed')
  }

  /** Blobs whose outcome is not known, oldest first. */
  open(key: VoucherKey, limit: number): OpenBlob[] {
    return this.#db
      .all<BlobRow>(
        `select id, dataRoot, feeWei, requestId, expiresAtS from blob where account = ? and state = 'open'
         order by id limit ?`,
        ...[this.#accountId(key), limit],
      )
      .map(({ feeWei, requestId, ...row }) => ({
        ...row,
        feeWei: BigInt(feeWei),
        requestId: requestId ?? undefined,
      }))
  }

  close(): void {
    this.#db.close()
  }

  #sign(account: number): bigint {
    const { billedWei, openWei, signedWei } = this.#read(account)
    const cumulativeFeeWei = greatest(billedWei + openWei, signedWei + 1n)
    this.#write(account, billedWei, cumulativeFeeWei)
    return cumulativeFeeWei
  }

  #insert(account: number, dataRoot: Hash): number {
    const sql = `insert into blob (account, dataRoot, feeWei, state, expiresAtS) values (?, ?, '0', 'open', 0)`
    return Number(this.#db.run(sql, account, dataRoot).lastInsertRowid)
  }

  #close(id: number, state: 'billed' | 'failed'): boolean {
    const { changes } = this.#db.run(`update blob set state = ? where id = ? and state = 'open'`, state, id)
    return Number(changes) === 1
  }

  #read(account: number): VoucherAccount {
    const row = this.#db.get<{ billedWei: string; signedWei: string }>('select * from account where id = ?', account)
    const open = this.#db
      .all<{ feeWei: string }>(`select feeWei from blob where account = ? and state = 'open'`, account)
      .reduce((sum, { feeWei }) => sum + BigInt(feeWei), 0n)
    return { billedWei: BigInt(row?.billedWei ?? '0'), signedWei: BigInt(row?.signedWei ?? '0'), openWei: open }
  }

  #write(account: number, billedWei: bigint, signedWei: bigint): void {
    const values = [String(billedWei), String(signedWei), account] as const
    this.#db.run('update account set billedWei = ?, signedWei = ? where id = ?', ...values)
  }

  #accountId({ chainId, genesis, contract, user, disperser }: VoucherKey): number {
    const values = [chainId, genesis, ...[contract, user, disperser].map((text) => text.toLowerCase())] as const
    this.#db.run(
      'insert or ignore into account (chainId, genesis, contract, user, disperser) values (?, ?, ?, ?, ?)',
      ...values,
    )
    const row = this.#db.get<{ id: number }>(
      'select id from account where chainId = ? and genesis = ? and contract = ? and user = ? and disperser = ?',
      ...values,
    )
    return row?.id ?? 0
  }
}

/** Where the book is unless told otherwise. */
export function defaultBookDir(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const data = env.XDG_DATA_HOME || join(homedir(), '.local', 'share')
  return join(data, 'weightless', 'da')
}

function greatest(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
