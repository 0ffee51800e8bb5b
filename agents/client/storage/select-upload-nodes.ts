import { formatShard, type SelectionMethod, selectNodes } from '#protocol/storage/shard.ts'
import { NoCoverError } from './errors.ts'
import type { Candidate, ListNodesReturnType } from './list-nodes.ts'

export interface SelectUploadNodesParameters extends ListNodesReturnType {
  replicas: number
  method: SelectionMethod
  /** Nodes that failed, with the reason: they are not chosen again. */
  dropped: ReadonlyMap<string, string>
  cause?: unknown
}

/**
 * Nodes that together hold every shard `replicas` times. Trusted nodes alone where they suffice, else discovered ones
 * too. Fronts of an indexer are used only where no real nodes cover, and never to count as a second replica.
 *
 * @throws NoCoverError naming the nodes at hand and those that failed
 */
export function selectUploadNodes({
  nodes,
  failed,
  replicas,
  method,
  dropped,
  cause,
}: SelectUploadNodesParameters): Candidate[] {
  const usable = nodes.filter(({ node }) => !dropped.has(node.url))
  const real = usable.filter(({ front }) => front !== true)
  const choices = [real.filter(({ trusted }) => trusted), real, ...(replicas === 1 ? [usable] : [])]
  for (const choice of choices) {
    const chosen = selectNodes({ nodes: choice, replicas, method })
    if (chosen !== undefined && chosen.length > 0) return chosen
  }
  throw new NoCoverError({
    replicas,
    nodes: real.map(({ node, config }) => ({ url: node.url, shard: formatShard(config) })),
    failed: [...failed, ...[...dropped].map(([url, reason]) => ({ url, reason }))],
    cause,
  })
}
