import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { InvalidSegmentError, type SegmentProof, verifySegment } from '#protocol/storage/segment-proof.ts'
import { shardOwns } from '#protocol/storage/shard.ts'
import { IndexerError, type NodeFailure, SegmentUnavailableError } from './errors.ts'
import type { IndexerMetrics } from './indexer-metrics.ts'
import type { KnownNode, NodeRegistry } from './node-registry.ts'
import type { FileInfo } from './wire.ts'
import { WorkLimit } from './work-limit.ts'

/** What is needed to fetch and verify a file's segments. */
export interface FileReference {
  root: Hash
  txSeq: number
  sizeBytes: number
  /** Where the file begins in the flow, in sectors. */
  startSector: number
}

/** A segment that fits the file's root. The last one is filled with zeros to whole sectors. */
export interface VerifiedSegment {
  index: number
  data: Uint8Array
  proof: SegmentProof
}

/** The reference to a file that `zgs_getFileInfo` told of. */
export function fileReference({ tx }: FileInfo): FileReference {
  return { root: tx.dataMerkleRoot, txSeq: tx.seq, sizeBytes: tx.size, startSector: tx.startEntryIndex }
}

/** The global segment in which local segment `index` of a file lies. */
export function globalSegment({ startSector }: { startSector: number }, index: number): number {
  return Math.floor(startSector / SEGMENT_SECTORS) + index
}

/**
 * Reads segments from whichever node holds them and lets nothing through that does not fit the file's root. A node that
 * is slow is joined by the next one after `hedgeMs`; one that fails, lacks the segment or lies is passed over. Reads
 * under way at the same time are bounded over all callers.
 */
export class SegmentReader {
  readonly #registry: NodeRegistry
  readonly #metrics: IndexerMetrics
  readonly #segmentTimeoutMs: number
  readonly #hedgeMs: number
  readonly #limit: WorkLimit
  readonly #load = new Map<string, number>()

  constructor({ registry, metrics, segmentTimeoutMs, hedgeMs, maxReads }: SegmentReaderParameters) {
    this.#registry = registry
    this.#metrics = metrics
    this.#segmentTimeoutMs = segmentTimeoutMs
    this.#hedgeMs = hedgeMs
    this.#limit = new WorkLimit({
      what: 'segment reads',
      limit: maxReads,
      maxWaiting: maxReads * 64,
      maxWaitMs: segmentTimeoutMs * 2,
    })
  }

  /**
   * Segment `index`, verified.
   *
   * @throws SegmentUnavailableError when none of the nodes gives it; the signal's reason when aborted.
   */
  async read({ file, index, nodes, signal }: ReadSegmentParameters): Promise<VerifiedSegment> {
    const release = await this.#limit.acquire({ signal })
    const startedMs = performance.now()
    try {
      const segment = await this.#readFromAny({ file, index, nodes, signal })
      this.#metrics.segmentReads.inc({ outcome: 'ok' })
      this.#metrics.segmentSeconds.observe((performance.now() - startedMs) / 1000)
      return segment
    } catch (error) {
      if (!signal?.aborted) this.#metrics.segmentReads.inc({ outcome: 'failed' })
      throw error
    } finally {
      release()
    }
  }

  async #readFromAny({ file, index, nodes, signal }: ReadSegmentParameters): Promise<VerifiedSegment> {
    const candidates = this.#ordered({ file, index, nodes })
    const failures: NodeFailure[] = []
    const over = new AbortController()
    const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal])
    const running = new Set<Promise<VerifiedSegment | undefined>>()
    try {
      for (const node of candidates) {
        signal?.throwIfAborted()
        const attempt: Promise<VerifiedSegment | undefined> = this.#readFrom({ file, index, node, signal: either })
          .catch((error: unknown) => {
            if (!either.aborted) failures.push(this.#judge(node, error))
            return undefined
          })
          .finally(() => running.delete(attempt))
        running.add(attempt)
        const segment = await firstOf(running, this.#hedgeMs)
        if (segment !== undefined) return segment
      }
      while (running.size > 0) {
        const segment = await firstOf(running, this.#segmentTimeoutMs)
        if (segment !== undefined) return segment
      }
      signal?.throwIfAborted()
      throw new SegmentUnavailableError({ root: file.root, index, failures })
    } finally {
      over.abort(OVER)
    }
  }

  async #readFrom({
    file,
    index,
    node,
    signal,
  }: { node: KnownNode; signal: AbortSignal } & Omit<ReadSegmentParameters, 'nodes'>) {
    this.#load.set(node.url, (this.#load.get(node.url) ?? 0) + 1)
    try {
      const timeoutMs = this.#segmentTimeoutMs
      const segment = await node.client.segment({ txSeq: file.txSeq, index, signal, timeoutMs })
      if (segment === null) throw new IndexerError({ code: 'SEGMENT_ABSENT', message: 'does not hold it' })
      const { data, proof } = segment
      verifySegment({ root: file.root, sizeBytes: file.sizeBytes, index, data, proof })
      return { index, data, proof }
    } finally {
      const load = (this.#load.get(node.url) ?? 1) - 1
      if (load > 0) this.#load.set(node.url, load)
      else this.#load.delete(node.url)
    }
  }

  /** Why a node failed, told to the registry where it is the node's fault. */
  #judge(node: KnownNode, error: unknown): NodeFailure {
    const code = error instanceof WeightlessError ? error.code : ''
    if (error instanceof InvalidSegmentError || code.startsWith('FRAME_')) {
      this.#registry.reportLie({ url: node.url, error })
    } else if (code !== 'SEGMENT_ABSENT') {
      this.#registry.reportFailure({ url: node.url, error })
    }
    const reason = error instanceof Error ? error.message : String(error)
    return { url: node.url, reason, absent: code === 'SEGMENT_ABSENT' }
  }

  /** Owners of the segment: honest ones first, then those with the fewest reads under way, then the nearest. */
  #ordered({ file, index, nodes }: Omit<ReadSegmentParameters, 'signal'>): KnownNode[] {
    const at = globalSegment(file, index)
    const now = Date.now()
    const key = (node: KnownNode): readonly [number, number, number] => [
      node.penalisedUntilMs > now ? 1 : 0,
      this.#load.get(node.url) ?? 0,
      node.latencyMs,
    ]
    return nodes
      .filter(({ shard }) => shardOwns(shard, at))
      .map((node) => ({ node, key: key(node) }))
      .sort((a, b) => a.key[0] - b.key[0] || a.key[1] - b.key[1] || a.key[2] - b.key[2])
      .map(({ node }) => node)
  }
}

export interface ReadSegmentParameters {
  file: FileReference
  /** Local segment index in the file. */
  index: number
  /** Nodes to try; those whose shard does not own the segment are left out. */
  nodes: readonly KnownNode[]
  signal?: AbortSignal | undefined
}

export interface SegmentReaderParameters {
  registry: NodeRegistry
  metrics: IndexerMetrics
  /** Limit of one node's try, in milliseconds. */
  segmentTimeoutMs: number
  /** After how long the next node is asked as well, in milliseconds. */
  hedgeMs: number
  /** Segments in flight at once over all callers: each costs up to 256 KiB. */
  maxReads: number
}

/** Why attempts still under way are stopped; made once, as a stack for every segment would cost more than it tells. */
const OVER = new IndexerError({ code: 'READ_OVER', message: 'another node was faster' })

/** The first segment any attempt gives; undefined as soon as one gives none, or after `limitMs`. */
async function firstOf(
  running: ReadonlySet<Promise<VerifiedSegment | undefined>>,
  limitMs: number,
): Promise<VerifiedSegment | undefined> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), limitMs)
  })
  try {
    return await Promise.race([...running, limit])
  } finally {
    clearTimeout(timer)
  }
}
