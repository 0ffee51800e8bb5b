import { createJsonRpcClient, RpcResponseError } from '#kit/http/json-rpc-client.ts'
import type { Hash } from '#protocol/hex.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import { NodeAnswerError, NodeRefusedError, NodeUnreachableError, reasonOf } from './errors.ts'
import { type HttpConnection, openHttpConnection, readText } from './http-connection.ts'
import {
  type FileInfo,
  type MissingSegments,
  type NodeStatus,
  parseErrorBody,
  parseFileInfo,
  parseMissing,
  parseNodeStatus,
  parseShardConfig,
} from './node-answers.ts'

/**
 * One storage node, ours or a plain 0G one. Small questions go by JSON-RPC, segments by the binary path where the node
 * has one ({@link StorageNode.speaksFrames}).
 *
 * @example
 * const node = openStorageNode({ url: 'http://127.0.0.1:5678' })
 * const info = await node.fileInfo({ root })
 * node.close()
 */
export interface StorageNode {
  readonly url: string
  readonly http: HttpConnection
  /** Whether the node has the binary path; unknown (undefined) until it was asked once. */
  speaksFrames: boolean | undefined
  status(options?: CallOptions): Promise<NodeStatus>
  shard(options?: CallOptions): Promise<ShardConfig>
  /** By `txSeq`, else by `root`. `needAvailable` prefers a submission whose data the node has. Null when unknown. */
  fileInfo(file: FileQuery, options?: CallOptions): Promise<FileInfo | null>
  /** What the node's shard still lacks of a submission; undefined from a node that cannot say. */
  missing(file: { txSeq: number }, options?: CallOptions): Promise<MissingSegments | undefined>
  /** Any JSON-RPC method, with errors typed as below. */
  call(method: string, params: readonly unknown[], options?: CallOptions): Promise<unknown>
  close(): void
}

export interface CallOptions {
  signal?: AbortSignal | undefined
}

export type FileQuery = { txSeq: number } | { root: Hash; needAvailable?: boolean }

export interface OpenStorageNodeParameters {
  url: string
  /** Limit of one small call. Default 15 s. */
  callTimeoutMs?: number | undefined
  /** A transfer in which nothing moves for so long is given up. Default 30 s. */
  idleTimeoutMs?: number | undefined
}

/** Opens no connection yet: the first call does. */
export function openStorageNode({
  url,
  callTimeoutMs = 15_000,
  idleTimeoutMs = 30_000,
}: OpenStorageNodeParameters): StorageNode {
  const http = openHttpConnection({ url, idleTimeoutMs })
  const rpc = createJsonRpcClient({ url, timeoutMs: callTimeoutMs, retries: 0, maxResponseBytes: 4 << 20 })

  const call = async (method: string, params: readonly unknown[], { signal }: CallOptions = {}): Promise<unknown> => {
    try {
      return await rpc.call(method, params, signal === undefined ? {} : { signal })
    } catch (cause) {
      signal?.throwIfAborted()
      if (cause instanceof RpcResponseError) {
        const data = typeof cause.data === 'string' ? `; ${cause.data}` : ''
        throw new NodeRefusedError({
          url,
          nodeCode: String(cause.rpcCode),
          reason: `${cause.rpcMessage}${data}`,
          cause,
        })
      }
      throw new NodeUnreachableError({ url, reason: reasonOf(cause).replace(`${url} `, ''), cause })
    }
  }
  const parsed = async <T>(
    method: string,
    params: readonly unknown[],
    parse: (answer: unknown) => T,
    options?: CallOptions,
  ) => {
    const answer = await call(method, params, options)
    return parseAnswer({ url, what: method, parse: () => parse(answer) })
  }

  const node: StorageNode = {
    url,
    http,
    speaksFrames: undefined,
    call,
    status: (options) => parsed('zgs_getStatus', [], parseNodeStatus, options),
    shard: (options) => parsed('zgs_getShardConfig', [], parseShardConfig, options),
    fileInfo: async (file, options) => {
      const info =
        'txSeq' in file
          ? await parsed('zgs_getFileInfoByTxSeq', [file.txSeq], parseFileInfo, options)
          : await parsed('zgs_getFileInfo', [file.root, file.needAvailable ?? true], parseFileInfo, options)
      const fits = info === null || ('txSeq' in file ? info.txSeq === file.txSeq : info.root === file.root)
      if (!fits) throw new NodeAnswerError({ url, reason: 'it describes another file than asked for' })
      return info
    },
    missing: async ({ txSeq }, { signal } = {}) => {
      if (node.speaksFrames === false) return undefined
      const response = await http.request({ method: 'GET', path: `/v1/files/${txSeq}/missing`, signal })
      const text = await readText(response)
      if (response.status === 200 && text.startsWith('{')) {
        node.speaksFrames = true
        return parseAnswer({ url, what: 'missing segments', parse: () => parseMissing(JSON.parse(text)) })
      }
      const error = parseErrorBody(text)
      node.speaksFrames = error !== undefined
      if (error === undefined) return undefined
      throw new NodeRefusedError({
        url,
        nodeCode: error.code,
        reason: error.message,
        status: response.status,
        ...(error.fix === undefined ? {} : { fix: error.fix }),
      })
    },
    close: () => {
      http.close()
      rpc.close()
    },
  }
  return node
}

function parseAnswer<T>({ url, what, parse }: { url: string; what: string; parse: () => T }): T {
  try {
    return parse()
  } catch (cause) {
    throw new NodeAnswerError({ url, reason: `${what}: ${reasonOf(cause)}`, cause })
  }
}
