import { fixedPriceMarketAbi } from '#protocol/abi/fixed-price-market.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import type { Hex } from '#protocol/hex.ts'
import { formatShard, replicaCount } from '#protocol/storage/shard.ts'
import type { StorageConnection } from './connection.ts'
import { reasonOf } from './errors.ts'
import { type Candidate, listNodes } from './list-nodes.ts'
import type { CallOptions } from './storage-node.ts'

/** A part that works with its facts, or one that does not with the reason. */
export type PartStatus<Facts> = ({ ok: true } & Facts) | { ok: false; reason: string }

export interface StorageStatusReturnType {
  /** Everything that is set works, and the nodes cover the flow. */
  ok: boolean
  chain: PartStatus<{ id: number; head: number }> | undefined
  flow: PartStatus<{ address: Hex; submissions: number; pricePerSectorWei: bigint }> | undefined
  indexer: PartStatus<{ url: string; nodes: number }> | undefined
  nodes: (
    | {
        ok: true
        url: string
        shard: string
        block: number
        behind: number
        flow: Hex
        chainId: number
        front: boolean
      }
    | { ok: false; url: string; reason: string }
  )[]
  /** Times the answering nodes together hold everything. */
  replicas: number
  account: PartStatus<{ address: Hex; balanceWei: bigint }> | undefined
}

/**
 * What works and what does not. Never throws for a part that is down: that is the answer.
 *
 * @example
 * const { ok, nodes } = await storageStatus(connection)
 */
export async function storageStatus(
  connection: StorageConnection,
  { address, signal }: { address?: Hex | undefined } & CallOptions = {},
): Promise<StorageStatusReturnType> {
  const chain = connection.hasChain
    ? await attempt(async () => {
        const connected = await connection.chain({ purpose: 'show its status', signal })
        return { id: connected.id, head: Number(await connected.client.getBlockNumber()) }
      })
    : undefined
  const { candidates, indexer, failed } = await findNodes(connection, { signal })
  const nodes = await Promise.all(
    candidates.map((candidate) => askNode(candidate, chain?.ok ? chain.head : 0, { signal })),
  )
  nodes.push(...failed.map(({ url, reason }) => ({ ok: false as const, url, reason })))
  const address_ = connection.flow ?? nodes.find((node) => node.ok)?.flow
  const flow = chain?.ok && address_ !== undefined ? await attempt(() => askFlow(connection, address_)) : undefined
  const account =
    chain?.ok && address !== undefined
      ? await attempt(async () => {
          const connected = await connection.chain({ purpose: 'show a balance', signal })
          return { address, balanceWei: await connected.client.getBalance({ address }) }
        })
      : undefined
  signal?.throwIfAborted()
  const answering = candidates.filter(({ node }) =>
    nodes.some((state) => state.ok && !state.front && state.url === node.url),
  )
  const replicas = finite(replicaCount(answering.map(({ config }) => config)))
  const parts = [chain, flow, indexer, account]
  return {
    ok: replicas > 0 && parts.every((part) => part?.ok !== false),
    chain,
    flow,
    indexer,
    nodes,
    replicas,
    account,
  }
}

async function findNodes(connection: StorageConnection, { signal }: CallOptions) {
  try {
    const { nodes, failed } = await listNodes(connection, { signal })
    const { indexer } = connection
    const used = indexer !== undefined && connection.nodeUrls.length === 0
    return {
      candidates: nodes,
      failed,
      indexer: used ? { ok: true as const, url: indexer.url, nodes: nodes.length } : undefined,
    }
  } catch (error) {
    const reason = reasonOf(error)
    if (connection.nodeUrls.length === 0 && connection.indexer !== undefined) {
      return { candidates: [], failed: [], indexer: { ok: false as const, reason } }
    }
    return { candidates: [], failed: connection.nodeUrls.map((url) => ({ url, reason })), indexer: undefined }
  }
}

async function askNode(
  { node, config }: Candidate,
  head: number,
  { signal }: CallOptions,
): Promise<StorageStatusReturnType['nodes'][number]> {
  try {
    const { logSyncHeight, flowAddress, chainId, front } = await node.status({ signal })
    const behind = Math.max(0, head - logSyncHeight)
    return {
      ok: true,
      url: node.url,
      shard: formatShard(config),
      block: logSyncHeight,
      behind,
      flow: flowAddress,
      chainId,
      front,
    }
  } catch (error) {
    return { ok: false, url: node.url, reason: reasonOf(error) }
  }
}

async function askFlow(connection: StorageConnection, address: Hex) {
  const { client } = await connection.chain({ purpose: 'ask the Flow contract' })
  const [submissions, market] = await Promise.all([
    client.readContract({ address, abi: flowAbi, functionName: 'numSubmissions' }),
    client.readContract({ address, abi: flowAbi, functionName: 'market' }),
  ])
  const pricePerSectorWei = await client.readContract({
    address: market,
    abi: fixedPriceMarketAbi,
    functionName: 'pricePerSector',
  })
  return { address, submissions: Number(submissions), pricePerSectorWei }
}

async function attempt<Facts>(ask: () => Promise<Facts>): Promise<PartStatus<Facts>> {
  try {
    return { ok: true, ...(await ask()) }
  } catch (error) {
    return { ok: false, reason: reasonOf(error) }
  }
}

function finite(count: number): number {
  return Number.isFinite(count) ? count : 0
}
