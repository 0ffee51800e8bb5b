import { expect } from 'chai'
import { network } from 'hardhat'
import { as, type StorageFixture, vectors } from './storage-fixture.ts'

interface Pool {
  index: number
  locked: string
  claimable: string
  distributed: string
  startTime: number | null
  lastUpdate: number | null
}
interface Step {
  op: 'fillReward' | 'claimMineReward' | 'firstRewardableChunk'
  t: number
  index?: number
  beforeLength?: string
  sectors?: string
  value?: string
  paid?: string
  result?: string
  after?: Pool[]
}
interface RewardVectors {
  scenarios: Record<string, { constructorArg: number; steps: Step[] }>
}

/** Time of the first fill; every other is relative to it. */
const ORIGIN = 2_000_000_000

/** From here on the recorded run had a service fee of 2.5 %, a base reward and a donation. */
const SETTINGS_AT = 50_000_000

describe('Reward pools: reference vectors', () => {
  const { scenarios } = vectors<RewardVectors>('storage-reward')
  const contracts: Record<string, string> = { ChunkLinearReward: 'StorageReward', ChunkDecayReward: 'DecayReward' }

  for (const [scenario, contract] of Object.entries(contracts)) {
    it(`${contract} pays to the wei what ${scenario} paid`, async () => {
      const { constructorArg, steps } = scenarios[scenario] ?? { constructorArg: 0, steps: [] }
      const connection = await network.create()
      const { ethers, networkHelpers } = connection
      const [admin, flow, mine, treasury, miner] = await ethers.getSigners()
      if (!admin || !flow || !mine || !treasury || !miner) throw new Error('too few accounts')
      const governance = await ethers.deployContract('Governance', [admin.address, admin.address, 0, []])
      const reward = (await ethers.deployContract(contract, [
        await governance.getAddress(),
        flow.address,
        admin.address,
        mine.address,
        2 ** 25,
        constructorArg,
      ])) as unknown as StorageFixture['reward']
      expect(steps.length).to.be.greaterThan(10)

      let serviceFee = 0
      for (const step of steps) {
        const label = `${step.op} at ${step.t}`
        if (step.t >= SETTINGS_AT && step.t < ORIGIN - SETTINGS_AT && serviceFee === 0) {
          serviceFee = 250
          await reward.setTreasury(treasury.address)
          await reward.setBaseReward(10n ** 15n)
          await reward.donate({ value: 15n * 10n ** 14n })
        }
        if (step.op === 'fillReward') {
          await networkHelpers.time.setNextBlockTimestamp(ORIGIN + step.t)
          await as(reward, flow).fillReward(
            BigInt(step.beforeLength ?? ''),
            0,
            BigInt(step.sectors ?? ''),
            serviceFee,
            {
              value: BigInt(step.value ?? ''),
            },
          )
        } else if (step.op === 'claimMineReward') {
          const before = await reward.payments(miner.address)
          await networkHelpers.time.setNextBlockTimestamp(ORIGIN + step.t)
          await as(reward, mine).claimMineReward(step.index, miner.address, ethers.id('id'))
          expect((await reward.payments(miner.address)) - before, label).to.equal(BigInt(step.paid ?? ''))
        } else {
          expect((await reward.firstRewardableChunk())[0], label).to.equal(BigInt(step.result ?? ''))
        }
        for (const pool of step.after ?? []) {
          expect(await reward.rewards(pool.index), `${label}: pool ${pool.index}`).to.deep.equal([
            BigInt(pool.locked),
            BigInt(pool.claimable),
            BigInt(pool.distributed),
            at(pool.startTime),
            at(pool.lastUpdate),
          ])
        }
      }
    })
  }
})

function at(t: number | null): bigint {
  return t === null ? 0n : BigInt(ORIGIN + t)
}
