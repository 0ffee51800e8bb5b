import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { privateKeyToAccount } from 'viem/accounts'
import { type Client, type ConnectParameters, connect } from '#client/connect.ts'
import { createLog } from '#kit/log.ts'
import { indexerConfigSchema, type RunningIndexer, startIndexer } from '#storage/indexer/main.ts'
import { nodeConfigSchema, type RunningNode, startNode } from '#storage/node/main.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../../chain.ts'
import { deployStorageContracts, type StorageContracts } from '../../storage-contracts.ts'

/** A chain with contracts, storage nodes and perhaps an indexer, in this process and on this disk. */
export interface StorageNetwork {
  readonly anvil: Anvil
  readonly contracts: StorageContracts
  readonly nodes: readonly { url: string; running: RunningNode; restart(): Promise<void> }[]
  readonly indexerUrl: string | undefined
  /** A folder of this test. */
  readonly dir: string
  /** A client of the account `who` (0 to 9). Closed with the network. */
  client(parameters?: ConnectParameters & { who?: number }): Promise<Client>
  stop(): Promise<void>
}

export interface StartStorageNetworkParameters {
  shards?: string[]
  indexer?: boolean
  /** Another Flow for the nodes to follow. */
  flowOf?: ((anvil: Anvil) => Promise<{ flow: `0x${string}`; block: number }>) | undefined
}

export async function startStorageNetwork({
  shards = ['0/1'],
  indexer = false,
  flowOf,
}: StartStorageNetworkParameters = {}): Promise<StorageNetwork> {
  const dir = await mkdtemp(join(tmpdir(), 'weightless-client-'))
  const closers: (() => unknown)[] = [() => rm(dir, { recursive: true, force: true })]
  const stop = async () => {
    for (const close of closers.toReversed()) await close()
  }
  try {
    const anvil = await startAnvil({ blockTimeSeconds: 1, mixedMining: true })
    closers.push(() => anvil.stop())
    const contracts = await deployStorageContracts({ url: anvil.url })
    const followed = (await flowOf?.(anvil)) ?? contracts
    const log = createLog({ name: 'node', level: 'error' })
    const nodes: { url: string; running: RunningNode; restart(): Promise<void> }[] = []
    for (const [index, shard] of shards.entries()) {
      const config = (listen: string) =>
        nodeConfigSchema.parse({
          data: { dir: join(dir, `node-${index}`), shard },
          chain: {
            rpcUrls: [anvil.url],
            flow: followed.flow,
            startBlock: followed.block,
            confirmations: 0,
            pollIntervalMs: 50,
          },
          rpc: { listen, listenAdmin: '127.0.0.1:0' },
          sync: { auto: false },
        })
      const entry = {
        url: '',
        running: await startNode(config('127.0.0.1:0'), { log }),
        restart: async () => {
          await entry.running.close()
          entry.running = await startNode(config(entry.url.replace('http://', '')), { log })
        },
      }
      entry.url = entry.running.url
      closers.push(() => entry.running.close())
      nodes.push(entry)
    }
    let running: RunningIndexer | undefined
    if (indexer) {
      running = await startIndexer(
        indexerConfigSchema.parse({ nodes: nodes.map(({ url }) => url), host: '127.0.0.1', port: 0 }),
        { log },
      )
      closers.push(() => running?.close())
    }
    return {
      anvil,
      contracts,
      nodes,
      indexerUrl: running?.url,
      dir,
      client: async ({ who = 1, ...parameters } = {}) => {
        const account = DEV_ACCOUNTS[who]
        if (account === undefined) throw new RangeError(`no account ${who}`)
        const client = await connect({
          rpcUrl: anvil.url,
          nodes: running === undefined ? nodes.map(({ url }) => url) : undefined,
          indexerUrl: running?.url,
          account: privateKeyToAccount(account.privateKey),
          journalDir: join(dir, 'journal'),
          ...parameters,
          limits: {
            pollIntervalMs: 50,
            entryTimeoutMs: 20_000,
            finalityTimeoutMs: 20_000,
            receiptTimeoutMs: 20_000,
            ...parameters.limits,
          },
        })
        closers.push(() => client.close())
        return client
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
