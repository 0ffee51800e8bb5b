import { type SelectionMethod, type ShardConfig, selectNodes } from '#protocol/storage/shard.ts'
import { IndexerError } from './errors.ts'

/** A node as clients are told of it. */
export interface ListedNode {
  url: string
  config: ShardConfig
  /** Milliseconds. */
  latency: number
  /** Unix seconds. */
  since: number
}

/** Clients show this text; some match on it. */
const NO_COVER = 'cannot select a subset from the returned nodes that meets the replication requirement'

/**
 * Nodes that cover the flow `expectedReplica` times (storage-node §8.2). Unless `fullTrusted`, up to three fifths of
 * the replicas, rounded down, come from discovered nodes where those cover them, the rest from trusted ones.
 *
 * @throws IndexerError `NO_COVER`
 */
export function chooseNodes({ trusted, discovered, expectedReplica, method, fullTrusted, dropped }: ChooseParameters): {
  trusted: ListedNode[]
  discovered: ListedNode[]
} {
  const out = new Set(dropped.map(normal))
  const kept = (nodes: readonly ListedNode[]) => nodes.filter(({ url }) => !out.has(normal(url)))
  const most = fullTrusted ? 0 : Math.floor((expectedReplica * 3) / 5)
  for (let foreign = most; foreign >= 0; foreign -= 1) {
    const some = selectNodes({ nodes: kept(discovered), replicas: foreign, method })
    const rest = selectNodes({ nodes: kept(trusted), replicas: expectedReplica - foreign, method })
    if (some !== undefined && rest !== undefined) return { trusted: rest, discovered: some }
  }
  throw new IndexerError({
    code: 'NO_COVER',
    message: NO_COVER,
    fix: 'ask for fewer replicas, or add nodes for the shards that are missing',
    details: { expectedReplica, method, fullTrusted, trusted: trusted.length, discovered: discovered.length },
  })
}

export interface ChooseParameters {
  trusted: readonly ListedNode[]
  discovered: readonly ListedNode[]
  /** How many times the flow must be covered. 0 selects nothing. */
  expectedReplica: number
  method: SelectionMethod
  fullTrusted: boolean
  /** URLs that must not be chosen. */
  dropped: readonly string[]
}

function normal(url: string): string {
  return url.replace(/\/+$/, '').toLowerCase()
}
