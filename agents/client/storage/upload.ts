import type { Hash, Hex } from '#protocol/hex.ts'
import type { ByteSource } from '#protocol/storage/byte-source.ts'
import { buildFileTree, type FileTree } from '#protocol/storage/file-tree.ts'
import { formatShard, type SelectionMethod } from '#protocol/storage/shard.ts'
import { chooseNodes, type UploadNetwork } from './choose-nodes.ts'
import type { StorageConnection } from './connection.ts'
import { reasonOf, SourceChangedError } from './errors.ts'
import type { TransferListener } from './events.ts'
import { findSubmission } from './find-submission.ts'
import { type Candidate, type ListNodesReturnType, listNodes } from './list-nodes.ts'
import { selectUploadNodes } from './select-upload-nodes.ts'
import { forgetSubmission, submitFile } from './submit-file.ts'
import { SubmissionMovedError, uploadToNode } from './upload-to-node.ts'

export interface UploadParameters {
  /** What to store: `await fileSource(path)`, `memorySource(bytes)`, an encrypting source. At least one byte. */
  source: ByteSource
  /** The tree of `source` where it is known already; else it is built. */
  tree?: FileTree | undefined
  /** Times the network must hold the whole file, on different nodes. Default 1. */
  replicas?: number | undefined
  /** Recorded on the chain with the submission. Default none. With tags, only an own unfinished submission is reused. */
  tags?: Hex | undefined
  /** How nodes are chosen. Default `min`: those with the fewest shards first. */
  method?: SelectionMethod | undefined
  /** `finalized` (default): every selected node has the file for good. `sent`: every segment was accepted. */
  waitFor?: 'finalized' | 'sent' | undefined
  /** Submit and pay even where the network knows the content already. Default false. */
  forceSubmit?: boolean | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

export interface UploadReturnType {
  root: Hash
  sizeBytes: number
  txSeq: number
  /** Undefined where an earlier submission was used. */
  txHash: Hex | undefined
  /** Whether this call paid, and how much. */
  paid: boolean
  feeWei: bigint
  nodes: { url: string; shard: string; finalized: boolean }[]
}

/** A submission whose place changes more often than this is not settling. */
const MAX_MOVES = 3

/**
 * Store a file: hash, pay if nobody has, send what is missing to nodes that cover it, wait until it is final.
 *
 * May be repeated after any failure: it goes on where it stopped and never pays twice for the same content. A node that
 * fails is replaced by another that covers its shard, where there is one.
 *
 * @throws InsufficientFundsError, NoCoverError, WaitTimeoutError, NetworkMismatchError, FlowRefusedError, SettingMissingError
 * @example
 * await using source = await fileSource('model.gguf')
 * const { root } = await upload(connection, { source, replicas: 2 })
 */
export async function upload(connection: StorageConnection, parameters: UploadParameters): Promise<UploadReturnType> {
  const { source, tags = '0x', replicas = 1, method = 'min', signal, onEvent } = parameters
  signal?.throwIfAborted()
  const [tree, listed] = await Promise.all([
    parameters.tree ?? buildTree(parameters),
    listNodes(connection, { signal }),
  ])
  const { chosen, nodes, dropped, network } = await chooseNodes(connection, { ...listed, replicas, method, signal })
  const found =
    parameters.forceSubmit === true || tags !== '0x' ? undefined : await findSubmission({ tree, nodes: chosen, signal })
  if (found !== undefined) onEvent?.({ type: 'submission-found', txSeq: found.txSeq, by: 'nodes' })

  let before: { txSeq: number; block: number | undefined } | undefined
  for (let move = 0; ; move++) {
    const submission =
      found !== undefined && move === 0
        ? { txSeq: found.txSeq, block: undefined, txHash: undefined, feeWei: 0n, paid: false }
        : await submitFile(connection, {
            tree,
            flow: network.flow,
            tags,
            searchFromBlock: searchFrom({ network, tags, move }),
            force: parameters.forceSubmit,
            signal,
            onEvent,
          })
    const confirmed = before?.txSeq === submission.txSeq && before.block === submission.block
    before = submission
    try {
      const stored = await storeEverywhere(connection, {
        ...parameters,
        tree,
        listed: { ...listed, nodes },
        chosen,
        dropped,
        replicas,
        method,
        ...submission,
        confirmed,
      })
      await forgetSubmission(connection, { tree, flow: network.flow, tags })
      const { txSeq, txHash, feeWei, paid } = submission
      return { root: tree.root, sizeBytes: source.sizeBytes, txSeq, txHash, paid, feeWei, nodes: stored }
    } catch (error) {
      if (!(error instanceof SubmissionMovedError) || move >= MAX_MOVES) throw error
      onEvent?.({ type: 'retry', url: 'chain', reason: reasonOf(error) })
    }
  }
}

/** With tags only our own journal counts; otherwise look at the blocks the nodes have not read. */
function searchFrom({ network, tags, move }: { network: UploadNetwork; tags: Hex; move: number }): number | undefined {
  if (tags !== '0x') return undefined
  return move === 0 ? network.logSyncHeight + 1 : Math.max(0, network.logSyncHeight - 1000)
}

async function buildTree({ source, signal, onEvent }: UploadParameters): Promise<FileTree> {
  return buildFileTree({
    source,
    signal,
    onProgress: ({ hashedBytes, sizeBytes }) =>
      onEvent?.({ type: 'hashing', doneBytes: hashedBytes, totalBytes: sizeBytes }),
  })
}

interface StoreParameters extends UploadParameters {
  tree: FileTree
  listed: ListNodesReturnType
  chosen: Candidate[]
  dropped: ReadonlyMap<string, string>
  replicas: number
  method: SelectionMethod
  txSeq: number
  block: number | undefined
  confirmed: boolean
}

/** All chosen nodes at once; those that fail are replaced, and nodes that are done answer at once the second time. */
async function storeEverywhere(
  connection: StorageConnection,
  parameters: StoreParameters,
): Promise<UploadReturnType['nodes']> {
  const { listed, replicas, method, onEvent, signal } = parameters
  const dropped = new Map(parameters.dropped)
  const causes: unknown[] = []
  let chosen = parameters.chosen
  for (;;) {
    onEvent?.({
      type: 'nodes-selected',
      nodes: chosen.map(({ node, config }) => ({ url: node.url, shard: formatShard(config) })),
    })
    const outcomes = await storeOnce(connection, { ...parameters, chosen })
    signal?.throwIfAborted()
    // Not the fault of a node: another one would meet the same.
    const common = outcomes.find(
      ({ error }) => error instanceof SubmissionMovedError || error instanceof SourceChangedError,
    )
    if (common !== undefined) throw common.error
    const failed = outcomes.filter((outcome) => outcome.error !== undefined)
    if (failed.length === 0) {
      return outcomes.map(({ target, finalized }) => ({
        url: target.node.url,
        shard: formatShard(target.config),
        finalized,
      }))
    }
    for (const { target, error } of failed) {
      causes.push(error)
      dropped.set(target.node.url, reasonOf(error))
      onEvent?.({ type: 'node-dropped', url: target.node.url, reason: reasonOf(error) })
    }
    const only = failed.length === 1 && listed.nodes.length === 1 ? failed[0]?.error : undefined
    if (only !== undefined) throw only
    chosen = selectUploadNodes({ ...listed, replicas, method, dropped, cause: causes[0] })
  }
}

async function storeOnce(connection: StorageConnection, parameters: StoreParameters) {
  const { chosen, tree, source, txSeq, block, confirmed, signal, onEvent } = parameters
  const bytes = new Map<string, { doneBytes: number; totalBytes: number }>()
  return Promise.all(
    chosen.map(async (target) => {
      const { url } = target.node
      try {
        const { finalized } = await uploadToNode({
          target,
          txSeq,
          block,
          confirmed,
          tree,
          source,
          limits: connection.limits,
          waitForFinality: parameters.waitFor !== 'sent',
          signal,
          onState: (state) => {
            if (state.type === 'sending') {
              bytes.set(url, state)
              onEvent?.({ type: 'sending', ...sum(bytes.values()) })
            } else if (state.type === 'waiting') {
              onEvent?.({
                type: 'waiting',
                for: state.for,
                waitedMs: state.waitedMs,
                missing: [{ url, reason: state.reason }],
              })
            } else if (state.type === 'retry') onEvent?.({ type: 'retry', url, reason: state.reason })
            else onEvent?.({ type: 'finalized', url })
          },
        })
        return { target, finalized, error: undefined }
      } catch (error) {
        return { target, finalized: false, error: error ?? new Error('failed') }
      }
    }),
  )
}

function sum(parts: Iterable<{ doneBytes: number; totalBytes: number }>): { doneBytes: number; totalBytes: number } {
  const total = { doneBytes: 0, totalBytes: 0 }
  for (const { doneBytes, totalBytes } of parts) {
    total.doneBytes += doneBytes
    total.totalBytes += totalBytes
  }
  return total
}
