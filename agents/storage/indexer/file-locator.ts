import type { Logger } from '#kit/log.ts'
import type { Hash } from '#protocol/hex.ts'
import { replicaCount } from '#protocol/storage/shard.ts'
import type { Discovery } from './discovery.ts'
import { ExpiringCache } from './expiring-cache.ts'
import type { IndexerMetrics } from './indexer-metrics.ts'
import type { KnownNode, NodeRegistry } from './node-registry.ts'
import type { FileInfo } from './wire.ts'
import { WorkLimit } from './work-limit.ts'

/** A file and the nodes that together hold all of it. */
export interface LocatedFile {
  /** As the first of the nodes tells it; every node in the list agrees on seq, start and size. */
  info: FileInfo
  nodes: KnownNode[]
}

/** What is known of a file: where it is, or why it cannot be had. */
export type FileState =
  | ({ state: 'available' } & LocatedFile)
  | { state: 'incomplete'; info: FileInfo }
  | { state: 'pruned'; info: FileInfo }
  | { state: 'unknown' }

interface Answer {
  node: KnownNode
  info: FileInfo
}

const FILE_LIMIT = 100_000
const FORGET_MS = 24 * 3_600_000
const REFRESH_MS = 600_000
const FIND_PAUSE_MS = 3_600_000
const MAX_DISCOVERED_ASKED = 16
const MAX_CANDIDATES = 4

/**
 * Finds the nodes that hold a file (storage-node §8.4): trusted nodes first, then discovered ones, then those the
 * discovery node heard of. A node whose shard holds nothing of the file also says "finalized", so nodes count only
 * together: the answer is a set that covers the flow.
 */
export class FileLocator {
  readonly #registry: NodeRegistry
  readonly #discovery: Discovery | undefined
  readonly #log: Logger
  readonly #metrics: IndexerMetrics
  readonly #now: () => number
  readonly #cache: ExpiringCache<Hash, { urls: string[]; info: FileInfo; checkedMs: number }>
  readonly #sought: ExpiringCache<number, true>
  readonly #running = new Map<string, Promise<FileState>>()
  readonly #limit = new WorkLimit({ what: 'file lookups', limit: 64, maxWaiting: 1_000, maxWaitMs: 10_000 })

  constructor({ registry, discovery, log, metrics, now = Date.now }: FileLocatorParameters) {
    this.#registry = registry
    this.#discovery = discovery
    this.#log = log
    this.#metrics = metrics
    this.#now = now
    this.#cache = new ExpiringCache({ limit: FILE_LIMIT, ttlMs: FORGET_MS, now })
    this.#sought = new ExpiringCache({ limit: FILE_LIMIT, ttlMs: FIND_PAUSE_MS, now })
  }

  /** Where the file with this root is. Calls for one root at the same time share one lookup. */
  async byRoot(root: Hash): Promise<FileState> {
    await this.#registry.settled()
    const cached = this.#fromCache(root)
    if (cached !== undefined) {
      this.#metrics.lookups.inc({ source: 'cache' })
      return cached
    }
    return await this.#once(root, (nodes) =>
      askAll(nodes, (node) => node.client.fileInfo({ root, needAvailable: true })),
    )
  }

  /** Where the file of this transaction is. */
  async byTxSeq(txSeq: number): Promise<FileState> {
    await this.#registry.settled()
    return await this.#once(String(txSeq), (nodes) => askAll(nodes, (node) => node.client.fileInfoByTxSeq({ txSeq })))
  }

  /** Where the file is must be looked up anew: the nodes named did not give it, or its place in the flow has changed. */
  forget(root: Hash): void {
    this.#cache.delete(root)
  }

  #fromCache(root: Hash): FileState | undefined {
    const entry = this.#cache.get(root)
    if (entry === undefined || this.#now() - entry.checkedMs > REFRESH_MS) return undefined
    const usable = new Map(this.#everyNode().map((node) => [node.url, node]))
    const nodes = entry.urls.map((url) => usable.get(url)).filter((node) => node !== undefined)
    if (replicaCount(nodes.map(({ shard }) => shard)) < 1) return undefined
    return { state: 'available', info: entry.info, nodes }
  }

  #once(key: string, ask: Ask): Promise<FileState> {
    const running = this.#running.get(key)
    if (running !== undefined) return running
    const started = this.#lookUp(ask).finally(() => this.#running.delete(key))
    this.#running.set(key, started)
    return started
  }

  async #lookUp(ask: Ask): Promise<FileState> {
    const release = await this.#limit.acquire()
    try {
      const trusted = await this.#asked(ask, this.#registry.trusted())
      const near = await this.#settle(trusted)
      if (near.state === 'available') return this.#remember(near, 'trusted')
      const known = await this.#asked(ask, this.#registry.discovered().slice(0, MAX_DISCOVERED_ASKED))
      const first = trusted[0] ?? known[0]
      if (first === undefined) return this.#remember({ state: 'unknown' }, 'none')
      // Counted twice, a node would pass for two replicas.
      const asked = new Set([...trusted, ...known].map(({ node }) => node.url))
      const announced = (await this.#announced(first.info)).filter(({ url }) => !asked.has(url))
      const told = await this.#asked(ask, announced)
      const far = await this.#settle([...trusted, ...known, ...told])
      if (far.state === 'available') return this.#remember(far, 'discovered')
      this.#seek(first.info)
      return this.#remember(far, 'none')
    } finally {
      release()
    }
  }

  async #asked(ask: Ask, nodes: readonly KnownNode[]): Promise<Answer[]> {
    const answers = await ask(nodes)
    const told: Answer[] = []
    for (const [i, answer] of answers.entries()) {
      const node = nodes[i]
      if (node === undefined) continue
      if (answer.status === 'rejected') this.#registry.reportFailure({ url: node.url, error: answer.reason })
      else if (answer.value !== null) told.push({ node, info: answer.value })
    }
    return told
  }

  /** The transaction for which the answers form a cover; nodes that named another one are asked about it. */
  async #settle(answers: Answer[]): Promise<FileState> {
    const first = answers[0]
    if (first === undefined) return { state: 'unknown' }
    const seqs = [...new Set(answers.map(({ info }) => info.tx.seq))].sort((a, b) => a - b)
    for (const txSeq of seqs.slice(0, MAX_CANDIDATES)) {
      const same = answers.filter(({ info }) => info.tx.seq === txSeq)
      const others = answers.filter(({ info }) => info.tx.seq !== txSeq).map(({ node }) => node)
      const found = coverOf(same)
      if (found !== undefined) return { state: 'available', ...found }
      if (others.length === 0) continue
      const more = await this.#asked((nodes) => askAll(nodes, (node) => node.client.fileInfoByTxSeq({ txSeq })), others)
      const together = coverOf([...same, ...more])
      if (together !== undefined) return { state: 'available', ...together }
    }
    const pruned = answers.every(({ info }) => info.pruned)
    const lowest = answers.find(({ info }) => info.tx.seq === seqs[0]) ?? first
    return { state: pruned ? 'pruned' : 'incomplete', info: lowest.info }
  }

  async #announced(info: FileInfo): Promise<KnownNode[]> {
    if (this.#discovery === undefined) return []
    try {
      return await this.#discovery.nodesWithFile(info.tx.seq)
    } catch (error) {
      this.#log.debug({ err: error, txSeq: info.tx.seq }, 'the discovery node does not tell where a file is')
      return []
    }
  }

  /** Has the discovery node ask the network, at most once an hour for a file; a later call profits. */
  #seek(info: FileInfo): void {
    const txSeq = info.tx.seq
    if (this.#discovery === undefined || this.#sought.get(txSeq) !== undefined) return
    this.#sought.set(txSeq, true)
    this.#discovery.findFile(txSeq).catch((error: unknown) => {
      this.#log.debug({ err: error, txSeq }, 'the discovery node does not search for a file')
    })
  }

  #remember(state: FileState, source: 'trusted' | 'discovered' | 'none'): FileState {
    this.#metrics.lookups.inc({ source })
    if (state.state !== 'available') return state
    const { info, nodes } = state
    const root = info.tx.dataMerkleRoot
    this.#cache.set(root, { info, urls: nodes.map(({ url }) => url), checkedMs: this.#now() })
    return state
  }

  #everyNode(): KnownNode[] {
    return [...this.#registry.trusted(), ...this.#registry.discovered()]
  }
}

export interface FileLocatorParameters {
  registry: NodeRegistry
  /** Without one, only known nodes are asked. */
  discovery?: Discovery | undefined
  log: Logger
  metrics: IndexerMetrics
  now?: (() => number) | undefined
}

type Ask = (nodes: readonly KnownNode[]) => Promise<PromiseSettledResult<FileInfo | null>[]>

function askAll(nodes: readonly KnownNode[], ask: (node: KnownNode) => Promise<FileInfo | null>) {
  return Promise.allSettled(nodes.map((node) => ask(node)))
}

/** The finalized ones among the answers, if they cover the flow and agree on what the file is. */
function coverOf(answers: readonly Answer[]): LocatedFile | undefined {
  const finalized = answers.filter(({ info }) => info.finalized)
  const first = finalized[0]
  if (first === undefined) return undefined
  const agreeing = finalized.filter(({ info }) => sameFile(info, first.info))
  if (replicaCount(agreeing.map(({ node }) => node.shard)) < 1) return undefined
  return { info: first.info, nodes: agreeing.map(({ node }) => node) }
}

function sameFile(a: FileInfo, b: FileInfo): boolean {
  return (
    a.tx.seq === b.tx.seq &&
    a.tx.dataMerkleRoot === b.tx.dataMerkleRoot &&
    a.tx.size === b.tx.size &&
    a.tx.startEntryIndex === b.tx.startEntryIndex
  )
}
