import type { RpcResponseError } from '#kit/http/json-rpc-client.ts'
import { RpcError } from '#kit/http/rpc-error.ts'
import type { Hash } from '#protocol/hex.ts'
import { ExpiringCache } from '../expiring-cache.ts'
import { coversOf } from '../node-lists.ts'
import type { KnownNode, NodeRegistry } from '../node-registry.ts'
import type { FileInfo } from '../wire.ts'
import { type FileAnswer, mergeFileInfo } from './file-merge.ts'

const MAX_CANDIDATES = 4
const RETRY_PAUSE_MS = 300
const PLACE_TTL_MS = 10_000
const PLACES = 10_000

/** Error code of refusals that are neither about parameters nor internal, as the reference node has it. */
export const SERVER_ERROR = -32_000

/**
 * A cover of shards seen as one node that stores everything. This part knows which nodes the front stands for and what
 * they together say of a file; uploads and downloads build on it.
 */
export class FrontNode {
  readonly ordinal: number
  readonly #registry: NodeRegistry
  readonly #placing = new Map<string, Promise<FileInfo['tx'] | undefined>>()
  readonly #readable = new ExpiringCache<string, FileInfo>({ limit: PLACES, ttlMs: PLACE_TTL_MS })
  readonly #places = new ExpiringCache<string, FileInfo['tx']>({ limit: PLACES, ttlMs: PLACE_TTL_MS })

  constructor({ ordinal, registry }: { ordinal: number; registry: NodeRegistry }) {
    this.ordinal = ordinal
    this.#registry = registry
  }

  /**
   * The nodes this front writes to.
   *
   * @throws RpcError −32000 when the reachable trusted nodes do not cover the flow so many times.
   */
  async cover(): Promise<KnownNode[]> {
    await this.#registry.settled()
    const cover = coversOf(this.#registry.trusted())[this.ordinal]
    if (cover !== undefined) return cover
    const down = this.#registry.report().filter(({ trusted, usable }) => trusted && !usable)
    const missing = down.map(({ url, lastError }) => `${url}${lastError === undefined ? '' : ` (${lastError})`}`)
    throw new RpcError({
      rpcCode: SERVER_ERROR,
      message: 'the reachable storage nodes do not form a full set of shards',
      data: missing.length === 0 ? 'no further node is configured' : `not reachable: ${missing.join(', ')}`,
    })
  }

  /** Every node worth asking for data: what comes from them is verified, so discovered ones count too. */
  readers(): KnownNode[] {
    return [...this.#registry.trusted(), ...this.#registry.discovered()]
  }

  /** What the nodes together say of a transaction; null while some node of the cover does not know it. */
  async fileByTxSeq({ txSeq, signal }: { txSeq: number; signal?: AbortSignal | undefined }): Promise<FileInfo | null> {
    const cover = await this.cover()
    const answers = await this.#ask({ cover, signal, ask: (node) => node.client.fileInfoByTxSeq({ txSeq, signal }) })
    return this.#merged(answers, cover)
  }

  /** As `zgs_getFileInfo`: of all transactions with this root the first that is finalized, else the first (not pruned). */
  async fileByRoot({ root, needAvailable, signal }: FileByRootParameters): Promise<FileInfo | null> {
    const cover = await this.cover()
    const answers = await this.#ask({
      cover,
      signal,
      ask: (node) => node.client.fileInfo({ root, needAvailable, signal }),
    })
    const seqs = new Set(answers.map(({ info }) => info?.tx.seq).filter((seq) => seq !== undefined))
    // Nodes agree unless the root was submitted more than once; then each may have another one complete.
    if (seqs.size <= 1) return this.#merged(answers, cover)
    const merged: FileInfo[] = []
    for (const txSeq of [...seqs].sort((a, b) => a - b).slice(0, MAX_CANDIDATES)) {
      const info = await this.fileByTxSeq({ txSeq, signal })
      if (info?.finalized) return info
      if (info !== null) merged.push(info)
    }
    return (needAvailable ? merged.find(({ pruned }) => !pruned) : undefined) ?? merged[0] ?? null
  }

  /** Where a transaction lies in the flow, as soon as one node of the cover knows it. Kept for a few seconds. */
  async place({ root, txSeq }: PlaceParameters): Promise<FileInfo['tx'] | undefined> {
    const key = txSeq === undefined ? `root ${root}` : `seq ${txSeq}`
    const known = this.#places.get(key)
    if (known !== undefined) return known
    // Segments of one file come in many calls at once: they share one question.
    const running = this.#placing.get(key)
    if (running !== undefined) return await running
    const started = this.#findPlace({ root, txSeq }).finally(() => this.#placing.delete(key))
    this.#placing.set(key, started)
    const found = await started
    if (found !== undefined) this.#places.set(key, found)
    return found
  }

  /** A file to read from, by root or by transaction. A finalized one is remembered for a few seconds. */
  async readable({ id, signal }: { id: Hash | number; signal?: AbortSignal | undefined }): Promise<FileInfo | null> {
    const known = this.#readable.get(String(id))
    if (known !== undefined) return known
    const info =
      typeof id === 'number'
        ? await this.fileByTxSeq({ txSeq: id, signal })
        : await this.fileByRoot({ root: id, needAvailable: true, signal })
    if (info?.finalized) this.#readable.set(String(id), info)
    return info
  }

  async #findPlace({ root, txSeq }: PlaceParameters): Promise<FileInfo['tx'] | undefined> {
    const answers = await Promise.allSettled(
      (await this.cover()).map((node) =>
        txSeq === undefined
          ? node.client.fileInfo({ root, needAvailable: false })
          : node.client.fileInfoByTxSeq({ txSeq }),
      ),
    )
    return answers
      .map((answer) => (answer.status === 'fulfilled' ? answer.value : null))
      .filter((info) => info !== null)
      .sort((a, b) => a.tx.seq - b.tx.seq)[0]?.tx
  }

  #merged(answers: FileAnswer[], cover: KnownNode[]): FileInfo | null {
    return mergeFileInfo({ answers, cover, replicas: this.ordinal + 1 })
  }

  /** Asks all trusted nodes. One of the cover that fails is asked once more, then its failure is the answer. */
  async #ask({ cover, ask, signal }: AskParameters): Promise<FileAnswer[]> {
    const nodes = this.#registry.trusted()
    const answers = await Promise.all(
      nodes.map(async (node): Promise<FileAnswer | { node: KnownNode; error: unknown }> => {
        const needed = cover.some(({ url }) => url === node.url)
        try {
          return { node, info: await ask(node).catch((error: unknown) => again({ error, needed, ask, node, signal })) }
        } catch (error) {
          this.#registry.reportFailure({ url: node.url, error })
          return { node, error }
        }
      }),
    )
    const told = answers.filter((answer) => 'info' in answer)
    if (this.#merged(told, cover)?.finalized) return told
    const failed = answers.find((answer) => 'error' in answer && cover.some(({ url }) => url === answer.node.url))
    if (failed !== undefined && 'error' in failed) throw unreachable(failed)
    return told
  }
}

export interface FileByRootParameters {
  root: Hash
  needAvailable: boolean
  signal?: AbortSignal | undefined
}

export interface PlaceParameters {
  root: Hash
  txSeq?: number | undefined
}

interface AskParameters {
  cover: KnownNode[]
  ask: (node: KnownNode) => Promise<FileInfo | null>
  signal: AbortSignal | undefined
}

/** The refusal when a shard cannot be had: it names the shard, the node and the reason. */
export function unreachable({ node, error }: { node: KnownNode; error: unknown }): RpcError {
  const { shardId, numShard } = node.shard
  return new RpcError({
    rpcCode: SERVER_ERROR,
    message: `shard ${shardId}/${numShard} at ${node.url} does not answer`,
    data: error instanceof Error ? error.message : String(error),
    cause: error,
  })
}

/** A node's refusal, word for word. */
export function passOn(error: RpcResponseError): RpcError {
  const data = typeof error.data === 'string' ? error.data : undefined
  return new RpcError({ rpcCode: error.rpcCode, message: error.rpcMessage, data, cause: error })
}

async function again({
  error,
  needed,
  ask,
  node,
  signal,
}: {
  error: unknown
  needed: boolean
  ask: (node: KnownNode) => Promise<FileInfo | null>
  node: KnownNode
  signal: AbortSignal | undefined
}): Promise<FileInfo | null> {
  if (!needed || signal?.aborted) throw error
  await pause(RETRY_PAUSE_MS)
  signal?.throwIfAborted()
  return await ask(node)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
