import { setTimeout as sleep } from 'node:timers/promises'
import { sharedMerklePool } from '#kernels/merkle-pool.ts'
import { WeightlessError } from '#protocol/error.ts'
import { type ByteSource, readFully } from '#protocol/storage/byte-source.ts'
import { HASH_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { buildFileTree, type FileTree } from '#protocol/storage/file-tree.ts'
import { segmentCount, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import { nextOwnedSegment } from '#protocol/storage/shard.ts'
import type { StorageLimits } from './connection.ts'
import { NodeRefusedError, reasonOf, SourceChangedError, WaitTimeoutError } from './errors.ts'
import type { Candidate } from './list-nodes.ts'
import type { FileInfo } from './node-answers.ts'
import { sendSegments } from './send-segments.ts'

/** Segments of one request: 8 MiB. Small enough that a failure costs little, large enough that requests cost nothing. */
const BATCH_SEGMENTS = 32
/** Requests in flight to one node: while it answers one, the other is on the wire. */
const LANES = 2

export interface UploadToNodeParameters {
  target: Candidate
  txSeq: number
  /** Block of the submission, where known: lets the wait say how far behind the node is. */
  block: number | undefined
  /** The chain confirms the submission at this place: a node that does not find it is waited for. */
  confirmed?: boolean | undefined
  tree: FileTree
  source: ByteSource
  limits: StorageLimits
  /** Return when everything is sent, without waiting until the node calls the file final. */
  waitForFinality: boolean
  signal?: AbortSignal | undefined
  onState: (state: NodeUploadState) => void
}

/** How far one node is. */
export type NodeUploadState =
  | { type: 'waiting'; for: 'log-entry' | 'finality'; reason: string; waitedMs: number }
  /** Bytes of the node's share that it has, as far as known. */
  | { type: 'sending'; doneBytes: number; totalBytes: number }
  | { type: 'retry'; reason: string }
  | { type: 'finalized' }

/** The submission took another place in the flow: the chain was reorganised under it. */
export class SubmissionMovedError extends WeightlessError {}

/**
 * Bring one node to hold its share of a file: wait until it knows the submission, ask what it lacks, send that, wait
 * until it calls the file final. Repeats without harm; only what is missing is sent.
 *
 * @throws WaitTimeoutError, NodeUnreachableError, NodeRefusedError after `limits.attempts` tries without progress;
 * SubmissionMovedError; the signal's reason
 */
export async function uploadToNode(parameters: UploadToNodeParameters): Promise<{ finalized: boolean }> {
  const info = await waitForEntry(parameters)
  const owned = ownedSegments(parameters, info)
  for (;;) {
    const finalized = info.finalized || (await sendMissing(parameters, owned))
    if (finalized) {
      parameters.onState({ type: 'finalized' })
      return { finalized: true }
    }
    if (!parameters.waitForFinality) return { finalized: false }
    if ((await waitForFinality(parameters)) === 'final') {
      parameters.onState({ type: 'finalized' })
      return { finalized: true }
    }
  }
}

/** Looks at a node that has read past the submission's block without finding it, before the chain is asked again. */
const PASSED_LOOKS = 8

/** Until the node has read the submission from the chain. */
async function waitForEntry({
  target,
  txSeq,
  block,
  confirmed,
  tree,
  limits,
  signal,
  onState,
}: UploadToNodeParameters): Promise<FileInfo> {
  const { node } = target
  const started = Date.now()
  let failures = 0
  let passed = 0
  for (let round = 0; ; round++) {
    let reason: string
    try {
      const info = await node.fileInfo({ txSeq }, { signal })
      if (info?.root === tree.root && info.sizeBytes === tree.sizeBytes) return checkNotPruned(node.url, info)
      if (info !== null) {
        throw moved(`${node.url} has another file as submission ${txSeq}`, { txSeq, root: tree.root, found: info.root })
      }
      failures = 0
      const { logSyncHeight } = await node.status({ signal })
      if (block !== undefined && confirmed !== true && logSyncHeight >= block) passed += 1
      if (passed >= PASSED_LOOKS)
        throw moved(`${node.url} has read past block ${block} without submission ${txSeq}`, { txSeq, block })
      reason = `has read the chain up to block ${logSyncHeight}${block === undefined ? '' : `, the submission is in block ${block}`}`
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof SubmissionMovedError || error instanceof NodeRefusedError) throw error
      failures += 1
      if (failures >= limits.attempts) throw error
      reason = reasonOf(error)
    }
    const waitedMs = Date.now() - started
    if (waitedMs > limits.entryTimeoutMs) {
      throw new WaitTimeoutError({ what: `submission ${txSeq}`, waitedMs, missing: [{ url: node.url, reason }] })
    }
    if (round > 0) onState({ type: 'waiting', for: 'log-entry', reason, waitedMs })
    await pause(Math.min(limits.pollIntervalMs, 50 * 2 ** round), signal)
  }
}

/** Send until the node lacks nothing. Gives whether the node calls the file final. */
async function sendMissing(parameters: UploadToNodeParameters, owned: readonly number[]): Promise<boolean> {
  const { target, txSeq, tree, limits, signal, onState } = parameters
  const totalBytes = owned.length === 0 ? 0 : Math.ceil((owned.length / segmentCount(tree.sizeBytes)) * tree.sizeBytes)
  let failures = 0
  let fewest = Number.POSITIVE_INFINITY
  for (;;) {
    try {
      const missing = await target.node.missing({ txSeq }, { signal })
      if (missing?.total === 0) return false
      const indexes = missing === undefined ? owned : expand(missing.ranges, owned)
      if (indexes.length === 0) return false
      const left = missing?.total ?? owned.length
      if (left < fewest) failures = 0
      fewest = Math.min(fewest, left)
      const haveBytes = Math.max(0, totalBytes * (1 - left / Math.max(1, owned.length)))
      const finalized = await sendInLanes({ ...parameters, indexes, haveBytes, totalBytes })
      if (finalized === true || missing === undefined) return finalized === true
    } catch (error) {
      signal?.throwIfAborted()
      const refused = error instanceof NodeRefusedError && /^SEGMENT_/.test(String(error.details.nodeCode))
      if (refused && (await sourceChanged(parameters, error)))
        throw new SourceChangedError({ root: tree.root, cause: error })
      failures += 1
      if (failures >= limits.attempts) throw error
      onState({ type: 'retry', reason: reasonOf(error) })
      await pause(Math.min(10_000, 200 * 4 ** (failures - 1)), signal)
    }
  }
}

interface LanesParameters extends UploadToNodeParameters {
  indexes: readonly number[]
  haveBytes: number
  totalBytes: number
}

/** One pass over the segments, some requests at a time. The first failure stops the others. */
async function sendInLanes({
  target,
  txSeq,
  tree,
  source,
  indexes,
  haveBytes,
  totalBytes,
  signal,
  onState,
}: LanesParameters): Promise<boolean | undefined> {
  const stop = new AbortController()
  const stopped = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  let next = 0
  let doneBytes = haveBytes
  let finalized: boolean | undefined
  const lane = async () => {
    while (next < indexes.length) {
      const batch = indexes.slice(next, next + BATCH_SEGMENTS)
      next += batch.length
      const answer = await sendSegments({
        node: target.node,
        txSeq,
        tree,
        source,
        indexes: batch,
        signal: stopped,
        onSent: (bytes) => {
          doneBytes = Math.min(totalBytes, doneBytes + bytes)
          onState({ type: 'sending', doneBytes, totalBytes })
        },
      })
      finalized = answer.finalized === true ? true : (finalized ?? answer.finalized)
    }
  }
  const lanes = Array.from({ length: LANES }, lane)
  try {
    await Promise.all(lanes)
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled(lanes)
    throw error
  }
  return finalized
}

/** Whether the segment a node refused differs from what was hashed: then the node is right. */
async function sourceChanged(
  { tree, source, signal }: UploadToNodeParameters,
  refused: NodeRefusedError,
): Promise<boolean> {
  const index = Number(refused.nodeDetails?.index)
  if (!Number.isSafeInteger(index) || index < 0 || index >= segmentCount(tree.sizeBytes)) {
    const now = await buildFileTree({ source, signal })
    return now.root !== tree.root
  }
  const offset = index * SEGMENT_BYTES
  const data = new Uint8Array(Math.min(SEGMENT_BYTES, tree.sizeBytes - offset))
  await readFully(source, { offset, target: data })
  const pool = await sharedMerklePool()
  const root = await pool.segmentRoot(data, segmentPaddedSectors(tree.sizeBytes, index))
  return Buffer.compare(root, tree.segmentRoots.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)) !== 0
}

/** Until the node calls the file final, or turns out to lack something again. */
async function waitForFinality({
  target,
  txSeq,
  tree,
  limits,
  signal,
  onState,
}: UploadToNodeParameters): Promise<'final' | 'incomplete'> {
  const { node } = target
  const started = Date.now()
  let failures = 0
  for (let round = 0; ; round++) {
    let reason = 'has everything and has not called the file final yet'
    try {
      const info = await node.fileInfo({ txSeq }, { signal })
      if (info?.root === tree.root && info.finalized) return 'final'
      if (info === null || info.root !== tree.root) return 'incomplete'
      failures = 0
      if (round % 4 === 3) {
        const missing = await node.missing({ txSeq }, { signal })
        if (missing !== undefined && missing.total > 0) return 'incomplete'
      }
    } catch (error) {
      signal?.throwIfAborted()
      failures += 1
      if (failures >= limits.attempts) throw error
      reason = reasonOf(error)
    }
    const waitedMs = Date.now() - started
    if (waitedMs > limits.finalityTimeoutMs) {
      throw new WaitTimeoutError({ what: `the file to be final`, waitedMs, missing: [{ url: node.url, reason }] })
    }
    if (round > 1) onState({ type: 'waiting', for: 'finality', reason, waitedMs })
    await pause(Math.min(limits.pollIntervalMs, 20 * 2 ** round), signal)
  }
}

/** Local indexes of the segments this node's shard keeps. */
function ownedSegments({ target, tree }: UploadToNodeParameters, info: FileInfo): number[] {
  const first = Math.floor(info.startSector / SEGMENT_SECTORS)
  const end = first + segmentCount(tree.sizeBytes)
  const owned: number[] = []
  for (let at = nextOwnedSegment(target.config, first); at < end; at += target.config.numShard) owned.push(at - first)
  return owned
}

/** Ranges of missing segments as indexes; a range the node cannot own is not believed. */
function expand(ranges: readonly (readonly [number, number])[], owned: readonly number[]): number[] {
  const wanted = new Set<number>()
  const last = (owned.at(-1) ?? -1) + 1
  const ownedSet = new Set(owned)
  for (const [from, to] of ranges) {
    for (let index = from; index < Math.min(to, last); index++) if (ownedSet.has(index)) wanted.add(index)
  }
  return [...wanted].sort((a, b) => a - b)
}

function moved(message: string, details: Record<string, unknown>): SubmissionMovedError {
  return new SubmissionMovedError({
    code: 'SUBMISSION_MOVED',
    message,
    fix: 'run the upload again: it finds the new place of the submission and does not pay again',
    details,
  })
}

function checkNotPruned(url: string, info: FileInfo): FileInfo {
  if (!info.pruned) return info
  throw new NodeRefusedError({ url, nodeCode: 'PRUNED', reason: `it has pruned submission ${info.txSeq}` })
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal?.throwIfAborted())
}
