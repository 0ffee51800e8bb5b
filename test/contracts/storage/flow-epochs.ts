import { expect } from 'chai'
import { HISTORY_ADDRESS, installHistory, recordHistory, setHistory } from './block-history.ts'
import { deployStorage, EMPTY_HASH, type StorageFixture, SUBMIT, submissionOf } from './storage-fixture.ts'

describe('Flow: epochs and contexts', () => {
  // An epoch ends with the block before its successor can know the hash of: at block E it runs, at E + 1 it has ended.
  it('turns at the block after the epoch end, with what the flow held then', async () => {
    const fixture = await deployStorage({ blocksPerEpoch: 20 })
    const { flow, connection } = fixture
    await submit(fixture, 3)
    const root = await flow.computeFlowRoot()
    const end = Number(await flow.firstBlock()) + 20

    await connection.networkHelpers.mineUpTo(end - 1)
    await flow.makeContext()
    expect(await flow.epoch(), 'at the end block').to.equal(0)

    const receipt = await submit(fixture, 0)
    const hash = (await connection.ethers.provider.getBlock(end))?.hash ?? ''
    const digest = contextDigest(fixture, hash, root, 16n)
    expect(receipt.blockNumber).to.equal(end + 1)
    expect((await flow.getContext()).toObject()).to.deep.equal({
      epoch: 1n,
      mineStart: BigInt(end),
      flowRoot: root,
      flowLength: 16n,
      blockDigest: hash,
      digest,
    })
    expect(await flow.getEpochRange(digest)).to.deep.equal([0n, 16n])
    expect(await flow.getEpochRangeHistory(0)).to.deep.equal([0n, 16n, digest])
    expect(await flow.epochStartPosition()).to.equal(16n)
    const events = await flow.queryFilter('NewEpoch', receipt.blockNumber, receipt.blockNumber)
    const [event] = events
    if (event === undefined || !('args' in event)) throw new Error('no NewEpoch event')
    expect(event.args.toArray()).to.deep.equal([receipt.from, 1n, root, 1n, 16n, digest])
  })

  it('answers makeContextWithResult, and makeContextFixedTimes as makeContext', async () => {
    const { flow, connection } = await deployStorage({ blocksPerEpoch: 10 })
    await connection.networkHelpers.mine(25)
    const context = await flow.makeContextWithResult.staticCall()
    await flow.makeContextFixedTimes(0)
    expect(await flow.getContext()).to.deep.equal(context)
    expect(context.epoch).to.equal(2n)
  })

  // Clients send no more gas than their estimate. It must be enough in any later block, also behind an epoch's end.
  it('makes an estimate good for a submission that an epoch ends before', async () => {
    const fixture = await deployStorage({ blocksPerEpoch: 20 })
    const { flow, connection, pricePerSector } = fixture
    const [payer] = await connection.ethers.getSigners()
    if (payer === undefined) throw new Error('no accounts')
    const submission = submissionOf([{ root: `0x${'11'.repeat(32)}`, height: 0 }], payer.address)
    const gasLimit = await flow[SUBMIT].estimateGas(submission, { value: pricePerSector })
    await connection.networkHelpers.mine(100)
    const response = await flow[SUBMIT](submission, { value: pricePerSector, gasLimit })
    const receipt = await response.wait()
    expect(await flow.epoch(), 'an epoch ended').to.not.equal(0n)
    expect(receipt?.status).to.equal(1)
    await expect(flow[SUBMIT](submission, { value: pricePerSector, gasLimit: 200_000 })).to.be.revertedWithCustomError(
      flow,
      'GasBelowFloor',
    )
  })

  // However long nobody came: one step, one event, and a submission that costs about as much as ever.
  it('catches up with thousands of idle epochs at a bounded cost', async () => {
    const fixture = await deployStorage({ blocksPerEpoch: 10 })
    const { flow, connection } = fixture
    for (let i = 0; i < 8; i++) await submit(fixture, 0)
    const steady = (await submit(fixture, 0)).gasUsed
    await connection.networkHelpers.mine(60_000)
    const late = await submit(fixture, 0)
    expect(await flow.epoch()).to.equal(BigInt(late.blockNumber - 1 - Number(await flow.firstBlock())) / 10n)
    expect(Number(late.gasUsed), 'gas').to.be.below(Number(steady) + 140_000)
    expect(await flow.epochRangeCount()).to.equal(2n)
    expect((await flow.getContext()).digest).to.not.equal(EMPTY_HASH)
    const again = await submit(fixture, 0)
    expect(Number(again.gasUsed), 'gas right after').to.be.below(Number(steady) + 20_000)
  })

  // Every sector of ended epochs belongs to exactly one recorded range, and the lookup finds it.
  it('finds the context of every position', async () => {
    const fixture = await deployStorage({ blocksPerEpoch: 10 })
    const { flow, connection } = fixture
    for (const [height, blocks] of [
      [0, 3],
      [2, 12],
      [1, 1],
      [0, 35],
      [3, 11],
    ] as const) {
      await submit(fixture, height)
      await connection.networkHelpers.mine(blocks)
    }
    await connection.networkHelpers.mine(10)
    const [length] = await flow.tree()
    await flow.makeContext()
    const count = Number(await flow.epochRangeCount())
    const ranges = await Promise.all(Array.from({ length: count }, (_, i) => flow.getEpochRangeHistory(i)))
    expect(ranges[0]?.start).to.equal(0n)
    for (const [i, range] of ranges.entries()) if (i > 0) expect(range.start).to.equal(ranges[i - 1]?.end)
    expect(ranges.at(-1)?.end).to.equal(length)
    for (let position = 0n; position < length; position++) {
      const expected = ranges.find(({ start, end }) => start <= position && position < end)
      expect(await flow.queryContextAtPosition.staticCall(position), `position ${position}`).to.deep.equal(expected)
    }
    await expect(flow.queryContextAtPosition(length)).to.be.revertedWithCustomError(flow, 'PositionOutOfFlow')
    await submit(fixture, 0)
    await expect(flow.queryContextAtPosition(length)).to.be.revertedWithCustomError(flow, 'NoContextForPosition')
    await expect(flow.getEpochRangeHistory(await flow.epochRangeCount())).to.be.revertedWithCustomError(
      flow,
      'UnknownEpochRange',
    )
  })

  describe('when the hash of the epoch start is older than 256 blocks', () => {
    it('reads it from EIP-2935', async () => {
      const fixture = await longEpoch()
      const { flow, connection, start } = fixture
      await installHistory(connection)
      await recordHistory(connection, start, await connection.ethers.provider.getBlockNumber())
      await flow.makeContext()
      const hash = (await connection.ethers.provider.getBlock(start))?.hash
      expect((await flow.getContext()).blockDigest).to.equal(hash)
      expect(await flow.epochRangeCount()).to.equal(1n)
    })

    for (const [what, code] of [
      ['is absent', '0x'],
      ['reverts', '0x5f5ffd'],
      ['reverts with a word', '0x60015f5260205ffd'],
      ['answers any question with the same word', '0x60015f5260205ff3'],
      ['answers with nothing', '0x00'],
      ['answers with two words', '0x60015f5260405ff3'],
    ] as const) {
      // Whoever could know a digest beforehand could seal and mine ahead of everybody else.
      it(`makes a context that nobody can mine if the history contract ${what}`, async () => {
        const fixture = await longEpoch()
        const { flow, connection } = fixture
        await connection.networkHelpers.setCode(HISTORY_ADDRESS, code)
        await flow.makeContext()
        const context = await flow.getContext()
        expect(context.epoch).to.equal(1n)
        expect(context.digest).to.equal(EMPTY_HASH)
        expect(context.blockDigest).to.equal(EMPTY_HASH)
        expect(await flow.epochRangeCount()).to.equal(0n)
        await expect(flow.queryContextAtPosition(1)).to.be.revertedWithCustomError(flow, 'NoContextForPosition')

        // The data waits for the next epoch that can be mined.
        const next = Number(await flow.firstBlock()) + 1200
        await connection.networkHelpers.mineUpTo(next)
        await flow.makeContext()
        const [start, end] = await flow.queryContextAtPosition.staticCall(1)
        expect([start, end]).to.deep.equal([0n, 2n])
      })
    }

    it('does not let an equal digest overwrite a range', async () => {
      const fixture = await longEpoch()
      const { flow, connection, start } = fixture
      await installHistory(connection)
      await recordHistory(connection, start, await connection.ethers.provider.getBlockNumber())
      await flow.makeContext()
      const { digest } = await flow.getContext()

      // A chain whose history gives the same hash twice, while nothing was added.
      await connection.networkHelpers.mine(600)
      const hash = (await connection.ethers.provider.getBlock(start))?.hash ?? ''
      await setHistory(connection, start + 600, hash)
      await recordHistory(connection, await connection.ethers.provider.getBlockNumber())
      await flow.makeContext()
      const context = await flow.getContext()
      expect(context.epoch).to.equal(2n)
      expect(context.digest).to.equal(EMPTY_HASH)
      expect(await flow.getEpochRange(digest)).to.deep.equal([0n, 2n])
    })
  })
})

/** One sector in the flow, and the first epoch's end 300 blocks ago. */
async function longEpoch(): Promise<StorageFixture & { start: number }> {
  const fixture = await deployStorage({ blocksPerEpoch: 600 })
  await submit(fixture, 0)
  const start = Number(await fixture.flow.firstBlock()) + 600
  await fixture.connection.networkHelpers.mineUpTo(start + 300)
  return { ...fixture, start }
}

async function submit({ flow, connection, pricePerSector }: StorageFixture, height: number) {
  const [signer] = await connection.ethers.getSigners()
  const root = connection.ethers.id(`submission ${await flow.submissionIndex()}`)
  const response = await flow[SUBMIT](submissionOf([{ root, height }], signer?.address ?? ''), {
    value: pricePerSector << BigInt(height),
  })
  return await response.wait()
}

function contextDigest({ connection }: StorageFixture, blockDigest: string, root: string, length: bigint): string {
  return connection.ethers.solidityPackedKeccak256(['bytes32', 'bytes32', 'uint256'], [blockDigest, root, length])
}
