import { join } from 'node:path'
import type { BlockRef } from '#kit/chain/block.ts'
import { thinCheckpoints } from '#kit/chain/log-follower.ts'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { SignerError } from '../error.ts'
import type { BlobKey } from './blob-key.ts'
import { type CustodyOutcome, type CustodyRequest, CustodyTable } from './custody-table.ts'
import { HeldTable } from './held-table.ts'
import { MIGRATIONS } from './migrations.ts'

/** A paid submission, as the chain recorded it. */
export interface Submission extends BlobKey {
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
  /** The last epoch in which the rows must be held. */
  expiryEpoch: number
  block: number
}

/** A commitment the chain has recorded. */
export interface Recorded extends BlobKey {
  /** Whether this signer's bit was among those that signed; undefined where it had no part in the epoch. */
  signed: boolean | undefined
  block: number
}

/** A sample that the chain credited to this signer. */
export interface Reward {
  wei: bigint
  block: number
  logIndex: number
}

/** What one batch of logs says. */
export interface ChainNews {
  submissions: readonly Submission[]
  recorded: readonly Recorded[]
  rewards: readonly Reward[]
  challenges: readonly CustodyRequest[]
  outcomes: readonly CustodyOutcome[]
}

/** What ties a data folder to one signer of one network. */
export interface SignerIdentity {
  chainId: number
  entrance: Hash
  signer: Hash
}

/** Checkpoints kept without gaps; older ones thin out. */
const DENSE_CHECKPOINTS = 256

const SUBMISSION = 's.data_root, s.epoch, s.quorum, s.size_bytes, s.row_root, s.rlc_root, s.expiry_epoch, s.block'

interface SubmissionRow {
  data_root: Uint8Array
  epoch: number
  quorum: number
  size_bytes: number
  row_root: Uint8Array
  rlc_root: Uint8Array
  expiry_epoch: number
  block: number
}

/** The signer's tables: what the chain said, up to a block, and what is on disk. */
export class SignerStore {
  readonly database: Database
  readonly held: HeldTable
  readonly custody: CustodyTable

  /** @throws SignerError `SIGNER_IDENTITY`; DatabaseError */
  constructor({ dataDir, identity }: { dataDir: string; identity: SignerIdentity }) {
    this.database = openDatabase({ path: join(dataDir, 'signer.db'), migrations: MIGRATIONS })
    try {
      this.#claim(identity)
    } catch (error) {
      this.database.close()
      throw error
    }
    this.held = new HeldTable(this.database)
    this.custody = new CustodyTable(this.database)
  }

  close(): void {
    this.database.close()
  }

  /** Blocks applied, newest first. */
  checkpoints(): BlockRef[] {
    return this.database.all<{ number: number; hash: Hash }>('select number, hash from checkpoint order by number desc')
  }

  tip(): BlockRef | undefined {
    return this.database.get<{ number: number; hash: Hash }>(
      'select number, hash from checkpoint order by number desc limit 1',
    )
  }

  /** Writes what a batch of logs says and its checkpoint, all or nothing. The same news twice changes nothing. */
  apply(news: ChainNews, to: BlockRef): void {
    const { database } = this
    database.transaction(() => {
      for (const submission of news.submissions) {
        const { sizeBytes, rowRoot, rlcRoot, expiryEpoch, block } = submission
        // A second payment for the same blob and epoch may lengthen its retention, never shorten it.
        const sql = `insert into submission (data_root, epoch, quorum, size_bytes, row_root, rlc_root, expiry_epoch, block)
          values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set expiry_epoch = max(expiry_epoch, excluded.expiry_epoch)`
        database.run(sql, ...values(submission), sizeBytes, fromHex(rowRoot), fromHex(rlcRoot), expiryEpoch, block)
      }
      for (const recorded of news.recorded) {
        const sql = `insert into recorded (data_root, epoch, quorum, signed, block) values (?, ?, ?, ?, ?)
          on conflict do nothing`
        const signed = recorded.signed === undefined ? null : Number(recorded.signed)
        database.run(sql, ...values(recorded), signed, recorded.block)
      }
      for (const { wei, block, logIndex } of news.rewards) {
        const sql = 'insert into reward (block, log_index, wei) values (?, ?, ?) on conflict do nothing'
        database.run(sql, block, logIndex, String(wei))
      }
      for (const challenge of news.challenges) this.custody.add(challenge)
      for (const outcome of news.outcomes) this.custody.settle(outcome)
      database.run(
        'insert into checkpoint (number, hash) values (?, ?) on conflict do update set hash = excluded.hash',
        to.number,
        to.hash,
      )
      if (to.number % 64 === 0) this.#thin()
    })
  }

  /** Forgets what blocks after `to` said; undefined: everything. Rows on disk stay: their submission mostly comes back. */
  revert(to: BlockRef | undefined): void {
    const block = to?.number ?? -1
    const { database } = this
    database.transaction(() => {
      for (const table of ['submission', 'recorded', 'reward'])
        database.run(`delete from ${table} where block > ?`, block)
      this.custody.revert(block)
      database.run('delete from checkpoint where number > ?', block)
    })
  }

  /** The submission of a blob, where the chain has it at the depth that is waited for. */
  submission(key: BlobKey): Submission | undefined {
    const sql = `select ${SUBMISSION} from submission s where data_root = ? and epoch = ? and quorum = ?`
    const row = this.database.get<SubmissionRow>(sql, ...values(key))
    return row && readSubmission(row)
  }

  /** Whether the chain has recorded the commitment. */
  isRecorded(key: BlobKey): boolean {
    const sql = 'select 1 as yes from recorded where data_root = ? and epoch = ? and quorum = ?'
    return this.database.get(sql, ...values(key)) !== undefined
  }

  /** Recorded blobs whose rows are not here although this signer signed for them, the latest first. */
  lost({ sinceEpoch, limit }: { sinceEpoch: number; limit: number }): Submission[] {
    const sql = `select ${SUBMISSION} from recorded r join submission s using (data_root, epoch, quorum)
      left join held h on h.data_root = r.data_root and h.epoch = r.epoch and h.quorum = r.quorum
      where r.signed = 1 and s.expiry_epoch >= ? and (h.data_root is null or h.damaged_ms is not null)
      order by s.block desc limit ?`
    return this.database.all<SubmissionRow>(sql, sinceEpoch, limit).map(readSubmission)
  }

  /** Forgets submissions and records of long ago; their rows are gone already. */
  forget({ beforeEpoch }: { beforeEpoch: number }): void {
    this.database.transaction(() => {
      const sql = `delete from recorded where exists (select 1 from submission s where s.data_root = recorded.data_root
        and s.epoch = recorded.epoch and s.quorum = recorded.quorum and s.expiry_epoch < ?)`
      this.database.run(sql, beforeEpoch)
      this.database.run('delete from submission where expiry_epoch < ?', beforeEpoch)
    })
  }

  /** Sums for the status. */
  totals(): {
    submissions: number
    recorded: number
    signed: number
    missed: number
    rewards: number
    earnedWei: bigint
  } {
    const counts = this.database.get<{ submissions: number; recorded: number; signed: number; missed: number }>(
      `select (select count(*) from submission) as submissions, (select count(*) from recorded) as recorded,
        (select count(*) from recorded where signed = 1) as signed,
        (select count(*) from recorded where signed = 0) as missed`,
    )
    let earnedWei = 0n
    let rewards = 0
    for (const { wei } of this.database.prepare('select wei from reward').iterate() as Iterable<{ wei: string }>) {
      earnedWei += BigInt(wei)
      rewards += 1
    }
    return { submissions: 0, recorded: 0, signed: 0, missed: 0, ...counts, rewards, earnedWei }
  }

  #thin(): void {
    const keep = new Set(
      thinCheckpoints({ checkpoints: this.checkpoints(), dense: DENSE_CHECKPOINTS }).map((c) => c.number),
    )
    for (const { number } of this.checkpoints()) {
      if (!keep.has(number)) this.database.run('delete from checkpoint where number = ?', number)
    }
  }

  #claim(identity: SignerIdentity): void {
    const wanted = JSON.stringify({
      chainId: identity.chainId,
      entrance: identity.entrance.toLowerCase(),
      signer: identity.signer.toLowerCase(),
    })
    const known = this.database.get<{ value: string }>("select value from meta where key = 'identity'")?.value
    if (known === undefined) this.database.run("insert into meta (key, value) values ('identity', ?)", wanted)
    else if (known !== wanted) {
      throw new SignerError({
        code: 'SIGNER_IDENTITY',
        message: 'the data folder belongs to another signer, chain or contract',
        fix: 'give each signer a data folder of its own',
        details: { folder: known, configuration: wanted },
      })
    }
  }
}

function values({ dataRoot, epoch, quorumId }: BlobKey): [Uint8Array, number, number] {
  return [fromHex(dataRoot), epoch, quorumId]
}

function readSubmission(row: SubmissionRow): Submission {
  return {
    dataRoot: toHex(row.data_root),
    epoch: row.epoch,
    quorumId: row.quorum,
    sizeBytes: row.size_bytes,
    rowRoot: toHex(row.row_root),
    rlcRoot: toHex(row.rlc_root),
    expiryEpoch: row.expiry_epoch,
    block: row.block,
  }
}
