import { readFileSync } from 'node:fs'
import type { BaseContractMethod, Contract, ContractRunner } from 'ethers'
import { network } from 'hardhat'
import type { fixedPriceMarketAbi } from '#protocol/abi/fixed-price-market.ts'
import type { flowAbi } from '#protocol/abi/flow.ts'
import type { governanceAbi } from '#protocol/abi/governance.ts'
import type { poraMineAbi } from '#protocol/abi/pora-mine.ts'
import type { storageRewardAbi } from '#protocol/abi/storage-reward.ts'

/** A chain of one's own inside the test process. */
export type Connection = Awaited<ReturnType<typeof network.create>>

/** 1 year of 372 days, the release time of the deployments this protocol comes from. */
export const RELEASE_SECONDS = 32_140_800

/** keccak256(""): a context that is not mined. */
export const EMPTY_HASH = '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470'

export const SUBMIT = 'submit(((uint256,bytes,(bytes32,uint256)[]),address))'
export const LEGACY_SUBMIT = 'submit((uint256,bytes,(bytes32,uint256)[]))'
export const BATCH_SUBMIT = 'batchSubmit(((uint256,bytes,(bytes32,uint256)[]),address)[])'
export const LEGACY_BATCH_SUBMIT = 'batchSubmit((uint256,bytes,(bytes32,uint256)[])[])'

/** A contract whose methods are known by name from its committed ABI. */
export type Bound<Abi extends readonly { type: string; name?: string }[]> = Contract &
  Record<Extract<Abi[number], { type: 'function'; name: string }>['name'], BaseContractMethod>

export interface StorageFixture {
  connection: Connection
  governance: Bound<typeof governanceAbi>
  flow: Bound<typeof flowAbi> &
    Record<typeof SUBMIT | typeof LEGACY_SUBMIT | typeof BATCH_SUBMIT | typeof LEGACY_BATCH_SUBMIT, BaseContractMethod>
  market: Bound<typeof fixedPriceMarketAbi>
  reward: Bound<typeof storageRewardAbi>
  mine: Bound<typeof poraMineAbi>
  pricePerSector: bigint
}

export interface FixtureParameters {
  pricePerSector?: bigint
  blocksPerEpoch?: number
  deployDelay?: number
  connection?: Connection
  mining?: Partial<MineParameters>
}

export interface MineParameters {
  difficulty: bigint
  minDifficulty: bigint
  targetMineBlocks: number
  targetSubmissions: number
  maxShards: number
  nSubtasks: number
  subtaskInterval: number
  difficultyAdjustRatio: number
}

/** One window that fits any epoch of 3 blocks or more, and a target that almost any hash is below. */
export function miningParameters(blocksPerEpoch: number, chosen: Partial<MineParameters> = {}): MineParameters {
  return {
    difficulty: 1n,
    minDifficulty: 0n,
    targetMineBlocks: Math.min(750, blocksPerEpoch - 2),
    targetSubmissions: 10,
    maxShards: 32,
    nSubtasks: 1,
    subtaskInterval: 100,
    difficultyAdjustRatio: 20,
    ...chosen,
  }
}

/** Deploys the storage contracts on a fresh simulated chain. The first signer governs them without delay. */
export async function deployStorage({
  pricePerSector = 1000n,
  blocksPerEpoch = 1_000_000_000,
  deployDelay = 0,
  connection,
  mining,
}: FixtureParameters = {}): Promise<StorageFixture> {
  const chain = connection ?? (await network.create())
  const { ethers } = chain
  const [deployer] = await ethers.getSigners()
  if (deployer === undefined) throw new Error('the simulated chain has no accounts')
  const nonce = await deployer.getNonce()
  const [governanceAt, flowAt, marketAt, rewardAt, mineAt] = [0, 1, 2, 3, 4].map((offset) =>
    ethers.getCreateAddress({ from: deployer.address, nonce: nonce + offset }),
  )
  const governance = await ethers.deployContract('Governance', [deployer.address, deployer.address, 0, [flowAt]])
  const flow = await ethers.deployContract('Flow', [governanceAt, marketAt, rewardAt, blocksPerEpoch, deployDelay])
  const market = await ethers.deployContract('FixedPriceMarket', [
    governanceAt,
    flowAt,
    rewardAt,
    pricePerSector,
    pricePerSector * 100n,
  ])
  const reward = await ethers.deployContract('StorageReward', [
    ...[governanceAt, flowAt, marketAt, mineAt],
    ...[2 ** 25, RELEASE_SECONDS],
  ])
  const mine = await ethers.deployContract('PoraMine', [
    governanceAt,
    flowAt,
    rewardAt,
    miningParameters(blocksPerEpoch, mining),
  ])
  if ((await mine.getAddress()) !== mineAt) throw new Error('the addresses were worked out wrong')
  return {
    connection: chain,
    governance: governance as StorageFixture['governance'],
    flow: flow as StorageFixture['flow'],
    market: market as StorageFixture['market'],
    reward: reward as StorageFixture['reward'],
    mine: mine as StorageFixture['mine'],
    pricePerSector,
  }
}

/** The same contract, called by somebody else. */
export function as<T extends Contract>(contract: T, runner: ContractRunner): T {
  return contract.connect(runner) as T
}

export interface Node {
  root: string
  height: number | bigint
}

/** Sectors that the nodes cover. */
export function sectorsOf(nodes: readonly Node[]): bigint {
  return nodes.reduce((sum, { height }) => sum + (1n << BigInt(height)), 0n)
}

/** A valid submission of these nodes, of the greatest size they can hold. */
export function submissionOf(nodes: Node[], submitter: string, length = sectorsOf(nodes) * 256n) {
  return { data: { length, tags: '0x', nodes }, submitter }
}

/** One of the files under `test/vectors`. */
export function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url), 'utf8')) as T
}
