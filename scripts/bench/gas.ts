import {
  BATCH_SUBMIT,
  deployStorage,
  type StorageFixture,
  SUBMIT,
  submissionOf,
} from '../../test/contracts/storage/storage-fixture.ts'
import type { BenchContext } from './context.ts'

/** Gas of a 256-byte submission on the public 0G contracts without proxies: middle of 201,000 .. 211,000. */
const REFERENCE_SUBMIT_GAS = 205_000

/** Gas by name of what was done; the same on every machine. */
export type GasFigures = Record<string, number>

/**
 * Measures what submissions cost, everything included: transaction, calldata, flow, market, reward pools.
 * Runs on a simulated chain inside this process.
 */
export async function measureGas(): Promise<GasFigures> {
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

/** Reports `gas.flow-submit`. */
export async function bench({ report }: BenchContext): Promise<void> {
  const figures = await measureGas()
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

async function mean(count: number, measure: () => Promise<number>): Promise<number> {
  let sum = 0
  for (let i = 0; i < count; i++) sum += await measure()
  return Math.round(sum / count)
}
