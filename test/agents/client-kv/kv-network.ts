import { join } from 'node:path'
import { createLog } from '#kit/log.ts'
import { kvConfigSchema, type RunningKv, startKv } from '#storage/kv/main.ts'
import type { StorageNetwork } from '../client/storage-network.ts'

/** A key-value node over a storage network, in this process. Close it before the network. */
export function startKvNode(
  network: StorageNetwork,
  { name = 'kv', ...settings }: { name?: string } & Record<string, unknown>,
): Promise<RunningKv> {
  const { flow, block: startBlock } = network.contracts
  const config = kvConfigSchema.parse({
    ...settings,
    data: { dir: join(network.dir, name) },
    chain: { rpcUrls: [network.anvil.url], flow, startBlock, confirmations: 0, pollIntervalMs: 50 },
    storage: { nodes: network.nodes.map(({ url }) => url) },
    download: { retryIntervalMs: 100 },
    rpc: { listen: '127.0.0.1:0' },
  })
  return startKv(config, { log: createLog({ name, level: 'error' }) })
}
