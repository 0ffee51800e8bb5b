import { z } from 'zod'
import { type RpcMethod, rpcMethod } from '#kit/http/json-rpc.ts'
import { rpcBytes, rpcHash, rpcUint } from '#kit/http/rpc-method.ts'
import { type Hex, toHex } from '#protocol/hex.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import type { LogSync } from '../chain/log-sync.ts'
import { NodeError } from '../error.ts'
import type { Intake } from '../ingest/intake.ts'
import { describeFile } from '../serve/file-info.ts'
import { type FileReader, MAX_READ_SECTORS } from '../serve/file-reader.ts'
import { proveSector } from '../serve/sector-proof.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { FileTransaction } from '../store/transaction-record.ts'
import { asRpc, invalidRange } from './rpc-errors.ts'
import { uploadSegments } from './upload-segments.ts'

export interface ZgsParameters {
  store: NodeStore
  intake: Intake
  reader: FileReader
  logSync: LogSync
  identity: { chainId: number; flow: Hex }
  connectedPeers: () => number
}

/** Most segments in one call: what 100 MiB of JSON can carry, and some. */
const MAX_SEGMENTS = 1_024
const MAX_LEMMA = 64

/** A wrong length is told by the intake with the text clients know, so the schema lets somewhat longer data through. */
const segment = z
  .object({
    root: rpcHash(),
    data: rpcBytes({ maxBytes: 2 * SEGMENT_BYTES }),
    index: rpcUint(),
    proof: z.object({ lemma: z.array(rpcHash()).max(MAX_LEMMA), path: z.array(z.boolean()).max(MAX_LEMMA) }),
    fileSize: rpcUint(),
  })
  .transform(({ fileSize, ...rest }) => ({ ...rest, sizeBytes: fileSize }))

const segments = z.array(segment).max(MAX_SEGMENTS)

/** `zgs_*`: what clients, indexers and other tools of the field call (storage-node §4.3). */
export function zgsMethods(parameters: ZgsParameters): Record<string, RpcMethod> {
  const { store, intake, reader, logSync, identity } = parameters
  const bySeq = (seq: number): FileTransaction | undefined => store.transactions.get(seq)

  async function downloadSectors(tx: FileTransaction | undefined, start: number, end: number): Promise<string | null> {
    if (start >= end) throw invalidRange('invalid chunk index')
    if (end - start > MAX_READ_SECTORS) throw invalidRange(`exceeds maximum chunks ${MAX_READ_SECTORS}`)
    const data = tx && (await reader.sectors(tx, { start, end }))
    return data?.toString('base64') ?? null
  }

  async function downloadProven(tx: FileTransaction | undefined, index: number): Promise<object | null> {
    if (!tx) return null
    if (index >= segmentCount(tx.sizeBytes)) throw rangeError(tx, index)
    const found = await reader.segment(tx, index)
    if (!found) return null
    const { data, proof } = found
    return { root: tx.root, data: data.toString('base64'), index, proof, fileSize: tx.sizeBytes }
  }

  async function upload(
    given: z.output<typeof segments>,
    { seq, tolerateDuplicates, signal }: { seq?: number; tolerateDuplicates: boolean; signal: AbortSignal },
  ): Promise<number> {
    // The count, not null: some clients take null for a failure (storage-node §4.6).
    return (await uploadSegments({ intake, segments: given, seq, tolerateDuplicates, signal })).stored
  }

  return {
    zgs_getStatus: rpcMethod({
      handler: () => {
        const { block } = logSync.status()
        return {
          connectedPeers: parameters.connectedPeers(),
          logSyncHeight: block?.number ?? 0,
          logSyncBlock: block?.hash ?? `0x${'00'.repeat(32)}`,
          nextTxSeq: store.transactions.nextSeq,
          networkIdentity: {
            chainId: identity.chainId,
            flowAddress: identity.flow,
            p2pProtocolVersion: { major: 0, minor: 4, build: 0 },
          },
        }
      },
    }),
    zgs_getShardConfig: rpcMethod({ handler: () => store.shard }),
    zgs_getFileInfo: rpcMethod({
      params: z.tuple([rpcHash(), z.boolean().nullish()]),
      names: ['root', 'needAvailable'],
      handler: ([root, needAvailable]) => {
        const tx = store.transactions.choose(root, needAvailable ?? true)
        return tx ? describeFile(store, tx) : null
      },
    }),
    zgs_getFileInfoByTxSeq: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: ([seq]) => {
        const tx = bySeq(seq)
        return tx ? describeFile(store, tx) : null
      },
    }),
    zgs_checkFileFinalized: rpcMethod({
      params: z.tuple([z.union([rpcHash(), rpcUint()])]),
      names: ['txSeqOrRoot'],
      handler: ([which]) => {
        const tx = typeof which === 'number' ? bySeq(which) : store.transactions.choose(which, false)
        return tx ? tx.status === 'finalized' : null
      },
    }),
    zgs_uploadSegment: rpcMethod({
      params: z.tuple([segment]),
      names: ['segment'],
      handler: ([one], { signal }) => asRpc(() => upload([one], { tolerateDuplicates: false, signal })),
    }),
    zgs_uploadSegmentByTxSeq: rpcMethod({
      params: z.tuple([segment, rpcUint()]),
      names: ['segment', 'txSeq'],
      handler: ([one, seq], { signal }) => asRpc(() => upload([one], { seq, tolerateDuplicates: false, signal })),
    }),
    zgs_uploadSegments: rpcMethod({
      params: z.tuple([segments]),
      names: ['segments'],
      handler: ([many], { signal }) => asRpc(() => upload(many, { tolerateDuplicates: false, signal })),
    }),
    zgs_uploadSegmentsByTxSeq: rpcMethod({
      params: z.tuple([segments, rpcUint()]),
      names: ['segments', 'txSeq'],
      handler: ([many, seq], { signal }) => asRpc(() => upload(many, { seq, tolerateDuplicates: true, signal })),
    }),
    zgs_downloadSegment: rpcMethod({
      params: z.tuple([rpcHash(), rpcUint(), rpcUint()]),
      names: ['root', 'startIndex', 'endIndex'],
      handler: ([root, start, end]) => asRpc(() => downloadSectors(store.transactions.choose(root, true), start, end)),
    }),
    zgs_downloadSegmentByTxSeq: rpcMethod({
      params: z.tuple([rpcUint(), rpcUint(), rpcUint()]),
      names: ['txSeq', 'startIndex', 'endIndex'],
      handler: ([seq, start, end]) => asRpc(() => downloadSectors(bySeq(seq), start, end)),
    }),
    zgs_downloadSegmentWithProof: rpcMethod({
      params: z.tuple([rpcHash(), rpcUint()]),
      names: ['root', 'index'],
      handler: ([root, index]) => asRpc(() => downloadProven(store.transactions.choose(root, true), index)),
    }),
    zgs_downloadSegmentWithProofByTxSeq: rpcMethod({
      params: z.tuple([rpcUint(), rpcUint()]),
      names: ['txSeq', 'index'],
      handler: ([seq, index]) => asRpc(() => downloadProven(bySeq(seq), index)),
    }),
    zgs_getSectorProof: rpcMethod({
      params: z.tuple([rpcUint(), rpcHash().nullish()]),
      names: ['sectorIndex', 'flowRoot'],
      handler: ([sector, flowRoot]) =>
        asRpc(async () => (await proveSector({ store, sector, flowRoot: flowRoot ?? undefined })) ?? null),
    }),
    zgs_getFlowContext: rpcMethod({ handler: () => [toHex(store.flow.root()), store.flow.lengthSectors] }),
  }
}

function rangeError(tx: FileTransaction, index: number): NodeError {
  return new NodeError({
    code: 'RANGE_INVALID',
    message: 'segment index is greater than or equal to the number of segments of the file',
    fix: `the file has ${segmentCount(tx.sizeBytes)} segments`,
    details: { seq: tx.seq, segment: index },
  })
}
