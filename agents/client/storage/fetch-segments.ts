import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { MAX_FRAME_BYTES } from '#protocol/storage/segment-frame.ts'
import { NodeAnswerError, NodeRefusedError, NodeUnreachableError, reasonOf } from './errors.ts'
import { FrameReader, type LentFrame } from './frame-reader.ts'
import { type HttpResponse, readText } from './http-connection.ts'
import { parseErrorBody, parseSegmentWithProof } from './node-answers.ts'
import type { StorageNode } from './storage-node.ts'

export interface FetchSegmentsParameters {
  node: StorageNode
  txSeq: number
  /** Local indexes wanted, ascending; all of the node's shard between the first and the last. */
  indexes: readonly number[]
  signal?: AbortSignal | undefined
}

/**
 * The wanted segments as one node gives them, in its order. They are NOT verified: that is the caller's first act.
 * A node may leave segments out; none that was not asked for comes through.
 *
 * @throws NodeUnreachableError, NodeRefusedError, NodeAnswerError, the signal's reason
 */
export async function* fetchSegments(parameters: FetchSegmentsParameters): AsyncGenerator<LentFrame, void, undefined> {
  const { node } = parameters
  if (node.speaksFrames !== false) {
    const response = await requestFrames(parameters)
    if (response !== undefined) {
      yield* readFrames(parameters, response)
      return
    }
  }
  yield* fetchByRpc(parameters)
}

/** The answer with frames, or undefined from a node that has no binary path. */
async function requestFrames({
  node,
  txSeq,
  indexes,
  signal,
}: FetchSegmentsParameters): Promise<HttpResponse | undefined> {
  const from = indexes[0] ?? 0
  const to = (indexes.at(-1) ?? from) + 1
  const response = await node.http.request({
    method: 'GET',
    path: `/v1/files/${txSeq}/segments?from=${from}&to=${to}`,
    headers: { accept: 'application/octet-stream' },
    signal,
  })
  if (response.status === 200 && /octet-stream/.test(response.headers['content-type'] ?? '')) {
    node.speaksFrames = true
    return response
  }
  const error = parseErrorBody(await readText(response))
  if (error === undefined && node.speaksFrames === undefined) {
    node.speaksFrames = false
    return undefined
  }
  throw new NodeRefusedError({
    url: node.url,
    nodeCode: error?.code ?? `HTTP_${response.status}`,
    reason: error?.message ?? `HTTP ${response.status}`,
    status: response.status,
  })
}

async function* readFrames({ node, indexes, signal }: FetchSegmentsParameters, response: HttpResponse) {
  const wanted = new Set(indexes)
  const limitBytes = indexes.length * MAX_FRAME_BYTES
  const decoder = new FrameReader()
  let receivedBytes = 0
  try {
    for await (const piece of response.body as AsyncIterable<Uint8Array>) {
      receivedBytes += piece.length
      if (receivedBytes > limitBytes)
        throw new NodeAnswerError({
          url: node.url,
          reason: `more than ${limitBytes} bytes for ${wanted.size} segments`,
        })
      for (const frame of decoder.push(piece)) {
        if (wanted.delete(frame.index)) yield frame
        else frame.release()
      }
    }
    decoder.end()
  } catch (cause) {
    signal?.throwIfAborted()
    if (cause instanceof NodeAnswerError) throw cause
    const broken =
      cause instanceof Error && 'code' in cause && /^(ECONN|ABORT|ERR_STREAM|ERR_HTTP)/.test(String(cause.code))
    if (broken) throw new NodeUnreachableError({ url: node.url, reason: 'the connection broke', cause })
    throw new NodeAnswerError({ url: node.url, reason: reasonOf(cause), cause })
  } finally {
    response.body.destroy()
  }
}

async function* fetchByRpc({
  node,
  txSeq,
  indexes,
  signal,
}: FetchSegmentsParameters): AsyncGenerator<LentFrame, void, undefined> {
  for (const index of indexes) {
    const answer = await node.call('zgs_downloadSegmentWithProofByTxSeq', [txSeq, index], { signal })
    let segment: ReturnType<typeof parseSegmentWithProof>
    try {
      segment = parseSegmentWithProof(answer)
    } catch (cause) {
      throw new NodeAnswerError({ url: node.url, reason: `segment ${index}: ${reasonOf(cause)}`, cause })
    }
    if (segment === null || segment.index !== index) continue
    const data = Buffer.from(segment.data, 'base64')
    if (data.length <= SEGMENT_BYTES)
      yield { index, proof: segment.proof, data: new Uint8Array(data), release: () => {} }
  }
}
