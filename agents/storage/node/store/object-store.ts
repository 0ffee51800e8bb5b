import { crc32 } from 'node:zlib'
import type { Logger } from '#kit/log.ts'
import type { Database } from '#kit/sqlite.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { NodeError } from '../error.ts'
import type { ContentTable } from './content-table.ts'
import type { GroupCommit } from './group-commit.ts'
import { Presence, PresenceCache } from './presence.ts'
import { SlotAllocator } from './slot-allocator.ts'
import { diskFull, SLOT_BYTES, type SlotFiles, type SlotRef, slotClassFor } from './slot-files.ts'

/** A verified segment and where it lies. */
export interface PieceRow extends SlotRef {
  objectId: number
  index: number
  bytes: number
  crc: number
  root: Uint8Array
  /** Siblings of its proof, bottom first, 32 bytes each. */
  siblings: Uint8Array
}

/** A segment read back. */
export interface Piece {
  data: Buffer
  root: Uint8Array
  siblings: Uint8Array
}

/** `gone`: what should hold the segment vanished meanwhile (reverted, pruned, expired); nothing was stored. */
export type PutResult = 'stored' | 'duplicate' | 'gone'

export interface PutPieceParameters {
  objectId: number
  index: number
  data: Uint8Array
  root: Uint8Array
  siblings: Uint8Array
  /** Checked in the same transaction that stores the row; false means `gone`. */
  wanted: () => boolean
  /** Runs in that transaction after the row was added. */
  onStored: () => void
}

interface RawPiece {
  object: number
  idx: number
  class: number
  slot: number
  bytes: number
  crc: number
  root: Uint8Array
  siblings: Uint8Array
}

export interface ObjectStoreParameters {
  database: Database
  contents: ContentTable
  files: SlotFiles
  commit: GroupCommit
  now: () => number
  log: Logger
  /** Free space below which no segment is taken. */
  minFreeBytes: number
  /** Told about every segment found damaged, after its row is gone. */
  onQuarantine?: ((piece: { objectId: number; index: number; reason: string }) => void) | undefined
}

const FREE_SPACE_AGE_MS = 1_000
const PIECE_COLUMNS = 'object, idx, class, slot, bytes, crc, root, siblings'

/** Content by root and size, in verified pieces that are durable before they exist here. */
export class ObjectStore {
  readonly #database: Database
  readonly #contents: ContentTable
  readonly #files: SlotFiles
  readonly #commit: GroupCommit
  readonly #now: () => number
  readonly #log: Logger
  readonly #minFreeBytes: number
  readonly #allocators: SlotAllocator[]
  readonly #presence = new PresenceCache()
  readonly #writing = new Map<string, Promise<unknown>>()
  readonly #onQuarantine: ObjectStoreParameters['onQuarantine']
  #freeSpace = { bytes: 0, atMs: Number.NEGATIVE_INFINITY }

  constructor(parameters: ObjectStoreParameters) {
    this.#database = parameters.database
    this.#contents = parameters.contents
    this.#files = parameters.files
    this.#commit = parameters.commit
    this.#now = parameters.now
    this.#log = parameters.log
    this.#minFreeBytes = parameters.minFreeBytes
    this.#onQuarantine = parameters.onQuarantine
    this.#allocators = SLOT_BYTES.map((_, slotClass) => this.#loadAllocator(slotClass))
  }

  /** Bytes of the slots in use: what the stored data takes on disk. */
  get storedBytes(): number {
    return this.#allocators.reduce((sum, { usedSlots }, i) => sum + usedSlots * (SLOT_BYTES[i] ?? 0), 0)
  }

  /** Pieces here. */
  get storedPieces(): number {
    return this.#allocators.reduce((sum, { usedSlots }) => sum + usedSlots, 0)
  }

  /** Which segments of a file are here. */
  presence(objectId: number, sizeBytes: number): Presence {
    return this.#presence.get(objectId, () => {
      const presence = new Presence(segmentCount(sizeBytes))
      for (const row of this.#database.prepare('select idx from piece where object = ?').iterate(objectId)) {
        if (typeof row.idx === 'number') presence.add(row.idx)
      }
      return presence
    })
  }

  /** Indexes of the pieces that are here, in order. */
  indexes(objectId: number): number[] {
    return this.#database
      .all<{ idx: number }>('select idx from piece where object = ? order by idx', objectId)
      .map(({ idx }) => idx)
  }

  /**
   * Stores a verified segment; resolves when it is durable. Two writes of one segment at the same time become one.
   *
   * @throws NodeError `DISK_FULL`, `DISK_FAILURE`
   */
  async putPiece(piece: PutPieceParameters): Promise<PutResult> {
    const key = `${piece.objectId}:${piece.index}`
    for (;;) {
      const other = this.#writing.get(key)
      if (!other) break
      // Only what the other write made durable counts as a duplicate; if it failed, this one goes on.
      if ((await other.catch(() => 'failed')) === 'stored') return 'duplicate'
    }
    const write = this.#write(piece)
    this.#writing.set(key, write)
    try {
      return await write
    } finally {
      this.#writing.delete(key)
    }
  }

  /**
   * Reads a segment and checks it against its checksum. A damaged one is quarantined and is then missing, so that it
   * is fetched again; undefined when it is not here. With `buffer` (256 KiB) the data lies in it.
   *
   * @throws NodeError `DISK_FAILURE`, `NODE_CLOSED` for failures that say nothing about the segment
   */
  async readPiece(objectId: number, index: number, buffer?: Buffer): Promise<Piece | undefined> {
    // Twice: a piece that was removed and its slot given to another while it was read is no damage.
    for (let attempt = 0; attempt < 2; attempt++) {
      const row = this.pieceRow(objectId, index)
      if (!row) return undefined
      const data = await this.#files.read(row, row.bytes, buffer).catch(asUnreadable)
      if (data && crc32(data) === row.crc) return { data, root: row.root, siblings: row.siblings }
      if (attempt === 1) this.quarantine(row, data ? 'checksum does not match' : 'the disk cannot read it')
    }
    return undefined
  }

  pieceRow(objectId: number, index: number): PieceRow | undefined {
    const sql = `select ${PIECE_COLUMNS} from piece where object = ? and idx = ?`
    const row = this.#database.get<RawPiece>(sql, objectId, index)
    return row && readPieceRow(row)
  }

  /** The first piece of a file within `[from, to)`. */
  firstPieceIn(objectId: number, { from, to }: { from: number; to: number }): PieceRow | undefined {
    const sql = `select ${PIECE_COLUMNS} from piece where object = ? and idx >= ? and idx < ? order by idx limit 1`
    const row = this.#database.get<RawPiece>(sql, objectId, from, to)
    return row && readPieceRow(row)
  }

  /** Pieces whose content was last looked at longest ago, from a place on: for scrubbing. */
  piecesAfter({ objectId, index, limit }: { objectId: number; index: number; limit: number }): PieceRow[] {
    const sql = `select ${PIECE_COLUMNS} from piece where (object, idx) > (?, ?) order by object, idx limit ?`
    return this.#database.all<RawPiece>(sql, objectId, index, limit).map(readPieceRow)
  }

  /** Takes a damaged piece out of service; its slot is not used again. */
  quarantine(row: PieceRow, reason: string): void {
    const removed = this.#database.transaction(() => {
      const { changes } = this.#database.run(
        'delete from piece where object = ? and idx = ? and class = ? and slot = ?',
        row.objectId,
        row.index,
        row.slotClass,
        row.slot,
      )
      if (Number(changes) === 0) return false
      this.#database.run(
        'insert into quarantine (class, slot, object, idx, reason, found_at) values (?, ?, ?, ?, ?, ?)',
        row.slotClass,
        row.slot,
        row.objectId,
        row.index,
        reason.slice(0, 200),
        this.#now(),
      )
      return true
    })
    if (!removed) return
    this.#presence.drop(row.objectId)
    this.#log.error({ objectId: row.objectId, segment: row.index, reason }, 'stored segment is damaged: quarantined')
    this.#onQuarantine?.({ objectId: row.objectId, index: row.index, reason })
  }

  /** Damaged pieces that have not been replaced yet. */
  get missingDamagedPieces(): number {
    const sql = `select count(*) as n from (select distinct q.object, q.idx from quarantine q
      join object o on o.id = q.object left join piece p on p.object = q.object and p.idx = q.idx where p.idx is null)`
    return this.#database.get<{ n: number }>(sql)?.n ?? 0
  }

  /** Slots set aside because their content was damaged. */
  get quarantinedPieces(): number {
    return this.#database.get<{ n: number }>('select count(*) as n from quarantine')?.n ?? 0
  }

  /**
   * Removes pieces (all, or those `remove` chooses; at most `limit`) and, when asked, the object itself. Returns how
   * many pieces went. Never inside a transaction: the slots are free for others when it returns.
   */
  removePieces(
    objectId: number,
    { remove, limit = Number.MAX_SAFE_INTEGER, forget = false }: RemovePiecesParameters = {},
  ): { pieces: number; bytes: number } {
    const sql = 'select idx, class, slot, bytes from piece where object = ? order by idx'
    const rows = this.#database.all<Pick<RawPiece, 'idx' | 'class' | 'slot' | 'bytes'>>(sql, objectId)
    const chosen = rows.filter(({ idx }) => remove?.(idx) ?? true).slice(0, limit)
    this.#database.transaction(() => {
      for (const { idx } of chosen) this.#database.run('delete from piece where object = ? and idx = ?', objectId, idx)
      if (forget && chosen.length === rows.length) this.#contents.remove(objectId)
    })
    for (const { class: slotClass, slot } of chosen) this.#allocators[slotClass]?.release(slot)
    const bytes = chosen.reduce((sum, row) => sum + row.bytes, 0)
    this.#presence.drop(objectId)
    return { pieces: chosen.length, bytes }
  }

  /** Bytes that may still be written before the node refuses segments. */
  async spareBytes(): Promise<number> {
    const now = performance.now()
    if (now - this.#freeSpace.atMs > FREE_SPACE_AGE_MS) {
      this.#freeSpace = { bytes: await this.#files.freeBytes(), atMs: now }
    }
    return this.#freeSpace.bytes - this.#minFreeBytes
  }

  async #write(piece: PutPieceParameters): Promise<PutResult> {
    const { objectId, index, data } = piece
    if ((await this.spareBytes()) < data.length) throw diskFull({ minFreeBytes: this.#minFreeBytes })
    const allocator = this.#allocators[slotClassFor(data.length)]
    if (!allocator) throw new RangeError(`no slot holds ${data.length} bytes`)
    const ref = allocator.take()
    let result: PutResult = 'gone'
    try {
      await this.#files.write(ref, data)
      this.#freeSpace.bytes -= data.length
      const crc = crc32(data)
      result = await this.#commit.add({
        ref,
        bytes: data.length,
        apply: () => this.#insertPiece(piece, ref, crc),
        // In the same step as the commit: nothing may come between the row and its bit.
        committed: (done) => {
          if (done === 'stored') this.#presence.add(objectId, index)
        },
      })
    } finally {
      if (result !== 'stored') allocator.release(ref.slot)
    }
    return result
  }

  #insertPiece(piece: PutPieceParameters, ref: SlotRef, crc: number): PutResult {
    const { objectId, index, data, root, siblings } = piece
    if (!this.#contents.exists(objectId) || !piece.wanted()) return 'gone'
    const { changes } = this.#database.run(
      `insert or ignore into piece (${PIECE_COLUMNS}, checked_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      objectId,
      index,
      ref.slotClass,
      ref.slot,
      data.length,
      crc,
      root,
      siblings,
      this.#now(),
    )
    if (Number(changes) === 0) return 'duplicate'
    this.#contents.countPiece(objectId, ref)
    piece.onStored()
    return 'stored'
  }

  #loadAllocator(slotClass: number): SlotAllocator {
    const sql = `select slot from piece where class = ? union all select slot from quarantine where class = ? order by slot`
    const rows = this.#database.prepare(sql).iterate(slotClass, slotClass)
    return new SlotAllocator({ slotClass, used: slotsOf(rows) })
  }
}

export interface RemovePiecesParameters {
  remove?: ((index: number) => boolean) | undefined
  limit?: number | undefined
  /** Delete the object as well, once no piece is left. */
  forget?: boolean | undefined
}

/** A sector the disk cannot read is damage; anything else (no file handles left, a closed store) is not. */
function asUnreadable(error: unknown): undefined {
  if (error instanceof NodeError && error.details.system === 'EIO') return undefined
  throw error
}

function* slotsOf(rows: Iterable<Record<string, unknown>>): Generator<number> {
  for (const { slot } of rows) if (typeof slot === 'number') yield slot
}

function readPieceRow(row: RawPiece): PieceRow {
  const { object, idx, class: slotClass, slot, bytes, crc, root, siblings } = row
  return { objectId: object, index: idx, slotClass, slot, bytes, crc, root, siblings }
}
