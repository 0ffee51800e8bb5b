import type { Address } from 'viem'
import { z } from 'zod'
import type { DeployParameters } from '../parameters.ts'
import { secondsPerDay, type WiringCheck, wei } from './subsystem.ts'

/** The contracts of storage. */
export type StorageContract = 'Flow' | 'FixedPriceMarket' | 'StorageReward' | 'PoraMine'

export const storageSources: Record<StorageContract, string> = {
  Flow: 'contracts/storage/Flow.sol',
  FixedPriceMarket: 'contracts/storage/FixedPriceMarket.sol',
  StorageReward: 'contracts/storage/StorageReward.sol',
  PoraMine: 'contracts/storage/PoraMine.sol',
}

/** 372 days: the year that storage prices and reward releases are counted in. */
const daysPerMonth = 31
const maxPrice = 2n ** 64n - 1n

const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value))

/** The parameters of storage. */
export const storageFields = {
  blocksPerEpoch: z.int().min(2).max(10_000_000).describe('blocks of a mining epoch'),
  deployDelayBlocks: z.int().min(0).max(10_000_000).default(0).describe('blocks until submissions are accepted'),
  pricePerSectorWei: wei({ max: maxPrice }).describe('price of 256 bytes for their whole lifetime, wei'),
  maxPricePerSectorWei: wei({ max: maxPrice }).describe('bound of the price, fixed for ever, wei'),
  releaseSeconds: z
    .int()
    .min(60)
    .max(100 * 12 * daysPerMonth * secondsPerDay)
    .describe('seconds over which the fees of a full pricing chunk are released to miners'),
  poolSectors: z
    .int()
    .min(2 ** 10)
    .max(2 ** 25)
    .refine(isPowerOfTwo, 'must be a power of two')
    .default(2 ** 25)
    .describe('sectors whose fees share a reward pool; it pays once the flow has passed its end'),
  mineDifficulty: wei({ max: 2n ** 200n }).describe('attempts that an answer takes on average, at the beginning'),
  mineMinDifficulty: wei({ max: 2n ** 200n })
    .default(0n)
    .describe('difficulty never falls below this; 0 for no floor'),
  mineWindows: z.int().min(1).max(65_535).default(1).describe('windows per epoch; a miner answers in one of them'),
  mineWindowBlocks: z.int().min(1).max(8_191).describe('blocks of a window'),
  mineWindowIntervalBlocks: z
    .int()
    .min(1)
    .max(2 ** 31)
    .default(1)
    .describe('blocks from the start of a window to the next'),
  mineAnswersPerEpoch: z
    .int()
    .min(1)
    .max(65_535)
    .default(100)
    .describe('answers per epoch that difficulty aims at; twice as many are taken'),
  mineMaxShards: z
    .int()
    .min(1)
    .max(2 ** 31)
    .refine(isPowerOfTwo, 'must be a power of two')
    .default(256)
    .describe('into how many parts a miner may split its range'),
  mineAdjustRatio: z
    .int()
    .min(1)
    .max(32_767)
    .default(8)
    .describe('how slowly difficulty follows the answers (docs/economics.md)'),
}

/** Wei per sector from a price per TiB and month, with the floors in the order that existing deployments use. */
export function pricePerSectorWei({ months, unitPrice }: { months: bigint; unitPrice: bigint }): bigint {
  return (months * unitPrice * 10n ** 18n) / 1024n / 1024n / 1024n / 12n
}

/** One window nearly as long as the epoch, so that further ids of one miner earn it nothing: docs/economics.md. */
const lasting = {
  blocksPerEpoch: 3_750,
  mineWindowBlocks: 3_600,
  mineDifficulty: 1_000_000n,
  releaseSeconds: 12 * daysPerMonth * secondsPerDay,
}

/** Starting values of storage. */
export const storagePresets = {
  local: {
    blocksPerEpoch: 300,
    pricePerSectorWei: pricePerSectorWei({ months: 3n, unitPrice: 1n }),
    maxPricePerSectorWei: 10n ** 15n,
    // Short and small, so that a miner on one machine sees its first earnings within minutes.
    releaseSeconds: 3_600,
    poolSectors: 2 ** 16,
    mineDifficulty: 20_000n,
    mineWindowBlocks: 280,
    mineAnswersPerEpoch: 10,
  },
  standard: {
    ...lasting,
    pricePerSectorWei: pricePerSectorWei({ months: 12n, unitPrice: 24n }),
    maxPricePerSectorWei: 100n * pricePerSectorWei({ months: 12n, unitPrice: 24n }),
  },
  turbo: {
    ...lasting,
    pricePerSectorWei: pricePerSectorWei({ months: 12n, unitPrice: 33n }),
    maxPricePerSectorWei: 100n * pricePerSectorWei({ months: 12n, unitPrice: 33n }),
  },
}

/** What the constructors of storage are given. */
export function storageArguments({
  name,
  addresses,
  parameters,
}: {
  name: StorageContract
  addresses: Record<StorageContract | 'Governance', Address>
  parameters: DeployParameters
}): readonly unknown[] {
  const { Governance, Flow, FixedPriceMarket, StorageReward, PoraMine } = addresses
  switch (name) {
    case 'Flow':
      return [
        Governance,
        FixedPriceMarket,
        StorageReward,
        BigInt(parameters.blocksPerEpoch),
        BigInt(parameters.deployDelayBlocks),
      ]
    case 'FixedPriceMarket':
      return [Governance, Flow, StorageReward, parameters.pricePerSectorWei, parameters.maxPricePerSectorWei]
    case 'StorageReward':
      return [
        ...[Governance, Flow, FixedPriceMarket, PoraMine],
        ...[BigInt(parameters.poolSectors), BigInt(parameters.releaseSeconds)],
      ]
    case 'PoraMine':
      return [Governance, Flow, StorageReward, mineParameters(parameters)]
  }
}

/** The struct `MineParameters` of the mining contract. */
function mineParameters(parameters: DeployParameters) {
  return {
    difficulty: parameters.mineDifficulty,
    minDifficulty: parameters.mineMinDifficulty,
    targetMineBlocks: BigInt(parameters.mineWindowBlocks),
    targetSubmissions: BigInt(parameters.mineAnswersPerEpoch),
    maxShards: BigInt(parameters.mineMaxShards),
    nSubtasks: BigInt(parameters.mineWindows),
    subtaskInterval: BigInt(parameters.mineWindowIntervalBlocks),
    difficultyAdjustRatio: BigInt(parameters.mineAdjustRatio),
  }
}

/** What must hold between the contracts of storage, whatever governance does. */
export function storageWiring({
  addresses,
  parameters,
}: {
  addresses: Record<StorageContract, Address>
  parameters: DeployParameters
}): WiringCheck<StorageContract>[] {
  const { Flow, FixedPriceMarket, StorageReward, PoraMine } = addresses
  return [
    { contract: 'Flow', read: 'market', want: FixedPriceMarket },
    { contract: 'Flow', read: 'reward', want: StorageReward },
    { contract: 'Flow', read: 'blocksPerEpoch', want: BigInt(parameters.blocksPerEpoch) },
    { contract: 'Flow', read: 'deployDelay', want: BigInt(parameters.deployDelayBlocks) },
    { contract: 'FixedPriceMarket', read: 'flow', want: Flow },
    { contract: 'FixedPriceMarket', read: 'reward', want: StorageReward },
    { contract: 'FixedPriceMarket', read: 'maxPricePerSector', want: parameters.maxPricePerSectorWei },
    { contract: 'StorageReward', read: 'flow', want: Flow },
    { contract: 'StorageReward', read: 'market', want: FixedPriceMarket },
    { contract: 'StorageReward', read: 'mine', want: PoraMine },
    { contract: 'StorageReward', read: 'poolSectors', want: BigInt(parameters.poolSectors) },
    { contract: 'StorageReward', read: 'releaseSeconds', want: BigInt(parameters.releaseSeconds) },
    { contract: 'PoraMine', read: 'flow', want: Flow },
    { contract: 'PoraMine', read: 'reward', want: StorageReward },
  ]
}
