import { join } from 'node:path'
import {
  type BackendFactory,
  createPostgresBackend,
  createRedisBackend,
  type IQueueBackend,
  runMigrations,
} from 'bullmq'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { openEmbeddedDatabase, SCHEMA } from './embedded-database.ts'
import { QueueError } from './queue-error.ts'

/** Where jobs are kept. */
export type QueueBackendKind = 'redis' | 'postgres' | 'embedded'

/** A connected backend: what BullMQ's classes are built from. */
export interface QueueBackend {
  readonly kind: QueueBackendKind
  readonly factory: BackendFactory<IQueueBackend, unknown>
  readonly connection: unknown
  close(): Promise<void>
}

const CONNECT_TIMEOUT_MS = 10_000

/**
 * Redis for `redis://` and `rediss://`, PostgreSQL for `postgres://` and `postgresql://`, else the embedded one in
 * `dataDir`/queue.
 *
 * @throws {@link QueueError}, without the URL's credentials.
 */
export async function openBackend({ url, dataDir, onError }: OpenBackendParameters): Promise<QueueBackend> {
  if (url === undefined || url === '') {
    if (dataDir === undefined) {
      throw new QueueError({
        code: 'QUEUE_URL',
        message: 'the job queue has neither a URL nor a data folder',
        fix: 'set QUEUE_URL to redis://… or postgres://…, or give a data folder',
      })
    }
    const { pool, release } = await openEmbeddedDatabase(join(dataDir, 'queue'))
    return { kind: 'embedded', factory: asFactory(createPostgresBackend), connection: pool, close: release }
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  switch (parsed?.protocol) {
    case 'redis:':
    case 'rediss:':
      return openRedis({ url, host: parsed.host, onError })
    case 'postgres:':
    case 'postgresql:':
      return openPostgres({ url, host: parsed.host, onError })
    default:
      throw new QueueError({
        code: 'QUEUE_URL',
        message: `the job queue's URL is ${parsed === undefined ? 'not a URL' : `of kind ${parsed.protocol}`}`,
        fix: 'use redis://, rediss://, postgres:// or postgresql://, or leave it out for the embedded queue',
      })
  }
}

export interface OpenBackendParameters {
  url?: string | undefined
  dataDir?: string | undefined
  /** Hears of connections that break later; the libraries reconnect by themselves. */
  onError: (error: Error) => void
}

interface ServerParameters {
  url: string
  host: string
  onError: (error: Error) => void
}

async function openRedis({ url, host, onError }: ServerParameters): Promise<QueueBackend> {
  // BullMQ's workers block on their connection: retries must not be counted.
  const redis = new Redis(url, { maxRetriesPerRequest: null, connectTimeout: CONNECT_TIMEOUT_MS, lazyConnect: true })
  redis.on('error', onError)
  try {
    await redis.connect()
    await redis.ping()
  } catch (cause) {
    redis.disconnect()
    throw unavailable('Redis', host, cause)
  }
  return {
    kind: 'redis',
    factory: asFactory(createRedisBackend),
    connection: redis,
    close: async () => {
      redis.disconnect()
    },
  }
}

async function openPostgres({ url, host, onError }: ServerParameters): Promise<QueueBackend> {
  const config = { connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS, keepAlive: true }
  const pool = new Pool({ ...config, max: 1 })
  pool.on('error', onError)
  try {
    const client = await pool.connect()
    try {
      await runMigrations(client, SCHEMA)
    } finally {
      client.release()
    }
  } catch (cause) {
    throw unavailable('PostgreSQL', host, cause)
  } finally {
    await pool.end()
  }
  return {
    kind: 'postgres',
    factory: asFactory(createPostgresBackend),
    // BullMQ opens a small pool and a listening client for each queue and worker.
    connection: { ...config, schema: SCHEMA, max: 4 },
    close: async () => undefined,
  }
}

function unavailable(what: string, host: string, cause: unknown): QueueError {
  return new QueueError({
    code: 'QUEUE_UNAVAILABLE',
    message: `${what} at ${host} cannot be used as job queue: ${cause instanceof Error ? cause.message : String(cause)}`,
    fix: 'check that it runs, its address, and its credentials in QUEUE_URL',
    details: { host },
    cause,
  })
}

/** BullMQ types each factory by its own connection options; here the pair is kept together by construction. */
function asFactory(factory: unknown): BackendFactory<IQueueBackend, unknown> {
  return factory as BackendFactory<IQueueBackend, unknown>
}
