import { type Address, getContractAddress, type Hex, keccak256 } from 'viem'
import { type Artifact, creationCode, loadArtifact } from './artifact.ts'
import { type ComputeContract, computeArguments, computeSources } from './contracts/compute.ts'
import { type DaContract, daArguments, daSources } from './contracts/da.ts'
import { type StorageContract, storageArguments, storageSources } from './contracts/storage.ts'
import type { DeployParameters } from './parameters.ts'

/**
 * The contracts of a deployment, in the order in which they are made. Their addresses follow from it: as the first
 * transactions of the first account of a local chain, the ledger (2), the inference contract (6) and the fine-tuning
 * contract (12) stand where 0G's packages look for them.
 */
export const contractNames = [
  'Governance',
  'Flow',
  'LedgerManager',
  'FixedPriceMarket',
  'StorageReward',
  'PoraMine',
  'InferenceServing',
  'ProviderStakes',
  'TaskBook',
  'DASigners',
  'DAEntrance',
  'DACustody',
  'FineTuningServing',
  'DispersalAccounts',
] as const satisfies readonly ('Governance' | StorageContract | DaContract | ComputeContract)[]
export type ContractName = (typeof contractNames)[number]
export type ContractAddresses = Record<ContractName, Address>

/** Contracts whose new intake the guardian may halt. */
export const pausable = ['Flow', 'DASigners', 'DAEntrance', 'LedgerManager'] as const satisfies readonly ContractName[]

/** One contract to be made. */
export interface PlannedContract {
  name: ContractName
  artifact: Artifact
  args: readonly unknown[]
  /** Where it will lie if it is made with `nonce`. */
  address: Address
  nonce: number
  creationCode: Hex
  creationHash: Hex
}

const sources: Record<ContractName, string> = {
  Governance: 'contracts/governance/Governance.sol',
  ...storageSources,
  ...daSources,
  ...computeSources,
}

/** Something for each contract. */
export function byContract<Value>(make: (name: ContractName, index: number) => Value): Record<ContractName, Value> {
  // Every name is there, because the list is where the type comes from.
  return Object.fromEntries(contractNames.map((name, index) => [name, make(name, index)])) as Record<
    ContractName,
    Value
  >
}

/** Every contract's artifact. */
export function loadArtifacts(): Record<ContractName, Artifact> {
  return byContract((name) => loadArtifact({ source: sources[name], name }))
}

/**
 * The deployment by `deployer` from `baseNonce` on. The contracts name each other in immutables, in a circle: each
 * address is known in advance because it follows from deployer and nonce (CREATE), so nothing has to be initialised
 * later and nobody can step in between.
 */
export function planDeployment({
  deployer,
  baseNonce,
  parameters,
  artifacts = loadArtifacts(),
}: {
  deployer: Address
  baseNonce: number
  parameters: DeployParameters
  artifacts?: Record<ContractName, Artifact>
}): PlannedContract[] {
  const addressAt = (index: number) => getContractAddress({ from: deployer, nonce: BigInt(baseNonce + index) })
  const addresses = byContract((_, index) => addressAt(index))
  return contractNames.map((name, index) => {
    const args = constructorArguments({ name, addresses, parameters })
    const code = creationCode({ artifact: artifacts[name], args })
    return {
      name,
      artifact: artifacts[name],
      args,
      address: addresses[name],
      nonce: baseNonce + index,
      creationCode: code,
      creationHash: keccak256(code),
    }
  })
}

function constructorArguments({
  name,
  addresses,
  parameters,
}: {
  name: ContractName
  addresses: ContractAddresses
  parameters: DeployParameters
}): readonly unknown[] {
  switch (name) {
    case 'Governance':
      return [
        ...[parameters.governor, parameters.guardian, parameters.governanceDelaySeconds],
        pausable.map((contract) => addresses[contract]),
      ]
    case 'Flow':
    case 'FixedPriceMarket':
    case 'StorageReward':
    case 'PoraMine':
      return storageArguments({ name, addresses, parameters })
    case 'DASigners':
    case 'DAEntrance':
    case 'DACustody':
    case 'DispersalAccounts':
      return daArguments({ name, addresses, parameters })
    case 'LedgerManager':
    case 'ProviderStakes':
    case 'TaskBook':
    case 'InferenceServing':
    case 'FineTuningServing':
      return computeArguments({ name, addresses, parameters })
  }
}
