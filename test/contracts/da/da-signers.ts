import { expect } from 'chai'
import { aggregateG1, type G1, type G2, hashToG1, toEip197 } from '#protocol/da/bls.ts'
import { assignRows, indexesOf, type RowRange } from '#protocol/da/quorum.ts'
import type { Hash } from '#protocol/hex.ts'
import { as } from '../storage/storage-fixture.ts'
import {
  aggregate,
  credentials,
  type DaSignersFixture,
  deployDaSigners,
  join,
  joinMany,
  type Member,
  MIN_STAKE,
  member,
  nextEpoch,
} from './da-signers-fixture.ts'

const DIGEST: Hash = `0x${'5a'.repeat(32)}`

describe('DASigners: keys and signatures of the agents', () => {
  let fixture: DaSignersFixture
  let members: Member[]

  // 20 signers: two pages.
  before(async function () {
    this.timeout(60_000)
    fixture = await deployDaSigners()
    members = await joinMany(fixture, 20)
  })

  // What the agents sign is what the contract accepts, whoever of up to a third of the stake is absent.
  it('accepts the aggregate of all, and of two thirds', async () => {
    const { signers } = fixture
    for (const absent of [[], [0], [19], [3, 16, 17], [6, 13, 4, 11]]) {
      const { bitmap, aggPkG2, signature } = aggregate(members, DIGEST, absent)
      const signed = indexesOf(await signers.checkAggregate(1, 0, DIGEST, bitmap, aggPkG2, signature))
      expect(signed, `without ${absent}`).to.deep.equal(all(20).filter((i) => !absent.includes(i)))
    }
  })

  it('refuses an aggregate of less than two thirds of the stake', async () => {
    const { signers } = fixture
    // Stakes 7, 7, 6, 6 and 4 of 77.
    const absent = [6, 13, 5, 12, 3]
    const { bitmap, aggPkG2, signature } = aggregate(members, DIGEST, absent)
    await expect(signers.checkAggregate(1, 0, DIGEST, bitmap, aggPkG2, signature))
      .to.be.revertedWithCustomError(signers, 'StakeBelowQuorum')
      .withArgs(47n * MIN_STAKE, 77n * MIN_STAKE)
  })

  it('refuses what does not fit: digest, signature, keys, bitmap', async () => {
    const { signers } = fixture
    const { bitmap, aggPkG2, signature } = aggregate(members, DIGEST, [2])
    const other = aggregate(members, DIGEST, [3])
    const refused = (digest: Hash, bits: string, key: G2, point: G1) =>
      expect(signers.checkAggregate(1, 0, digest, bits, key, point)).to.be.revertedWithCustomError(
        signers,
        'SignatureInvalid',
      )
    await refused(`0x${'5b'.repeat(32)}`, bitmap, aggPkG2, signature)
    await refused(DIGEST, other.bitmap, aggPkG2, signature)
    await refused(DIGEST, bitmap, other.aggPkG2, signature)
    await refused(DIGEST, bitmap, aggPkG2, other.signature)
    await refused(DIGEST, bitmap, aggPkG2, aggregateG1([signature, signature]))
    await refused(DIGEST, bitmap, { X: [0n, 0n], Y: [0n, 0n] }, { X: 0n, Y: 0n })
  })

  it('names what is wrong with points, bitmaps, epochs and quorums', async () => {
    const { signers } = fixture
    const { bitmap, aggPkG2, signature } = aggregate(members, DIGEST)
    const check = (epoch: number, quorum: number, bits: string, key: G2, point: G1) =>
      expect(signers.checkAggregate(epoch, quorum, DIGEST, bits, key, point)).to.be
    const revert = (subject: ReturnType<typeof check>, name: string) => subject.revertedWithCustomError(signers, name)
    await revert(check(1, 0, bitmap, aggPkG2, { X: 1n, Y: 1n }), 'PointInvalid')
    await revert(check(1, 0, bitmap, toEip197(aggPkG2), signature), 'PointInvalid')
    await revert(check(1, 0, bitmap.slice(0, -2), aggPkG2, signature), 'BitmapLengthMismatch').withArgs(2, 3)
    await revert(check(1, 0, `${bitmap}00`, aggPkG2, signature), 'BitmapLengthMismatch').withArgs(4, 3)
    await revert(check(1, 0, '0xffff1f', aggPkG2, signature), 'BitmapOutOfRange').withArgs(20)
    await revert(check(1, 1, bitmap, aggPkG2, signature), 'UnknownQuorum').withArgs(1, 1)
    await revert(check(2, 0, bitmap, aggPkG2, signature), 'UnknownEpoch').withArgs(2, 1)
    await revert(check(0, 0, '0x', aggPkG2, signature), 'StakeBelowQuorum').withArgs(0, 0)
  })

  it('sums the keys of a bitmap', async () => {
    const { signers } = fixture
    const answer = await signers.getAggPkG1(1, 0, '0x050000')
    const sum = aggregateG1([0, 2].flatMap((i) => members[i]?.key.pk1 ?? []))
    expect([answer.aggPkG1.X, answer.aggPkG1.Y]).to.deep.equal([sum.X, sum.Y])
    expect([answer.hit, answer.total]).to.deep.equal([4n * MIN_STAKE, 77n * MIN_STAKE])
  })

  it('gives keys and sockets back as they came', async () => {
    const { signers, chainId } = fixture
    const wanted = [members[17], members[4]].flatMap((who) => who ?? [])
    const details = await signers.getSigner(wanted.map(({ address }) => address))
    for (const [i, who] of wanted.entries()) {
      const { detail } = credentials(who, chainId)
      const got = details[i]
      expect(got.signer.toLowerCase()).to.equal(detail.signer)
      expect(got.socket).to.equal(detail.socket)
      expect([got.pkG1.X, got.pkG1.Y]).to.deep.equal([detail.pkG1.X, detail.pkG1.Y])
      expect([...got.pkG2.X, ...got.pkG2.Y]).to.deep.equal([...detail.pkG2.X, ...detail.pkG2.Y])
    }
  })

  // Rows follow from stakes alone, so both sides must agree on every one of them.
  it('assigns the rows that the agents compute', async () => {
    const { signers } = fixture
    const views = await signers.signersAt(1, 0, 300)
    expect(views.length).to.equal(20)
    const wanted = assignRows(views.map(({ stakeWei }: { stakeWei: bigint }) => stakeWei))
    expect(views.map(rangeOf)).to.deep.equal(wanted)
    const page = await signers.signersAt(1, 15, 3)
    expect(page.map(rangeOf), 'a part of it').to.deep.equal(wanted.slice(15, 18))
    expect((await signers.signersAt(1, 21, 3)).length, 'behind the end').to.equal(0)
    const owners: string[] = await signers.getQuorum(1, 0)
    expect(owners.length).to.equal(3072)
    for (const [index, { firstRow, rowCount }] of wanted.entries()) {
      const address = views[index].signer
      expect(views[index].index).to.equal(BigInt(index))
      expect(owners.slice(firstRow, firstRow + rowCount).every((owner) => owner === address)).to.equal(true)
      expect(await signers.getQuorumRow(1, 0, firstRow)).to.equal(address)
      expect(await signers.signerOfRow(1, firstRow + rowCount - 1)).to.deep.equal([address, BigInt(index)])
    }
    await expect(signers.getQuorumRow(1, 0, 3072)).to.be.revertedWithCustomError(signers, 'UnknownRow')
    await expect(signers.getQuorumRow(0, 0, 0)).to.be.revertedWithCustomError(signers, 'UnknownRow')
  })

  // Blobs of the epoch before can still be confirmed after signers joined and left, with the keys of that epoch.
  it('checks past epochs against their own table', async () => {
    const { signers } = fixture
    const leaver = members[3]
    const newcomer = await member(fixture.connection, 99)
    if (leaver === undefined) throw new Error('no member 3')
    await as(signers, leaver.account).requestUnbond(4n * MIN_STAKE)
    await join(fixture, newcomer)
    await nextEpoch(fixture)
    const before = aggregate(members, DIGEST, [0])
    await signers.checkAggregate(1, 0, DIGEST, before.bitmap, before.aggPkG2, before.signature)
    // The last one took the place of the one who left, and the newcomer is last.
    const last = members[19]
    if (last === undefined) throw new Error('no member 19')
    const order = [...members.slice(0, 3), last, ...members.slice(4, 19), newcomer]
    const after = aggregate(order, DIGEST, [5])
    await signers.checkAggregate(2, 0, DIGEST, after.bitmap, after.aggPkG2, after.signature)
    await expect(
      signers.checkAggregate(2, 0, DIGEST, before.bitmap, before.aggPkG2, before.signature),
    ).to.be.revertedWithCustomError(signers, 'SignatureInvalid')
    expect(await signers.registeredEpoch(leaver.address, 1)).to.equal(true)
    expect(await signers.registeredEpoch(leaver.address, 2)).to.equal(false)
    expect(await signers.registeredEpoch(newcomer.address, 2)).to.equal(true)
    // A third table makes the first one older than the two that are kept at hand.
    await as(signers, newcomer.account).addStake({ value: 1n })
    await nextEpoch(fixture)
    await signers.checkAggregate(1, 0, DIGEST, before.bitmap, before.aggPkG2, before.signature)
  })
})

describe('DASigners: proof of possession', () => {
  // Nobody joins with keys whose secret it does not have: neither another's keys nor a sum with them.
  it('refuses keys of others and rogue keys', async () => {
    const fixture = await deployDaSigners()
    const { signers, chainId, connection } = fixture
    const [alice, mallory] = [await member(connection, 1), await member(connection, 2)]
    const stolen = credentials(alice, chainId)
    const refused = (signature: G1, pkG1 = stolen.detail.pkG1, pkG2 = stolen.detail.pkG2) =>
      expect(
        as(signers, mallory.account).registerSigner(
          { ...stolen.detail, signer: mallory.address, pkG1, pkG2 },
          signature,
          {
            value: MIN_STAKE,
          },
        ),
      ).to.be.revertedWithCustomError(signers, 'SignatureInvalid')
    await refused(stolen.signature)
    const own = credentials(mallory, chainId)
    await refused(own.signature)
    await refused(own.signature, own.detail.pkG1)
    await refused(own.signature, stolen.detail.pkG1, own.detail.pkG2)
    await refused(own.signature, aggregateG1([own.detail.pkG1, stolen.detail.pkG1]), own.detail.pkG2)
    await join(fixture, mallory)
    const [event] = await signers.queryFilter('NewSigner')
    if (event === undefined || !('args' in event)) throw new Error('no NewSigner event')
    expect(event.args[0].toLowerCase()).to.equal(mallory.address)
    expect(event.args[1].toArray()).to.deep.equal([mallory.key.pk1.X, mallory.key.pk1.Y])
  })
})

describe('DASigners: rows of any stakes', () => {
  // The stakes come from a printed seed and reach from 1 to 2^90 wei more than the least one: SEED=n repeats a run.
  it('are those that the agents compute', async function () {
    this.timeout(60_000)
    const seed = process.env.SEED ?? Math.floor(Math.random() * 2 ** 31)
    console.log(`SEED=${seed}`)
    const fixture = await deployDaSigners()
    const { signers, connection } = fixture
    const dice = (name: string) => BigInt(connection.ethers.id(`${seed} ${name}`))
    const members = await joinMany(fixture, 18)
    for (let round = 0; round < 4; round++) {
      for (const { account, address } of members) {
        const bits = dice(`bits ${round} ${address}`) % 90n
        const value = dice(`value ${round} ${address}`) % 2n ** (bits + 1n)
        // Stakes must differ by much and by little: not everybody adds in every round.
        if (bits % 2n === 0n) await as(signers, account).addStake({ value })
      }
      const epoch = BigInt(await signers.epochNumber()) + 1n
      const views = await signers.signersAt(epoch, 0, 256)
      const ranges = assignRows(views.map(({ stakeWei }: { stakeWei: bigint }) => stakeWei))
      expect(views.map(rangeOf)).to.deep.equal(ranges)
      for (let i = 0; i < 16; i++) {
        const row = Number(dice(`row ${round} ${i}`) % 3072n)
        const wanted = ranges.findIndex(({ firstRow, rowCount }) => row >= firstRow && row < firstRow + rowCount)
        expect((await signers.signerOfRow(epoch, row)).index, `row ${row}`).to.equal(BigInt(wanted))
      }
      await nextEpoch(fixture)
    }
  })
})

describe('DASigners: digests', () => {
  // The contract and the agents map a digest to the same point, or no signature would ever fit. A key of 1 signs with the
  // point itself, so the proof of possession shows what the contract mapped to.
  it('maps to the same points as the agents', async () => {
    const { ethers } = (await deployDaSigners()).connection
    const probe = await ethers.deployContract('HashToG1')
    const p = 21888242871839275222246405745257275088696311157297823662689037894645226208583n
    const digests = [0n, 1n, 3n, p - 1n, p, p + 1n, 2n ** 256n - 1n, ...all(25).map((i) => BigInt(ethers.id(`${i}`)))]
    for (const number of digests) {
      const digest: Hash = `0x${number.toString(16).padStart(64, '0')}`
      const { X, Y } = hashToG1(digest)
      expect((await probe.getFunction('point')(digest)).toArray(), digest).to.deep.equal([X, Y])
    }
  })
})

function all(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}

function rangeOf({ firstRow, rowCount }: { firstRow: bigint; rowCount: bigint }): RowRange {
  return { firstRow: Number(firstRow), rowCount: Number(rowCount) }
}
