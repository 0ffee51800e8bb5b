import { setTimeout as sleep } from 'node:timers/promises'
import { RpcResponseError } from '#kit/http/json-rpc-client.ts'
import { RPC_CODE, type RpcError } from '#kit/http/rpc-error.ts'
import { shardOwns } from '#protocol/storage/shard.ts'
import type { IndexerMetrics } from '../indexer-metrics.ts'
import type { KnownNode } from '../node-registry.ts'
import { globalSegment } from '../segment-reader.ts'
import type { FileInfo, SegmentWithProof } from '../wire.ts'
import { type FrontNode, passOn, SERVER_ERROR, unreachable } from './front-node.ts'

/** The four upload methods; a front calls the same one at the shards, so that refusals read as they do there. */
export type UploadMethod =
  | 'zgs_uploadSegment'
  | 'zgs_uploadSegmentByTxSeq'
  | 'zgs_uploadSegments'
  | 'zgs_uploadSegmentsByTxSeq'

type Outcome = { kind: 'stored' } | { kind: 'benign' | 'refused'; at: number; error: RpcError }

const RETRY_PAUSE_MS = 500
const CALL_TIMEOUT_MS = 60_000

/**
 * Takes segments in the place of a cover of shards and gives each to the node whose shard owns it; as long as no node
 * knows the transaction, to all of them, which cache it. A node that is busy or out of reach is tried again for
 * `retryMs`. Returns how many segments were taken.
 *
 * A refusal is passed on word for word, the one for the earliest segment first. "Already there" counts as success as
 * long as something else was stored, and is only passed on when it is all there is to say.
 */
export async function uploadThroughFront({
  front,
  method,
  segments,
  txSeq,
  retryMs,
  metrics,
  signal,
}: UploadThroughFrontParameters): Promise<number> {
  const [first] = segments
  if (first === undefined) return 0
  const cover = await front.cover()
  const place = await front.place({ root: first.root, txSeq })
  const outcomes = await Promise.all(
    assign({ cover, place, segments }).map(async ({ node, share, at }): Promise<Outcome> => {
      try {
        const params = paramsOf({ method, share, txSeq })
        await callPatiently({ node, method, params, retryMs, signal })
        return { kind: 'stored' }
      } catch (error) {
        if (!(error instanceof RpcResponseError)) throw error
        const passed = passOn(error)
        return { kind: isBenign(passed) ? 'benign' : 'refused', at, error: passed }
      }
    }),
  )
  const failed = outcomes.filter((outcome) => outcome.kind !== 'stored').sort((a, b) => a.at - b.at)
  const refused = failed.find(({ kind }) => kind === 'refused')
  if (refused !== undefined) throw refused.error
  if (
    failed[0] !== undefined &&
    failed.length === outcomes.length &&
    (await saysAll({ front, first, txSeq, signal }))
  ) {
    throw failed[0].error
  }
  metrics.frontSegments.inc({ direction: 'upload' }, segments.length)
  return segments.length
}

export interface UploadThroughFrontParameters {
  front: FrontNode
  method: UploadMethod
  segments: readonly SegmentWithProof[]
  txSeq?: number | undefined
  /** How long a node that is busy or does not answer is tried again, in milliseconds. */
  retryMs: number
  metrics: IndexerMetrics
  signal?: AbortSignal | undefined
}

interface Share {
  node: KnownNode
  share: SegmentWithProof[]
  /** Position of its first segment in the call. */
  at: number
}

function assign({
  cover,
  place,
  segments,
}: {
  cover: readonly KnownNode[]
  place: FileInfo['tx'] | undefined
  segments: readonly SegmentWithProof[]
}): Share[] {
  if (place === undefined) return cover.map((node) => ({ node, share: [...segments], at: 0 }))
  const shares = new Map<string, Share>()
  for (const [at, segment] of segments.entries()) {
    const global = globalSegment({ startSector: place.startEntryIndex }, segment.index)
    const node = cover.find(({ shard }) => shardOwns(shard, global))
    if (node === undefined) continue
    const share = shares.get(node.url)
    if (share === undefined) shares.set(node.url, { node, share: [segment], at })
    else share.share.push(segment)
  }
  return [...shares.values()]
}

function paramsOf({
  method,
  share,
  txSeq,
}: {
  method: UploadMethod
  share: SegmentWithProof[]
  txSeq: number | undefined
}): unknown[] {
  const what = method === 'zgs_uploadSegment' || method === 'zgs_uploadSegmentByTxSeq' ? share[0] : share
  return txSeq === undefined ? [what] : [what, txSeq]
}

async function callPatiently({
  node,
  method,
  params,
  retryMs,
  signal,
}: {
  node: KnownNode
  method: string
  params: unknown[]
  retryMs: number
  signal: AbortSignal | undefined
}): Promise<unknown> {
  const deadlineMs = performance.now() + retryMs
  for (let pauseMs = RETRY_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, 4_000)) {
    try {
      return await node.client.call({ method, params, signal, timeoutMs: CALL_TIMEOUT_MS })
    } catch (error) {
      signal?.throwIfAborted()
      const busy = error instanceof RpcResponseError && error.rpcMessage.includes('too many data writing')
      if (error instanceof RpcResponseError && !busy) throw error
      if (performance.now() + pauseMs > deadlineMs) throw busy ? error : unreachable({ node, error })
      await sleep(pauseMs, undefined, { signal })
    }
  }
}

/** Whether "already there" is true of the whole file, and not of one shard alone. */
async function saysAll({
  front,
  first,
  txSeq,
  signal,
}: {
  front: FrontNode
  first: SegmentWithProof
  txSeq: number | undefined
  signal: AbortSignal | undefined
}): Promise<boolean> {
  const info =
    txSeq === undefined
      ? await front.fileByRoot({ root: first.root, needAvailable: false, signal })
      : await front.fileByTxSeq({ txSeq, signal })
  return info?.finalized === true || txSeq === undefined
}

/** The texts clients match on. */
function isBenign({ rpcCode, message, data }: RpcError): boolean {
  if (rpcCode === RPC_CODE.invalidParams) return data?.includes('already uploaded and finalized') === true
  return rpcCode === SERVER_ERROR && message.includes('segment has already been uploaded or is being uploaded')
}
