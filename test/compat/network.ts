import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ethers } from 'ethers'
import { silentLog } from '#kit/log.ts'
import { indexerConfigSchema, type RunningIndexer, startIndexer } from '#storage/indexer/main.ts'
import { nodeConfigSchema, type RunningNode, startNode } from '#storage/node/main.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../chain.ts'
import { deployStorageContracts, type StorageContracts } from '../storage-contracts.ts'

/** Storage nodes that together keep the flow, and the indexer that knows them. */
export interface Group {
  /** As `1 node`, `2 shards`, `two replicas`. */
  name: string
  nodes: RunningNode[]
  indexer: RunningIndexer
}

/** A chain, the contracts, and groups of nodes that all follow the same flow. */
export interface Network {
  anvil: Anvil
  contracts: StorageContracts
  groups: Group[]
  /** A folder for the test's files. */
  folder: string
  close(): Promise<void>
}

/** The shards of each group: `[['0/1'], ['0/2', '1/2']]` makes a group of one node and a group of two. */
export async function startNetwork({
  groups,
  confirmations = 0,
}: {
  groups: string[][]
  confirmations?: number
}): Promise<Network> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-compat-'))
  const closers: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })]
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).reverse()) await closer()
  }
  try {
    const anvil = await startAnvil()
    closers.push(() => anvil.stop())
    const contracts = await deployStorageContracts({ url: anvil.url })
    const started: Group[] = []
    for (const [number, shards] of groups.entries()) {
      const nodes: RunningNode[] = []
      for (const [index, shard] of shards.entries()) {
        const config = nodeConfigSchema.parse({
          data: { dir: join(folder, `node-${number}-${index}`), shard },
          chain: {
            rpcUrls: [anvil.url],
            flow: contracts.flow,
            startBlock: contracts.block,
            confirmations,
            pollIntervalMs: 100,
          },
          rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0 },
          // Each group must get its data from the client under test, not from another group.
          sync: { auto: false },
        })
        const node = await startNode(config, { log: silentLog() })
        closers.push(() => node.close())
        nodes.push(node)
      }
      const settings = indexerConfigSchema.parse({
        port: 0,
        nodes: nodes.map(({ url }) => url),
        updateIntervalMs: 1_000,
      })
      const indexer = await startIndexer(settings, { log: silentLog() })
      closers.push(() => indexer.close())
      started.push({ name: shards.join(' '), nodes, indexer })
    }
    return { anvil, contracts, groups: started, folder, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Funded accounts as ethers signers, lent one at a time, so that parallel transactions do not share nonces. */
export class Signers {
  readonly #free: ethers.Wallet[]
  readonly #waiting: ((wallet: ethers.Wallet) => void)[] = []
  readonly #provider: ethers.JsonRpcProvider

  constructor(url: string) {
    this.#provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 })
    this.#provider.pollingInterval = 50
    // The first account deployed the contracts.
    this.#free = DEV_ACCOUNTS.slice(1).map(({ privateKey }) => new ethers.Wallet(privateKey, this.#provider))
  }

  /** Runs `work` with an account that nobody else uses meanwhile. */
  async use<T>(work: (signer: ethers.Wallet) => Promise<T>): Promise<T> {
    const wallet = this.#free.pop() ?? (await new Promise<ethers.Wallet>((resolve) => this.#waiting.push(resolve)))
    try {
      return await work(wallet)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(wallet)
      else next(wallet)
    }
  }

  close(): void {
    this.#provider.destroy()
  }
}

/** Bytes that repeat nowhere, the same for the same seed. */
export function seededBytes(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(sizeBytes / 4) * 4)
  const words = new Uint32Array(bytes.buffer)
  let state = (seed * 0x9e3779b1) >>> 0 || 1
  for (let i = 0; i < words.length; i += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state = (state ^ (state << 5)) >>> 0
    words[i] = state
  }
  return bytes.subarray(0, sizeBytes)
}
