import { type ByteSource, readFully } from '#protocol/storage/byte-source.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import type { FileTree } from '#protocol/storage/file-tree.ts'
import { segmentDataBytes } from '#protocol/storage/padding.ts'
import { encodeSegmentFrame } from '#protocol/storage/segment-frame.ts'
import { NodeRefusedError } from './errors.ts'
import { readText } from './http-connection.ts'
import { parseErrorBody, storedSchema } from './node-answers.ts'
import type { StorageNode } from './storage-node.ts'

export interface SendSegmentsParameters {
  node: StorageNode
  txSeq: number
  tree: FileTree
  source: ByteSource
  /** Local indexes, ascending. */
  indexes: readonly number[]
  signal?: AbortSignal | undefined
  /** Called for each segment handed to the socket, with its bytes. */
  onSent?: ((bytes: number) => void) | undefined
}

/** Whether the node's shard is now complete; undefined where the node does not say. */
export interface SendSegmentsReturnType {
  finalized: boolean | undefined
}

/**
 * Send some segments of a file to one node in one request. Frames with the raw bytes where the node takes them, else
 * base64 by `zgs_uploadSegmentsByTxSeq`. Reads one segment ahead of the socket, so memory stays at a few segments.
 *
 * @throws NodeRefusedError, NodeUnreachableError, SourceShortError, the signal's reason
 */
export async function sendSegments(parameters: SendSegmentsParameters): Promise<SendSegmentsReturnType> {
  return parameters.node.speaksFrames === true ? sendFrames(parameters) : sendByRpc(parameters)
}

async function sendFrames({
  node,
  txSeq,
  tree,
  source,
  indexes,
  signal,
  onSent,
}: SendSegmentsParameters): Promise<SendSegmentsReturnType> {
  const free: Buffer[] = []
  async function* parts() {
    for (const index of indexes) {
      signal?.throwIfAborted()
      const data = await readSegment({ source, tree, index, buffer: free.pop() })
      yield* encodeSegmentFrame({ index, proof: tree.proof(index), data })
      onSent?.(data.length)
    }
  }
  const lengthBytes = indexes.reduce((sum, index) => sum + frameBytes(tree, index), 0)
  const response = await node.http.request({
    method: 'POST',
    path: `/v1/files/${txSeq}/segments`,
    headers: { 'content-type': 'application/octet-stream' },
    body: {
      parts: parts(),
      lengthBytes,
      onPartSent: (part) => {
        if (part.buffer.byteLength === SEGMENT_BYTES) free.push(Buffer.from(part.buffer))
      },
    },
    signal,
  })
  const text = await readText(response)
  if (response.status === 200) return storedSchema.parse(JSON.parse(text))
  const error = parseErrorBody(text)
  throw new NodeRefusedError({
    url: node.url,
    nodeCode: error?.code ?? `HTTP_${response.status}`,
    reason: error?.message ?? `HTTP ${response.status}`,
    status: response.status,
    nodeDetails: error?.details,
    ...(error?.fix === undefined ? {} : { fix: error.fix }),
  })
}

/** Segments of one JSON-RPC call: 10 make 3.5 MB of JSON, as the field's other clients send. */
const RPC_BATCH = 10

async function sendByRpc({
  node,
  txSeq,
  tree,
  source,
  indexes,
  signal,
  onSent,
}: SendSegmentsParameters): Promise<SendSegmentsReturnType> {
  for (let at = 0; at < indexes.length; at += RPC_BATCH) {
    const segments = []
    for (const index of indexes.slice(at, at + RPC_BATCH)) {
      const data = await readSegment({ source, tree, index, buffer: undefined })
      const base64 = Buffer.from(data.buffer, data.byteOffset, data.length).toString('base64')
      segments.push({ root: tree.root, data: base64, index, proof: tree.proof(index), fileSize: tree.sizeBytes })
      onSent?.(data.length)
    }
    try {
      await node.call('zgs_uploadSegmentsByTxSeq', [segments, txSeq], { signal })
    } catch (error) {
      if (!(error instanceof NodeRefusedError)) throw error
      if (/already uploaded and finalized/.test(error.message)) return { finalized: true }
      if (!/has already been uploaded or is being uploaded/.test(error.message)) throw error
    }
  }
  return { finalized: undefined }
}

/** The segment as it travels: whole sectors, zero-filled after the end of the file. */
async function readSegment({
  source,
  tree,
  index,
  buffer,
}: {
  source: ByteSource
  tree: FileTree
  index: number
  buffer: Buffer | undefined
}): Promise<Uint8Array> {
  const offset = index * SEGMENT_BYTES
  const wireBytes = segmentDataBytes(tree.sizeBytes, index)
  const dataBytes = Math.min(wireBytes, tree.sizeBytes - offset)
  const target = (buffer ?? Buffer.allocUnsafeSlow(SEGMENT_BYTES)).subarray(0, wireBytes)
  await readFully(source, { offset, target: target.subarray(0, dataBytes) })
  target.fill(0, dataBytes)
  return target
}

function frameBytes(tree: FileTree, index: number): number {
  const { lemma } = tree.proof(index)
  return 9 + 32 * lemma.length + 4 + segmentDataBytes(tree.sizeBytes, index)
}
