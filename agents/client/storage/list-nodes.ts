import type { ShardConfig } from '#protocol/storage/shard.ts'
import type { StorageConnection } from './connection.ts'
import { type NodeAttempt, reasonOf, SettingMissingError } from './errors.ts'
import type { ListedNode } from './indexer.ts'
import type { CallOptions, StorageNode } from './storage-node.ts'

/** A node with the part of the flow it keeps. */
export interface Candidate {
  node: StorageNode
  /** Named `config` as the selection of the protocol expects it. */
  config: ShardConfig
  trusted: boolean
  /** An indexer's front that passes segments on to real nodes: it is no replica of its own. Known once it was asked. */
  front?: boolean | undefined
}

export interface ListNodesReturnType {
  nodes: Candidate[]
  /** Nodes named by the caller that did not answer. */
  failed: NodeAttempt[]
}

/**
 * The storage nodes to work with: those named by the caller, each asked for its shard, or else the indexer's.
 *
 * @throws SettingMissingError with neither; NodeUnreachableError when no named node answers; IndexerUnreachableError
 * @example
 * const { nodes } = await listNodes(connection)
 */
export async function listNodes(
  connection: StorageConnection,
  { signal }: CallOptions = {},
): Promise<ListNodesReturnType> {
  if (connection.nodeUrls.length > 0) return askNamedNodes(connection, { signal })
  if (connection.indexer === undefined) {
    throw new SettingMissingError({ setting: 'indexerUrl or nodes', purpose: 'find storage nodes' })
  }
  const { trusted, discovered } = await connection.indexer.nodes({ signal })
  const nodes = [
    ...trusted.map((listed) => candidate(connection, listed, true)),
    ...discovered.map((listed) => candidate(connection, listed, false)),
  ]
  return { nodes: uniqueByUrl(nodes), failed: [] }
}

/** A listed node as a candidate. */
export function candidate(connection: StorageConnection, { url, shard }: ListedNode, trusted: boolean): Candidate {
  return { node: connection.node(url), config: shard, trusted }
}

/** The first of each URL: indexers may list a node twice. */
export function uniqueByUrl(nodes: readonly Candidate[]): Candidate[] {
  return [...new Map(nodes.toReversed().map((entry) => [entry.node.url, entry])).values()].toReversed()
}

async function askNamedNodes(connection: StorageConnection, { signal }: CallOptions): Promise<ListNodesReturnType> {
  const failed: NodeAttempt[] = []
  let firstCause: unknown
  const asked = await Promise.all(
    connection.nodeUrls.map(async (url): Promise<Candidate | undefined> => {
      const node = connection.node(url)
      try {
        return { node, config: await node.shard({ signal }), trusted: true }
      } catch (error) {
        signal?.throwIfAborted()
        firstCause ??= error
        failed.push({ url: node.url, reason: reasonOf(error) })
        return undefined
      }
    }),
  )
  const nodes = asked.filter((entry) => entry !== undefined)
  if (nodes.length === 0 && firstCause !== undefined) throw firstCause
  return { nodes: uniqueByUrl(nodes), failed }
}
