import { z } from 'zod'
import { RpcResponseError } from '#kit/http/json-rpc-client.ts'
import { type RpcMethod, rpcHash, rpcMethod, rpcUint } from '#kit/http/rpc-method.ts'
import type { Hash } from '#protocol/hex.ts'
import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { shardOwns } from '#protocol/storage/shard.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import type { SegmentReader, VerifiedSegment } from '../segment-reader.ts'
import { type FileInfo, segmentWithProofSchema } from '../wire.ts'
import { downloadSectors, downloadSegment } from './download.ts'
import { type FrontNode, passOn, unreachable } from './front-node.ts'
import { liveStatus } from './status.ts'
import { type UploadMethod, uploadThroughFront } from './upload.ts'

const segments = z.array(segmentWithProofSchema).max(1024)

/** The `zgs_*` methods of a storage node, answered for a cover of shards (storage-node §4.3). */
export function frontMethods({ front, reader, metrics, retryMs }: FrontMethodsParameters): Record<string, RpcMethod> {
  const sources = { front, reader, metrics }
  const upload = (method: UploadMethod) => ({ front, metrics, retryMs, method })
  const readable = (id: Hash | number, signal: AbortSignal) => front.readable({ id, signal })

  return {
    zgs_getStatus: rpcMethod({
      handler: async (_, { signal }) => ({
        ...(await liveStatus({ nodes: await front.cover(), signal })),
        front: true,
      }),
    }),
    zgs_getShardConfig: rpcMethod({ handler: () => ({ shardId: 0, numShard: 1 }) }),
    zgs_getFileInfo: rpcMethod({
      params: z.tuple([rpcHash(), z.boolean().nullish()]),
      names: ['root', 'needAvailable'],
      handler: ([root, needAvailable], { signal }) =>
        front.fileByRoot({ root, needAvailable: needAvailable ?? true, signal }),
    }),
    zgs_getFileInfoByTxSeq: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: ([txSeq], { signal }) => front.fileByTxSeq({ txSeq, signal }),
    }),
    zgs_checkFileFinalized: rpcMethod({
      params: z.tuple([z.union([rpcUint(), rpcHash()])]),
      names: ['txSeqOrRoot'],
      handler: async ([id], { signal }) => {
        const info =
          typeof id === 'number'
            ? await front.fileByTxSeq({ txSeq: id, signal })
            : await front.fileByRoot({ root: id, needAvailable: false, signal })
        return info === null ? null : info.finalized
      },
    }),

    zgs_uploadSegment: rpcMethod({
      params: z.tuple([segmentWithProofSchema]),
      names: ['segment'],
      handler: ([segment], { signal }) =>
        uploadThroughFront({ ...upload('zgs_uploadSegment'), segments: [segment], signal }),
    }),
    zgs_uploadSegmentByTxSeq: rpcMethod({
      params: z.tuple([segmentWithProofSchema, rpcUint()]),
      names: ['segment', 'txSeq'],
      handler: ([segment, txSeq], { signal }) =>
        uploadThroughFront({ ...upload('zgs_uploadSegmentByTxSeq'), segments: [segment], txSeq, signal }),
    }),
    zgs_uploadSegments: rpcMethod({
      params: z.tuple([segments]),
      names: ['segments'],
      handler: ([list], { signal }) => uploadThroughFront({ ...upload('zgs_uploadSegments'), segments: list, signal }),
    }),
    zgs_uploadSegmentsByTxSeq: rpcMethod({
      params: z.tuple([segments, rpcUint()]),
      names: ['segments', 'txSeq'],
      handler: ([list, txSeq], { signal }) =>
        uploadThroughFront({ ...upload('zgs_uploadSegmentsByTxSeq'), segments: list, txSeq, signal }),
    }),

    zgs_downloadSegment: rpcMethod({
      params: z.tuple([rpcHash(), rpcUint(), rpcUint()]),
      names: ['root', 'startIndex', 'endIndex'],
      handler: async ([root, startSector, endSector], { signal }) =>
        base64(
          await downloadSectors({ ...sources, info: await readable(root, signal), startSector, endSector, signal }),
        ),
    }),
    zgs_downloadSegmentByTxSeq: rpcMethod({
      params: z.tuple([rpcUint(), rpcUint(), rpcUint()]),
      names: ['txSeq', 'startIndex', 'endIndex'],
      handler: async ([txSeq, startSector, endSector], { signal }) =>
        base64(
          await downloadSectors({ ...sources, info: await readable(txSeq, signal), startSector, endSector, signal }),
        ),
    }),
    zgs_downloadSegmentWithProof: rpcMethod({
      params: z.tuple([rpcHash(), rpcUint()]),
      names: ['root', 'index'],
      handler: async ([root, index], { signal }) => {
        const info = await readable(root, signal)
        return withProof(info, await downloadSegment({ ...sources, info, index, signal }))
      },
    }),
    zgs_downloadSegmentWithProofByTxSeq: rpcMethod({
      params: z.tuple([rpcUint(), rpcUint()]),
      names: ['txSeq', 'index'],
      handler: async ([txSeq, index], { signal }) => {
        const info = await readable(txSeq, signal)
        return withProof(info, await downloadSegment({ ...sources, info, index, signal }))
      },
    }),

    zgs_getSectorProof: rpcMethod({
      params: z.tuple([rpcUint(), rpcHash().nullish()]),
      names: ['sectorIndex', 'flowRoot'],
      handler: ([sector, flowRoot], { signal }) => sectorProof({ front, sector, flowRoot: flowRoot ?? null, signal }),
    }),
    zgs_getFlowContext: rpcMethod({
      handler: (_, { signal }) => firstAnswer({ front, method: 'zgs_getFlowContext', params: [], signal }),
    }),
  }
}

export interface FrontMethodsParameters {
  front: FrontNode
  reader: SegmentReader
  metrics: IndexerMetrics
  /** How long an upload to a node that is busy or out of reach is tried again, in milliseconds. */
  retryMs: number
}

/** The node that holds the sector can prove it; the others may know enough, so they are asked after it. */
async function sectorProof({
  front,
  sector,
  flowRoot,
  signal,
}: {
  front: FrontNode
  sector: number
  flowRoot: Hash | null
  signal: AbortSignal
}): Promise<unknown> {
  const first = Math.floor(sector / SEGMENT_SECTORS)
  return await firstAnswer({ front, method: 'zgs_getSectorProof', params: [sector, flowRoot], signal, first })
}

/** The first answer of a node of the cover that is not null; its error when none gives one. */
async function firstAnswer({
  front,
  method,
  params,
  signal,
  first,
}: {
  front: FrontNode
  method: string
  params: unknown[]
  signal: AbortSignal
  /** A global segment whose owners are asked first. */
  first?: number | undefined
}): Promise<unknown> {
  const cover = await front.cover()
  const rank = (owner: boolean) => (owner ? 0 : 1)
  const nodes =
    first === undefined
      ? cover
      : cover.toSorted((a, b) => rank(shardOwns(a.shard, first)) - rank(shardOwns(b.shard, first)))
  let failed: { error: unknown; node: (typeof nodes)[number] } | undefined
  for (const node of nodes) {
    try {
      const answer = await node.client.call({ method, params, signal })
      if (answer !== null) return answer
    } catch (error) {
      failed ??= { error, node }
    }
  }
  if (failed === undefined) return null
  throw failed.error instanceof RpcResponseError ? passOn(failed.error) : unreachable(failed)
}

function base64(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString('base64')
}

function withProof(info: FileInfo | null, segment: VerifiedSegment | null) {
  if (info === null || segment === null) return null
  const { data, index, proof } = segment
  const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64')
  return { root: info.tx.dataMerkleRoot, data: text, index, proof, fileSize: info.tx.size }
}
