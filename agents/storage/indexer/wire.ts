import { z } from 'zod'
import { rpcUint } from '#kit/http/rpc-method.ts'
import type { Hash } from '#protocol/hex.ts'
import { isShard, MAX_SHARDS } from '#protocol/storage/shard.ts'

/** A root or hash in any case; comes out in lower case. */
export const hashSchema = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes in 0x hex')
  .transform((text) => text.toLowerCase() as Hash)

/** A whole number ≥ 0 below 2^53. */
export const countSchema = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

/** Which share of the global segments a node stores. `numShard` is a power of two. */
export const shardConfigSchema = z
  .object({ shardId: countSchema, numShard: countSchema })
  .refine(isShard, { message: `numShard must be a power of two up to ${MAX_SHARDS}, shardId below it` })

/** A file as storage nodes describe it (`zgs_getFileInfo`). `tx.size` is in bytes, `startEntryIndex` in sectors. */
export const fileInfoSchema = z.object({
  tx: z.object({
    streamIds: z.array(z.unknown()).max(1024).catch([]),
    data: z.unknown().transform(() => [] as number[]),
    dataMerkleRoot: hashSchema,
    merkleNodes: z.array(z.tuple([countSchema, hashSchema])).max(64),
    startEntryIndex: countSchema,
    size: countSchema.min(1),
    seq: countSchema,
  }),
  finalized: z.boolean(),
  isCached: z.boolean().catch(false),
  uploadedSegNum: countSchema.catch(0),
  pruned: z.boolean().catch(false),
})
export type FileInfo = z.output<typeof fileInfoSchema>

/** A node's state (`zgs_getStatus`). */
export const nodeStatusSchema = z.object({
  /** Set by the front of an indexer: it stands for nodes and is none. */
  front: z.literal(true).optional().catch(undefined),
  connectedPeers: countSchema.catch(0),
  logSyncHeight: countSchema,
  logSyncBlock: hashSchema,
  nextTxSeq: countSchema,
  networkIdentity: z.object({
    chainId: countSchema,
    flowAddress: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
    p2pProtocolVersion: z.object({ major: countSchema, minor: countSchema, build: countSchema }),
  }),
})
export type NodeStatus = z.output<typeof nodeStatusSchema>

/** Proof of a segment against its file's root; at most 64 levels. */
export const segmentProofSchema = z.object({
  lemma: z.array(hashSchema).min(1).max(66),
  path: z.array(z.boolean()).max(64),
})

/** A segment as clients upload it. `data` is standard base64 of at most 256 KiB. */
export const segmentWithProofSchema = z.object({
  root: hashSchema,
  data: z.string().max(349_528),
  index: rpcUint(),
  proof: segmentProofSchema,
  fileSize: rpcUint(),
})
export type SegmentWithProof = z.output<typeof segmentWithProofSchema>

/** Where a peer of the discovery node was seen (`admin_getPeers`); only what is used here. */
export const peersSchema = z.record(
  z.string().max(512),
  z.object({
    seenIps: z.array(z.string().max(64)).max(64).catch([]),
    // Nodes of this project tell their address here.
    listeningAddresses: z.array(z.string().max(512)).max(64).catch([]),
  }),
)

/** Where a file was announced (`admin_getFileLocation`). */
export const fileLocationsSchema = z
  .array(z.object({ ip: z.string().max(64), url: z.string().max(512).optional().catch(undefined) }))
  .max(10_000)
  .nullable()
