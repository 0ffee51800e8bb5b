import { type Database, openDatabase } from '#kit/sqlite.ts'
import { fromHex, type Hash, type Hex, toHex } from '#protocol/hex.ts'
import type { RightChange } from '#protocol/kv/replay.ts'

const MIGRATIONS = [
  `
  create table stream (id blob primary key) without rowid;
  -- Every submission with stream tags, also of streams not monitored: a stream may be added later.
  create table submission (
    seq integer primary key, root text not null, size_bytes integer not null, sender text not null,
    streams blob not null, block integer not null, result text, value_end integer
  );
  create index submission_open on submission (seq) where result is null;
  create table entry (
    stream blob not null, key blob not null, version integer not null,
    offset integer not null, length integer not null, primary key (stream, key, version)
  ) without rowid;
  create index entry_version on entry (version);
  create table access (
    stream blob not null, family integer not null, account blob not null, key blob not null, version integer not null,
    control integer not null, primary key (stream, family, account, key, version)
  ) without rowid;
  create index access_version on access (version);
  create table checkpoint (block integer primary key, hash text not null);
  create table progress (name text primary key, value integer not null) without rowid;
  insert into progress values ('next_seq', 0), ('logged_seq', 0);
  `,
  `
  -- Which key the streams were read with: a fingerprint, never the key.
  create table reader (fingerprint text not null);
  insert into reader values ('none');
  `,
]

/** A submission with stream tags, as logged. */
export interface LoggedSubmission {
  seq: number
  root: Hash
  sizeBytes: number
  sender: Hex
  streamIds: Hex[]
  block: number
}

/** Where a value lies in the value log. */
export interface StoredValue {
  key: Uint8Array
  version: number
  offset: number
  length: number
}

/** Whether streams that nobody named are replayed too, and how many. */
export interface AllStreams {
  enabled: boolean
  /** Streams in all. */
  maxStreams: number
  /** Bytes of all stream data logged, after which no further stream is taken. */
  maxBytes: number
}

const ONLY_NAMED: AllStreams = { enabled: false, maxStreams: 0, maxBytes: 0 }

/** A value to record: its key and place in the value log. */
export interface NewValue {
  streamId: Hex
  key: Uint8Array
  offset: number
  length: number
}

interface SubmissionRow {
  seq: number
  root: Hash
  size_bytes: number
  sender: Hex
  streams: Uint8Array
  block: number
}

const STREAM_BYTES = 32
const CACHE_KIB = 65_536
/** Blocks remembered for finding the fork point of a reorganisation. */
const CHECKPOINTS_KEPT = 256

/** Tables of the key-value agent: submissions, versions of keys, rights, and how far chain and replay have come. */
export class KvStore {
  readonly #db: Database
  readonly #all: AllStreams

  constructor(path: string, { allStreams = ONLY_NAMED }: { allStreams?: AllStreams } = {}) {
    this.#db = openDatabase({ path, migrations: MIGRATIONS })
    this.#all = allStreams
    // Keys come in any order: with SQLite's own 2 MiB every insert would read a page of a table past 10,000 keys.
    this.#db.exec(`pragma cache_size = -${CACHE_KIB}`)
    if (allStreams.enabled) this.#takeLoggedStreams()
  }

  close(): void {
    this.#db.close()
  }

  /* STREAMS */

  streams(): Hex[] {
    return this.#db.all<{ id: Uint8Array }>('select id from stream order by id').map(({ id }) => toHex(id))
  }

  /** Whether a write of this stream counts here, now or once somebody writes it. */
  accepts(id: Hex): boolean {
    return this.holds(id) || (this.#all.enabled && this.#hasRoom(Number.MAX_SAFE_INTEGER))
  }

  /** Whether the stream is replayed. */
  holds(id: Hex): boolean {
    return this.#db.get('select 1 from stream where id = ?', streamKey(id)) !== undefined
  }

  /**
   * Whether reads of the stream can be judged. With every stream taken that is so for one that nobody has written yet,
   * too: otherwise its first write later on would change what a replay makes of earlier reads.
   */
  monitors(id: Hex): boolean {
    return this.#all.enabled || this.holds(id)
  }

  /** Notes which key the streams are read with; under another than before everything is replayed. Says whether it is. */
  setKey(fingerprint: string): boolean {
    return this.#db.transaction(() => {
      const { changes } = this.#db.run('update reader set fingerprint = ?1 where fingerprint <> ?1', fingerprint)
      if (Number(changes) === 0) return false
      this.#rewind(0)
      return true
    })
  }

  /** Adds streams; when one is new, replay begins again from the first submission. Says whether it does. */
  addStreams(ids: readonly Hex[]): boolean {
    return this.#db.transaction(() => {
      let added = false
      for (const id of ids) {
        const { changes } = this.#db.run('insert or ignore into stream values (?)', streamKey(id))
        added ||= Number(changes) > 0
      }
      if (added) this.#rewind(0)
      return added
    })
  }

  /* CHAIN */

  checkpoints(): { number: number; hash: Hash }[] {
    return this.#db.all<{ number: number; hash: Hash }>(
      'select block as number, hash from checkpoint order by block desc',
    )
  }

  /** Records submissions and the block up to which the log is known, in one transaction. */
  log(submissions: readonly LoggedSubmission[], loggedSeq: number, block: { number: number; hash: Hash }): void {
    this.#db.transaction(() => {
      for (const { seq, root, sizeBytes, sender, streamIds, block: at } of submissions) {
        const streams = Buffer.concat(streamIds.map(streamKey))
        this.#db.run(
          `insert or replace into submission (seq, root, size_bytes, sender, streams, block) values (?, ?, ?, ?, ?, ?)`,
          ...[seq, root, sizeBytes, sender, streams, at],
        )
        if (this.#all.enabled) this.#take(streamIds, seq)
      }
      this.#setProgress('logged_seq', loggedSeq)
      this.#db.run('insert or replace into checkpoint values (?, ?)', block.number, block.hash)
      this.#db.run(
        `delete from checkpoint where block <= (select block from checkpoint order by block desc limit 1 offset ?)`,
        CHECKPOINTS_KEPT,
      )
    })
  }

  /** Forgets what was logged after `block` (everything without one) and rewinds replay to before it. */
  revert(block: number | undefined): void {
    const kept = block ?? -1
    this.#db.transaction(() => {
      const first = this.#db.get<{ seq: number | null }>('select min(seq) as seq from submission where block > ?', kept)
      if (first?.seq !== null && first?.seq !== undefined) {
        this.#rewind(first.seq)
        this.#db.run('delete from submission where seq >= ?', first.seq)
      }
      this.#db.run('delete from checkpoint where block > ?', kept)
    })
  }

  loggedSeq(): number {
    return this.#progress('logged_seq')
  }

  /* REPLAY */

  /** Sequence number that replay looks at next: everything below is settled. */
  nextSeq(): number {
    return this.#progress('next_seq')
  }

  /** The first submission not yet replayed whose streams are all monitored. */
  nextSubmission(): LoggedSubmission | undefined {
    const open = this.#db
      .prepare('select * from submission where seq >= ? and result is null order by seq')
      .iterate(this.nextSeq()) as IterableIterator<unknown>
    for (const row of open) {
      const submission = toSubmission(row as SubmissionRow)
      if (submission.streamIds.every((id) => this.holds(id))) return submission
    }
    return undefined
  }

  /** The first settled submission with this result. */
  firstWithResult(result: string): LoggedSubmission | undefined {
    const row = this.#db.get<SubmissionRow>('select * from submission where result = ? order by seq limit 1', result)
    return row && toSubmission(row)
  }

  /** First submission of the monitored streams, settled or open. */
  firstSubmissionSeq(): number | null {
    for (const row of this.#db.prepare('select seq, streams from submission order by seq').iterate()) {
      const { seq, streams } = row as unknown as SubmissionRow
      if (splitStreams(streams).every((id) => this.holds(id))) return seq
    }
    return null
  }

  /** Settles a submission: result, values and rights at version = seq, all or nothing. */
  settle({ seq, result, values = [], rights = [], valueEnd }: SettleParameters): void {
    this.#db.transaction(() => {
      this.#db.run('update submission set result = ?, value_end = ? where seq = ?', result, valueEnd, seq)
      for (const { streamId, key, offset, length } of values) {
        this.#db.run('insert into entry values (?, ?, ?, ?, ?)', streamKey(streamId), key, seq, offset, length)
      }
      for (const { streamId, control, key, account } of rights) {
        const who = fromHex(account, { byteLength: 20, field: 'account' })
        this.#db.run(
          'insert into access values (?, ?, ?, ?, ?, ?)',
          streamKey(streamId),
          control & 0xf0,
          who,
          key,
          seq,
          control,
        )
      }
      this.#setProgress('next_seq', seq + 1)
    })
  }

  /** Forgets what replay did from `seq` on, so that it is done again. */
  rewind(seq: number): void {
    this.#db.transaction(() => this.#rewind(seq))
  }

  result(seq: number): string | null {
    return this.#db.get<{ result: string | null }>('select result from submission where seq = ?', seq)?.result ?? null
  }

  /** Length of the value log that committed replay has used, in bytes. */
  valueEnd(): number {
    const row = this.#db.get<{ value: number | null }>('select max(value_end) as value from submission')
    return row?.value ?? 0
  }

  /* VALUES: of each key the newest version at or below `version` */

  value(streamId: Hex, key: Uint8Array, version: number): StoredValue | undefined {
    return this.#db.get<StoredValue & object>(
      `select key, version, offset, length from entry where stream = ? and key = ? and version <= ?
       order by version desc limit 1`,
      ...[streamKey(streamId), key, version],
    )
  }

  /** The nearest key that is not deleted, in bytewise order, from `key` (or from the end without one). */
  neighbour({ streamId, key, direction, inclusive, version }: NeighbourParameters): StoredValue | undefined {
    const [compare, order] = direction === 'next' ? ['>', 'asc'] : ['<', 'desc']
    const bound = key === undefined ? '' : `and key ${compare}${inclusive ? '=' : ''} ?`
    // A bare column beside max() is taken from the row that holds the maximum (SQLite, "Bare columns in an aggregate").
    return this.#db.get<StoredValue & object>(
      `select key, max(version) as version, offset, length from entry where stream = ? and version <= ? ${bound}
       group by key having length > 0 order by key ${order} limit 1`,
      ...[streamKey(streamId), version, ...(key === undefined ? [] : [key])],
    )
  }

  /* RIGHTS: of each right the newest change at or below `version` */

  hasRights(streamId: Hex, version: number): boolean {
    const sql = 'select 1 from access where stream = ? and version <= ? limit 1'
    return this.#db.get(sql, streamKey(streamId), version) !== undefined
  }

  /** The control that last changed this right, undefined when none did. */
  control({ streamId, family, account, key, version }: ControlParameters): number | undefined {
    return this.#db.get<{ control: number }>(
      `select control from access where stream = ? and family = ? and account = ? and key = ? and version <= ?
       order by version desc limit 1`,
      ...[streamKey(streamId), family, fromHex(account), key, version],
    )?.control
  }

  /** Whether for any key of the stream the last change of this family and account is `control`. */
  hasControlOnAnyKey({ streamId, family, account, version }: Omit<ControlParameters, 'key'>, control: number): boolean {
    return (
      this.#db.get(
        `select 1 from (select key, max(version), control from access
         where stream = ? and family = ? and account = ? and version <= ? group by key) where control = ? limit 1`,
        ...[streamKey(streamId), family, fromHex(account), version, control],
      ) !== undefined
    )
  }

  /** Streams that were logged while only named ones, or fewer, were taken. */
  #takeLoggedStreams(): void {
    this.#db.transaction(() => {
      let earliest: number | undefined
      for (const row of this.#db.all<{ seq: number; streams: Uint8Array }>(
        'select seq, streams from submission order by seq',
      )) {
        if (this.#take(splitStreams(row.streams), row.seq)) earliest ??= row.seq
      }
      if (earliest !== undefined) this.#rewind(earliest)
    })
  }

  /** Takes the streams of a submission while there is room. Says whether one is new. */
  #take(ids: readonly Hex[], seq: number): boolean {
    let added = false
    for (const id of ids) {
      if (this.holds(id) || !this.#hasRoom(seq)) continue
      this.#db.run('insert into stream values (?)', streamKey(id))
      added = true
    }
    return added
  }

  /** Room for a stream that begins with this submission: decided by what came before it, so the same at every look. */
  #hasRoom(seq: number): boolean {
    const { count } = this.#db.get<{ count: number }>('select count(*) as count from stream') ?? { count: 0 }
    if (count >= this.#all.maxStreams) return false
    const before = 'select coalesce(sum(size_bytes), 0) as bytes from submission where seq < ?'
    const { bytes } = this.#db.get<{ bytes: number }>(before, seq) ?? { bytes: 0 }
    return bytes <= this.#all.maxBytes
  }

  #rewind(seq: number): void {
    this.#db.run('delete from entry where version >= ?', seq)
    this.#db.run('delete from access where version >= ?', seq)
    this.#db.run('update submission set result = null, value_end = null where seq >= ?', seq)
    if (this.nextSeq() > seq) this.#setProgress('next_seq', seq)
  }

  #progress(name: string): number {
    return this.#db.get<{ value: number }>('select value from progress where name = ?', name)?.value ?? 0
  }

  #setProgress(name: string, value: number): void {
    this.#db.run('update progress set value = ? where name = ?', value, name)
  }
}

export interface SettleParameters {
  seq: number
  result: string
  values?: readonly NewValue[]
  rights?: readonly RightChange[]
  /** End of the value log after this submission, in bytes. */
  valueEnd: number
}

export interface NeighbourParameters {
  streamId: Hex
  /** Where to start; the first or last key when absent. */
  key?: Uint8Array | undefined
  direction: 'next' | 'previous'
  inclusive: boolean
  version: number
}

export interface ControlParameters {
  streamId: Hex
  /** Upper four bits of the control types. */
  family: number
  account: Hex
  key: Uint8Array
  version: number
}

function streamKey(id: Hex): Uint8Array {
  return fromHex(id, { byteLength: STREAM_BYTES, field: 'streamId' })
}

function splitStreams(streams: Uint8Array): Hex[] {
  const ids: Hex[] = []
  for (let at = 0; at < streams.length; at += STREAM_BYTES) ids.push(toHex(streams.subarray(at, at + STREAM_BYTES)))
  return ids
}

function toSubmission({ seq, root, size_bytes, sender, streams, block }: SubmissionRow): LoggedSubmission {
  return { seq, root, sizeBytes: size_bytes, sender, streamIds: splitStreams(streams), block }
}
