import { closeSync, fdatasync, openSync } from 'node:fs'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import { migrations } from './migrations.ts'

/** The provider's database. */
export interface ProviderStore extends Disposable {
  readonly database: Database
  /**
   * Resolves when everything written before the call survives a power cut. Callers that come while one sync runs share
   * the next. What is written survives the end of the process at once, without it.
   */
  sync(): Promise<void>
  close(): void
}

/**
 * Opens the provider's database. Commits go to the write-ahead log without waiting for the disk, which takes
 * microseconds; {@link ProviderStore.sync} then waits for the disk off the main thread, once for all who wait. A commit
 * that was not synced can be lost by a power cut only, as a whole, never in part (https://sqlite.org/wal.html).
 *
 * @throws DatabaseError as `openDatabase`.
 */
export function openProviderStore({ path }: { path: string }): ProviderStore {
  const database = openDatabase({ path, migrations })
  // Copying the log back into the file waits for the disk, so it is done seldom: at 32 MiB.
  database.exec('pragma synchronous = normal; pragma wal_autocheckpoint = 8192')
  // A first write makes the log exist; it is the same file until the database is closed.
  database.exec('begin immediate; commit')
  let log: number | undefined
  let running: Promise<void> | undefined
  let next: Promise<void> | undefined

  function syncLog(): Promise<void> {
    return new Promise((resolve, reject) => {
      log ??= openSync(path === ':memory:' ? '/dev/null' : `${path}-wal`, 'r')
      fdatasync(log, (error) => {
        if (error === null || error.code === 'EINVAL') resolve()
        else reject(error)
      })
    })
  }

  function sync(): Promise<void> {
    if (running === undefined) {
      running = syncLog().finally(() => {
        running = undefined
      })
      return running
    }
    next ??= running
      .catch(() => undefined)
      .then(() => {
        next = undefined
        return sync()
      })
    return next
  }

  function close(): void {
    if (log !== undefined) closeSync(log)
    log = undefined
    database.close()
  }
  return { database, sync, close, [Symbol.dispose]: close }
}
