import { selectNodes } from '#protocol/storage/shard.ts'
import type { KnownNode, NodeRegistry } from './node-registry.ts'
import type { ListedNode } from './select.ts'

/** When fronts are offered to clients: when no trusted node is unsharded, always, or never. */
export type FrontListing = 'auto' | 'always' | 'never'

/** A node as clients are told of it. */
export function listed({ url, shard, latencyMs, sinceSeconds }: KnownNode): ListedNode {
  return { url, config: { ...shard }, latency: latencyMs, since: sinceSeconds }
}

/**
 * Disjoint sets of nodes, each covering the flow once: as many replicas as there are. Unsharded nodes come first, then
 * shards in order, so that the sets stay the same as long as the nodes do.
 */
export function coversOf(nodes: readonly KnownNode[]): KnownNode[][] {
  const covers: KnownNode[][] = []
  let rest = nodes.map((node) => ({ node, config: node.shard }))
  for (;;) {
    const cover = selectNodes({ nodes: rest, replicas: 1, method: 'min' })
    if (cover === undefined || cover.length === 0) return covers
    covers.push(cover.map(({ node }) => node))
    rest = rest.filter((candidate) => !cover.includes(candidate))
  }
}

/** The path of the front of cover `ordinal`: `/node`, then `/node/1`, … */
export function frontPath(ordinal: number): string {
  return ordinal === 0 ? '/node' : `/node/${ordinal}`
}

/**
 * What `indexer_getShardedNodes` lists as trusted. Where no node is unsharded, the fronts come first: one for each
 * cover, reporting shard 0/1, so that clients that take the least sharded nodes take a front and nothing else.
 */
export function listTrusted({ registry, publicUrl, listing }: ListTrustedParameters): ListedNode[] {
  const nodes = registry.trusted()
  const wanted = listing === 'always' || (listing === 'auto' && nodes.every(({ shard }) => shard.numShard > 1))
  const fronts = wanted ? coversOf(nodes).map((cover, ordinal) => frontNode({ cover, ordinal, publicUrl })) : []
  return [...fronts, ...nodes.map(listed)]
}

export interface ListTrustedParameters {
  registry: NodeRegistry
  /** Where clients reach the indexer. */
  publicUrl: string
  listing: FrontListing
}

/** A front is as slow as its slowest node and as young as its youngest. */
function frontNode({
  cover,
  ordinal,
  publicUrl,
}: {
  cover: KnownNode[]
  ordinal: number
  publicUrl: string
}): ListedNode {
  return {
    url: `${publicUrl}${frontPath(ordinal)}`,
    config: { shardId: 0, numShard: 1 },
    latency: Math.max(...cover.map(({ latencyMs }) => latencyMs)),
    since: Math.max(...cover.map(({ sinceSeconds }) => sinceSeconds)),
  }
}
