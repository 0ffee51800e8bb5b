import type { KnownNode } from '../node-registry.ts'
import type { NodeStatus } from '../wire.ts'

/**
 * One status for several nodes: the worst of each figure, so that a client that waits for a height or a transaction
 * waits for all of them.
 */
export function worstStatus(statuses: readonly NodeStatus[]): NodeStatus | undefined {
  const last = statuses.toSorted((a, b) => a.logSyncHeight - b.logSyncHeight)[0]
  if (last === undefined) return undefined
  return {
    ...last,
    connectedPeers: Math.min(...statuses.map(({ connectedPeers }) => connectedPeers)),
    nextTxSeq: Math.min(...statuses.map(({ nextTxSeq }) => nextTxSeq)),
    networkIdentity: {
      ...last.networkIdentity,
      // Clients hand it to libraries that take lower case or an exact checksum only.
      flowAddress: last.networkIdentity.flowAddress.toLowerCase(),
    },
  }
}

/** Asks the nodes now; one that does not answer counts with what it said at its last probe. */
export async function liveStatus({ nodes, signal }: { nodes: readonly KnownNode[]; signal?: AbortSignal | undefined }) {
  const statuses = await Promise.all(nodes.map((node) => node.client.status({ signal }).catch(() => node.status)))
  return worstStatus(statuses)
}
