import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { createJsonRpcClient } from '#kit/http/json-rpc-client.ts'
import type { Logger } from '#kit/log.ts'
import { type ShardConfig, shardOwns } from '#protocol/storage/shard.ts'
import { NodeError, reasonOf } from '../error.ts'
import type { SegmentBuffers } from '../ingest/segment-buffers.ts'
import { PeerClient } from './peer-client.ts'

/** How a peer is seen at present. `self` and `foreign` ones are never asked. */
export type PeerState = 'unknown' | 'up' | 'down' | 'banned' | 'foreign' | 'self'

/** What is known of a peer. */
export interface Peer {
  readonly url: string
  readonly client: PeerClient
  /** Who named it. */
  readonly source: 'config' | 'indexer'
  state: PeerState
  shard: ShardConfig | undefined
  nextTxSeq: number
  lastSeenMs: number | undefined
  lastError: string | undefined
  latencyMs: number | undefined
  /** Failures since the last success; each doubles the pause. */
  failures: number
  /** Times it sent false data; each doubles the ban. */
  lies: number
  restUntilMs: number
}

export interface PeerBookParameters {
  peers: readonly string[]
  indexerUrls: readonly string[]
  publicUrl: string | undefined
  /** Of this run of this node: a peer with the same is this node. */
  instance: string
  identity: { chainId: number; flow: string }
  refreshMs: number
  stallTimeoutMs: number
  banMs: number
  buffers: SegmentBuffers
  log: Logger
  signal: AbortSignal
  now?: (() => number) | undefined
}

const MAX_PEERS = 1_000
const ASK_AT_ONCE = 8
const STATUS_TIMEOUT_MS = 5_000
const REST_MIN_MS = 1_000
const REST_MAX_MS = 120_000

const nodesSchema = z.object({
  trusted: z
    .array(z.object({ url: z.string().max(2_048) }))
    .max(10_000)
    .default([]),
  discovered: z
    .array(z.object({ url: z.string().max(2_048) }))
    .max(10_000)
    .default([]),
})

/** The peers: who they are, which shard each keeps, and which of them to leave alone for now. */
export class PeerBook {
  readonly #parameters: PeerBookParameters
  readonly #peers = new Map<string, Peer>()
  readonly #now: () => number
  #refreshed = 0
  #done: Promise<void> | undefined

  constructor(parameters: PeerBookParameters) {
    this.#parameters = parameters
    this.#now = parameters.now ?? Date.now
    for (const url of parameters.peers) this.#add(url, 'config')
  }

  /** Keeps the book up to date until the signal aborts. */
  start(): void {
    this.#done ??= this.#run()
  }

  /** Waits for the loop after an abort. */
  async stopped(): Promise<void> {
    await this.#done
    for (const { client } of this.#peers.values()) client.close()
  }

  /** All peers, for people. */
  list(): readonly Peer[] {
    return [...this.#peers.values()]
  }

  get connected(): number {
    return this.list().filter(({ state }) => state === 'up').length
  }

  /** Rounds of asking so far. */
  get rounds(): number {
    return this.#refreshed
  }

  /** Peers that keep this global segment and may be asked now, the quickest first. */
  holders(globalSegment: number): Peer[] {
    const now = this.#now()
    return this.list()
      .filter(
        ({ state, shard, restUntilMs }) =>
          state === 'up' && shard && restUntilMs <= now && shardOwns(shard, globalSegment),
      )
      .sort((a, b) => (a.latencyMs ?? 0) - (b.latencyMs ?? 0))
  }

  /** Notes how a request to a peer went. */
  report(peer: Peer, error: unknown): void {
    const now = this.#now()
    if (error === undefined) {
      peer.failures = 0
      peer.lastSeenMs = now
      return
    }
    peer.lastError = reasonOf(error)
    if (error instanceof NodeError && error.code === 'PEER_LIED') {
      peer.lies += 1
      peer.state = 'banned'
      peer.restUntilMs = now + this.#parameters.banMs * 2 ** Math.min(peer.lies - 1, 10)
      this.#parameters.log.warn({ peer: peer.url, lies: peer.lies, reason: peer.lastError }, 'peer sent false data')
      return
    }
    peer.failures += 1
    peer.restUntilMs = now + Math.min(REST_MIN_MS * 2 ** (peer.failures - 1), REST_MAX_MS)
  }

  /** Asks indexers for further peers, and every peer how it is. Never rejects. */
  async refresh(): Promise<void> {
    await Promise.all(this.#parameters.indexerUrls.map((url) => this.#askIndexer(url)))
    const queue = this.list().filter(({ state, restUntilMs }) => state !== 'self' && restUntilMs <= this.#now())
    await Promise.all(
      Array.from({ length: Math.min(ASK_AT_ONCE, queue.length) }, async () => {
        for (let peer = queue.shift(); peer; peer = queue.shift()) await this.#ask(peer)
      }),
    )
    this.#refreshed += 1
  }

  async #run(): Promise<void> {
    const { refreshMs, signal } = this.#parameters
    while (!signal.aborted) {
      await this.refresh()
      await delay(refreshMs, undefined, { signal }).catch(() => {})
    }
  }

  async #ask(peer: Peer): Promise<void> {
    const { identity, instance, signal } = this.#parameters
    const start = performance.now()
    try {
      const status = await peer.client.status(signal)
      // Caught at a lie while it was asked: a good status does not end a ban.
      if (peer.state === 'banned' && peer.restUntilMs > this.#now()) return
      peer.latencyMs = performance.now() - start
      peer.shard = status.shard
      peer.nextTxSeq = status.nextTxSeq
      peer.lastSeenMs = this.#now()
      peer.failures = 0
      const same = status.chainId === identity.chainId && status.flow.toLowerCase() === identity.flow
      peer.state = status.instance === instance ? 'self' : same ? 'up' : 'foreign'
      peer.lastError = same ? undefined : `it belongs to chain ${status.chainId}, flow ${status.flow}`
    } catch (error) {
      if (signal.aborted || (peer.state === 'banned' && peer.restUntilMs > this.#now())) return
      peer.state = 'down'
      this.report(peer, error)
    }
  }

  async #askIndexer(url: string): Promise<void> {
    const { signal, log } = this.#parameters
    const client = createJsonRpcClient({ url, timeoutMs: STATUS_TIMEOUT_MS, retries: 0, maxResponseBytes: 4 * 2 ** 20 })
    try {
      const { trusted, discovered } = nodesSchema.parse(await client.call('indexer_getShardedNodes', [], { signal }))
      for (const node of [...trusted, ...discovered]) this.#add(node.url, 'indexer')
    } catch (error) {
      log.debug({ indexer: url, err: error }, 'the indexer named no peers')
    } finally {
      client.close()
    }
  }

  #add(given: string, source: Peer['source']): void {
    const { publicUrl, stallTimeoutMs, buffers } = this.#parameters
    const url = given.replace(/\/+$/, '')
    if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) return
    if (this.#peers.has(url) || this.#peers.size >= MAX_PEERS || url === publicUrl?.replace(/\/+$/, '')) return
    this.#peers.set(url, {
      url,
      client: new PeerClient({ url, timeoutMs: STATUS_TIMEOUT_MS, stallTimeoutMs, buffers }),
      source,
      state: 'unknown',
      shard: undefined,
      nextTxSeq: 0,
      lastSeenMs: undefined,
      lastError: undefined,
      latencyMs: undefined,
      failures: 0,
      lies: 0,
      restUntilMs: 0,
    })
  }
}
