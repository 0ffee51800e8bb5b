import type { FastifyInstance } from 'fastify'
import { RpcResponseError } from '#kit/http/json-rpc-client.ts'
import { selectNodes, shardOwns } from '#protocol/storage/shard.ts'
import type { KnownNode } from '../node-registry.ts'
import { globalSegment } from '../segment-reader.ts'
import type { FileInfo } from '../wire.ts'
import { GatewayError, sendSuccess } from './envelope.ts'
import type { GatewayParameters } from './gateway.ts'
import { readSegmentUpload, type SegmentUpload } from './requests.ts'

const BODY_BYTES = 2 ** 20

/** `POST /file/segment`: takes one segment of a file whose transaction a trusted node knows, for the nodes that own it. */
export function registerUploadRoute(scope: FastifyInstance, parameters: GatewayParameters): void {
  scope.post('/file/segment', { bodyLimit: BODY_BYTES }, async (request, reply) => {
    const upload = readSegmentUpload(request.body)
    await parameters.registry.settled()
    const nodes = parameters.registry.trusted()
    const info = await findTransaction({ nodes, upload })
    await Promise.all(ownersOf({ nodes, upload, info }).map((node) => send({ node, upload, info })))
    return sendSuccess({ reply, data: 'Succeeded to upload segment' })
  })
}

async function findTransaction({
  nodes,
  upload,
}: {
  nodes: readonly KnownNode[]
  upload: SegmentUpload
}): Promise<FileInfo> {
  const { root, txSeq } = upload
  const answers = await Promise.allSettled(
    nodes.map(async ({ client }) => {
      if (txSeq != null) return await client.fileInfoByTxSeq({ txSeq })
      return root == null ? null : await client.fileInfo({ root, needAvailable: false })
    }),
  )
  const infos = answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : null))
  const info = infos.filter((one) => one !== null).sort((a, b) => a.tx.seq - b.tx.seq)[0]
  if (info === undefined) {
    if (nodes.length === 0) throw new GatewayError({ kind: 'unavailable', data: 'no trusted storage node answers' })
    throw new GatewayError({ kind: 'fileNotFound' })
  }
  if (root != null && info.tx.dataMerkleRoot !== root) {
    throw new GatewayError({ kind: 'invalidParameter', data: 'data root and tx seq not match' })
  }
  return info
}

function ownersOf({
  nodes,
  upload,
  info,
}: {
  nodes: readonly KnownNode[]
  upload: SegmentUpload
  info: FileInfo
}): KnownNode[] {
  const replicas = upload.expectedReplica ?? 1
  const all = nodes.map((node) => ({ node, config: node.shard }))
  const chosen = selectNodes({ nodes: all, replicas: Math.max(1, replicas), method: 'min' })
  if (chosen === undefined) {
    const data = `the trusted storage nodes that answer do not hold ${replicas} replicas`
    throw new GatewayError({ kind: 'unavailable', data })
  }
  const global = globalSegment({ startSector: info.tx.startEntryIndex }, upload.index)
  return chosen.filter(({ config }) => shardOwns(config, global)).map(({ node }) => node)
}

async function send({ node, upload, info }: { node: KnownNode; upload: SegmentUpload; info: FileInfo }): Promise<void> {
  const { data, index, proof } = upload
  const segment = { root: info.tx.dataMerkleRoot, data, index, proof, fileSize: info.tx.size }
  try {
    await node.client.call({ method: 'zgs_uploadSegmentsByTxSeq', params: [[segment], info.tx.seq], timeoutMs: 30_000 })
  } catch (error) {
    if (!(error instanceof RpcResponseError)) {
      const said = error instanceof Error ? error.message : String(error)
      throw new GatewayError({ kind: 'unavailable', data: said, cause: error })
    }
    const said = typeof error.data === 'string' ? error.data : error.rpcMessage
    if (said.includes('already uploaded')) return
    throw new GatewayError({
      kind: error.rpcCode === -32602 ? 'invalidParameter' : 'internal',
      data: said,
      cause: error,
    })
  }
}
