import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { WeightlessError } from '#protocol/error.ts'

/** A database that cannot be opened or used. Codes `DATABASE_NEWER`, `DATABASE_CORRUPT`, `DATABASE_BUSY`,
 *  `DATABASE_OPEN`, `DATABASE_MIGRATION`, `DATABASE_TRANSACTION`. */
export class DatabaseError extends WeightlessError {}

/** One result row. Integers above 2^53 − 1 fail unless the statement is set to read big integers. */
export type Row = Record<string, string | number | bigint | null | Uint8Array>

/** A SQLite database: write-ahead log, full sync (a committed transaction survives a power cut), foreign keys on. */
export interface Database extends Disposable {
  readonly path: string
  /** The statement for `sql`, compiled once and kept (the 256 most recently used). Values go in as
   *  parameters. It is shared: finish one iteration before you run the same text again. */
  prepare(sql: string): StatementSync
  /** Runs statements without parameters or results. */
  exec(sql: string): void
  run(sql: string, ...values: SQLInputValue[]): { changes: number | bigint; lastInsertRowid: number | bigint }
  /** The first row or undefined. `R` describes the columns of the query. */
  get<R extends object = Row>(sql: string, ...values: SQLInputValue[]): R | undefined
  all<R extends object = Row>(sql: string, ...values: SQLInputValue[]): R[]
  /**
   * Runs `work` in one transaction, all or nothing; inside another it is a savepoint. `work` is synchronous: a promise
   * is refused and rolled back, because other work would slip into the transaction.
   */
  transaction<T>(work: () => T): T
  /** Closes it; repeated calls do nothing. */
  close(): void
}

export interface OpenDatabaseParameters {
  /** File, created with its folder when missing; `:memory:` for a passing one. */
  path: string
  /** SQL scripts, oldest first. Script i takes the database from version i to i + 1; never change a published one. */
  migrations: readonly string[]
  /** How long to wait for another process's lock, in milliseconds. Default 5,000. */
  busyTimeoutMs?: number | undefined
}

const CACHED_STATEMENTS = 256

/**
 * Opens a database and brings it to the code's version: each migration and its version number in one transaction, so
 * a crash leaves the database at a whole version.
 *
 * @throws DatabaseError `DATABASE_NEWER` when newer code has written it; `DATABASE_CORRUPT` when the file is no sound
 * database; `DATABASE_BUSY` when another process holds it; `DATABASE_MIGRATION` when a script fails (nothing changed).
 * @example
 * const database = openDatabase({ path: 'data/node.db', migrations: ['create table file (seq integer primary key)'] })
 * database.transaction(() => database.run('insert into file (seq) values (?)', 7))
 */
export function openDatabase({ path, migrations, busyTimeoutMs = 5_000 }: OpenDatabaseParameters): Database {
  const connection = connect(path, busyTimeoutMs)
  const statements = new Map<string, StatementSync>()
  let depth = 0

  function prepare(sql: string): StatementSync {
    const cached = statements.get(sql)
    const statement = cached ?? connection.prepare(sql)
    // A map keeps insertion order: putting it back last makes the first entry the least recently used.
    statements.delete(sql)
    statements.set(sql, statement)
    const [oldest] = statements.size > CACHED_STATEMENTS ? statements.keys() : []
    if (oldest !== undefined) statements.delete(oldest)
    return statement
  }

  function transaction<T>(work: () => T): T {
    const savepoint = `level_${depth}`
    connection.exec(depth === 0 ? 'begin immediate' : `savepoint ${savepoint}`)
    depth += 1
    try {
      const result = work()
      if (result instanceof Promise) {
        result.catch(() => {})
        throw new DatabaseError({
          code: 'DATABASE_TRANSACTION',
          message: 'the work of a transaction returned a promise',
          fix: 'gather what must be awaited first, then write in one synchronous step',
        })
      }
      connection.exec(depth === 1 ? 'commit' : `release ${savepoint}`)
      return result
    } catch (error) {
      // SQLite has rolled back by itself after some errors (disk full): rolling back again would hide the first error.
      if (connection.isTransaction) {
        connection.exec(depth === 1 ? 'rollback' : `rollback to ${savepoint}; release ${savepoint}`)
      }
      throw error
    } finally {
      depth -= 1
    }
  }

  function close(): void {
    statements.clear()
    if (connection.isOpen) connection.close()
  }

  try {
    migrate({ connection, path, migrations, transaction })
  } catch (error) {
    close()
    throw error
  }
  return {
    path,
    prepare,
    exec: (sql) => connection.exec(sql),
    run: (sql, ...values) => prepare(sql).run(...values),
    get: <R extends object>(sql: string, ...values: SQLInputValue[]) => prepare(sql).get(...values) as R | undefined,
    all: <R extends object>(sql: string, ...values: SQLInputValue[]) => prepare(sql).all(...values) as R[],
    transaction,
    close,
    [Symbol.dispose]: close,
  }
}

function connect(path: string, busyTimeoutMs: number): DatabaseSync {
  let connection: DatabaseSync | undefined
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
    connection = new DatabaseSync(path, { timeout: busyTimeoutMs, enableForeignKeyConstraints: true })
    connection.exec('pragma journal_mode = wal; pragma synchronous = full; pragma journal_size_limit = 67108864;')
    return connection
  } catch (cause) {
    if (connection?.isOpen) connection.close()
    throw describe(path, cause)
  }
}

function migrate({
  connection,
  path,
  migrations,
  transaction,
}: {
  connection: DatabaseSync
  path: string
  migrations: readonly string[]
  transaction: (work: () => void) => void
}): void {
  for (;;) {
    const version = Number(connection.prepare('pragma user_version').get()?.user_version ?? 0)
    if (version > migrations.length) {
      throw new DatabaseError({
        code: 'DATABASE_NEWER',
        message: `${path} is at version ${version}, this program knows versions to ${migrations.length}`,
        fix: 'run the newer program that wrote it, or start with an empty data folder',
        details: { path, version, known: migrations.length },
      })
    }
    const script = migrations[version]
    if (script === undefined) return
    try {
      transaction(() => {
        // Another process may have migrated between the look and the lock.
        if (Number(connection.prepare('pragma user_version').get()?.user_version) !== version) return
        connection.exec(script)
        connection.exec(`pragma user_version = ${version + 1}`)
      })
    } catch (cause) {
      const described = describe(path, cause)
      if (described.code !== 'DATABASE_OPEN') throw described
      throw new DatabaseError({
        code: 'DATABASE_MIGRATION',
        message: `${path} could not be brought to version ${version + 1}: ${described.message}`,
        fix: 'nothing was changed; report the message, or start with an empty data folder',
        details: { path, from: version, to: version + 1 },
        cause,
      })
    }
  }
}

// Primary result codes of SQLite: https://www.sqlite.org/rescode.html
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const SQLITE_CORRUPT = 11
const SQLITE_NOTADB = 26

function describe(path: string, cause: unknown): DatabaseError {
  const extended: unknown = cause instanceof Error ? Reflect.get(cause, 'errcode') : undefined
  const result = typeof extended === 'number' ? extended & 0xff : undefined
  const message = cause instanceof Error ? cause.message : String(cause)
  const details = { path, sqliteCode: extended }
  if (result === SQLITE_BUSY || result === SQLITE_LOCKED) {
    const fix = 'stop the other process that uses this data folder'
    return new DatabaseError({ code: 'DATABASE_BUSY', message: `${path} is in use`, fix, details, cause })
  }
  if (result === SQLITE_CORRUPT || result === SQLITE_NOTADB) {
    const fix = 'restore a backup, or move the file away: what it held is synced again from chain and peers'
    const text = `${path} is not a sound database: ${message}`
    return new DatabaseError({ code: 'DATABASE_CORRUPT', message: text, fix, details, cause })
  }
  const fix = 'check the path, its permissions and the free space'
  return new DatabaseError({ code: 'DATABASE_OPEN', message: `${path}: ${message}`, fix, details, cause })
}
