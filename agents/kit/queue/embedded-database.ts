import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { PGlite } from '@electric-sql/pglite'
import { type PgPool, runMigrations } from 'bullmq'
import { pglitePool } from './pglite-pool.ts'
import { QueueError } from './queue-error.ts'

/** The schema BullMQ keeps its tables in. */
export const SCHEMA = 'bullmq'

/**
 * The folder is one process's at a time, so whoever held a job that is under way has ended: workers are to take it at
 * their first look, which for a database that others use has to wait until its lock has run out.
 */
const RELEASE_JOBS = `
  update job set locked_until_ms = 0, stalled_marked = true where state = 'active';
  delete from meta where field = 'stalled-check'`

/** One PGlite per folder and process, shared by the queues in it. */
export interface EmbeddedDatabase {
  readonly pool: PgPool
  /** The last one to release closes the database. */
  release(): Promise<void>
}

interface Shared {
  users: number
  readonly opening: Promise<{ pool: PgPool; close(): Promise<void> }>
}

const open = new Map<string, Shared>()

/**
 * Opens the embedded PostgreSQL in a folder (about 550 MB of memory, one to two seconds the first time). What was
 * committed survives the death of the process, at any moment; a power failure may take the last seconds.
 *
 * @throws {@link QueueError} `QUEUE_LOCKED` when another process has it open.
 */
export async function openEmbeddedDatabase(folder: string): Promise<EmbeddedDatabase> {
  const path = resolve(folder)
  const existing = open.get(path)
  const shared = existing ?? { users: 0, opening: start(path) }
  shared.users++
  if (existing === undefined) {
    open.set(path, shared)
    shared.opening.catch(() => open.delete(path))
  }
  const { pool, close } = await shared.opening
  let released = false
  return {
    pool,
    release: async () => {
      if (released) return
      released = true
      if (--shared.users > 0) return
      open.delete(path)
      await close()
    },
  }
}

async function start(path: string): Promise<{ pool: PgPool; close(): Promise<void> }> {
  await mkdir(path, { recursive: true })
  const unlock = lock(path)
  let database: PGlite | undefined
  try {
    database = await PGlite.create({ dataDir: join(path, 'postgres') })
    await database.exec(`create schema if not exists ${SCHEMA}; set search_path to ${SCHEMA}, public`)
    const pool = pglitePool(database)
    const client = await pool.connect()
    try {
      await runMigrations(client, SCHEMA)
    } finally {
      client.release()
    }
    // A migration may set the session's path for its own transaction only; this one is for everything after.
    await database.exec(`set search_path to ${SCHEMA}, public`)
    await database.exec(RELEASE_JOBS)
    const opened = database
    const close = async () => {
      try {
        await opened.close()
      } finally {
        unlock()
      }
    }
    return { pool, close }
  } catch (error) {
    await database?.close().catch(() => undefined)
    unlock()
    throw error
  }
}

/**
 * Two processes on one PGlite folder would destroy it. SQLite's file lock goes with the process that holds it, however
 * that ends.
 */
function lock(path: string): () => void {
  const file = new DatabaseSync(join(path, 'lock.sqlite'), { timeout: 0 })
  try {
    file.exec('pragma locking_mode = exclusive; begin exclusive; create table if not exists held (at integer); commit')
  } catch (cause) {
    file.close()
    throw new QueueError({
      code: 'QUEUE_LOCKED',
      message: `the embedded job queue in ${path} is in use by another process`,
      fix: 'stop the other process, give this one a data folder of its own, or set QUEUE_URL to a Redis or PostgreSQL',
      details: { path },
      cause,
    })
  }
  return () => file.close()
}
