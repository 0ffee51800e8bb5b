import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  type Abi,
  type Address,
  createPublicClient,
  createWalletClient,
  getContractAddress,
  type Hex,
  http,
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The first of the keys every local chain funds. Worth nothing anywhere else. */
const FIRST_DEV_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

/** Wei per sector at which a GiB costs about 0.129 tokens for its lifetime. */
const DEFAULT_PRICE = 30_733_644_962n

/** What {@link deployStorageContracts} put on the chain. */
export interface StorageContracts {
  governance: Address
  flow: Address
  market: Address
  reward: Address
  mine: Address
  /** Block of the first deployment: nothing of these contracts happened before it. */
  block: number
  /** Wei per sector. */
  pricePerSector: bigint
  /** The account that deployed them and governs them without delay. */
  deployer: Address
}

export interface DeployStorageContractsParameters {
  /** The chain's JSON-RPC endpoint. */
  url: string
  /** Wei per sector, default about 0.129 tokens per GiB. */
  pricePerSector?: bigint
  /** Default 1200. */
  blocksPerEpoch?: number
  /** How long fees take to be released to miners, default 372 days. */
  releaseSeconds?: number
  /** Sectors of a reward pool, default 2^25. */
  poolSectors?: number
  /** Parameters of mining other than the defaults: anything wins, one window per epoch. */
  mining?: Partial<MiningParameters>
  privateKey?: Hex
}

export interface MiningParameters {
  /** Attempts that an answer takes on average, default 1. */
  difficulty: bigint
  minDifficulty: bigint
  /** Default 750, or what fits the epoch. */
  targetMineBlocks: bigint
  /** Default 10; twice as many are accepted per epoch. */
  targetSubmissions: bigint
  maxShards: bigint
  nSubtasks: bigint
  subtaskInterval: bigint
  difficultyAdjustRatio: bigint
}

/**
 * Deploys the storage contracts on a local chain for a test. The compiled artifacts are built if they are missing.
 *
 * @example
 * const { flow, block } = await deployStorageContracts({ url: anvil.url })
 */
export async function deployStorageContracts({
  url,
  pricePerSector = DEFAULT_PRICE,
  blocksPerEpoch = 1200,
  poolSectors = 2 ** 25,
  releaseSeconds = 372 * 86_400,
  mining = {},
  privateKey = FIRST_DEV_KEY,
}: DeployStorageContractsParameters): Promise<StorageContracts> {
  const account = privateKeyToAccount(privateKey)
  const transport = http(url)
  const reader = createPublicClient({ transport, pollingInterval: 50 })
  const wallet = createWalletClient({ account, transport })
  const first = await reader.getTransactionCount({ address: account.address })

  // The contracts name each other for good, so their addresses are worked out from the nonces beforehand.
  const order = ['governance', 'flow', 'market', 'reward', 'mine'] as const
  const [governance, flow, market, reward, mine] = order.map((_, index) =>
    getContractAddress({ from: account.address, nonce: BigInt(first + index) }),
  ) as [Address, Address, Address, Address, Address]

  const maxPrice = pricePerSector * 100n
  const deployments: ReadonlyArray<readonly [source: string, args: readonly unknown[]]> = [
    ['governance/Governance', [account.address, account.address, 0, [flow]]],
    ['storage/Flow', [governance, market, reward, BigInt(blocksPerEpoch), 0n]],
    ['storage/FixedPriceMarket', [governance, flow, reward, pricePerSector, maxPrice]],
    ['storage/StorageReward', [governance, flow, market, mine, BigInt(poolSectors), BigInt(releaseSeconds)]],
    ['storage/PoraMine', [governance, flow, reward, miningParameters(blocksPerEpoch, mining)]],
  ]
  const hashes: Hex[] = []
  for (const [index, [source, args]] of deployments.entries()) {
    const { abi, bytecode } = await readArtifact(source)
    hashes.push(await wallet.deployContract({ abi, bytecode, args, chain: null, nonce: first + index }))
  }
  let block = Number.POSITIVE_INFINITY
  for (const hash of hashes) {
    const receipt = await reader.waitForTransactionReceipt({ hash, timeout: 30_000 })
    if (receipt.status !== 'success') throw new Error(`deployment ${hash} failed`)
    block = Math.min(block, Number(receipt.blockNumber))
  }
  return { governance, flow, market, reward, mine, block, pricePerSector, deployer: account.address }
}

function miningParameters(blocksPerEpoch: number, chosen: Partial<MiningParameters>): MiningParameters {
  return {
    difficulty: 1n,
    minDifficulty: 0n,
    targetMineBlocks: BigInt(Math.min(750, blocksPerEpoch - 2)),
    targetSubmissions: 10n,
    maxShards: 32n,
    nSubtasks: 1n,
    subtaskInterval: 100n,
    difficultyAdjustRatio: 20n,
    ...chosen,
  }
}

async function readArtifact(source: string): Promise<{ abi: Abi; bytecode: Hex }> {
  const name = source.slice(source.lastIndexOf('/') + 1)
  const path = join(ROOT, 'artifacts', 'contracts', `${source}.sol`, `${name}.json`)
  const text = await readFile(path, 'utf8').catch(async () => {
    await build()
    return await readFile(path, 'utf8')
  })
  return JSON.parse(text) as { abi: Abi; bytecode: Hex }
}

async function build(): Promise<void> {
  const hardhat = join(ROOT, 'node_modules', 'hardhat', 'dist', 'src', 'cli.js')
  await promisify(execFile)(process.execPath, [hardhat, 'build', '--quiet'], { cwd: ROOT })
}
