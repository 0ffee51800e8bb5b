import type { Deployment } from '../deploy/record.ts'
import { type DevnetAgent, devnetHost, localUrl } from './agent.ts'
import { jsonRpc } from './health.ts'
import type { DevnetLayout } from './layout.ts'

/** What every agent of a devnet is told. */
export interface AgentSetting {
  layout: DevnetLayout
  rpcUrl: string
  deployment: Deployment
}

/** One storage node of a devnet. */
export interface NodePlan {
  name: string
  /** `id/count`: which of the segments it holds. */
  shard: string
  port: number
  adminPort: number
}

/** One miner of a devnet. */
export interface MinerPlan {
  name: string
  /** The shard it mines: that of one node. */
  shard: string
  port: number
  /** Which of the chain's well-known accounts pays its gas and earns. */
  devAccount: number
}

/** Names and shards of all nodes: each replica is a whole group of shards. */
export function planNodes({
  nodesPerReplica,
  replicas,
}: {
  nodesPerReplica: number
  replicas: number
}): Pick<NodePlan, 'name' | 'shard'>[] {
  return Array.from({ length: nodesPerReplica * replicas }, (_, index) => ({
    name: `node-${index}`,
    shard: `${index % nodesPerReplica}/${nodesPerReplica}`,
  }))
}

/** Accounts at the end of the well-known ones are the miners', away from those that users try things with. */
const LAST_DEV_ACCOUNT = 9
const MAX_MINERS = 4

/** Names of so many miners, as far as there are accounts. */
export function minerNames(count: number): string[] {
  return Array.from({ length: Math.min(count, MAX_MINERS) }, (_, index) => `miner-${index}`)
}

/** The miners of these names, dealt out over the shards. */
export function planMiners({
  nodes,
  names,
  port,
}: {
  nodes: readonly NodePlan[]
  names: readonly string[]
  port: (name: string) => number
}): MinerPlan[] {
  const shards = [...new Set(nodes.map(({ shard }) => shard))]
  return names.map((name, index) => ({
    name,
    shard: shards[index % shards.length] ?? '0/1',
    port: port(name),
    devAccount: LAST_DEV_ACCOUNT - index,
  }))
}

/** A storage node. */
export function nodeAgent({
  setting: { layout, rpcUrl, deployment },
  node,
  nodes,
}: {
  setting: AgentSetting
  node: NodePlan
  nodes: readonly NodePlan[]
}): DevnetAgent {
  return {
    ...{ name: node.name, command: 'node', port: node.port },
    config: {
      data: { dir: `${layout.agentDirectory(node.name)}/data`, shard: node.shard },
      chain: {
        rpcUrls: [rpcUrl],
        id: deployment.chainId,
        flow: deployment.contracts.Flow,
        reward: deployment.contracts.StorageReward,
        startBlock: deployment.block,
        // A development chain does not fork by itself.
        confirmations: 0,
        pollIntervalMs: 200,
      },
      rpc: { listen: `${devnetHost}:${node.port}`, listenAdmin: `${devnetHost}:${node.adminPort}` },
      sync: {
        peers: nodes.filter(({ name }) => name !== node.name).map(({ port }) => localUrl(port)),
        publicUrl: localUrl(node.port),
      },
    },
  }
}

/** The indexer over all nodes. It is ready when it lists them: from then on it sends clients to all of them. */
export function indexerAgent({
  setting: { deployment },
  port,
  nodes,
}: {
  setting: AgentSetting
  port: number
  nodes: readonly NodePlan[]
}): DevnetAgent {
  return {
    ...{ name: 'indexer', command: 'indexer', port },
    config: {
      host: devnetHost,
      port,
      nodes: nodes.map((node) => localUrl(node.port)),
      chainId: deployment.chainId,
      flowAddress: deployment.contracts.Flow,
      updateIntervalMs: 2_000,
    },
    alsoCheck: async (signal) => {
      const answer = await jsonRpc({ url: localUrl(port), method: 'indexer_getShardedNodes', signal })
      const listed = JSON.stringify(answer)
      const missing = nodes.filter((node) => !listed.includes(`:${node.port}"`)).map(({ name }) => name)
      if (missing.length > 0) throw new Error(`does not list ${missing.join(', ')} yet`)
    },
  }
}

/** The key-value node. Whatever stream somebody writes is replayed: nobody need say before which. */
export function kvAgent({
  setting: { layout, rpcUrl, deployment },
  port,
  indexerUrl,
}: {
  setting: AgentSetting
  port: number
  indexerUrl: string
}): DevnetAgent {
  return {
    ...{ name: 'kv', command: 'kv', port },
    config: {
      allStreams: { enabled: true, maxStreams: 1_000, maxBytes: '1 GiB' },
      data: { dir: `${layout.agentDirectory('kv')}/data` },
      chain: {
        rpcUrls: [rpcUrl],
        id: deployment.chainId,
        flow: deployment.contracts.Flow,
        startBlock: deployment.block,
        confirmations: 0,
        pollIntervalMs: 200,
      },
      storage: { indexerUrl },
      rpc: { listen: `${devnetHost}:${port}` },
      // The chain tells of a write before its data are stored, which takes a moment here.
      download: { tries: 100, retryIntervalMs: 300, repairIntervalMs: 2_000 },
    },
  }
}

/** The miner of one shard. */
export function minerAgent({
  setting: { layout, rpcUrl, deployment },
  miner,
  nodes,
}: {
  setting: AgentSetting
  miner: MinerPlan
  nodes: readonly NodePlan[]
}): DevnetAgent {
  const { Flow, PoraMine, StorageReward } = deployment.contracts
  return {
    ...{ name: miner.name, command: 'miner', port: miner.port },
    config: {
      data: { dir: `${layout.agentDirectory(miner.name)}/data`, shard: miner.shard, minFreeBytes: '256 MiB' },
      chain: {
        rpcUrls: [rpcUrl],
        id: deployment.chainId,
        flow: Flow,
        mine: PoraMine,
        reward: StorageReward,
        pollIntervalMs: 500,
      },
      nodes: { urls: nodes.filter(({ shard }) => shard === miner.shard).map(({ port }) => localUrl(port)) },
      // A tenth of one thread wins on this chain, and leaves the machine to its user.
      mining: { threads: 1, cpuPercent: 10 },
      key: { devAccount: miner.devAccount },
      rewards: { withdrawAboveWei: 1 },
      listen: `${devnetHost}:${miner.port}`,
    },
  }
}
