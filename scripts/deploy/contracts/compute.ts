import type { Address } from 'viem'
import { z } from 'zod'
import type { DeployParameters } from '../parameters.ts'
import { secondsPerDay, type WiringCheck, wei } from './subsystem.ts'

/** The contracts of the compute market. */
export type ComputeContract = 'LedgerManager' | 'ProviderStakes' | 'TaskBook' | 'InferenceServing' | 'FineTuningServing'

export const computeSources: Record<ComputeContract, string> = {
  LedgerManager: 'contracts/compute/LedgerManager.sol',
  ProviderStakes: 'contracts/compute/ProviderStakes.sol',
  TaskBook: 'contracts/compute/TaskBook.sol',
  InferenceServing: 'contracts/compute/InferenceServing.sol',
  FineTuningServing: 'contracts/compute/FineTuningServing.sol',
}

const ETHER = 10n ** 18n
const maxAmount = 1_000_000n * ETHER
const minLock = 3_600
const maxLock = 7 * secondsPerDay

/** The parameters of the compute market. */
export const computeFields = {
  computeMinLedgerWei: wei({ max: maxAmount }).describe('what a ledger is opened with at least, wei'),
  computeMinTransferWei: wei({ max: maxAmount }).describe('what an account with a provider is opened with, wei'),
  computeMinStakeWei: wei({ max: maxAmount }).describe('stake of a provider, wei'),
  computeUnbondingSeconds: z
    .int()
    .min(0)
    .max(365 * secondsPerDay)
    .describe('seconds until the stake of a leaving provider is free'),
  computeLockSeconds: z.int().min(0).max(maxLock).default(secondsPerDay).describe('seconds until a refund is free'),
  computeMinLockSeconds: z
    .int()
    .min(0)
    .max(maxLock)
    .default(minLock)
    .describe('the shortest such time that governance can set, seconds'),
  computePenaltyPercent: z
    .int()
    .min(0)
    .max(100)
    .default(30)
    .describe('part of its fee that a delivered model pays when the user never acknowledges it'),
}

/** The amounts that clients of the field expect. */
const lasting = {
  computeMinLedgerWei: 3n * ETHER,
  computeMinTransferWei: ETHER,
  computeMinStakeWei: 100n * ETHER,
  computeUnbondingSeconds: 14 * secondsPerDay,
}

/** Starting values of the compute market. */
export const computePresets = {
  local: { ...lasting, computeUnbondingSeconds: 60 },
  standard: lasting,
  turbo: lasting,
}

/** What the constructors of the compute market are given. */
export function computeArguments({
  name,
  addresses: { Governance, LedgerManager, ProviderStakes, TaskBook, InferenceServing, FineTuningServing },
  parameters,
}: {
  name: ComputeContract
  addresses: Record<ComputeContract | 'Governance', Address>
  parameters: DeployParameters
}): readonly unknown[] {
  const serving = {
    authority: Governance,
    ledger: LedgerManager,
    minProviderStake: parameters.computeMinStakeWei,
    stakes: ProviderStakes,
    lockTime: BigInt(parameters.computeLockSeconds),
    minLockTime: BigInt(parameters.computeMinLockSeconds),
  }
  switch (name) {
    case 'LedgerManager':
      return [
        ...[Governance, parameters.computeMinLedgerWei, parameters.computeMinTransferWei],
        [
          service({ serviceType: 'inference', serviceAddress: InferenceServing, description: 'Inference' }),
          service({ serviceType: 'fine-tuning', serviceAddress: FineTuningServing, description: 'Fine-tuning' }),
        ],
      ]
    case 'ProviderStakes':
      return [Governance, BigInt(parameters.computeUnbondingSeconds)]
    case 'TaskBook':
      return [FineTuningServing]
    case 'InferenceServing':
      return [serving]
    case 'FineTuningServing':
      return [serving, TaskBook, BigInt(parameters.computePenaltyPercent)]
  }
}

function service(parts: { serviceType: string; serviceAddress: Address; description: string }) {
  return { ...parts, version: 'v1.0', recommended: true }
}

/** What must hold between the contracts of the compute market, whatever governance does. */
export function computeWiring({
  addresses: { LedgerManager, ProviderStakes, TaskBook, InferenceServing, FineTuningServing },
  parameters,
}: {
  addresses: Record<ComputeContract, Address>
  parameters: DeployParameters
}): WiringCheck<ComputeContract>[] {
  const servings = ['InferenceServing', 'FineTuningServing'] as const
  return [
    ...servings.map((contract) => ({ contract, read: 'ledgerAddress', want: LedgerManager })),
    ...servings.map((contract) => ({ contract, read: 'stakes', want: ProviderStakes })),
    { contract: 'FineTuningServing', read: 'taskBook', want: TaskBook },
    { contract: 'TaskBook', read: 'serving', want: FineTuningServing },
    ...servings.map((contract) => ({ contract, read: 'MIN_PROVIDER_STAKE', want: parameters.computeMinStakeWei })),
    { contract: 'LedgerManager', read: 'MIN_ACCOUNT_BALANCE', want: parameters.computeMinLedgerWei },
    { contract: 'LedgerManager', read: 'getServiceAddressByName', args: ['inference-v1.0'], want: InferenceServing },
    { contract: 'LedgerManager', read: 'getServiceAddressByName', args: ['fine-tuning-v1.0'], want: FineTuningServing },
  ]
}
