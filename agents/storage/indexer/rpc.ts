import { z } from 'zod'
import { RpcError } from '#kit/http/rpc-error.ts'
import { type RpcMethod, rpcHash, rpcMethod, rpcUint } from '#kit/http/rpc-method.ts'
import { MAX_SHARDS, type SelectionMethod } from '#protocol/storage/shard.ts'
import { IndexerError } from './errors.ts'
import type { FileLocator } from './file-locator.ts'
import { type FrontListing, listed, listTrusted } from './node-lists.ts'
import type { NodeRegistry } from './node-registry.ts'
import { chooseNodes, type ListedNode } from './select.ts'

const MAX_REPLICAS = 64

/** `min`, `max`, `random`, or a number of shards, also as text. */
const methodSchema = z.union([
  z.enum(['min', 'max', 'random']),
  z.number().int().min(1).max(MAX_SHARDS),
  z
    .string()
    .regex(/^\d{1,8}$/, 'expected min, max, random or a number of shards')
    .transform(Number),
])

/** The `indexer_*` methods (storage-node §8.1). Lists are never null. */
export function indexerMethods({
  registry,
  locator,
  publicUrl,
  listing,
}: IndexerMethodsParameters): Record<string, RpcMethod> {
  return {
    indexer_getShardedNodes: rpcMethod({
      handler: async () => {
        await registry.settled()
        return {
          trusted: listTrusted({ registry, publicUrl: publicUrl(), listing }),
          discovered: registry.discovered().map(listed),
        }
      },
    }),

    indexer_getSelectedNodes: rpcMethod({
      params: z.tuple([
        rpcUint({ max: MAX_REPLICAS }),
        methodSchema.nullish(),
        z.boolean().nullish(),
        z.array(z.string().max(2048)).max(10_000).nullish(),
      ]),
      names: ['expectedReplica', 'method', 'fullTrusted', 'dropped'],
      handler: async ([expectedReplica, method, fullTrusted, dropped]) => {
        await registry.settled()
        return choose({
          registry,
          expectedReplica,
          method: method ?? 'min',
          fullTrusted: fullTrusted ?? false,
          dropped: dropped ?? [],
        })
      },
    }),

    indexer_getFileLocations: rpcMethod({
      params: z.tuple([rpcHash()]),
      names: ['root'],
      handler: async ([root]): Promise<ListedNode[]> => {
        const file = await locator.byRoot(root)
        return file.state === 'available' ? file.nodes.map(listed) : []
      },
    }),

    // Where nodes stand would take an outside service; clients accept an empty map.
    indexer_getNodeLocations: rpcMethod({ handler: () => ({}) }),
  }
}

export interface IndexerMethodsParameters {
  registry: NodeRegistry
  locator: FileLocator
  /** Where clients reach the indexer; known once it listens. */
  publicUrl: () => string
  listing: FrontListing
}

/** Callers that leave the choice here know about shards, so real nodes are chosen, never a front. */
function choose({
  registry,
  ...wanted
}: {
  registry: NodeRegistry
  expectedReplica: number
  method: SelectionMethod
  fullTrusted: boolean
  dropped: string[]
}) {
  try {
    return chooseNodes({
      trusted: registry.trusted().map(listed),
      discovered: registry.discovered().map(listed),
      ...wanted,
    })
  } catch (error) {
    if (!(error instanceof IndexerError)) throw error
    throw new RpcError({ rpcCode: -32000, message: error.message, cause: error })
  }
}
