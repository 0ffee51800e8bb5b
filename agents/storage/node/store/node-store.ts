import { join } from 'node:path'
import { LogGapError, thinCheckpoints } from '#kit/chain/log-follower.ts'
import type { Logger } from '#kit/log.ts'
import type { Database } from '#kit/sqlite.ts'
import { fromHex, type Hash, type Hex, toHex } from '#protocol/hex.ts'
import { formatShard, parseShard, type ShardConfig } from '#protocol/storage/shard.ts'
import {
  type SubmissionNode,
  submissionIsFile,
  submissionRoot,
  submissionSectors,
} from '#protocol/storage/submission.ts'
import { NodeError } from '../error.ts'
import { ContentTable } from './content-table.ts'
import { checkIdentity, openExclusively } from './data-folder.ts'
import { FlowStore } from './flow-store.ts'
import { type CommitReport, GroupCommit } from './group-commit.ts'
import { ObjectStore } from './object-store.ts'
import { ownsSegment } from './own-segments.ts'
import { type BulkDisk, SlotFiles } from './slot-files.ts'
import type { FileTransaction } from './transaction-record.ts'
import { TransactionStore } from './transaction-store.ts'

/** A submission as the chain logged it. */
export interface LoggedSubmission {
  seq: number
  startSector: number
  sectors: number
  sizeBytes: number
  nodes: SubmissionNode[]
  block: number
}

/** A block whose logs are in the store. */
export interface StoredBlock {
  number: number
  hash: Hash
}

/** What a change of the store may have set off, told after it is durable. */
export interface StoreEvents {
  onFinalized?: ((seq: number) => void) | undefined
  onUnfinalized?: ((seq: number) => void) | undefined
  onCommit?: ((report: CommitReport) => void) | undefined
}

export interface OpenNodeStoreParameters {
  dataDir: string
  /** What the data belongs to; a folder of another chain or flow is refused. */
  identity: { chainId: number; flow: Hex }
  /** Shard of a new folder. An old one keeps the shard it has. */
  shard: ShardConfig
  log: Logger
  minFreeBytes: number
  disk?: BulkDisk | undefined
  now?: (() => number) | undefined
  events?: StoreEvents | undefined
}

/** Blocks kept without gaps to find the fork point of a reorganisation; older ones thin out. */
const DENSE_BLOCKS = 256

/** Submissions counted anew in one step. */
const RECOUNT_PAGE = 100

/** Files whose last write is remembered. */
const MAX_LAST_PIECES = 10_000

/** So many more may gather before they are thinned. */
const SPARE_BLOCKS = 128

/**
 * Everything a node keeps: `node.db` (submissions, flow tree, pieces) and extent files under `data/`. One process at a
 * time. After a crash at any moment it opens as it was after the last finished transaction.
 */
export class NodeStore {
  readonly database: Database
  readonly files: SlotFiles
  readonly contents: ContentTable
  readonly objects: ObjectStore
  readonly transactions: TransactionStore
  readonly flow: FlowStore
  readonly #commit: GroupCommit
  readonly #events: StoreEvents
  readonly #now: () => number
  readonly #lastPieces = new Map<number, number>()

  private constructor(parameters: OpenNodeStoreParameters, database: Database) {
    const { dataDir, log, minFreeBytes, disk, now = Date.now, events = {} } = parameters
    this.database = database
    this.#events = events
    this.#now = now
    this.files = new SlotFiles({ dir: join(dataDir, 'data'), ...(disk ? { disk } : {}) })
    const onCommit = events.onCommit
    this.#commit = new GroupCommit({ database, files: this.files, ...(onCommit ? { onCommit } : {}) })
    this.contents = new ContentTable({ database, now })
    this.objects = new ObjectStore({
      database,
      contents: this.contents,
      files: this.files,
      commit: this.#commit,
      now,
      log,
      minFreeBytes,
      onQuarantine: ({ objectId }) => this.#recountObject(objectId),
    })
    const kept = this.meta('shard')
    this.transactions = new TransactionStore({ database, shard: kept ? parseShard(kept) : parameters.shard })
    if (!kept) this.setMeta('shard', formatShard(parameters.shard))
    else if (kept !== formatShard(parameters.shard)) {
      log.warn({ kept, configured: formatShard(parameters.shard) }, 'the data folder keeps its own shard')
    }
    this.flow = new FlowStore(database)
  }

  /**
   * Opens or creates the store of a data folder.
   *
   * @throws NodeError `DATA_DIR_IN_USE`, `DATA_DIR_FOREIGN`; DatabaseError
   */
  static open(parameters: OpenNodeStoreParameters): NodeStore {
    const path = join(parameters.dataDir, 'node.db')
    const database = openExclusively(path)
    try {
      checkIdentity(database, parameters)
      return new NodeStore(parameters, database)
    } catch (error) {
      database.close()
      throw error
    }
  }

  get shard(): ShardConfig {
    return this.transactions.shard
  }

  meta(key: string): string | undefined {
    return this.database.get<{ value: string }>('select value from meta where key = ?', key)?.value
  }

  setMeta(key: string, value: string): void {
    this.database.run('insert or replace into meta (key, value) values (?, ?)', key, value)
  }

  /** Blocks applied, newest first. */
  blocks(): StoredBlock[] {
    return this.database.all<BlockRow>('select number, hash from block order by number desc').map(readBlock)
  }

  /** The last block applied. */
  tip(): StoredBlock | undefined {
    const row = this.database.get<BlockRow>('select number, hash from block order by number desc limit 1')
    return row && readBlock(row)
  }

  /**
   * Puts the submissions of a range of blocks into the store, and the range's last block, all or nothing.
   *
   * @throws LogGapError; NodeError `FLOW_MISMATCH`
   */
  applyLogs({ to, submissions, catchingUp = false }: ApplyLogsParameters): { added: number[]; completed: number[] } {
    const added: number[] = []
    const completed: number[] = []
    const claimed: number[] = []
    const superseded: number[] = []
    this.database.transaction(() => {
      let next = this.transactions.nextSeq
      for (const submission of submissions) {
        // Seen before: a range fetched again after a retry.
        if (submission.seq < next) continue
        if (submission.seq > next) throw logGap({ submission, next })
        const { complete, objectId, dropped } = this.#putSubmission(submission, catchingUp ? 0 : this.#now())
        if (objectId !== undefined) claimed.push(objectId)
        superseded.push(...dropped)
        added.push(next)
        if (complete) completed.push(next)
        next += 1
      }
      this.database.run(
        'insert or replace into block (number, hash, next_seq) values (?, ?, ?)',
        to.number,
        fromHex(to.hash, { byteLength: 32 }),
        next,
      )
      this.#thinBlocks()
    })
    for (const objectId of superseded) this.objects.removePieces(objectId, { forget: true })
    for (const objectId of claimed) this.#dropForeignPieces(objectId)
    for (const seq of completed) this.#events.onFinalized?.(seq)
    return { added, completed }
  }

  /**
   * Takes back everything after a block (all of it without one): submissions, flow tree, blocks. Data received stays
   * for a while, in case the same content is submitted again.
   */
  revertTo(block: number | undefined): { removedFrom: number; removed: number } {
    return this.database.transaction(() => {
      const kept = block === undefined ? undefined : this.#nextSeqAfter(block)
      const from = kept ?? 0
      const removed = Math.max(0, this.transactions.nextSeq - from)
      const last = from > 0 ? this.transactions.get(from - 1) : undefined
      const objects = this.transactions.removeFrom(from)
      for (const objectId of objects) {
        if (this.transactions.byObject(objectId).length === 0) this.contents.unclaim(objectId)
      }
      this.flow.truncate(last ? last.startSector + last.sectors : 1)
      this.database.run('delete from block where number > ?', block ?? -1)
      return { removedFrom: from, removed }
    })
  }

  /** When a piece of this content was last stored, ms since 1970; undefined when it was long ago. */
  lastPieceAtMs(objectId: number): number | undefined {
    return this.#lastPieces.get(objectId)
  }

  /** What must be done in the transaction that makes a piece durable. */
  pieceStored(objectId: number, index: number, completed: number[]): void {
    this.#lastPieces.delete(objectId)
    this.#lastPieces.set(objectId, this.#now())
    const [oldest] = this.#lastPieces.size > MAX_LAST_PIECES ? this.#lastPieces.keys() : []
    if (oldest !== undefined) this.#lastPieces.delete(oldest)
    completed.push(...this.transactions.countPiece(objectId, index))
  }

  announceFinalized(seqs: readonly number[]): void {
    for (const seq of seqs) this.#events.onFinalized?.(seq)
  }

  /**
   * Changes the shard, together with a note on what is to be done next. Pieces of other shards are not touched: see
   * {@link dropForeign}.
   */
  async setShard(shard: ShardConfig, note?: { key: string; value: string }): Promise<void> {
    this.database.transaction(() => {
      this.setMeta('shard', formatShard(shard))
      if (note) this.setMeta(note.key, note.value)
    })
    this.transactions.shard = shard
    for (let from = 0; ; ) {
      const page = this.transactions.pending({ fromSeq: from, limit: RECOUNT_PAGE })
      const completed: number[] = []
      this.database.transaction(() => {
        for (const tx of page) if (this.#recount(tx)) completed.push(tx.seq)
      })
      this.announceFinalized(completed)
      const last = page.at(-1)
      if (!last) return
      from = last.seq + 1
      await new Promise(setImmediate)
    }
  }

  /** Removes at most `limit` pieces of a file that no submission of it wants in this node's shard. */
  dropForeign(objectId: number, limit: number): { pieces: number; bytes: number } {
    const claims = this.transactions.byObject(objectId).filter(({ status }) => status !== 'pruned')
    const remove = (index: number): boolean => !claims.some((tx) => ownsSegment(this.shard, tx, index))
    return this.objects.removePieces(objectId, { remove, limit })
  }

  /** Gives up a submission's data. Pieces stay while another submission names the content. */
  prune(seq: number): void {
    this.transactions.markPruned(seq)
  }

  /** Waits for writes under way, then closes. */
  async close(): Promise<void> {
    await this.#commit.settled()
    await this.files.close()
    this.database.close()
  }

  #putSubmission(
    submission: LoggedSubmission,
    loggedAtMs: number,
  ): { complete: boolean; objectId: number | undefined; dropped: number[] } {
    const { seq, nodes, sizeBytes } = submission
    const placed = this.flow.append(nodes)
    const sectors = submissionSectors(nodes)
    if (placed.startSector !== submission.startSector || sectors !== submission.sectors) {
      throw new NodeError({
        code: 'FLOW_MISMATCH',
        message: `submission ${seq} should begin at sector ${placed.startSector} with ${sectors} sectors, the chain says ${submission.startSector} with ${submission.sectors}`,
        fix: 'check the flow address and the start block; if they are right, sync again into an empty data folder',
        details: { seq, startSector: placed.startSector, chainStartSector: submission.startSector },
      })
    }
    const root = submissionRoot(nodes)
    const dropped: number[] = []
    let objectId: number | undefined
    let present: number[] = []
    if (submissionIsFile({ sizeBytes, nodes })) {
      // The root does not fix the size: content cached under another size was guessed wrong.
      const cached = this.contents.findCached(root)
      if (cached && cached.sizeBytes !== sizeBytes) dropped.push(cached.id)
      objectId = this.contents.claim(root, sizeBytes)
      present = this.objects.indexes(objectId)
    }
    const complete = this.transactions.put({
      ...submission,
      objectId,
      root,
      present,
      loggedAtMs,
      flowRoot: placed.root,
    })
    return { complete, objectId, dropped }
  }

  #thinBlocks(): void {
    const count = this.database.get<{ n: number }>('select count(*) as n from block')?.n ?? 0
    // Beyond the dense ones stays one for each power of two.
    if (count <= DENSE_BLOCKS + 64 + SPARE_BLOCKS) return
    const blocks = this.blocks()
    const kept = new Set(thinCheckpoints({ checkpoints: blocks, dense: DENSE_BLOCKS }).map(({ number }) => number))
    for (const { number } of blocks)
      if (!kept.has(number)) this.database.run('delete from block where number = ?', number)
  }

  /** The first submission after a block: told by the newest stored block that is not above it. */
  #nextSeqAfter(block: number): number | undefined {
    const sql = 'select next_seq from block where number <= ? order by number desc limit 1'
    return this.database.get<{ next_seq: number }>(sql, block)?.next_seq
  }

  /** Cached content holds every segment; a shard keeps only its own. */
  #dropForeignPieces(objectId: number): void {
    if (this.shard.numShard > 1) this.dropForeign(objectId, Number.MAX_SAFE_INTEGER)
  }

  #recountObject(objectId: number): void {
    for (const tx of this.transactions.byObject(objectId)) {
      if (tx.status === 'pruned') continue
      const complete = this.database.transaction(() => this.#recount(tx))
      if (tx.status === 'finalized' && !complete) this.#events.onUnfinalized?.(tx.seq)
    }
  }

  #recount(tx: FileTransaction): boolean {
    if (tx.objectId === undefined) return false
    return this.transactions.recount(tx, this.objects.indexes(tx.objectId))
  }
}

export interface ApplyLogsParameters {
  to: StoredBlock
  submissions: readonly LoggedSubmission[]
  /** The blocks are old: nobody is uploading these files just now. */
  catchingUp?: boolean | undefined
}

interface BlockRow {
  number: number
  hash: Uint8Array
}

function readBlock({ number, hash }: BlockRow): StoredBlock {
  return { number, hash: toHex(hash) }
}

function logGap({ submission, next }: { submission: LoggedSubmission; next: number }): LogGapError {
  return new LogGapError({
    code: 'LOG_GAP',
    message: `submission ${submission.seq} arrived in block ${submission.block} while ${next} is still missing`,
    fix: 'the blocks before are fetched again; if it persists, use another RPC endpoint or an earlier start block',
    details: { got: submission.seq, expected: next, block: submission.block },
  })
}
