import type { Database } from '#kit/sqlite.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { SLOT_BYTES, type SlotRef } from './slot-files.ts'

/** Why content is kept that no submission names. */
export type UnclaimedOrigin = 'cached' | 'reverted'

/** Content by root and size; its pieces are the {@link ObjectStore}'s. */
export interface Content {
  id: number
  sizeBytes: number
  /** Set while no submission names it. */
  unclaimed: { origin: UnclaimedOrigin; sinceMs: number; bytes: number } | undefined
}

interface ContentRow {
  id: number
  size: number
  origin: number
  unclaimed_at: number | null
  unclaimed_bytes: number
}

const ORIGIN = { tx: 0, cached: 1, reverted: 2 } as const
const COLUMNS = 'id, size, origin, unclaimed_at, unclaimed_bytes'

/** Which content is here, whichever submissions name it, and what is kept that none names. */
export class ContentTable {
  readonly #database: Database
  readonly #now: () => number
  /** Sum kept while it is known to be right. */
  #cachedBytes: number | undefined

  constructor({ database, now }: { database: Database; now: () => number }) {
    this.#database = database
    this.#now = now
  }

  /** Bytes of the slots that hold content uploaded before its submission. */
  get cachedBytes(): number {
    const sql = `select sum(unclaimed_bytes) as bytes from object where unclaimed_at is not null and origin = ${ORIGIN.cached}`
    this.#cachedBytes ??= this.#database.get<{ bytes: number | null }>(sql)?.bytes ?? 0
    return this.#cachedBytes
  }

  /** Bytes of the content, not padded. */
  sizeOf(id: number): number | undefined {
    return this.#database.get<{ size: number }>('select size from object where id = ?', id)?.size
  }

  find(root: Hash, sizeBytes: number): Content | undefined {
    const sql = `select ${COLUMNS} from object where root = ? and size = ?`
    const row = this.#database.get<ContentRow>(sql, fromHex(root), sizeBytes)
    return row && readContent(row)
  }

  /** Content of this root that no submission names yet; at most one is cached at a time. */
  findCached(root: Hash): Content | undefined {
    const sql = `select ${COLUMNS} from object
      where root = ? and unclaimed_at is not null and origin = ${ORIGIN.cached} limit 1`
    const row = this.#database.get<ContentRow>(sql, fromHex(root))
    return row && readContent(row)
  }

  /** Content nobody names, oldest first. */
  unclaimed(origin: UnclaimedOrigin): Content[] {
    const sql = `select ${COLUMNS} from object where unclaimed_at is not null and origin = ? order by unclaimed_at`
    return this.#database.all<ContentRow>(sql, ORIGIN[origin]).map(readContent)
  }

  /** The content a submission names, created when missing. Call it inside a transaction. */
  claim(root: Hash, sizeBytes: number): number {
    const known = this.find(root, sizeBytes)
    if (!known) return this.#insert(root, sizeBytes, ORIGIN.tx, null)
    this.#cachedBytes = undefined
    const sql = 'update object set unclaimed_at = null, unclaimed_bytes = 0, origin = 0 where id = ?'
    this.#database.run(sql, known.id)
    return known.id
  }

  /** Opens a place for content whose submission is not known yet. */
  openCached(root: Hash, sizeBytes: number): number {
    return this.#insert(root, sizeBytes, ORIGIN.cached, this.#now())
  }

  /** Marks content that has lost its last submission. Call it inside a transaction. */
  unclaim(id: number): void {
    const slots = this.#database.all<{ class: number }>('select class from piece where object = ?', id)
    const bytes = slots.reduce((sum, row) => sum + (SLOT_BYTES[row.class] ?? 0), 0)
    this.#database.run(
      `update object set unclaimed_at = ?, origin = ${ORIGIN.reverted}, unclaimed_bytes = ? where id = ?`,
      this.#now(),
      bytes,
      id,
    )
  }

  /** Counts a piece stored for content nobody names; false when there is no such content any more. */
  countPiece(id: number, { slotClass }: SlotRef): boolean {
    const row = this.#database.get<{ unclaimed_at: number | null }>('select unclaimed_at from object where id = ?', id)
    if (!row) return false
    if (row.unclaimed_at === null) return true
    this.#cachedBytes = undefined
    this.#database.run(
      'update object set unclaimed_bytes = unclaimed_bytes + ?, unclaimed_at = ? where id = ?',
      SLOT_BYTES[slotClass] ?? 0,
      this.#now(),
      id,
    )
    return true
  }

  exists(id: number): boolean {
    return this.#database.get('select 1 as yes from object where id = ?', id) !== undefined
  }

  /** Forgets content that has no pieces and no submissions. */
  remove(id: number): void {
    this.#cachedBytes = undefined
    this.#database.run('delete from object where id = ?', id)
  }

  #insert(root: Hash, sizeBytes: number, origin: number, unclaimedAt: number | null): number {
    const sql = 'insert into object (root, size, origin, unclaimed_at) values (?, ?, ?, ?)'
    const rootBytes = fromHex(root, { byteLength: 32 })
    return Number(this.#database.run(sql, rootBytes, sizeBytes, origin, unclaimedAt).lastInsertRowid)
  }
}

function readContent(row: ContentRow): Content {
  const origin: UnclaimedOrigin = row.origin === ORIGIN.cached ? 'cached' : 'reverted'
  const { id, size: sizeBytes, unclaimed_at: sinceMs, unclaimed_bytes: bytes } = row
  return { id, sizeBytes, unclaimed: sinceMs === null ? undefined : { origin, sinceMs, bytes } }
}
