import type { Database } from '#kit/sqlite.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import type { SubmissionNode } from '#protocol/storage/submission.ts'
import { ownedCount, ownsSegment } from './own-segments.ts'
import {
  encodeNodes,
  FINALIZED,
  type FileTransaction,
  PENDING,
  PRUNED,
  readTransaction,
  type TxRow,
} from './transaction-record.ts'

const COLUMNS = 'seq, object, root, size, start_sector, sectors, nodes, status, needed, held, block, logged_at'

/** Submissions of one root that are looked at; the same content paid for more often is answered from these. */
const MAX_SAME_ROOT = 1_000

/** A submission about to be put into the store. */
export interface NewTransaction {
  seq: number
  objectId: number | undefined
  root: Hash
  sizeBytes: number
  startSector: number
  sectors: number
  nodes: readonly SubmissionNode[]
  block: number
  loggedAtMs: number
  flowRoot: Uint8Array
  /** Segments of the object that are already here. */
  present: Iterable<number>
}

/** The table of submissions. Methods that write expect to run inside a transaction of the caller's. */
export class TransactionStore {
  readonly #database: Database
  shard: ShardConfig

  constructor({ database, shard }: { database: Database; shard: ShardConfig }) {
    this.#database = database
    this.shard = shard
  }

  /** The submission index that must come next. */
  get nextSeq(): number {
    return (this.#database.get<{ last: number | null }>('select max(seq) as last from tx')?.last ?? -1) + 1
  }

  get(seq: number): FileTransaction | undefined {
    const row = this.#database.get<TxRow>(`select ${COLUMNS} from tx where seq = ?`, seq)
    return row && readTransaction(row)
  }

  /** Submissions of this root, in flow order. */
  byRoot(root: Hash): FileTransaction[] {
    const sql = `select ${COLUMNS} from tx where root = ? order by seq limit ${MAX_SAME_ROOT}`
    return this.#database.all<TxRow>(sql, fromHex(root)).map(readTransaction)
  }

  byObject(objectId: number): FileTransaction[] {
    const sql = `select ${COLUMNS} from tx where object = ? order by seq limit ${MAX_SAME_ROOT}`
    return this.#database.all<TxRow>(sql, objectId).map(readTransaction)
  }

  /**
   * The submission that stands for a root: the first finalized one; else the first, or with `needAvailable` the first
   * that is not pruned (storage-node §4.3).
   */
  choose(root: Hash, needAvailable: boolean): FileTransaction | undefined {
    const all = this.byRoot(root)
    const finalized = all.find(({ status }) => status === 'finalized')
    return finalized ?? (needAvailable ? all.find(({ status }) => status !== 'pruned') : all[0])
  }

  /** The submission whose sectors hold this one, if any. */
  atSector(sector: number): FileTransaction | undefined {
    const sql = `select ${COLUMNS} from tx where start_sector <= ? order by start_sector desc limit 1`
    const row = this.#database.get<TxRow>(sql, sector)
    return row && sector < row.start_sector + row.sectors ? readTransaction(row) : undefined
  }

  /** Files whose data is not complete, from `fromSeq` on. */
  pending({ fromSeq = 0, limit }: { fromSeq?: number; limit: number }): FileTransaction[] {
    const sql = `select ${COLUMNS} from tx where status = ${PENDING} and seq >= ? and object is not null order by seq limit ?`
    return this.#database.all<TxRow>(sql, fromSeq, limit).map(readTransaction)
  }

  /** Submissions from `fromSeq` on, in order. */
  list({ fromSeq, limit }: { fromSeq: number; limit: number }): FileTransaction[] {
    const sql = `select ${COLUMNS} from tx where seq >= ? order by seq limit ?`
    return this.#database.all<TxRow>(sql, fromSeq, limit).map(readTransaction)
  }

  /** Submissions by status. */
  counts(): { pending: number; finalized: number; pruned: number } {
    // Two partial indexes and the length of the log, so that a large log is never scanned.
    const count = (status: number): number =>
      this.#database.get<{ n: number }>(`select count(*) as n from tx where status = ${status}`)?.n ?? 0
    const [pending, pruned] = [count(PENDING), count(PRUNED)]
    return { pending, pruned, finalized: this.nextSeq - pending - pruned }
  }

  /** Length of the flow after the submission that led to this root. */
  lengthAtFlowRoot(root: Hash): number | undefined {
    const sql = 'select start_sector + sectors as length from tx where flow_root = ? order by seq limit 1'
    return this.#database.get<{ length: number }>(sql, fromHex(root, { byteLength: 32, field: 'flowRoot' }))?.length
  }

  /** Flow root this node computed after a submission. */
  flowRootAt(seq: number): Uint8Array | undefined {
    return this.#database.get<{ flow_root: Uint8Array }>('select flow_root from tx where seq = ?', seq)?.flow_root
  }

  /** Adds a submission; returns whether it is complete at once (nothing of it in the own shard, or all data here). */
  put(tx: NewTransaction): boolean {
    const isFile = tx.objectId !== undefined
    const needed = isFile ? ownedCount(this.shard, tx) : 0
    let held = 0
    for (const index of tx.present) if (ownsSegment(this.shard, tx, index)) held += 1
    const complete = isFile && held >= needed
    this.#database.run(
      `insert into tx (${COLUMNS}, flow_root) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      tx.seq,
      tx.objectId ?? null,
      fromHex(tx.root),
      tx.sizeBytes,
      tx.startSector,
      tx.sectors,
      encodeNodes(tx.nodes),
      complete ? FINALIZED : PENDING,
      needed,
      held,
      tx.block,
      tx.loggedAtMs,
      tx.flowRoot,
    )
    return complete
  }

  /** Counts a new piece for every pending submission of its object; returns those it completed. */
  countPiece(objectId: number, index: number): number[] {
    const sql = `select seq, start_sector, size, needed, held from tx where object = ? and status = ${PENDING}`
    type Counted = Pick<TxRow, 'seq' | 'start_sector' | 'size' | 'needed' | 'held'>
    const completed: number[] = []
    for (const row of this.#database.all<Counted>(sql, objectId)) {
      if (!ownsSegment(this.shard, { startSector: row.start_sector, sizeBytes: row.size }, index)) continue
      const complete = row.held + 1 >= row.needed
      if (complete) completed.push(row.seq)
      this.#database.run(
        'update tx set held = held + 1, status = ? where seq = ?',
        complete ? FINALIZED : PENDING,
        row.seq,
      )
    }
    return completed
  }

  /** Counts again what a submission holds, after its pieces or the shard changed; returns whether it is complete. */
  recount(tx: FileTransaction, present: Iterable<number>): boolean {
    const needed = ownedCount(this.shard, tx)
    let held = 0
    for (const index of present) if (ownsSegment(this.shard, tx, index)) held += 1
    const complete = held >= needed
    this.#database.run(
      'update tx set needed = ?, held = ?, status = ? where seq = ?',
      needed,
      held,
      complete ? FINALIZED : PENDING,
      tx.seq,
    )
    return complete
  }

  markPruned(seq: number): void {
    this.#database.run(`update tx set status = ${PRUNED} where seq = ?`, seq)
  }

  /** Removes submissions from `seq` on; returns the objects they named. */
  removeFrom(seq: number): number[] {
    const rows = this.#database.all<{ object: number }>(
      'select distinct object from tx where seq >= ? and object is not null',
      seq,
    )
    this.#database.run('delete from tx where seq >= ?', seq)
    return rows.map(({ object }) => object)
  }
}
