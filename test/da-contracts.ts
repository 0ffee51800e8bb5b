import type { Address, Hex } from 'viem'
import { deploySequence } from './deploy-sequence.ts'

/** What {@link deployDaContracts} put on the chain. */
export interface DaContracts {
  governance: Address
  signers: Address
  entrance: Address
  custody: Address
  accounts: Address
  /** Block of the first deployment: nothing of these contracts happened before it. */
  block: number
  /** The account that deployed them and governs them without delay. */
  deployer: Address
}

export interface DeployDaContractsParameters {
  /** The chain's JSON-RPC endpoint. */
  url: string
  privateKey?: Hex
  /** Default 100. */
  epochBlocks?: number
  /** Default one ether. */
  minStakeWei?: bigint
  /** Default 1 gwei. */
  pricePerByteEpoch?: bigint
  /** Default 1 and 1,000. */
  minRetentionEpochs?: number
  maxRetentionEpochs?: number
  /** Blocks of a sampling round, default 30. */
  samplePeriod?: number
  /** A sample is paid this part of the fees, default 100. */
  rewardRatio?: number
  /** Blocks to answer a custody request, default 20. */
  answerBlocks?: number
  /** Default 0.001 ether. */
  bondPerSubline?: bigint
  /** What not answering costs, default half an ether. */
  penaltyWei?: bigint
  /** Seconds until what users announce to withdraw from a disperser is free, default 3,600. */
  lockSeconds?: number
}

const ETHER = 10n ** 18n

/**
 * Deploys the contracts of data availability on a local chain for a test.
 *
 * @example
 * const { signers, entrance, block } = await deployDaContracts({ url: anvil.url })
 */
export async function deployDaContracts({
  url,
  privateKey,
  epochBlocks = 100,
  minStakeWei = ETHER,
  pricePerByteEpoch = 10n ** 9n,
  minRetentionEpochs = 1,
  maxRetentionEpochs = 1_000,
  samplePeriod = 30,
  rewardRatio = 100,
  answerBlocks = 20,
  bondPerSubline = ETHER / 1_000n,
  penaltyWei = ETHER / 2n,
  lockSeconds = 3_600,
}: DeployDaContractsParameters): Promise<DaContracts> {
  const signerParameters = {
    epochBlocks: BigInt(epochBlocks),
    unbondingEpochs: BigInt(maxRetentionEpochs + 2),
    minStakeWei,
  }
  const entranceParameters = {
    pricePerByteEpoch,
    maxPricePerByteEpoch: pricePerByteEpoch * 100n,
    minRetentionEpochs,
    maxRetentionEpochs,
    samplePeriod: BigInt(samplePeriod),
    targetRoundSubmissions: 20n,
    rewardRatio: BigInt(rewardRatio),
  }
  const { addresses, block, deployer } = await deploySequence({
    ...{
      url,
      ...(privateKey ? { privateKey } : {}),
      names: ['governance', 'signers', 'entrance', 'custody', 'accounts'],
    },
    plan: ({ governance, signers, entrance, custody }, deployer) => [
      ['governance/Governance', [deployer, deployer, 0, [signers, entrance]]],
      ['da/DASigners', [governance, custody, signerParameters]],
      ['da/DAEntrance', [governance, signers, entranceParameters]],
      ['da/DACustody', [governance, signers, entrance, BigInt(answerBlocks), bondPerSubline, penaltyWei]],
      ['da/DispersalAccounts', [BigInt(lockSeconds)]],
    ],
  })
  return { ...addresses, block, deployer }
}
