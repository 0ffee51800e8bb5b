import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { createJsonRpcClient } from '#kit/http/json-rpc-client.ts'
import type { Logger } from '#kit/log.ts'
import type { SignedPeerRecord } from '#protocol/storage/peer-record.ts'
import { type ShardConfig, shardOwns } from '#protocol/storage/shard.ts'
import { NodeError, reasonOf } from '../error.ts'
import type { SegmentBuffers } from '../ingest/segment-buffers.ts'
import { PeerClient } from './peer-client.ts'
import type { PeerExchange } from './peer-exchange.ts'

/** How a peer is seen at present. `self` and `foreign` ones are never asked. */
export type PeerState = 'unknown' | 'up' | 'down' | 'banned' | 'foreign' | 'self'

/** What is known of a peer. */
export interface Peer {
  readonly url: string
  readonly client: PeerClient
  /** Who named it. */
  readonly source: 'config' | 'indexer' | 'record'
  state: PeerState
  /** Its own record, once it answered as the node that the record names. */
  record: SignedPeerRecord | undefined
  /** A record with its address, of which nobody knows yet whether it is its own. */
  claim: SignedPeerRecord | undefined
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
/** Of these, so many known by record alone: strangers must not push out those of the operator. */
const MAX_RECORDED = 800
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

  /** Keeps the book up to date until the signal aborts, with what other nodes tell. */
  start(exchange?: PeerExchange): void {
    this.#done ??= this.#run(exchange)
  }

  /** Waits for the loop after an abort. */
  async stopped(): Promise<void> {
    await this.#done
    for (const { client } of this.#peers.values()) client.close()
  }

  /** Takes a record whose signature is right. It counts once the node at its address answers as the one it names. */
  addRecord(record: SignedPeerRecord): void {
    this.#add(record.url, 'record')
    const peer = this.#peers.get(record.url)
    if (peer === undefined) return
    if (peer.record?.nodeId !== record.nodeId) peer.claim = record
    else if (peer.record.issuedAtS < record.issuedAtS) peer.record = record
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

  async #run(exchange: PeerExchange | undefined): Promise<void> {
    const { refreshMs, signal } = this.#parameters
    while (!signal.aborted) {
      await this.refresh()
      await exchange?.round(signal)
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
      this.#settleRecord(peer, status.nodeId?.toLowerCase())
    } catch (error) {
      if (signal.aborted || (peer.state === 'banned' && peer.restUntilMs > this.#now())) return
      peer.state = 'down'
      this.report(peer, error)
    }
  }

  /** Keeps the record of the node that answered. A node known only by a record of somebody else is forgotten. */
  #settleRecord(peer: Peer, nodeId: string | undefined): void {
    const record = [peer.claim, peer.record].find((known) => known !== undefined && known.nodeId === nodeId)
    peer.claim = undefined
    peer.record = record
    if (record !== undefined || peer.source !== 'record') return
    peer.client.close()
    this.#peers.delete(peer.url)
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
    if (this.#peers.has(url) || url === publicUrl?.replace(/\/+$/, '') || !this.#makeRoom(source)) return
    this.#peers.set(url, {
      url,
      client: new PeerClient({ url, timeoutMs: STATUS_TIMEOUT_MS, stallTimeoutMs, buffers }),
      source,
      state: 'unknown',
      record: undefined,
      claim: undefined,
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

  /** Room for one more of this kind; a node known by record that has been away longest gives way. */
  #makeRoom(source: Peer['source']): boolean {
    const recorded = this.list().filter((peer) => peer.source === 'record')
    if (this.#peers.size < MAX_PEERS && (source !== 'record' || recorded.length < MAX_RECORDED)) return true
    const away = recorded
      .filter(({ state }) => state === 'down' || state === 'foreign')
      .reduce<Peer | undefined>((worst, peer) => (worst && worst.failures >= peer.failures ? worst : peer), undefined)
    if (away === undefined) return false
    away.client.close()
    return this.#peers.delete(away.url)
  }
}
