import type { Logger } from '#kit/log.ts'
import { replicaCount, type ShardConfig } from '#protocol/storage/shard.ts'
import type { IndexerMetrics } from './indexer-metrics.ts'
import { StorageNodeClient } from './node-client.ts'
import type { NodeStatus } from './wire.ts'

/** A node that answered its last probe. */
export interface KnownNode {
  readonly url: string
  readonly client: StorageNodeClient
  readonly trusted: boolean
  readonly shard: ShardConfig
  readonly status: NodeStatus
  /** Time of a short call, in milliseconds. */
  readonly latencyMs: number
  /** When it was first reached, in unix seconds. */
  readonly sinceSeconds: number
  /** Until then it is asked last: it gave a segment that did not fit its root. */
  readonly penalisedUntilMs: number
}

/** A node's state for status pages. */
export interface NodeReport {
  url: string
  trusted: boolean
  usable: boolean
  shard: ShardConfig | undefined
  lastError: string | undefined
}

interface Entry {
  url: string
  trusted: boolean
  client: StorageNodeClient
  known: Omit<KnownNode, 'penalisedUntilMs'> | undefined
  usable: boolean
  failures: number
  nextProbeAtMs: number
  penalisedUntilMs: number
  probing: Promise<void> | undefined
  lastError: string | undefined
}

const PROBE_TIMEOUT_MS = 3_000
const TICK_MS = 500
const MAX_BACK_OFF_MS = 60_000
const PENALTY_MS = 60_000
const DISCOVERED_FAILURES = 3
const MAX_PROBES = 16

/**
 * The nodes this indexer knows, with their shards and latencies. Trusted nodes come from the configuration: one that
 * fails drops out of the lists and is retried with growing pauses. Discovered nodes that keep failing are forgotten.
 * Nothing here holds up a start: probes run in the background.
 */
export class NodeRegistry {
  readonly #entries = new Map<string, Entry>()
  readonly #parameters: NodeRegistryParameters
  readonly #now: () => number
  #network: { chainId: number; flowAddress: string } | undefined
  #timer: NodeJS.Timeout | undefined
  #first: Promise<void> = Promise.resolve()
  #rescue: Promise<void> | undefined

  constructor(parameters: NodeRegistryParameters) {
    this.#parameters = parameters
    this.#now = parameters.now ?? Date.now
    this.#network = parameters.network
    for (const url of parameters.trusted) this.#insert({ url, trusted: true })
  }

  /** Begins probing. Returns at once. */
  start(): void {
    this.#first = this.#probeDue().then(() => undefined)
    this.#timer = setInterval(() => void this.#probeDue(), TICK_MS)
    this.#timer.unref()
  }

  /** Stops probing and aborts the calls under way. */
  stop(): void {
    clearInterval(this.#timer)
    for (const entry of this.#entries.values()) entry.client.close()
  }

  /** Usable trusted nodes in the order of the configuration. */
  trusted(): KnownNode[] {
    return this.#usable(true)
  }

  /** Usable discovered nodes in the order in which they were found. */
  discovered(): KnownNode[] {
    return this.#usable(false)
  }

  /** Every node with what is known of it. */
  report(): NodeReport[] {
    return [...this.#entries.values()].map(({ url, trusted, usable, known, lastError }) => {
      return { url, trusted, usable, shard: known?.shard, lastError }
    })
  }

  has(url: string): boolean {
    return this.#entries.has(url)
  }

  /**
   * Waits (3 s at most) until the first round of probes is through and, if the usable trusted nodes do not cover the
   * flow, for one more round: a request that comes right after a start, or after an outage, gets a true answer.
   */
  async settled(): Promise<void> {
    await withinMs(this.#first, PROBE_TIMEOUT_MS)
    const usable = this.trusted()
    if (usable.length === this.#parameters.trusted.length || replicaCount(usable.map(({ shard }) => shard)) > 0) return
    this.#rescue ??= this.#probeAll((entry) => entry.trusted && !entry.usable).finally(() => {
      // Requests in the next moments share this round instead of each starting their own.
      setTimeout(() => {
        this.#rescue = undefined
      }, TICK_MS).unref()
    })
    await withinMs(this.#rescue, PROBE_TIMEOUT_MS)
  }

  /** Probes a node that somebody told us of; it is kept if it is a node of the same network. */
  async add(url: string): Promise<KnownNode | undefined> {
    const existing = this.#entries.get(url)
    if (existing === undefined && this.discoveredCount() >= this.#parameters.maxDiscovered) return undefined
    const entry = existing ?? this.#insert({ url, trusted: false })
    if (!entry.usable) await this.#probe(entry)
    if (entry.usable) return this.#view(entry)
    if (existing === undefined) this.#remove(entry)
    return undefined
  }

  /** How many discovered nodes are kept, usable or not. */
  discoveredCount(): number {
    let count = 0
    for (const entry of this.#entries.values()) if (!entry.trusted) count += 1
    return count
  }

  /** A call failed on the way: the node is probed soon, and dropped when that fails too. */
  reportFailure({ url, error }: { url: string; error: unknown }): void {
    const entry = this.#entries.get(url)
    if (entry === undefined || !entry.usable) return
    entry.lastError = messageOf(error)
    entry.nextProbeAtMs = Math.min(entry.nextProbeAtMs, this.#now())
  }

  /** The node gave data that do not fit the root: it is asked last for a while. */
  reportLie({ url, error }: { url: string; error: unknown }): void {
    const entry = this.#entries.get(url)
    if (entry === undefined) return
    entry.penalisedUntilMs = this.#now() + PENALTY_MS
    entry.lastError = messageOf(error)
    this.#parameters.metrics.lies.inc()
    this.#parameters.log.warn({ node: url, err: error }, 'node gave a segment that does not fit its root')
  }

  #usable(trusted: boolean): KnownNode[] {
    const nodes: KnownNode[] = []
    for (const entry of this.#entries.values()) {
      if (entry.trusted !== trusted || !entry.usable) continue
      const node = this.#view(entry)
      if (node !== undefined) nodes.push(node)
    }
    return nodes
  }

  #view(entry: Entry): KnownNode | undefined {
    return entry.known === undefined ? undefined : { ...entry.known, penalisedUntilMs: entry.penalisedUntilMs }
  }

  #insert({ url, trusted }: { url: string; trusted: boolean }): Entry {
    const entry: Entry = {
      url,
      trusted,
      client: new StorageNodeClient({ url, timeoutMs: this.#parameters.timeoutMs }),
      known: undefined,
      usable: false,
      failures: 0,
      nextProbeAtMs: 0,
      penalisedUntilMs: 0,
      probing: undefined,
      lastError: undefined,
    }
    this.#entries.set(url, entry)
    return entry
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.url)
    entry.client.close()
  }

  async #probeDue(): Promise<void> {
    const now = this.#now()
    await this.#probeAll((entry) => entry.nextProbeAtMs <= now)
    this.#parameters.metrics.setNodes({ trusted: this.trusted().length, discovered: this.discovered().length })
  }

  async #probeAll(which: (entry: Entry) => boolean): Promise<void> {
    const due = [...this.#entries.values()].filter((entry) => which(entry) && entry.probing === undefined)
    const next = due.values()
    const work = async (): Promise<void> => {
      for (const entry of next) await this.#probe(entry)
    }
    await Promise.all(Array.from({ length: Math.min(MAX_PROBES, due.length) }, work))
  }

  #probe(entry: Entry): Promise<void> {
    entry.probing ??= this.#probeOnce(entry).finally(() => {
      entry.probing = undefined
    })
    return entry.probing
  }

  async #probeOnce(entry: Entry): Promise<void> {
    const startedMs = performance.now()
    try {
      const shard = await entry.client.shardConfig({ timeoutMs: PROBE_TIMEOUT_MS })
      const latencyMs = Math.max(1, Math.round(performance.now() - startedMs))
      const status = await entry.client.status({ timeoutMs: PROBE_TIMEOUT_MS })
      this.#checkNetwork(entry, status)
      const sinceSeconds = entry.known?.sinceSeconds ?? Math.floor(this.#now() / 1000)
      const { url, client, trusted } = entry
      entry.known = { url, client, trusted, shard, status, latencyMs, sinceSeconds }
      if (!entry.usable) this.#parameters.log.info({ node: url, shard, trusted, latencyMs }, 'storage node reached')
      entry.usable = true
      entry.failures = 0
      entry.lastError = undefined
      entry.nextProbeAtMs = this.#now() + this.#parameters.updateIntervalMs
    } catch (error) {
      this.#probeFailed(entry, error)
    }
  }

  #probeFailed(entry: Entry, error: unknown): void {
    const { log } = this.#parameters
    entry.failures += 1
    const wasUsable = entry.usable
    // One failed probe may be a hiccup; lists that flap would move uploads under way to other nodes.
    entry.usable = wasUsable && entry.failures < 2
    entry.lastError = messageOf(error)
    const backOffMs = Math.min(MAX_BACK_OFF_MS, 1_000 * 2 ** Math.min(entry.failures - 1, 6))
    entry.nextProbeAtMs = this.#now() + backOffMs
    if ((wasUsable && !entry.usable) || (entry.known === undefined && entry.failures === 1)) {
      log.warn({ node: entry.url, trusted: entry.trusted, backOffMs, err: error }, 'storage node does not answer')
    }
    if (!entry.trusted && entry.known !== undefined && entry.failures >= DISCOVERED_FAILURES) this.#remove(entry)
  }

  /** The configured network, else that of the first trusted node to answer, decides who belongs here. */
  #checkNetwork(entry: Entry, { networkIdentity, front }: NodeStatus): void {
    // A front would count nodes twice, and two indexers could ask each other in circles.
    if (front) throw new Error('it is the front of an indexer, not a storage node')
    const network = { chainId: networkIdentity.chainId, flowAddress: networkIdentity.flowAddress.toLowerCase() }
    if (this.#network === undefined && entry.trusted) this.#network = network
    const expected = this.#network
    if (expected === undefined) return
    if (expected.chainId === network.chainId && expected.flowAddress.toLowerCase() === network.flowAddress) return
    throw new Error(
      `it serves chain ${network.chainId} flow ${network.flowAddress}, not chain ${expected.chainId} flow ${expected.flowAddress}`,
    )
  }
}

export interface NodeRegistryParameters {
  /** URLs of the trusted nodes. */
  trusted: readonly string[]
  /** The network nodes must serve; default that of the first trusted node that answers. */
  network?: { chainId: number; flowAddress: string } | undefined
  /** Pause between probes of a node that answers, in milliseconds. */
  updateIntervalMs: number
  /** Default limit of a call to a node, in milliseconds. */
  timeoutMs: number
  /** How many discovered nodes are kept. */
  maxDiscovered: number
  log: Logger
  metrics: IndexerMetrics
  now?: (() => number) | undefined
}

async function withinMs(work: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs)
  })
  await Promise.race([work, limit])
  clearTimeout(timer)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
