import { type Database, DatabaseError, openDatabase } from '#kit/sqlite.ts'
import type { Hex } from '#protocol/hex.ts'
import { NodeError } from '../error.ts'
import { MIGRATIONS } from './migrations.ts'

/**
 * Opens a node's database for this process alone.
 *
 * @throws NodeError `DATA_DIR_IN_USE`; DatabaseError
 */
export function openExclusively(path: string): Database {
  try {
    const database = openDatabase({ path, migrations: MIGRATIONS, busyTimeoutMs: 1_000 })
    // Slots are handed out from memory, so a second process would overwrite the data of the first.
    database.exec('pragma locking_mode = exclusive; begin immediate; commit;')
    return database
  } catch (cause) {
    const busy = cause instanceof DatabaseError ? cause.code === 'DATABASE_BUSY' : isLocked(cause)
    if (!busy) throw cause
    throw new NodeError({
      code: 'DATA_DIR_IN_USE',
      message: `another process uses the data folder of ${path}`,
      fix: 'stop the other node, or give this one its own dataDir',
      details: { path },
      cause,
    })
  }
}

function isLocked(error: unknown): boolean {
  const code: unknown = error instanceof Error ? Reflect.get(error, 'errcode') : undefined
  return typeof code === 'number' && [5, 6].includes(code & 0xff)
}

/**
 * Ties a new data folder to its network, and refuses one that belongs to another.
 *
 * @throws NodeError `DATA_DIR_FOREIGN`
 */
export function checkIdentity(
  database: Database,
  { identity, dataDir }: { identity: { chainId: number; flow: Hex }; dataDir: string },
): void {
  const wanted = `${identity.chainId} ${identity.flow.toLowerCase()}`
  const sql = "select value from meta where key = 'identity'"
  const kept = database.get<{ value: string }>(sql)?.value
  if (kept === undefined) {
    database.run("insert into meta (key, value) values ('identity', ?)", wanted)
    return
  }
  if (kept === wanted) return
  throw new NodeError({
    code: 'DATA_DIR_FOREIGN',
    message: `${dataDir} holds the data of another network (chain and flow ${kept}, configured ${wanted})`,
    fix: 'give another dataDir, or correct the chain and the flow address',
    details: { dataDir, kept, wanted },
  })
}
