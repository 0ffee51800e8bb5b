import type { TransactionReceipt } from 'ethers'
import { answerFor, type MiningWorld, nextEpoch, payingWorld } from '../../test/contracts/storage/mining-world.ts'
import {
  BATCH_SUBMIT,
  deployStorage,
  type StorageFixture,
  SUBMIT,
  submissionOf,
} from '../../test/contracts/storage/storage-fixture.ts'
import type { BenchContext } from './context.ts'
import { bench as benchComputeGas } from './gas-compute.ts'
import { benchDaGas } from './gas-da.ts'
import { benchDispersalGas } from './gas-dispersal.ts'

/** Gas of a 256-byte submission on the public 0G contracts without proxies: middle of 201,000 .. 211,000. */
const REFERENCE_SUBMIT_GAS = 205_000

/** Gas of an accepted answer that pays, on the public 0G contracts without proxies. */
const REFERENCE_PORA_GAS = 368_000

/** Gas by name of what was done; the same on every machine. */
export type GasFigures = Record<string, number>

/**
 * Measures what submissions cost, everything included: transaction, calldata, flow, market, reward pools.
 * Runs on a simulated chain inside this process.
 */
export async function measureSubmitGas(): Promise<GasFigures> {
  const fresh = await deployStorage()
  const figures: GasFigures = { 'submit, first ever': await submit(fresh, [0]) }
  // The first submissions of all pay for slots that later ones only change.
  for (let i = 0; i < 64; i++) await submit(fresh, [0])
  figures['submit 256 B, flow of 16 KiB'] = await mean(64, () => submit(fresh, [0]))

  const grown = await deployStorage()
  // As many bits of the length are set as in an average number of 21 bits: each costs a read of storage.
  for (const height of [20, 18, 15, 13, 12, 10, 8]) await submit(grown, [height])
  for (let i = 0; i < 64; i++) await submit(grown, [0])
  figures['submit 256 B, flow of 320 MiB'] = await mean(64, () => submit(grown, [0]))
  figures['submit 256 B, flow of 320 MiB, too much paid'] = await submit(grown, [0], 1n)
  figures['submit 20 KB (2 nodes, padded)'] = await mean(8, () => submit(grown, [6, 4]))
  figures['submit 1 MiB (1 node)'] = await mean(8, () => submit(grown, [12]))
  figures['batch of ten 256 B, each'] = Math.round((await submitBatch(grown, 10)) / 10)
  await grown.market.setServiceFeeRate(250)
  await submit(grown, [0])
  figures['submit 256 B with a service fee'] = await mean(8, () => submit(grown, [0]))

  const rolling = await deployStorage({ blocksPerEpoch: 100 })
  for (let i = 0; i < 8; i++) await submit(rolling, [0])
  await rolling.connection.networkHelpers.mine(100)
  await submit(rolling, [0])
  await rolling.connection.networkHelpers.mine(100)
  figures['submit 256 B that rolls an epoch'] = await submit(rolling, [0])
  await rolling.connection.networkHelpers.mine(1_000_000)
  figures['submit 256 B after 10,000 idle epochs'] = await submit(rolling, [0])
  return figures
}

/**
 * Measures what accepted answers cost: with a proof of 30 nodes (a flow of 4 TiB), where each answer is the first in its
 * pool, and with one of 22 nodes in a pool that was claimed before. Both pay out.
 */
export async function measurePoraGas(): Promise<GasFigures> {
  const mining = { targetSubmissions: 1000 }
  const large = await payingWorld({ mining, blocksPerEpoch: 2000 }, 33)
  const figures: GasFigures = {}
  await answer(large, 0)
  figures['pora submit, 30-node proof, first payout of its pool'] = await mean(4, (i) => answer(large, i + 1))
  Object.assign(figures, await answerParts(large))
  const small = await payingWorld({ mining, blocksPerEpoch: 2000 }, 25)
  figures['pora submit, 22-node proof, first answer ever'] = await answer(small, 0)
  await answer(small, 1)
  const steady = await mean(4, (i) => answer(small, i + 2))
  figures['pora submit, 22-node proof, payout'] = steady
  await nextEpoch(small, 1)
  figures['pora submit, 22-node proof, first answer of its epoch'] = await answer(small, 10)
  figures['request a miner id'] = await requestId(small)
  figures['withdraw payments'] = await withdraw(small)
  return figures
}

/** Reports `gas.flow-submit` and `gas.pora-submit`. */
export async function bench({ report }: BenchContext): Promise<void> {
  const pora = await measurePoraGas()
  const answered = pora['pora submit, 30-node proof, first payout of its pool'] ?? Number.NaN
  report({
    name: 'gas.pora-submit',
    value: answered,
    unit: 'gas',
    peer: '0G reference (specification)',
    peerValue: REFERENCE_PORA_GAS,
    ratio: REFERENCE_PORA_GAS / answered,
    detail: pora,
  })

  const figures = await measureSubmitGas()
  // The reference was measured on a flow of a few submissions as well. Growth costs a read for each bit set in the
  // length: the other figures say how much.
  const value = figures['submit 256 B, flow of 16 KiB'] ?? Number.NaN
  report({
    name: 'gas.flow-submit',
    value,
    unit: 'gas',
    peer: '0G reference (specification)',
    peerValue: REFERENCE_SUBMIT_GAS,
    ratio: REFERENCE_SUBMIT_GAS / value,
    detail: figures,
  })
  await benchDaGas({ report })
  await benchDispersalGas({ report })
  await benchComputeGas({ report })
}

async function submit({ flow, connection, pricePerSector }: StorageFixture, heights: number[], extra = 0n) {
  const { ethers } = connection
  const [signer] = await ethers.getSigners()
  const label = await flow.submissionIndex()
  const nodes = heights.map((height) => ({ root: ethers.id(`node ${label} ${height}`), height }))
  const sectors = nodes.reduce((sum, { height }) => sum + (1n << BigInt(height)), 0n)
  const value = sectors * pricePerSector + extra
  const response = await flow[SUBMIT](submissionOf(nodes, signer?.address ?? ''), { value })
  return Number((await response.wait()).gasUsed)
}

async function submitBatch({ flow, connection, pricePerSector }: StorageFixture, count: number): Promise<number> {
  const { ethers } = connection
  const [signer] = await ethers.getSigners()
  const submissions = Array.from({ length: count }, (_, i) =>
    submissionOf([{ root: ethers.id(`batched ${i}`), height: 0 }], signer?.address ?? ''),
  )
  const response = await flow[BATCH_SUBMIT](submissions, { value: pricePerSector * BigInt(count) })
  return Number((await response.wait()).gasUsed)
}

async function answer(world: MiningWorld, index: number): Promise<number> {
  return Number((await sendAnswer(world, index)).gasUsed)
}

async function sendAnswer(world: MiningWorld, index: number): Promise<TransactionReceipt> {
  // Rewards are released over time: without some of it there is nothing to pay.
  await world.connection.networkHelpers.time.increase(86_400)
  const response = await world.mine.submit(await answerFor(world, { firstNonce: 1n + BigInt(index) * 10_000n }))
  return await response.wait()
}

interface TraceStep {
  op: string
  depth: number
  gas: number
  gasCost: number
}

/** Where the gas of one answer goes, from a trace of the mine's own steps. */
async function answerParts(world: MiningWorld): Promise<GasFigures> {
  const receipt = await sendAnswer(world, 50)
  const trace = (await world.connection.provider.request({
    method: 'debug_traceTransaction',
    params: [receipt.hash, {}],
  })) as { structLogs: TraceStep[] }
  // At depth 1 the gas between two steps is what the first of them cost, with all that it called.
  const steps = trace.structLogs.filter(({ depth }) => depth === 1)
  const cost = (wanted: (step: TraceStep) => boolean) =>
    steps.reduce((sum, step, i) => sum + (wanted(step) ? step.gas - (steps[i + 1]?.gas ?? step.gas) : 0), 0)
  const calls = steps.filter(({ op }) => op === 'CALL')
  const total = cost(() => true)
  const flow = cost((step) => step === calls[0])
  const reward = cost((step) => step === calls[1])
  const storage = cost(({ op }) => op === 'SLOAD' || op === 'SSTORE' || op === 'LOG3')
  return {
    'of which transaction and calldata': Number(receipt.gasUsed) - total,
    'of which the context from the flow': flow,
    'of which the reward': reward,
    'of which state and log of the mine': storage,
    'of which unsealing, proving, hashing': total - flow - reward - storage,
  }
}

async function requestId({ mine, beneficiary }: MiningWorld): Promise<number> {
  return Number((await (await mine.requestMinerId(beneficiary, 77)).wait()).gasUsed)
}

async function withdraw({ reward, beneficiary }: MiningWorld): Promise<number> {
  return Number((await (await reward.withdrawPayments(beneficiary)).wait()).gasUsed)
}

async function mean(count: number, measure: (index: number) => Promise<number>): Promise<number> {
  let sum = 0
  for (let i = 0; i < count; i++) sum += await measure(i)
  return Math.round(sum / count)
}
