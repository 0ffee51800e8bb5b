import type { Hex } from '#protocol/hex.ts'
import type { StorageConnection } from './connection.ts'
import { NetworkMismatchError, reasonOf } from './errors.ts'
import type { Candidate } from './list-nodes.ts'
import type { NodeStatus } from './node-answers.ts'
import { type SelectUploadNodesParameters, selectUploadNodes } from './select-upload-nodes.ts'
import type { CallOptions } from './storage-node.ts'

/** What the chosen nodes agree on. */
export interface UploadNetwork {
  flow: Hex
  chainId: number
  /** Block up to which every one of them has read the chain. */
  logSyncHeight: number
}

export interface ChooseNodesParameters extends Omit<SelectUploadNodesParameters, 'dropped'>, CallOptions {}

export interface ChooseNodesReturnType {
  chosen: Candidate[]
  /** All nodes, with what was learnt of them. */
  nodes: Candidate[]
  /** Nodes that did not answer, with the reason. */
  dropped: Map<string, string>
  network: UploadNetwork
}

/**
 * Nodes that cover the flow `replicas` times, answer, and belong to one network: chain and Flow contract must agree
 * before anything is paid, because a submission to another Flow would never reach these nodes.
 *
 * @throws NoCoverError, NetworkMismatchError naming both sides
 */
export async function chooseNodes(
  connection: StorageConnection,
  { signal, ...listed }: ChooseNodesParameters,
): Promise<ChooseNodesReturnType> {
  const dropped = new Map<string, string>()
  let nodes = listed.nodes
  let cause: unknown
  for (;;) {
    const chosen = selectUploadNodes({ ...listed, nodes, dropped, cause })
    const states: { url: string; status: NodeStatus }[] = []
    await Promise.all(
      chosen.map(async ({ node }) => {
        try {
          states.push({ url: node.url, status: await node.status({ signal }) })
        } catch (error) {
          signal?.throwIfAborted()
          cause ??= error
          dropped.set(node.url, reasonOf(error))
        }
      }),
    )
    // A front among them that was not known as one: choose again, now that it is.
    const fronts = new Set(states.filter(({ status }) => status.front).map(({ url }) => url))
    const surprise = chosen.some(({ node, front }) => front !== true && fronts.has(node.url))
    nodes = nodes.map((entry) => (fronts.has(entry.node.url) ? { ...entry, front: true } : entry))
    if (states.length === chosen.length && !surprise)
      return { chosen, nodes, dropped, network: await checkNetwork(connection, { states, signal }) }
  }
}

async function checkNetwork(
  connection: StorageConnection,
  { states, signal }: { states: readonly { url: string; status: NodeStatus }[] } & CallOptions,
): Promise<UploadNetwork> {
  const [first, ...others] = states.map(({ url, status }) => ({ url, ...status }))
  if (first === undefined) throw new RangeError('no nodes to ask')
  for (const other of others) {
    if (other.flowAddress === first.flowAddress && other.chainId === first.chainId) continue
    throw new NetworkMismatchError({
      message: `${first.url} follows Flow ${first.flowAddress} on chain ${first.chainId}, ${other.url} follows ${other.flowAddress} on chain ${other.chainId}`,
      fix: 'name nodes of one network',
      details: { nodes: [first, other] },
    })
  }
  if (connection.flow !== undefined && connection.flow !== first.flowAddress) {
    throw new NetworkMismatchError({
      message: `the Flow contract is set to ${connection.flow}, but the storage nodes follow ${first.flowAddress}`,
      fix: 'leave the Flow address out, or name nodes that follow it',
      details: { flow: connection.flow, nodeFlow: first.flowAddress },
    })
  }
  if (connection.hasChain) {
    const chain = await connection.chain({ purpose: 'check the network', signal })
    if (chain.id !== first.chainId) {
      throw new NetworkMismatchError({
        message: `the RPC endpoint serves chain ${chain.id}, but the storage nodes follow chain ${first.chainId}`,
        fix: 'give the RPC URL of the chain the nodes follow',
        details: { chainId: chain.id, nodeChainId: first.chainId },
      })
    }
  }
  return {
    flow: first.flowAddress,
    chainId: first.chainId,
    logSyncHeight: Math.min(...states.map(({ status }) => status.logSyncHeight)),
  }
}
