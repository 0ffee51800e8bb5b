import type { Address, Hex } from 'viem'
import { deploySequence, FIRST_DEV_KEY } from './deploy-sequence.ts'

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
  const maxPrice = pricePerSector * 100n
  const { addresses, block, deployer } = await deploySequence({
    ...{ url, privateKey, names: ['governance', 'flow', 'market', 'reward', 'mine'] },
    plan: ({ governance, flow, market, reward, mine }, deployer) => [
      ['governance/Governance', [deployer, deployer, 0, [flow]]],
      ['storage/Flow', [governance, market, reward, BigInt(blocksPerEpoch), 0n]],
      ['storage/FixedPriceMarket', [governance, flow, reward, pricePerSector, maxPrice]],
      ['storage/StorageReward', [governance, flow, market, mine, BigInt(poolSectors), BigInt(releaseSeconds)]],
      ['storage/PoraMine', [governance, flow, reward, miningParameters(blocksPerEpoch, mining)]],
    ],
  })
  return { ...addresses, block, pricePerSector, deployer }
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
