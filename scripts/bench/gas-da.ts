import type { Contract, TransactionReceipt } from 'ethers'
import { blobCommitment } from '#protocol/da/commitment.ts'
import { blobDigest } from '#protocol/da/messages.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import {
  aggregate,
  type DaSignersFixture,
  deployDaSigners,
  join,
  joinMany,
  type Member,
  MIN_STAKE,
  member,
  nextEpoch,
  UNBONDING_EPOCHS,
} from '../../test/contracts/da/da-signers-fixture.ts'
import { as } from '../../test/contracts/storage/storage-fixture.ts'
import type { BenchContext } from './context.ts'

/** Signers of the epoch in which blobs are confirmed. */
const SIGNERS = 100

/** Gas that 0G's precompile takes for summing the keys of a quorum; its contract pays for the rest on top of that. */
const REFERENCE_SUM_GAS = 1_000_000

/** Gas by name of what was done; the same on every machine. */
export type DaGasFigures = Awaited<ReturnType<typeof measureDaGas>>

interface World extends DaSignersFixture {
  members: readonly Member[]
  entrance: Contract
}

/**
 * Measures what the contracts of data availability cost with 100 signers of unequal stakes: confirming blobs, everything
 * included, joining, leaving, and the turn of an epoch. Runs on a simulated chain inside this process.
 */
export async function measureDaGas() {
  const fixture = await deployDaSigners()
  const members = await joinMany(fixture, SIGNERS)
  const world: World = { ...fixture, members, entrance: await deployEntrance(fixture) }
  return { ...(await blobGas(world)), ...(await epochGas(world)), ...(await stakeGas(world)) }
}

/** Each figure is the mean of several blobs: mapping a digest to the curve takes some 4,500 gas for each try. */
async function blobGas(world: World) {
  await confirm(world, [0])
  // Each in another place, in all pages: the dearest ten absent signers.
  const ten = Array.from({ length: 10 }, (_, i) => 10 * i + 3)
  const thirty = Array.from({ length: 30 }, (_, i) => 3 * i)
  return {
    'confirm a blob, 100 signers, 10 absent': await mean(8, () => confirm(world, ten)),
    'confirm ten blobs at once, 100 signers, 10 absent, each': Math.round((await confirm(world, ten, 10)) / 10),
    'confirm a blob, 100 signers, 1 absent': await mean(4, () => confirm(world, [40])),
    'confirm a blob, 100 signers, none absent': await mean(4, () => confirm(world, [])),
    'confirm a blob, 100 signers, 30 absent': await mean(4, () => confirm(world, thirty)),
    'submit a blob': Number((await submit(world, 1)).receipt.gasUsed),
    'submit ten blobs at once, each': Math.round(Number((await submit(world, 10)).receipt.gasUsed) / 10),
  }
}

async function epochGas(world: World) {
  await nextEpoch(world)
  const idle = await makeEpoch(world)
  const repeated = await makeEpoch(world)
  const first = await register(world, SIGNERS)
  const later = await register(world, SIGNERS + 1)
  for (let i = 2; i < 10; i++) await register(world, SIGNERS + i)
  await nextEpoch(world)
  return {
    'turn of an epoch without changes': idle,
    'turn recorded already': repeated,
    'turn of an epoch after 10 joined': await makeEpoch(world),
    'join, first change of its epoch': first,
    'join, a later one': later,
  }
}

async function stakeGas(world: World) {
  // The first change of the epoch.
  await addStake(world, 50)
  return {
    'add stake': await addStake(world, 50),
    leave: await leave(world, 20),
    withdraw: await withdraw(world, 20),
  }
}

/** Reports `gas.da-confirm`, `gas.da-register` and `gas.da-rollover`. */
export async function benchDaGas({ report }: Pick<BenchContext, 'report'>): Promise<void> {
  const figures = await measureDaGas()
  const confirmed = figures['confirm a blob, 100 signers, 10 absent']
  report({
    name: 'gas.da-confirm',
    value: confirmed,
    unit: 'gas',
    peer: '0G precompile getAggPkG1 alone (specification)',
    peerValue: REFERENCE_SUM_GAS,
    ratio: REFERENCE_SUM_GAS / confirmed,
    detail: figures,
  })
  report({ name: 'gas.da-register', value: figures['join, a later one'], unit: 'gas' })
  report({
    name: 'gas.da-rollover',
    value: figures['turn of an epoch after 10 joined'],
    unit: 'gas',
    detail: { 'paid by each signer that changes': figures['join, a later one'] },
  })
}

/** The entrance that blobs are confirmed by; its fees and sampling do not matter here. */
async function deployEntrance({ connection, signers }: DaSignersFixture): Promise<Contract> {
  const [governor] = await connection.ethers.getSigners()
  if (governor === undefined) throw new Error('the simulated chain has no accounts')
  const governance = await connection.ethers.deployContract('Governance', [governor.address, governor.address, 0, []])
  const entrance = await connection.ethers.deployContract('DAEntrance', [
    await governance.getAddress(),
    await signers.getAddress(),
    {
      ...{ pricePerByteEpoch: 1n, maxPricePerByteEpoch: 100n, minRetentionEpochs: 1, maxRetentionEpochs: 3 },
      ...{ samplePeriod: 30n, targetRoundSubmissions: 20n, rewardRatio: 100n },
    },
  ])
  return entrance as unknown as Contract
}

let blobs = 0

async function submit({ entrance }: World, count: number) {
  const commitments = Array.from({ length: count }, () => {
    const root = (name: string): Hash => toHex(Buffer.from(`${name} ${++blobs}`.padStart(32)))
    return blobCommitment({ sizeBytes: 100_000, rowRoot: root('row'), rlcRoot: root('rlc') })
  })
  const submissions = commitments.map(({ rowRoot, rlcRoot }) => ({
    ...{ sizeBytes: 100_000n, retentionEpochs: 2n, rowRoot, rlcRoot },
  }))
  const value = 131_072n * 2n * BigInt(count)
  return { commitments, receipt: await mined(entrance, 'submitBlobs', [submissions, { value }]) }
}

/** Gas of confirming `count` blobs at once that all members but those at `absent` signed. */
async function confirm(world: World, absent: readonly number[], count = 1): Promise<number> {
  const { commitments } = await submit(world, count)
  const epoch = await world.signers.epochNumber?.()
  const items = commitments.map(({ dataRoot, rowRoot, rlcRoot }) => {
    const digest = blobDigest({ dataRoot, epoch, quorumId: 0, rowRoot, rlcRoot })
    const { bitmap, aggPkG2, signature } = aggregate(world.members, digest, absent)
    const erasureCommitment = { X: BigInt(rowRoot), Y: BigInt(rlcRoot) }
    return { dataRoot, epoch, quorumId: 0n, erasureCommitment, quorumBitmap: bitmap, aggPkG2, signature }
  })
  return Number((await mined(world.entrance, 'submitVerifiedCommitRoots', [items])).gasUsed)
}

async function register(world: World, index: number): Promise<number> {
  return Number((await join(world, await member(world.connection, index))).gasUsed)
}

async function makeEpoch({ signers }: World): Promise<number> {
  return Number((await mined(signers, 'makeEpoch', [])).gasUsed)
}

async function addStake(world: World, index: number): Promise<number> {
  return Number((await mined(ofMember(world, index), 'addStake', [{ value: 1n }])).gasUsed)
}

async function leave(world: World, index: number): Promise<number> {
  const stake = MIN_STAKE * BigInt(1 + (index % 7))
  return Number((await mined(ofMember(world, index), 'requestUnbond', [stake])).gasUsed)
}

async function withdraw(world: World, index: number): Promise<number> {
  for (let i = 0n; i <= UNBONDING_EPOCHS; i++) await nextEpoch(world)
  return Number((await mined(ofMember(world, index), 'withdrawUnbonded', [])).gasUsed)
}

function ofMember({ signers, members }: World, index: number): Contract {
  const who = members[index]
  if (who === undefined) throw new Error(`no member ${index}`)
  return as(signers, who.account)
}

async function mean(count: number, measure: () => Promise<number>): Promise<number> {
  let sum = 0
  for (let i = 0; i < count; i++) sum += await measure()
  return Math.round(sum / count)
}

async function mined(contract: Contract, method: string, args: readonly unknown[]): Promise<TransactionReceipt> {
  const response = await contract.getFunction(method)(...args)
  return await response.wait()
}
