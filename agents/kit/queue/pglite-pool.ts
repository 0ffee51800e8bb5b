import { EventEmitter } from 'node:events'
import { type PGlite, types } from '@electric-sql/pglite'
import type { PgPool, PgPoolClient, PgQueryResult } from 'bullmq'

/** 64-bit integers as text, as node-postgres gives them. */
const PARSERS = { [types.INT8]: (value: string) => value }

/**
 * PGlite in the shape of a node-postgres pool, as far as BullMQ uses one. PGlite is one session: its "clients" share
 * it, and all of them hear its notifications. PGlite itself runs one query at a time.
 */
export function pglitePool(database: PGlite): PgPool {
  const pool = new EventEmitter()
  // Every queue and worker listens for errors on it.
  pool.setMaxListeners(0)
  const query = async <R>(text: string, parameters: readonly unknown[] = []): Promise<PgQueryResult<R>> => {
    // Like node-postgres: text without parameters may hold several statements.
    if (parameters.length === 0) {
      const results = await database.exec(text, { parsers: PARSERS })
      const last = results.at(-1)
      return { rows: (last?.rows ?? []) as R[], rowCount: last?.affectedRows ?? last?.rows.length ?? 0 }
    }
    const result = await database.query<R>(text, [...parameters], { parsers: PARSERS })
    return { rows: result.rows, rowCount: result.affectedRows ?? result.rows.length }
  }
  return Object.assign(pool, {
    query,
    connect: async (): Promise<PgPoolClient> => {
      const client = new EventEmitter()
      // BullMQ listens on one client per worker.
      client.setMaxListeners(0)
      const unsubscribe = database.onNotification((channel, payload) => {
        client.emit('notification', { channel, payload })
      })
      return Object.assign(client, { query, release: () => unsubscribe() })
    },
    end: async () => undefined,
  })
}
