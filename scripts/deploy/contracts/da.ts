import type { Address } from 'viem'
import { z } from 'zod'
import type { DeployParameters } from '../parameters.ts'
import { secondsPerDay, type WiringCheck, wei } from './subsystem.ts'

/** The contracts of data availability. */
export type DaContract = 'DASigners' | 'DAEntrance' | 'DACustody' | 'DispersalAccounts'

export const daSources: Record<DaContract, string> = {
  DASigners: 'contracts/da/DASigners.sol',
  DAEntrance: 'contracts/da/DAEntrance.sol',
  DACustody: 'contracts/da/DACustody.sol',
  DispersalAccounts: 'contracts/da/DispersalAccounts.sol',
}

const ETHER = 10n ** 18n
const maxEpochs = 1_000_000

/** The parameters of data availability. */
export const daFields = {
  daEpochBlocks: z.int().min(10).max(10_000_000).describe('blocks of an epoch of signers'),
  daMinStakeWei: wei({ min: 1n, max: 10n ** 26n }).describe('least stake of a signer, wei'),
  daPricePerByteEpochWei: wei({ max: 10n ** 18n }).describe('price of a byte (in units of 64 KiB) for an epoch, wei'),
  daMaxPricePerByteEpochWei: wei({ max: 10n ** 18n }).describe('bound of that price, fixed for ever, wei'),
  daMinRetentionEpochs: z.int().min(1).max(maxEpochs).default(1).describe('shortest time a blob is kept, epochs'),
  daMaxRetentionEpochs: z
    .int()
    .min(1)
    .max(maxEpochs)
    .describe('longest time a blob is kept, epochs; a leaving signer stays bound for so long'),
  daSamplePeriodBlocks: z.int().min(1).max(200).default(30).describe('blocks of a sampling round'),
  daSamplesPerRound: z.int().min(1).max(1_000).default(20).describe('samples per round that the target aims at'),
  daRewardRatio: z.int().min(1).max(1_000_000_000).describe('a sample is paid the collected fees divided by this'),
  daAnswerBlocks: z.int().min(10).max(50_400).describe('blocks a signer has to answer a custody request'),
  daBondPerSublineWei: wei({ min: 1n, max: ETHER }).describe('bond per KiB asked for, which pays for the answer, wei'),
  daPenaltyWei: wei({ min: 1n, max: 1_000_000n * ETHER }).describe('stake lost by not answering, wei'),
  daAccountLockSeconds: z
    .int()
    .min(1)
    .max(30 * secondsPerDay)
    .default(secondsPerDay)
    .describe('seconds in which a disperser may still claim from an account whose user withdraws'),
}

const lasting = {
  daEpochBlocks: 5_760,
  daMinStakeWei: 30n * ETHER,
  daPricePerByteEpochWei: 1_000_000n,
  daMaxPricePerByteEpochWei: 100_000_000n,
  daMaxRetentionEpochs: 300,
  // Answers per round times rounds of the longest retention: a fee is paid out while its blob is kept.
  daRewardRatio: 1_200_000,
  daAnswerBlocks: 600,
  daBondPerSublineWei: ETHER / 1_000n,
  daPenaltyWei: 10n * ETHER,
}

/** Starting values of data availability. */
export const daPresets = {
  local: {
    ...lasting,
    daEpochBlocks: 300,
    daMinStakeWei: ETHER,
    daRewardRatio: 1_000,
    daAnswerBlocks: 30,
    daAccountLockSeconds: 600,
  },
  standard: lasting,
  turbo: lasting,
}

/** Epochs that a leaving signer's stake stays bound beyond the longest retention: for requests made at the very end. */
const MARGIN_EPOCHS = 2

/** What the constructors of data availability are given. */
export function daArguments({
  name,
  addresses: { Governance, DASigners, DAEntrance, DACustody },
  parameters,
}: {
  name: DaContract
  addresses: Record<DaContract | 'Governance', Address>
  parameters: DeployParameters
}): readonly unknown[] {
  switch (name) {
    case 'DASigners':
      return [
        Governance,
        DACustody,
        {
          epochBlocks: BigInt(parameters.daEpochBlocks),
          unbondingEpochs: unbondingEpochs(parameters),
          minStakeWei: parameters.daMinStakeWei,
        },
      ]
    case 'DAEntrance':
      return [
        Governance,
        DASigners,
        {
          pricePerByteEpoch: parameters.daPricePerByteEpochWei,
          maxPricePerByteEpoch: parameters.daMaxPricePerByteEpochWei,
          minRetentionEpochs: parameters.daMinRetentionEpochs,
          maxRetentionEpochs: parameters.daMaxRetentionEpochs,
          samplePeriod: BigInt(parameters.daSamplePeriodBlocks),
          targetRoundSubmissions: BigInt(parameters.daSamplesPerRound),
          rewardRatio: BigInt(parameters.daRewardRatio),
        },
      ]
    case 'DACustody':
      return [
        ...[Governance, DASigners, DAEntrance],
        ...[BigInt(parameters.daAnswerBlocks), parameters.daBondPerSublineWei, parameters.daPenaltyWei],
      ]
    case 'DispersalAccounts':
      return [BigInt(parameters.daAccountLockSeconds)]
  }
}

function unbondingEpochs({ daMaxRetentionEpochs, daAnswerBlocks, daEpochBlocks }: DeployParameters): bigint {
  return BigInt(daMaxRetentionEpochs + Math.ceil(daAnswerBlocks / daEpochBlocks) + MARGIN_EPOCHS)
}

/** What must hold between the contracts of data availability, whatever governance does. */
export function daWiring({
  addresses: { DASigners, DAEntrance, DACustody },
  parameters,
}: {
  addresses: Record<DaContract, Address>
  parameters: DeployParameters
}): WiringCheck<DaContract>[] {
  return [
    { contract: 'DASigners', read: 'custody', want: DACustody },
    { contract: 'DASigners', read: 'unbondingEpochs', want: unbondingEpochs(parameters) },
    { contract: 'DAEntrance', read: 'signers', want: DASigners },
    { contract: 'DAEntrance', read: 'maxPricePerByteEpoch', want: parameters.daMaxPricePerByteEpochWei },
    {
      contract: 'DAEntrance',
      read: 'retentionBounds',
      want: [BigInt(parameters.daMinRetentionEpochs), BigInt(parameters.daMaxRetentionEpochs)],
    },
    { contract: 'DACustody', read: 'signers', want: DASigners },
    { contract: 'DACustody', read: 'entrance', want: DAEntrance },
    { contract: 'DispersalAccounts', read: 'lockSeconds', want: BigInt(parameters.daAccountLockSeconds) },
  ]
}
