import { expect } from 'chai'
import { keccak256, solidityPacked } from 'ethers'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { confirm, type DaFixture, deployDa, EPOCH_BLOCKS, memberAt, noise, piece } from './entrance-fixture.ts'

const PERIOD = 30
const ROWS = 3_072
/** One piece to a row. */
const SIZE = 200_000

interface Ticket {
  row: number
  quality: bigint
}

describe('DASampling', () => {
  let fixture: DaFixture
  let blob: EncodedBlob
  let epoch: bigint

  beforeEach(async () => {
    fixture = await deployDa()
    blob = await fixture.codec.encode(noise(SIZE))
    ;({ epoch } = await confirm(fixture, blob, { signed: [0, 1, 2], retentionEpochs: 4 }))
    // Fees are paid out from the next epoch on.
    await fixture.connection.networkHelpers.mine(EPOCH_BLOCKS)
  })

  afterEach(async () => {
    blob.release()
    await fixture.codec.close()
  })

  /** The tickets of this round, the best first, as da.md A5 says. */
  async function tickets(): Promise<{ seed: string; target: bigint; list: Ticket[] }> {
    const [seed, target] = await fixture.entrance.sampleTask()
    const { dataRoot } = blob.commitment
    const list = Array.from({ length: ROWS }, (_, row) => {
      const types = ['bytes32', 'uint256', 'uint256', 'bytes32', 'uint64']
      const line = BigInt(keccak256(solidityPacked(types, [seed, epoch, 0, dataRoot, row])))
      const data = BigInt(
        keccak256(solidityPacked(['uint256', 'uint256', 'bytes'], [line, 0, piece(blob, row, 0).data])),
      )
      return { row, quality: line + data }
    })
    return { seed, target, list: list.sort((a, b) => (a.quality < b.quality ? -1 : 1)) }
  }

  function response(seed: string, { row, quality }: Ticket, change: object = {}) {
    const { data, proof } = piece(blob, row, 0)
    return {
      ...{ sampleSeed: seed, epoch, quorumId: 0, lineIndex: row, sublineIndex: 0 },
      ...{ quality, dataRoot: blob.commitment.dataRoot, proof, data },
      ...change,
    }
  }

  /** Goes on to the next round where few blocks are left of this one: a test's answers must fall into the same. */
  async function atRoundStart(): Promise<void> {
    const { ethers, networkHelpers } = fixture.connection
    const left = PERIOD - ((await ethers.provider.getBlockNumber()) % PERIOD)
    if (left < 10) await networkHelpers.mine(left)
  }

  /** Rounds are gone through until one has a winning ticket that fits. */
  async function winning(fits: (ticket: Ticket) => boolean): Promise<{ seed: string; ticket: Ticket }> {
    for (let round = 0; round < 300; round++) {
      await atRoundStart()
      const { seed, target, list } = await tickets()
      const ticket = list.find((candidate) => candidate.quality <= target && fits(candidate))
      if (ticket !== undefined) return { seed, ticket }
      await fixture.connection.networkHelpers.mine(PERIOD)
      if (round % 3 === 2) {
        blob.release()
        blob = await fixture.codec.encode(noise(SIZE, round + 2))
        ;({ epoch } = await confirm(fixture, blob, { signed: [0, 1, 2], retentionEpochs: 4 }))
      }
    }
    throw new Error('no ticket won in 300 rounds')
  }

  const signed = ({ row }: Ticket) => row < 2_304

  // A winning piece pays the signer of its row once, from the fees, and the contract's money stays accounted for.
  it('pays the signer of a winning row, once', async () => {
    const { entrance, members, connection } = fixture
    const { seed, ticket } = await winning(signed)
    const [active, pending] = await entrance.rewardPools()
    const reward = active / 10n
    await entrance.submitSamplingResponse(response(seed, ticket))
    const { wallet } = memberAt(members, Math.floor(ticket.row / 768))
    expect(await entrance.payments(wallet.address)).to.equal(reward)
    const held = await connection.ethers.provider.getBalance(await entrance.getAddress())
    const [activeAfter, pendingAfter] = await entrance.rewardPools()
    expect(activeAfter + pendingAfter + reward).to.equal(active + pending)
    expect(held).to.equal(active + pending)
    await expect(entrance.submitSamplingResponse(response(seed, ticket))).to.be.revertedWithCustomError(
      entrance,
      'SampleTaken',
    )
    await expect(entrance.withdrawPayments(wallet.address)).to.changeEtherBalances(
      connection.ethers,
      [wallet, entrance],
      [reward, -reward],
    )
  })

  // Nothing but the drawn piece, its true quality and the current seed earns anything.
  it('refuses everything that did not win', async () => {
    const { entrance, connection } = fixture
    const { seed, ticket } = await winning(signed)
    const refused = async (item: object, name: string) =>
      await expect(entrance.submitSamplingResponse(item)).to.be.revertedWithCustomError(entrance, name)
    const { list, target } = await tickets()
    const loser = list.find(({ quality }) => quality > target && quality < 2n ** 256n)
    if (loser === undefined) throw new Error('all tickets win')
    await refused(response(seed, loser), 'QualityTooHigh')
    await refused(response(seed, { ...ticket, quality: 1n }), 'QualityWrong')
    const { proof } = piece(blob, ticket.row, 0)
    await refused(response(seed, ticket, { proof: proof.slice(1) }), 'ProofWrong')
    await refused(response(seed, ticket, { sampleSeed: `0x${'11'.repeat(32)}` }), 'SeedNotCurrent')
    await connection.networkHelpers.mine(PERIOD)
    await refused(response(seed, ticket), 'SeedNotCurrent')
  })

  it('bounds what governance may set', async () => {
    const { entrance } = fixture
    await expect(entrance.setSampling(0, 1)).to.be.revertedWithCustomError(entrance, 'SamplingOutOfBounds')
    await expect(entrance.setSampling(1, 0)).to.be.revertedWithCustomError(entrance, 'SamplingOutOfBounds')
    await entrance.setSampling(3, 7)
    expect(await entrance.rewardRatio()).to.equal(7n)
    const [, , rest] = await entrance.sampleTask()
    expect(rest).to.equal(6n)
  })
})
