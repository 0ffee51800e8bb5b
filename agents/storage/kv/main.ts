import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openStorageConnection } from '#client/storage/connection.ts'
import { connectChain } from '#kit/chain/client.ts'
import type { LogFollower } from '#kit/chain/log-follower.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { registerJsonRpc } from '#kit/http/json-rpc.ts'
import { createHttpServer, type HealthReport } from '#kit/http/server.ts'
import { createLog, type Logger } from '#kit/log.ts'
import { createMetrics } from '#kit/metrics.ts'
import type { KvConfig } from './config.ts'
import { decryptStreams } from './decrypt-stream.ts'
import { fetchStreamsTo } from './fetch-stream.ts'
import { followStreams } from './log-sync.ts'
import { Replayer } from './replayer.ts'
import { kvMethods } from './rpc.ts'
import { KvStore } from './store.ts'
import { keyFingerprint, streamKeys } from './stream-keys.ts'
import { ValueLog } from './value-log.ts'

export { KV_CONFIG_ALIASES, KV_ENV_PREFIX, type KvConfig, kvConfigSchema } from './config.ts'

export interface KvContext {
  log?: Logger | undefined
  /** Aborts the start. */
  signal?: AbortSignal | undefined
  /** Gives the password of `encryption.keystore`, where one is configured. */
  keystorePassword?: (() => Promise<string>) | undefined
}

/** A key-value node that serves. */
export interface RunningKv {
  readonly url: string
  readonly store: KvStore
  health(): HealthReport
  /** Resolves after `close`; rejects when following or replaying cannot go on. */
  readonly done: Promise<unknown>
  close(): Promise<void>
}

const MAX_BODY_BYTES = 32 * 2 ** 20

/**
 * Starts a key-value node: follows the chain for stream writes, fetches and replays them, and answers `kv_*`.
 *
 * @example
 * const node = await startKv(kvConfigSchema.parse({ streamIds, chain: { rpcUrls, flow }, storage: { indexerUrl } }))
 */
export async function startKv(config: KvConfig, context: KvContext = {}): Promise<RunningKv> {
  const log = context.log ?? createLog({ name: 'kv', ...config.log })
  const stack = createCloseStack({ log, limitMs: 10_000 })
  try {
    return await start(config, { log, context, stack })
  } catch (error) {
    await stack.close()
    throw error
  }
}

interface StartContext {
  log: Logger
  context: KvContext
  stack: ReturnType<typeof createCloseStack>
}

async function start(config: KvConfig, { log, context, stack }: StartContext): Promise<RunningKv> {
  const { data, chain: chainConfig, storage, rpc, download, encryption } = config
  const { signal, keystorePassword: password } = context
  const keys = await streamKeys({ encryption, password })
  const metrics = createMetrics('weightless_kv')
  const streams = join(data.dir, 'streams')
  await mkdir(streams, { recursive: true })
  const store = new KvStore(join(data.dir, 'kv.db'), { allStreams: config.allStreams })
  stack.defer('tables', () => store.close())
  if (store.addStreams(config.streamIds)) log.info({ streams: store.streams().length }, 'streams added: replaying all')
  if (store.setKey(keyFingerprint(keys)) && store.loggedSeq() > 0) log.info('another key than before: replaying all')
  const values = await ValueLog.open(join(data.dir, 'values'))
  stack.defer('values', () => values.close())

  const chain = await connectChain({
    rpcUrls: chainConfig.rpcUrls,
    chainId: chainConfig.id,
    waitMs: chainConfig.waitMs,
    signal,
  })
  stack.defer('chain', () => chain.close())
  const connection = openStorageConnection({ indexerUrl: storage.indexerUrl, nodes: listOrNone(storage.nodes) })
  stack.defer('storage', () => connection.close())

  const stop = new AbortController()
  const fetch = fetchStreamsTo({ connection, dir: streams })
  const replayer = new Replayer({
    ...{ store, values, log },
    fetchStream: keys === undefined ? fetch : decryptStreams({ fetch, keys }),
    maxDownloadTries: download.tries,
    downloadTimeoutMs: download.timeoutMs,
    retryIntervalMs: download.retryIntervalMs,
    repairIntervalMs: download.repairIntervalMs,
  })
  const { flow, startBlock, confirmations, pollIntervalMs } = chainConfig
  const follower = followStreams({
    ...{ store, chain, flow, startBlock, confirmations, pollIntervalMs, log, metrics },
    signal: stop.signal,
    onChange: () => replayer.notify(),
  })
  const health = (): HealthReport => healthOf({ store, follower, replayer })
  const server = await createHttpServer({
    name: 'kv',
    ...rpc.listen,
    ...{ log, metrics, health },
    bodyLimitBytes: MAX_BODY_BYTES,
    cors: true,
  })
  const methods = kvMethods({ store, values, maxQueryBytes: rpc.maxQueryBytes })
  registerJsonRpc({ app: server.app, methods, log, metrics, fallbackHelp })
  const { url } = await server.listen()
  const done = Promise.all([replayer.run(stop.signal), follower.done])
  done.catch(() => {})
  stack.defer('replay', async () => {
    stop.abort()
    replayer.notify()
    await Promise.allSettled([done])
  })
  stack.defer('server', () => server.close())
  return { url, store, health, done, close: async () => void (await stack.close()) }
}

function listOrNone<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list
}

function healthOf({
  store,
  follower,
  replayer,
}: {
  store: KvStore
  follower: LogFollower
  replayer: Replayer
}): HealthReport {
  const { synced, head, applied, lastError } = follower.status()
  const waiting = replayer.lastError
  return {
    status: synced && waiting === undefined ? 'ok' : 'degraded',
    checks: {
      synced,
      head,
      applied,
      chainError: lastError,
      replayError: waiting,
      nextSeq: store.nextSubmission()?.seq ?? store.loggedSeq(),
    },
  }
}

function fallbackHelp(method: string): string | undefined {
  if (method.startsWith('zgs_')) return 'this is a key-value node; send it to a storage node'
  if (method.startsWith('indexer_')) return 'this is a key-value node; send it to an indexer'
  return undefined
}
