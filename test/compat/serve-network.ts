import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { silentLog } from '#kit/log.ts'
import { indexerConfigSchema, startIndexer } from '#storage/indexer/main.ts'
import { nodeConfigSchema, startNode } from '#storage/node/main.ts'
import { startAnvil } from '../chain.ts'
import { deployStorageContracts } from '../storage-contracts.ts'
import type { GroupAddresses, NetworkAddresses } from './network.ts'

/**
 * Runs a chain, nodes and indexers in this process, apart from the client under test, whose hashing blocks its own
 * process for seconds. Arguments: a folder, the shards of each group as JSON. Prints the addresses as a line of JSON,
 * serves until standard input ends, then closes everything.
 */
async function serve(folder: string, groups: string[][]): Promise<void> {
  const closers: (() => Promise<unknown>)[] = []
  try {
    const anvil = await startAnvil()
    closers.push(() => anvil.stop())
    const contracts = await deployStorageContracts({ url: anvil.url })
    const started: GroupAddresses[] = []
    for (const [number, shards] of groups.entries()) {
      const nodes = await Promise.all(
        shards.map(async (shard, index) => {
          const config = nodeConfigSchema.parse({
            data: { dir: join(folder, `node-${number}-${index}`), shard },
            chain: {
              rpcUrls: [anvil.url],
              flow: contracts.flow,
              startBlock: contracts.block,
              confirmations: 0,
              pollIntervalMs: 100,
            },
            rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0 },
            // Each group must get its data from the client under test, not from another group.
            sync: { auto: false },
          })
          const node = await startNode(config, { log: silentLog() })
          closers.push(() => node.close())
          return node.url
        }),
      )
      const settings = indexerConfigSchema.parse({ port: 0, nodes, updateIntervalMs: 1_000 })
      const indexer = await startIndexer(settings, { log: silentLog() })
      closers.push(() => indexer.close())
      started.push({ shards, nodes, indexerUrl: indexer.url, frontUrl: indexer.frontUrl })
    }
    const { flow, market, pricePerSector } = contracts
    const addresses: NetworkAddresses = {
      rpcUrl: anvil.url,
      flow,
      market,
      pricePerSector: String(pricePerSector),
      groups: started,
    }
    process.stdout.write(`${JSON.stringify(addresses)}\n`)
    for await (const _ of createInterface({ input: process.stdin })) {
      // Nothing is said; the end of the input is the sign to stop.
    }
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

const [folder = '', groups = '[]'] = process.argv.slice(2)
await serve(folder, JSON.parse(groups) as string[][])
