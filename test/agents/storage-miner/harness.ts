import { join } from 'node:path'
import { type Address, createWalletClient, http, nonceManager, publicActions } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { unseal } from '#kernels/seal.ts'
import { createLog, silentLog } from '#kit/log.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { submissionSectors } from '#protocol/storage/submission.ts'
import { type MinerConfigInput, minerConfigSchema, type RunningMiner, startMiner } from '#storage/miner/main.ts'
import { ExtentFiles } from '#storage/miner/store/extent-files.ts'
import { segmentOf } from '#storage/miner/store/layout.ts'
import type { MinerStore } from '#storage/miner/store/miner-store.ts'
import type { RunningNode } from '#storage/node/main.ts'
import { type Anvil, DEV_ACCOUNTS, mine, startAnvil } from '../../chain.ts'
import { type DeployStorageContractsParameters, deployStorageContracts } from '../../storage-contracts.ts'
import {
  makeFile,
  openNode,
  storeFile,
  type TestFile,
  type TestNet,
  temporaryFolder,
  until,
} from '../storage-node/harness.ts'

export type { TestFile, TestNet }
export { makeFile, mine, storeFile as store, temporaryFolder, until }

/** A chain with the storage contracts and what a test of mining does on it. */
export interface MineNet extends TestNet {
  /** Submits a subtree of 2^height sectors that nobody has the data of. */
  submitHole(height: number): Promise<number>
  /** Mines to the first block of the next epoch. */
  nextEpoch(): Promise<void>
  payments(payee: Address): Promise<bigint>
  /** The context that was last made. */
  context(): Promise<{ epoch: bigint; mineStart: bigint; flowLength: bigint; digest: Hash; flowRoot: Hash }>
  blocksPerEpoch: number
}

export type NetParameters = Omit<DeployStorageContractsParameters, 'url'>

/** Blocks come only when a test mines them or sends a transaction. */
export async function startMineNet({ blocksPerEpoch = 60, ...parameters }: NetParameters = {}): Promise<MineNet> {
  const anvil = await startAnvil()
  const contracts = await deployStorageContracts({
    ...{ url: anvil.url, blocksPerEpoch, pricePerSector: 1_000_000n, ...parameters },
  })
  const client = createWalletClient({
    account: privateKeyToAccount(key(1), { nonceManager }),
    transport: http(anvil.url),
    pollingInterval: 20,
  }).extend(publicActions)

  async function submitNodes(sizeBytes: number, nodes: { root: Hash; height: number }[]): Promise<number> {
    const hash = await client.writeContract({
      address: contracts.flow,
      abi: flowAbi,
      functionName: 'submit',
      args: [
        {
          data: {
            length: BigInt(sizeBytes),
            tags: '0x',
            nodes: nodes.map(({ root, height }) => ({ root, height: BigInt(height) })),
          },
          submitter: client.account.address,
        },
      ],
      value: BigInt(submissionSectors(nodes)) * contracts.pricePerSector,
      chain: null,
    })
    const receipt = await client.waitForTransactionReceipt({ hash, timeout: 10_000, pollingInterval: 20 })
    if (receipt.status !== 'success') throw new Error('the submission failed')
    const count = await client.readContract({ address: contracts.flow, abi: flowAbi, functionName: 'numSubmissions' })
    return Number(count) - 1
  }

  return {
    anvil,
    contracts,
    blocksPerEpoch,
    submit: ({ tree }) => submitNodes(tree.sizeBytes, tree.nodes),
    submitHole: (height) => submitNodes(2 ** height * 256, [{ root: `0x${'5e'.repeat(32)}`, height }]),
    async nextEpoch() {
      const [head, first] = await Promise.all([
        anvil.rpc('eth_blockNumber').then(Number),
        client.readContract({ address: contracts.flow, abi: flowAbi, functionName: 'firstBlock' }).then(Number),
      ])
      // An epoch runs from the block after its start.
      await mine(anvil, blocksPerEpoch - ((head - first - 1) % blocksPerEpoch))
    },
    payments: (payee) =>
      client.readContract({
        address: contracts.reward,
        abi: storageRewardAbi,
        functionName: 'payments',
        args: [payee],
      }),
    context: () => client.readContract({ address: contracts.flow, abi: flowAbi, functionName: 'getContext' }),
    close: () => anvil.stop(),
  }
}

/** The key of a development account. Account 1 submits files, accounts from 5 on are for miners. */
export function key(index: number): Hash {
  const account = DEV_ACCOUNTS[index]
  if (!account) throw new Error(`there is no development account ${index}`)
  return account.privateKey
}

/** The address of a development account, lower case. */
export function devAddress(index: number): Address {
  return privateKeyToAccount(key(index)).address.toLowerCase() as Address
}

export interface OpenMinerParameters {
  net: MineNet
  nodes: readonly RunningNode[]
  dataDir: string
  account?: number
  config?: Partial<Omit<MinerConfigInput, 'chain' | 'nodes'>> & { chain?: object; nodes?: object }
}

export function minerConfig({ net, nodes, dataDir, config = {} }: OpenMinerParameters) {
  const { flow, mine: mineAddress, reward } = net.contracts
  return minerConfigSchema.parse({
    ...config,
    data: { dir: dataDir, minFreeBytes: 0, ...config.data },
    chain: { rpcUrls: [net.anvil.url], flow, mine: mineAddress, reward, pollIntervalMs: 50, ...config.chain },
    nodes: { urls: nodes.map(({ url }) => url), retryIntervalMs: 200, stallTimeoutMs: 5_000, ...config.nodes },
    mining: { threads: 1, ...config.mining },
    rewards: { checkIntervalMs: 200, ...config.rewards },
    listen: '127.0.0.1:0',
  })
}

export async function openMiner(parameters: OpenMinerParameters): Promise<RunningMiner> {
  const log = process.env.MINER_TEST_LOG ? createLog({ name: 'miner', level: 'debug' }) : silentLog()
  const account = privateKeyToAccount(key(parameters.account ?? 5))
  return startMiner(minerConfig(parameters), { log, account })
}

/** A node of the net, with a folder of its own. */
export async function openTestNode(net: MineNet, folder: string, shard = '0/1'): Promise<RunningNode> {
  return openNode({ net, dataDir: join(folder, `node-${shard.replace('/', '-of-')}`), config: { data: { shard } } })
}

/**
 * Checks every chunk that a store says is sealed: its bytes on disk unseal, with the digests of the recorded epochs, to
 * the bytes of the files at their places and zeros elsewhere. Gives how many there are.
 */
export function checkSealed({
  store: kept,
  minerId,
  files,
}: {
  store: MinerStore
  minerId: Hash
  files: readonly { start: number; file: TestFile }[]
}): number {
  const extents = new ExtentFiles({ dir: kept.sealedDir })
  const rows = kept.database.all<{ chunk: number; held: Uint8Array }>('select chunk, held from sealed')
  for (const { chunk, held } of rows) {
    const segment = segmentOf(chunk, kept.shard)
    const sealed = new Uint8Array(262_144)
    if (!extents.read(chunk, sealed)) throw new Error(`chunk ${chunk} is entered and not on disk`)
    const plain = Buffer.alloc(262_144)
    for (const { start, file } of files) {
      const at = (start - segment * 1024) * 256
      const from = Math.max(0, -at)
      if (at < plain.length && from < file.bytes.length)
        plain.set(file.bytes.subarray(from, from + plain.length - Math.max(at, 0)), Math.max(at, 0))
    }
    const bits = Buffer.from(held).readBigUInt64BE()
    for (const { from, to, digest } of kept.sealRuns(chunk) ?? []) {
      for (let seal = from; seal < to; seal++) {
        if (!((bits >> BigInt(seal)) & 1n)) continue
        const piece = (bytes: Uint8Array) => bytes.subarray(seal * 4096, (seal + 1) * 4096)
        const data = unseal({
          data: piece(sealed),
          minerId: fromHex(minerId),
          contextDigest: fromHex(digest),
          positionSectors: segment * 1024 + seal * 16,
        })
        if (Buffer.compare(data, piece(plain)) !== 0) throw new Error(`seal ${seal} of segment ${segment} is wrong`)
      }
    }
    if (!kept.sealRuns(chunk)) throw new Error(`chunk ${chunk} is sealed with epochs that are not recorded`)
  }
  extents.close()
  return rows.length
}

/** The answer of a miner's status address. */
export async function remoteStatus(url: string): Promise<Record<string, unknown>> {
  return (await (await fetch(`${url}/v1/status`)).json()) as Record<string, unknown>
}

export type { Anvil }
