import { z } from 'zod'
import type { Hash } from '#protocol/hex.ts'
import { MAX_FILE_BYTES } from '#protocol/storage/constants.ts'
import { isShard, type ShardConfig } from '#protocol/storage/shard.ts'
import { type SubmissionNode, submissionIsFile, submissionRoot } from '#protocol/storage/submission.ts'

/** A file as a storage node reports it (storage-node.md §4.3), checked against its own root. */
export interface FileInfo {
  root: Hash
  /** Place of the submission in the Flow contract's order. */
  txSeq: number
  sizeBytes: number
  /** First sector in the flow. */
  startSector: number
  nodes: SubmissionNode[]
  /** The node has all data its shard must hold. */
  finalized: boolean
  /** Segments waiting in memory for their submission. */
  isCached: boolean
  uploadedSegments: number
  pruned: boolean
}

/** What a storage node says about itself. */
export interface NodeStatus {
  connectedPeers: number
  /** Last block whose submissions the node has read. */
  logSyncHeight: number
  nextTxSeq: number
  chainId: number
  /** Flow contract the node follows, lower case. */
  flowAddress: `0x${string}`
  /** The front of an indexer, which stands for other nodes and is none itself. */
  front: boolean
}

const safeInteger = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const hash = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/)
  .transform((text) => text.toLowerCase() as Hash)

const fileInfoSchema = z.object({
  tx: z.object({
    dataMerkleRoot: hash,
    merkleNodes: z.array(z.tuple([z.number().int().min(1).max(64), hash])).max(64),
    startEntryIndex: safeInteger,
    size: z.number().int().min(1).max(MAX_FILE_BYTES),
    seq: safeInteger,
  }),
  finalized: z.boolean(),
  isCached: z.boolean().default(false),
  uploadedSegNum: safeInteger.default(0),
  pruned: z.boolean().default(false),
})

/**
 * Parse `zgs_getFileInfo`. A report whose Merkle nodes do not fold to its root, or cannot be a file of its size, is
 * refused: it would lead to wrong segment positions.
 *
 * @throws an error whose message says what is wrong
 */
export function parseFileInfo(answer: unknown): FileInfo | null {
  if (answer === null) return null
  const { tx, ...state } = fileInfoSchema.parse(answer)
  const nodes = tx.merkleNodes.map(([depth, root]) => ({ height: depth - 1, root }))
  if (!submissionIsFile({ sizeBytes: tx.size, nodes }))
    throw new Error(`no file of ${tx.size} bytes has such Merkle nodes`)
  if (submissionRoot(nodes) !== tx.dataMerkleRoot) throw new Error('the Merkle nodes do not fold to the root')
  return {
    root: tx.dataMerkleRoot,
    txSeq: tx.seq,
    sizeBytes: tx.size,
    startSector: tx.startEntryIndex,
    nodes,
    finalized: state.finalized,
    isCached: state.isCached,
    uploadedSegments: state.uploadedSegNum,
    pruned: state.pruned,
  }
}

const nodeStatusSchema = z.object({
  front: z.literal(true).optional().catch(undefined),
  connectedPeers: safeInteger.default(0),
  logSyncHeight: safeInteger,
  nextTxSeq: safeInteger,
  networkIdentity: z.object({ chainId: safeInteger, flowAddress: z.string().regex(/^0x[0-9a-fA-F]{40}$/) }),
})

/** Parse `zgs_getStatus`. */
export function parseNodeStatus(answer: unknown): NodeStatus {
  const { networkIdentity, ...status } = nodeStatusSchema.parse(answer)
  return {
    ...status,
    front: status.front === true,
    chainId: networkIdentity.chainId,
    flowAddress: networkIdentity.flowAddress.toLowerCase() as `0x${string}`,
  }
}

const shardSchema = z.object({ shardId: safeInteger, numShard: safeInteger }).refine(isShard, 'not a shard')

/** Parse `zgs_getShardConfig`. */
export function parseShardConfig(answer: unknown): ShardConfig {
  return shardSchema.parse(answer)
}

/** Most ranges taken from one answer; a node with more gaps is asked again after these are filled. */
const MAX_RANGES = 10_000

const missingSchema = z.object({
  segments: z.array(z.tuple([safeInteger, safeInteger])).max(MAX_RANGES),
  total: safeInteger,
})

/** Segments of a file a node still lacks: `[from, to)` ranges of local indexes (perhaps only the first), and their number. */
export interface MissingSegments {
  ranges: readonly (readonly [number, number])[]
  total: number
}

/** Parse `GET /v1/files/{txSeq}/missing`. */
export function parseMissing(answer: unknown): MissingSegments {
  const { segments, total } = missingSchema.parse(answer)
  return { ranges: segments, total }
}

/** Parse the answer to `POST /v1/files/{txSeq}/segments`. */
export const storedSchema = z.object({ stored: safeInteger, finalized: z.boolean().default(false) })

const segmentWithProofSchema = z.object({
  root: hash,
  data: z.string().max(400_000),
  index: safeInteger,
  proof: z.object({ lemma: z.array(hash).max(64), path: z.array(z.boolean()).max(64) }),
  fileSize: safeInteger,
})

/** Parse `zgs_downloadSegmentWithProofByTxSeq`; null where the node lacks the segment. */
export function parseSegmentWithProof(answer: unknown) {
  return answer === null ? null : segmentWithProofSchema.parse(answer)
}

const errorBodySchema = z.object({
  code: z.string().max(100),
  message: z.string().max(10_000),
  fix: z.string().max(10_000).optional(),
  details: z.record(z.string(), z.unknown()).optional(),
})

/** The JSON error body of the binary path; undefined where the answer is something else (a plain 0G node, a proxy). */
export function parseErrorBody(text: string): z.output<typeof errorBodySchema> | undefined {
  try {
    return errorBodySchema.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
