import { crc32 } from 'node:zlib'
import type { Logger } from '#kit/log.ts'
import type { Database } from '#kit/sqlite.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { reasonOf } from '../error.ts'
import type { GroupCommit } from './group-commit.ts'
import { Presence, PresenceCache } from './presence.ts'
import { SlotAllocator } from './slot-allocator.ts'
import { diskFull, SLOT_BYTES, type SlotFiles, type SlotRef, slotClassFor } from './slot-files.ts'

/** Why content is kept that no submission names. */
export type UnclaimedOrigin = 'cached' | 'reverted'

export interface StoredObject {
  id: number
  sizeBytes: number
  /** Set while no submission names it. */
  unclaimed: { origin: UnclaimedOrigin; sinceMs: number; bytes: number } | undefined
}

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

interface ObjectRow {
  id: number
  size: number
  origin: number
  unclaimed_at: number | null
  unclaimed_bytes: number
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
  files: SlotFiles
  commit: GroupCommit
  now: () => number
  log: Logger
  /** Free space below which no segment is taken. */
  minFreeBytes: number
  /** Told about every segment found damaged, after its row is gone. */
  onQuarantine?: ((piece: { objectId: number; index: number; reason: string }) => void) | undefined
}

const ORIGIN = { tx: 0, cached: 1, reverted: 2 } as const
const FREE_SPACE_AGE_MS = 1_000
const PIECE_COLUMNS = 'object, idx, class, slot, bytes, crc, root, siblings'

/** Content by root and size, in verified pieces that are durable before they exist here. */
export class ObjectStore {
  readonly #database: Database
  readonly #files: SlotFiles
  readonly #commit: GroupCommit
  readonly #now: () => number
  readonly #log: Logger
  readonly #minFreeBytes: number
  readonly #allocators: SlotAllocator[]
  readonly #presence = new PresenceCache()
  readonly #writing = new Map<string, Promise<unknown>>()
  readonly #onQuarantine: ObjectStoreParameters['onQuarantine']
  /** Sum kept while it is known to be right. */
  #cachedBytes: number | undefined
  #freeSpace = { bytes: 0, atMs: Number.NEGATIVE_INFINITY }

  constructor(parameters: ObjectStoreParameters) {
    this.#database = parameters.database
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

  /** Bytes of the content, not padded. */
  sizeOf(objectId: number): number | undefined {
    return this.#database.get<{ size: number }>('select size from object where id = ?', objectId)?.size
  }

  /** Bytes of the slots that hold content uploaded before its submission. */
  get cachedBytes(): number {
    const sql = `select sum(unclaimed_bytes) as bytes from object where unclaimed_at is not null and origin = ${ORIGIN.cached}`
    this.#cachedBytes ??= this.#database.get<{ bytes: number | null }>(sql)?.bytes ?? 0
    return this.#cachedBytes
  }

  find(root: Hash, sizeBytes: number): StoredObject | undefined {
    const sql = 'select id, size, origin, unclaimed_at, unclaimed_bytes from object where root = ? and size = ?'
    const row = this.#database.get<ObjectRow>(sql, fromHex(root), sizeBytes)
    return row && readObject(row)
  }

  /** Content of this root that no submission names yet; at most one is cached at a time. */
  findCached(root: Hash): StoredObject | undefined {
    const sql = `select id, size, origin, unclaimed_at, unclaimed_bytes from object
      where root = ? and unclaimed_at is not null and origin = ${ORIGIN.cached} limit 1`
    const row = this.#database.get<ObjectRow>(sql, fromHex(root))
    return row && readObject(row)
  }

  /** The object of a submission, created when missing. Call it inside a transaction. */
  claim(root: Hash, sizeBytes: number): number {
    const known = this.find(root, sizeBytes)
    if (known) {
      this.#cachedBytes = undefined
      this.#database.run(
        'update object set unclaimed_at = null, unclaimed_bytes = 0, origin = 0 where id = ?',
        known.id,
      )
      return known.id
    }
    return this.#insert(root, sizeBytes, ORIGIN.tx, null)
  }

  /** Opens a place for content whose submission is not known yet. */
  openCached(root: Hash, sizeBytes: number): number {
    return this.#insert(root, sizeBytes, ORIGIN.cached, this.#now())
  }

  /** Marks content that has lost its last submission. Call it inside a transaction. */
  unclaim(objectId: number): void {
    const slots = this.#database.all<{ class: number }>('select class from piece where object = ?', objectId)
    const bytes = slots.reduce((sum, row) => sum + (SLOT_BYTES[row.class] ?? 0), 0)
    this.#database.run(
      `update object set unclaimed_at = ?, origin = ${ORIGIN.reverted}, unclaimed_bytes = ? where id = ?`,
      this.#now(),
      bytes,
      objectId,
    )
  }

  /** Content nobody names, oldest first. */
  unclaimed(origin: UnclaimedOrigin): StoredObject[] {
    const sql = `select id, size, origin, unclaimed_at, unclaimed_bytes from object
      where unclaimed_at is not null and origin = ? order by unclaimed_at`
    return this.#database.all<ObjectRow>(sql, ORIGIN[origin]).map(readObject)
  }

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

  /** Whether a write of this piece is under way; resolves when it has ended, either way. */
  writing(objectId: number, index: number): Promise<unknown> | undefined {
    return this.#writing.get(`${objectId}:${index}`)
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
   */
  async readPiece(objectId: number, index: number, buffer?: Buffer): Promise<Piece | undefined> {
    // Twice: a piece that was removed and its slot given to another while it was read is no damage.
    for (let attempt = 0; attempt < 2; attempt++) {
      const row = this.pieceRow(objectId, index)
      if (!row) return undefined
      const read = await this.#files.read(row, row.bytes, buffer).catch((error: unknown) => reasonOf(error))
      if (typeof read !== 'string' && crc32(read) === row.crc) {
        return { data: read, root: row.root, siblings: row.siblings }
      }
      if (attempt === 1) this.quarantine(row, typeof read === 'string' ? read : 'checksum does not match')
    }
    return undefined
  }

  pieceRow(objectId: number, index: number): PieceRow | undefined {
    const sql = `select ${PIECE_COLUMNS} from piece where object = ? and idx = ?`
    const row = this.#database.get<RawPiece>(sql, objectId, index)
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
      if (forget && chosen.length === rows.length) this.#database.run('delete from object where id = ?', objectId)
    })
    this.#cachedBytes = undefined
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
      result = await this.#commit.add({ ref, bytes: data.length, apply: () => this.#insertPiece(piece, ref, crc) })
    } finally {
      if (result !== 'stored') allocator.release(ref.slot)
    }
    if (result === 'stored') this.#presence.add(objectId, index)
    return result
  }

  #insertPiece(piece: PutPieceParameters, ref: SlotRef, crc: number): PutResult {
    const { objectId, index, data, root, siblings } = piece
    const object = this.#database.get<{ unclaimed_at: number | null }>(
      'select unclaimed_at from object where id = ?',
      objectId,
    )
    if (!object || !piece.wanted()) return 'gone'
    const now = this.#now()
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
      now,
    )
    if (Number(changes) === 0) return 'duplicate'
    if (object.unclaimed_at !== null) {
      this.#cachedBytes = undefined
      this.#database.run(
        'update object set unclaimed_bytes = unclaimed_bytes + ?, unclaimed_at = ? where id = ?',
        SLOT_BYTES[ref.slotClass] ?? 0,
        now,
        objectId,
      )
    }
    piece.onStored()
    return 'stored'
  }

  #insert(root: Hash, sizeBytes: number, origin: number, unclaimedAt: number | null): number {
    const sql = 'insert into object (root, size, origin, unclaimed_at) values (?, ?, ?, ?)'
    return Number(
      this.#database.run(sql, fromHex(root, { byteLength: 32 }), sizeBytes, origin, unclaimedAt).lastInsertRowid,
    )
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

function* slotsOf(rows: Iterable<Record<string, unknown>>): Generator<number> {
  for (const { slot } of rows) if (typeof slot === 'number') yield slot
}

function readObject(row: ObjectRow): StoredObject {
  const origin = row.origin === ORIGIN.cached ? 'cached' : 'reverted'
  const unclaimed =
    row.unclaimed_at === null ? undefined : { origin, sinceMs: row.unclaimed_at, bytes: row.unclaimed_bytes }
  return { id: row.id, sizeBytes: row.size, unclaimed: unclaimed as StoredObject['unclaimed'] }
}

function readPieceRow(row: RawPiece): PieceRow {
  const { object, idx, class: slotClass, slot, bytes, crc, root, siblings } = row
  return { objectId: object, index: idx, slotClass, slot, bytes, crc, root, siblings }
}
