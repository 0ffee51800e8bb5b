import { type Address, getContractAddress, type Hex, keccak256 } from 'viem'
import { type Artifact, creationCode, loadArtifact } from './artifact.ts'
import type { DeployParameters } from './parameters.ts'

/** The contracts of a deployment, in the order in which they are made. */
export const contractNames = ['Governance', 'Flow', 'FixedPriceMarket', 'StorageReward', 'PoraMine'] as const
export type ContractName = (typeof contractNames)[number]
export type ContractAddresses = Record<ContractName, Address>

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
  Flow: 'contracts/storage/Flow.sol',
  FixedPriceMarket: 'contracts/storage/FixedPriceMarket.sol',
  StorageReward: 'contracts/storage/StorageReward.sol',
  PoraMine: 'contracts/storage/PoraMine.sol',
}

/** Every contract's artifact. */
export function loadArtifacts(): Record<ContractName, Artifact> {
  const load = (name: ContractName) => loadArtifact({ source: sources[name], name })
  return {
    Governance: load('Governance'),
    Flow: load('Flow'),
    FixedPriceMarket: load('FixedPriceMarket'),
    StorageReward: load('StorageReward'),
    PoraMine: load('PoraMine'),
  }
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
  const at = (name: ContractName) =>
    getContractAddress({ from: deployer, nonce: BigInt(baseNonce + contractNames.indexOf(name)) })
  const addresses: ContractAddresses = {
    Governance: at('Governance'),
    Flow: at('Flow'),
    FixedPriceMarket: at('FixedPriceMarket'),
    StorageReward: at('StorageReward'),
    PoraMine: at('PoraMine'),
  }
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
  const { Governance, Flow, FixedPriceMarket, StorageReward, PoraMine } = addresses
  switch (name) {
    case 'Governance':
      return [parameters.governor, parameters.guardian, parameters.governanceDelaySeconds, [Flow]]
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
