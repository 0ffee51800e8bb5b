import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree, type FileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { segmentCount, segmentDataBytes } from '#protocol/storage/padding.ts'
import { type ShardConfig, shardOwns } from '#protocol/storage/shard.ts'

/** How a fake node misbehaves when asked for a segment. */
export type Fault = 'none' | 'stall' | 'flip' | 'garbage' | 'refuse' | 'absent' | 'short'

/** A file as fake nodes hold it. */
export interface FakeFile {
  data: Uint8Array
  tree: FileTree
  root: Hash
  txSeq: number
  /** Sector at which it begins. */
  startSector: number
}

/** A storage node of a few lines, which speaks JSON-RPC only and does as it is told. */
export interface FakeNode {
  url: string
  shard: ShardConfig
  fault: Fault
  finalized: boolean
  /** Methods called, in order. */
  calls: string[]
  /** Segments uploaded to it, by index. */
  uploads: { method: string; indexes: number[] }[]
  /** Answers uploads with this error instead of taking them. */
  uploadError: { code: number; message: string; data?: string } | undefined
  files: FakeFile[]
  chainId: number
  peers: Record<string, unknown>
  locations: unknown
  close(): Promise<void>
}

/** Bytes that differ in every sector, so that a segment in the wrong place shows. */
export function patternBytes(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  for (let i = 0; i < sizeBytes; i += 1) bytes[i] = (i * 7 + (i >>> 8) * 13 + (i >>> 16) * 31) & 0xff
  return bytes
}

export async function fakeFile({
  data,
  txSeq = 0,
  startSector = 1024,
}: {
  data: Uint8Array
  txSeq?: number
  startSector?: number
}): Promise<FakeFile> {
  const tree = await buildFileTree({ source: memorySource(data) })
  return { data, tree, root: tree.root, txSeq, startSector }
}

export async function startFakeNode({
  shard = { shardId: 0, numShard: 1 },
  files = [],
}: {
  shard?: ShardConfig
  files?: FakeFile[]
} = {}): Promise<FakeNode> {
  const server = createServer((request, response) => void serve(node, request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const node: FakeNode = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    shard,
    fault: 'none',
    finalized: true,
    calls: [],
    uploads: [],
    uploadError: undefined,
    files,
    chainId: 31337,
    peers: {},
    locations: null,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return node
}

async function serve(node: FakeNode, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  if (request.method !== 'POST' || request.url !== '/') {
    response.writeHead(405).end('Used HTTP Method is not allowed. POST is required')
    return
  }
  const {
    id,
    method,
    params = [],
  } = JSON.parse(Buffer.concat(chunks).toString()) as { id: number; method: string; params?: unknown[] }
  node.calls.push(method)
  const body = answer(node, method, params)
  if (body === 'never') return
  response.setHeader('content-type', 'application/json')
  response.end(typeof body === 'string' ? body : JSON.stringify({ jsonrpc: '2.0', id, ...body }))
}

type Body = { result: unknown } | { error: { code: number; message: string; data?: string } } | string

function answer(node: FakeNode, method: string, params: unknown[]): Body {
  const file = node.files.find(({ root, txSeq }) => params[0] === root || params[0] === txSeq)
  switch (method) {
    case 'zgs_getShardConfig':
      return { result: node.shard }
    case 'zgs_getStatus':
      return { result: status(node) }
    case 'zgs_getFileInfo':
    case 'zgs_getFileInfoByTxSeq':
      return { result: file === undefined ? null : info(node, file) }
    case 'zgs_downloadSegmentWithProofByTxSeq':
      return segment(node, file, Number(params[1]))
    case 'zgs_uploadSegmentsByTxSeq':
    case 'zgs_uploadSegments':
      return upload(node, method, params[0] as { index: number }[])
    case 'admin_getPeers':
      return { result: node.peers }
    case 'admin_getFileLocation':
      return { result: node.locations }
    case 'admin_findFile':
      return { result: null }
    default:
      return { error: { code: -32601, message: 'Method not found' } }
  }
}

function status(node: FakeNode) {
  return {
    connectedPeers: 1,
    logSyncHeight: 100,
    logSyncBlock: `0x${'11'.repeat(32)}`,
    nextTxSeq: node.files.length,
    networkIdentity: {
      chainId: node.chainId,
      flowAddress: `0x${'ab'.repeat(20)}`,
      p2pProtocolVersion: { major: 0, minor: 4, build: 0 },
    },
  }
}

function info(node: FakeNode, { tree, data, startSector, txSeq, root }: FakeFile) {
  return {
    tx: {
      streamIds: [],
      data: [],
      dataMerkleRoot: root,
      merkleNodes: tree.nodes.map(({ root: nodeRoot, height }) => [height + 1, nodeRoot]),
      startEntryIndex: startSector,
      size: data.length,
      seq: txSeq,
    },
    finalized: node.finalized,
    isCached: false,
    uploadedSegNum: node.finalized ? segmentCount(data.length) : 0,
    pruned: false,
  }
}

function segment(node: FakeNode, file: FakeFile | undefined, index: number): Body {
  if (node.fault === 'stall') return 'never'
  if (node.fault === 'garbage') return 'this is not JSON'
  if (node.fault === 'refuse') return { error: { code: -32000, message: 'data corruption' } }
  if (file === undefined || node.fault === 'absent') return { result: null }
  if (!shardOwns(node.shard, Math.floor(file.startSector / 1024) + index)) return { result: null }
  const bytes = new Uint8Array(segmentDataBytes(file.data.length, index))
  bytes.set(file.data.subarray(index * 262_144, index * 262_144 + bytes.length))
  if (node.fault === 'flip') bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
  const data = node.fault === 'short' ? bytes.subarray(0, bytes.length - 256) : bytes
  return {
    result: {
      root: file.root,
      data: Buffer.from(data).toString('base64'),
      index,
      proof: file.tree.proof(index),
      fileSize: file.data.length,
    },
  }
}

function upload(node: FakeNode, method: string, segments: { index: number }[]): Body {
  if (node.uploadError !== undefined) return { error: node.uploadError }
  node.uploads.push({ method, indexes: segments.map(({ index }) => index) })
  return { result: segments.length }
}
