import { mkdirSync, writeFileSync } from 'node:fs'
import { stringify } from 'smol-toml'
import type { Deployment } from '../deploy/record.ts'
import type { DevnetLayout } from './layout.ts'

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

const host = '127.0.0.1'

/** Where something listens, as others reach it. */
export function localUrl(port: number): string {
  return `http://${host}:${port}`
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

/** Writes the configuration of a storage node, as an operator would. */
export function writeNodeConfig({
  layout,
  node,
  nodes,
  rpcUrl,
  deployment,
}: {
  layout: DevnetLayout
  node: NodePlan
  nodes: readonly NodePlan[]
  rpcUrl: string
  deployment: Deployment
}): void {
  writeConfig({
    layout,
    name: node.name,
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
      rpc: { listen: `${host}:${node.port}`, listenAdmin: `${host}:${node.adminPort}` },
      sync: {
        peers: nodes.filter(({ name }) => name !== node.name).map(({ port }) => localUrl(port)),
        publicUrl: localUrl(node.port),
      },
    },
  })
}

/** Writes the configuration of the indexer. */
export function writeIndexerConfig({
  layout,
  port,
  nodes,
  deployment,
}: {
  layout: DevnetLayout
  port: number
  nodes: readonly NodePlan[]
  deployment: Deployment
}): void {
  writeConfig({
    layout,
    name: 'indexer',
    config: {
      host,
      port,
      nodes: nodes.map((node) => localUrl(node.port)),
      chainId: deployment.chainId,
      flowAddress: deployment.contracts.Flow,
      updateIntervalMs: 2_000,
    },
  })
}

/** Writes the configuration of the miner of one shard. */
export function writeMinerConfig({
  layout,
  miner,
  nodes,
  rpcUrl,
  deployment,
}: {
  layout: DevnetLayout
  miner: MinerPlan
  nodes: readonly NodePlan[]
  rpcUrl: string
  deployment: Deployment
}): void {
  const { Flow, PoraMine, StorageReward } = deployment.contracts
  writeConfig({
    layout,
    name: miner.name,
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
      listen: `${host}:${miner.port}`,
    },
  })
}

function writeConfig({
  layout,
  name,
  config,
}: {
  layout: DevnetLayout
  name: string
  config: Record<string, unknown>
}): void {
  mkdirSync(layout.agentDirectory(name), { recursive: true })
  const head = '# Written by `weightless up` at every start: changes made here are lost.\n'
  writeFileSync(layout.agentConfigFile(name), head + stringify(config))
}
