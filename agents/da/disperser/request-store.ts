import { join } from 'node:path'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import type { Hash } from '#protocol/hex.ts'
import { FEE_TABLES } from './fees/fee-tables.ts'

/** Where a request stands. `final` is a confirmation so deep that it counts as settled. */
export type RequestState = 'processing' | 'confirmed' | 'final' | 'failed'

/** An accepted blob. */
export interface StoredRequest {
  id: string
  /** SHA-256 of the bytes, which is also the name of their file. */
  contentHash: Hash
  sizeBytes: number
  state: RequestState
  acceptedAtMs: number
  changedAtMs: number
  dataRoot: Hash | undefined
  epoch: number | undefined
  quorumId: number | undefined
  expiryEpoch: number | undefined
  submitTx: Hash | undefined
  confirmTx: Hash | undefined
  /** Block of the confirmation. */
  block: number | undefined
  /** Paid for this request, wei, as text. */
  feeWei: string | undefined
  /** What its user pays, by the book of fees; undefined where it is free. */
  charge: number | undefined
  /** Why it failed, or what the last try failed with. */
  error: string | undefined
}

const MIGRATIONS = [
  `create table requests (
    id text primary key,
    contentHash text not null,
    sizeBytes integer not null,
    state text not null,
    acceptedAtMs integer not null,
    changedAtMs integer not null,
    dataRoot text, epoch integer, quorumId integer, expiryEpoch integer,
    submitTx text, confirmTx text, block integer, feeWei text, error text,
    kept integer not null default 1
  ) strict;
  create index requestsByState on requests (state, kept, changedAtMs);
  create index requestsByContent on requests (contentHash);
  create index requestsByRoot on requests (dataRoot);`,
  FEE_TABLES,
]

type Row = { [Key in keyof StoredRequest]: StoredRequest[Key] | null }

/** The requests of a disperser, durable: what is in here was accepted and is not forgotten. */
export class RequestStore {
  /** For the book of fees, which is written together with the requests. */
  readonly database: Database

  private constructor(database: Database) {
    this.database = database
  }

  static open(dataDir: string): RequestStore {
    return new RequestStore(openDatabase({ path: join(dataDir, 'disperser.sqlite'), migrations: MIGRATIONS }))
  }

  close(): void {
    this.database.close()
  }

  add({
    id,
    contentHash,
    sizeBytes,
    charge,
    nowMs,
  }: {
    id: string
    contentHash: Hash
    sizeBytes: number
    charge?: number | undefined
    nowMs: number
  }): void {
    this.database.run(
      `insert into requests (id, contentHash, sizeBytes, state, acceptedAtMs, changedAtMs, charge)
       values (?, ?, ?, 'processing', ?, ?, ?)`,
      ...[id, contentHash, sizeBytes, nowMs, nowMs, charge ?? null],
    )
  }

  get(id: string): StoredRequest | undefined {
    return asRequest(this.database.get<Row>('select * from requests where id = ?', id))
  }

  /** Changes what is known of a request. */
  update(id: string, changes: Partial<Omit<StoredRequest, 'id'>>, nowMs: number): void {
    const names = Object.keys(changes)
    const values = Object.values(changes).map((value) => value ?? null)
    const assignments = [...names, 'changedAtMs'].map((name) => `${name} = ?`).join(', ')
    this.database.run(`update requests set ${assignments} where id = ?`, ...values, nowMs, id)
  }

  /** Requests in a state, those unchanged for longest first. */
  inState(state: RequestState, limit: number): StoredRequest[] {
    const sql = 'select * from requests where state = ? order by changedAtMs limit ?'
    return this.database.all<Row>(sql, state, limit).flatMap((row) => asRequest(row) ?? [])
  }

  /** Whether a blob's bytes are kept for some request. */
  isContentWanted(contentHash: Hash): boolean {
    const sql = `select 1 from requests where contentHash = ? and kept = 1 limit 1`
    return this.database.get(sql, contentHash) !== undefined
  }

  /** A request whose blob has this root and is confirmed: its bytes may be here. */
  byRoot(dataRoot: Hash): StoredRequest | undefined {
    const sql = `select * from requests where dataRoot = ? and state in ('confirmed', 'final') limit 1`
    return asRequest(this.database.get<Row>(sql, dataRoot))
  }

  /** Final and failed requests, changed before a time, whose bytes were not let go yet. */
  over({ beforeMs, limit }: { beforeMs: number; limit: number }): StoredRequest[] {
    const sql = `select * from requests where state in ('final', 'failed') and kept = 1 and changedAtMs < ?
      order by changedAtMs limit ?`
    return this.database.all<Row>(sql, beforeMs, limit).flatMap((row) => asRequest(row) ?? [])
  }

  /** The bytes of a request are not kept for it any more. */
  letGo(id: string): void {
    this.database.run('update requests set kept = 0 where id = ?', id)
  }

  counts(): Record<RequestState, number> {
    const counts: Record<RequestState, number> = { processing: 0, confirmed: 0, final: 0, failed: 0 }
    const sql = 'select state, count(*) as count from requests group by state'
    for (const { state, count } of this.database.all<{ state: RequestState; count: number }>(sql)) counts[state] = count
    return counts
  }
}

function asRequest(row: Row | undefined): StoredRequest | undefined {
  if (row === undefined) return undefined
  return Object.fromEntries(
    Object.entries(row).map(([key, value]) => [key, value ?? undefined]),
  ) as unknown as StoredRequest
}
