import type { Database } from '#kit/sqlite.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import type { BlobKey } from './blob-key.ts'

/** Rows of one blob that are on disk and signed for. */
export interface HeldRows extends BlobKey {
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
  firstRow: number
  rowCount: number
  fileBytes: number
  /** 64 bytes, X ‖ Y big-endian. */
  signature: Uint8Array
  /** Found damaged on disk: not handed out, to be fetched anew. */
  damaged: boolean
}

interface Row {
  data_root: Uint8Array
  epoch: number
  quorum: number
  size_bytes: number
  row_root: Uint8Array
  rlc_root: Uint8Array
  first_row: number
  row_count: number
  file_bytes: number
  signature: Uint8Array
  damaged_ms: number | null
}

const COLUMNS =
  'data_root, epoch, quorum, size_bytes, row_root, rlc_root, first_row, row_count, file_bytes, signature, damaged_ms'
const KEY = 'data_root = ? and epoch = ? and quorum = ?'

/** Which rows are on disk. */
export class HeldTable {
  readonly #database: Database
  #totals: { blobs: number; rows: number; bytes: number } | undefined

  constructor(database: Database) {
    this.#database = database
  }

  get(key: BlobKey): HeldRows | undefined {
    const row = this.#database.get<Row>(`select ${COLUMNS} from held where ${KEY}`, ...values(key))
    return row && read(row)
  }

  /** Enters rows whose file is durable; also what replaces damaged ones. */
  put(rows: Omit<HeldRows, 'damaged'>, nowMs: number): void {
    this.#totals = undefined
    const sql = `insert or replace into held (data_root, epoch, quorum, size_bytes, row_root, rlc_root, first_row, row_count,
      file_bytes, signature, stored_ms, damaged_ms) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null)`
    const { sizeBytes, rowRoot, rlcRoot, firstRow, rowCount, fileBytes, signature } = rows
    this.#database.run(
      sql,
      ...values(rows),
      sizeBytes,
      fromHex(rowRoot),
      fromHex(rlcRoot),
      firstRow,
      rowCount,
      fileBytes,
      signature,
      nowMs,
    )
  }

  markDamaged(key: BlobKey, nowMs: number): void {
    this.#database.run(`update held set damaged_ms = ? where ${KEY}`, nowMs, ...values(key))
  }

  remove(key: BlobKey): void {
    this.#totals = undefined
    this.#database.run(`delete from held where ${KEY}`, ...values(key))
  }

  /**
   * Rows that need not be held: of blobs that expired before an epoch, of blobs of an epoch before another one that were
   * never confirmed, and old ones that no submission claims.
   */
  removable(limits: {
    expiredBefore: number
    unconfirmedBefore: number
    orphanBeforeMs: number
    limit: number
  }): BlobKey[] {
    const sql = `select h.data_root, h.epoch, h.quorum from held h
      left join submission s on s.data_root = h.data_root and s.epoch = h.epoch and s.quorum = h.quorum
      left join recorded r on r.data_root = h.data_root and r.epoch = h.epoch and r.quorum = h.quorum
      where s.expiry_epoch < ? or (r.data_root is null and h.epoch < ?) or (s.data_root is null and h.stored_ms < ?)
      limit ?`
    const { expiredBefore, unconfirmedBefore, orphanBeforeMs, limit } = limits
    return this.#database
      .all<Pick<Row, 'data_root' | 'epoch' | 'quorum'>>(sql, expiredBefore, unconfirmedBefore, orphanBeforeMs, limit)
      .map((row) => ({ dataRoot: toHex(row.data_root), epoch: row.epoch, quorumId: row.quorum }))
  }

  /** All rows, in the order of epochs, without reading all of them at once. */
  *all(): Generator<HeldRows, void, undefined> {
    let after: [epoch: number, root: Uint8Array, quorum: number] = [-1, new Uint8Array(), -1]
    for (;;) {
      const sql = `select ${COLUMNS} from held where (epoch, data_root, quorum) > (?, ?, ?)
        order by epoch, data_root, quorum limit 256`
      const page = this.#database.all<Row>(sql, ...after)
      for (const row of page) yield read(row)
      const last = page.at(-1)
      if (last === undefined) return
      after = [last.epoch, last.data_root, last.quorum]
    }
  }

  /** Sound rows of recorded blobs that this signer signed for and that are not expired, for the lottery. */
  *sampled({ epoch }: { epoch: number }): Generator<HeldRows, void, undefined> {
    let after: [epoch: number, root: Uint8Array, quorum: number] = [-1, new Uint8Array(), -1]
    for (;;) {
      const sql = `select ${COLUMNS} from held h where (epoch, data_root, quorum) > (?, ?, ?) and damaged_ms is null
        and exists (select 1 from recorded r where r.signed = 1
          and r.data_root = h.data_root and r.epoch = h.epoch and r.quorum = h.quorum)
        and exists (select 1 from submission s where s.expiry_epoch >= ?
          and s.data_root = h.data_root and s.epoch = h.epoch and s.quorum = h.quorum)
        order by epoch, data_root, quorum limit 256`
      const page = this.#database.all<Row>(sql, ...after, epoch)
      for (const row of page) yield read(row)
      const last = page.at(-1)
      if (last === undefined) return
      after = [last.epoch, last.data_root, last.quorum]
    }
  }

  totals(): { blobs: number; rows: number; bytes: number } {
    this.#totals ??= this.#database.get<{ blobs: number; rows: number; bytes: number }>(
      'select count(*) as blobs, coalesce(sum(row_count), 0) as rows, coalesce(sum(file_bytes), 0) as bytes from held',
    ) ?? { blobs: 0, rows: 0, bytes: 0 }
    return this.#totals
  }

  damagedCount(): number {
    return this.#database.get<{ n: number }>('select count(*) as n from held where damaged_ms is not null')?.n ?? 0
  }
}

function values({ dataRoot, epoch, quorumId }: BlobKey): [Uint8Array, number, number] {
  return [fromHex(dataRoot), epoch, quorumId]
}

function read(row: Row): HeldRows {
  return {
    dataRoot: toHex(row.data_root),
    epoch: row.epoch,
    quorumId: row.quorum,
    sizeBytes: row.size_bytes,
    rowRoot: toHex(row.row_root),
    rlcRoot: toHex(row.rlc_root),
    firstRow: row.first_row,
    rowCount: row.row_count,
    fileBytes: row.file_bytes,
    signature: row.signature,
    damaged: row.damaged_ms !== null,
  }
}
