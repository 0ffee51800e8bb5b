import { z } from 'zod'
import { createJsonRpcClient } from '#kit/http/json-rpc-client.ts'
import type { Hash } from '#protocol/hex.ts'
import { isShard, type ShardConfig } from '#protocol/storage/shard.ts'
import { IndexerUnreachableError } from './errors.ts'
import type { CallOptions } from './storage-node.ts'

/** A storage node as an indexer lists it. */
export interface ListedNode {
  url: string
  shard: ShardConfig
}

/** The questions a client has for an indexer (storage-node.md §8.1). */
export interface Indexer {
  readonly url: string
  /** Nodes to upload to: the trusted ones first, then those discovered. */
  nodes(options?: CallOptions): Promise<{ trusted: ListedNode[]; discovered: ListedNode[] }>
  /** Nodes that have a file; none for an unknown one. */
  locations(file: { root: Hash }, options?: CallOptions): Promise<ListedNode[]>
  close(): void
}

/** Most nodes taken from one answer. */
const MAX_NODES = 4096

const nodeSchema = z.object({
  url: z.string().max(2000).refine(isHttpUrl),
  config: z.object({ shardId: z.number(), numShard: z.number() }).refine(isShard),
})

/** A list in which entries that cannot be nodes are left out: one odd entry must not hide the others. */
const nodesSchema = z
  .array(z.unknown())
  .max(MAX_NODES)
  .nullable()
  .transform((entries) =>
    (entries ?? []).flatMap((entry) => {
      const node = nodeSchema.safeParse(entry).data
      return node === undefined ? [] : [{ url: node.url, shard: node.config }]
    }),
  )

/** @throws IndexerUnreachableError from every call, with the reason as its cause */
export function openIndexer({
  url,
  callTimeoutMs = 15_000,
}: {
  url: string
  callTimeoutMs?: number | undefined
}): Indexer {
  const rpc = createJsonRpcClient({ url, timeoutMs: callTimeoutMs, retries: 1, maxResponseBytes: 4 << 20 })
  const call = async <T>(
    method: string,
    params: readonly unknown[],
    schema: z.ZodType<T>,
    { signal }: CallOptions = {},
  ): Promise<T> => {
    try {
      return schema.parse(await rpc.call(method, params, signal === undefined ? {} : { signal }))
    } catch (cause) {
      signal?.throwIfAborted()
      throw new IndexerUnreachableError({ url, cause })
    }
  }
  return {
    url,
    nodes: (options) =>
      call('indexer_getShardedNodes', [], z.object({ trusted: nodesSchema, discovered: nodesSchema }), options),
    locations: ({ root }, options) => call('indexer_getFileLocations', [root], nodesSchema, options),
    close: () => rpc.close(),
  }
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)
}
