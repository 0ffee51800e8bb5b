import type { Database } from '#kit/sqlite.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import type { BlobKey } from './blob-key.ts'

/** A request to show that pieces of a row are still held. */
export interface CustodyRequest extends BlobKey {
  id: Hash
  row: number
  /** Sub-lines asked for, `toSubline` not included. */
  fromSubline: number
  toSubline: number
  /** The last block in which an answer counts. */
  deadlineBlock: number
  /** Paid for the answer. */
  bondWei: bigint
  block: number
}

/** What became of a request. */
export interface CustodyOutcome {
  id: Hash
  outcome: 'answered' | 'failed'
  block: number
  /** Of a failure. */
  slashedWei: bigint
}

interface Row {
  id: Uint8Array
  data_root: Uint8Array
  epoch: number
  quorum: number
  row_index: number
  from_subline: number
  to_subline: number
  deadline_block: number
  bond_wei: string
  block: number
}

const COLUMNS = 'id, data_root, epoch, quorum, row_index, from_subline, to_subline, deadline_block, bond_wei, block'

/** Custody requests to this signer, and what became of them. */
export class CustodyTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Call it inside a transaction. */
  add(request: CustodyRequest): void {
    const { id, dataRoot, epoch, quorumId, row, fromSubline, toSubline, deadlineBlock, bondWei, block } = request
    this.#database.run(
      `insert into custody (${COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`,
      fromHex(id),
      fromHex(dataRoot),
      ...[epoch, quorumId, row, fromSubline, toSubline, deadlineBlock],
      String(bondWei),
      block,
    )
  }

  /** Ends the request of this id that is open. Call it inside a transaction. */
  settle({ id, outcome, block, slashedWei }: CustodyOutcome): void {
    const sql = `update custody set outcome = ?, outcome_block = ?, slashed_wei = ?
      where id = ? and outcome is null and block <= ?`
    this.#database.run(sql, outcome, block, String(slashedWei), fromHex(id), block)
  }

  /** Call it inside a transaction. */
  revert(block: number): void {
    this.#database.run('delete from custody where block > ?', block)
    const sql = 'update custody set outcome = null, outcome_block = null, slashed_wei = null where outcome_block > ?'
    this.#database.run(sql, block)
  }

  /** Requests without an outcome, the most urgent first. */
  open(limit: number): CustodyRequest[] {
    const sql = `select ${COLUMNS} from custody where outcome is null order by deadline_block limit ?`
    return this.#database.all<Row>(sql, limit).map(read)
  }

  /** Whether rows of a blob are asked for and not shown yet. */
  isAsked({ dataRoot, epoch, quorumId }: BlobKey): boolean {
    const sql = 'select 1 as yes from custody where outcome is null and data_root = ? and epoch = ? and quorum = ?'
    return this.#database.get(sql, fromHex(dataRoot), epoch, quorumId) !== undefined
  }

  totals(): { asked: number; answered: number; failed: number; earnedWei: bigint; slashedWei: bigint } {
    const totals = { asked: 0, answered: 0, failed: 0, earnedWei: 0n, slashedWei: 0n }
    const sql = 'select outcome, bond_wei, slashed_wei from custody'
    for (const row of this.#database.all<{ outcome: string | null; bond_wei: string; slashed_wei: string | null }>(
      sql,
    )) {
      totals.asked += 1
      if (row.outcome === 'answered') {
        totals.answered += 1
        totals.earnedWei += BigInt(row.bond_wei)
      }
      if (row.outcome === 'failed') {
        totals.failed += 1
        totals.slashedWei += BigInt(row.slashed_wei ?? 0)
      }
    }
    return totals
  }
}

function read(row: Row): CustodyRequest {
  return {
    id: toHex(row.id),
    dataRoot: toHex(row.data_root),
    epoch: row.epoch,
    quorumId: row.quorum,
    row: row.row_index,
    fromSubline: row.from_subline,
    toSubline: row.to_subline,
    deadlineBlock: row.deadline_block,
    bondWei: BigInt(row.bond_wei),
    block: row.block,
  }
}
