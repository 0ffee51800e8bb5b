import { expect } from 'chai'
import { HISTORY_ADDRESS } from './block-history.ts'
import {
  answerFor,
  type MiningWorld,
  nextEpoch,
  payingWorld,
  register,
  smallWorld,
  WORKER,
  wholeRange,
  workFor,
} from './mining-world.ts'
import { type Answer, loadPosition, padSeed, type Range, SEAL_SECTORS, scratchpad, seal, words } from './plain-miner.ts'
import { as, deployStorage, EMPTY_HASH } from './storage-fixture.ts'

describe('PoraMine: answers', function () {
  this.timeout(60_000)

  it('accepts an answer over real data, whoever sends it', async () => {
    const world = await smallWorld()
    const { mine, connection } = world
    const answer = await answerFor(world, { accept: (position) => position >= 1024n })
    const [, , , stranger] = await connection.ethers.getSigners()
    if (stranger === undefined) throw new Error('no account')
    await expect(as(mine, stranger).submit(answer))
      .to.emit(mine, 'NewSubmission')
      .withArgs(1, world.minerId, 0, answer.recallPosition)
    expect(await mine.lastMinedEpoch()).to.equal(1)
    expect(await mine.currentSubmissions()).to.equal(1)
  })

  it('accepts padding, which is stored as zeros', async () => {
    const world = await smallWorld()
    const answer = await answerFor(world, { accept: (position) => position > 0n && position < 1024n })
    await world.mine.submit(answer)
    expect(await world.mine.currentSubmissions()).to.equal(1)
  })

  it('credits half of what is released to the beneficiary, who draws it', async () => {
    const world = await payingWorld()
    const { mine, reward, connection } = world
    await connection.networkHelpers.time.increase(86_400 * 100)
    const answer = await answerFor(world)
    await expect(mine.submit(answer)).to.emit(reward, 'DistributeReward')
    const due = await reward.payments(world.beneficiary)
    const [, claimable, distributed] = await reward.rewards(1)
    expect(distributed, 'paid').to.equal(due)
    expect(due - claimable, 'half').to.be.within(-1n, 1n)
    expect(due).to.be.greaterThan(0n)
    await expect(reward.withdrawPayments(world.beneficiary)).to.changeEtherBalance(
      connection.ethers,
      world.beneficiary,
      due,
    )
  })

  it('pays one answer once', async () => {
    const world = await payingWorld()
    const answer = await answerFor(world)
    await world.mine.submit(answer)
    await expect(world.mine.submit(answer)).to.be.revertedWithCustomError(world.mine, 'AnswerUsed')
  })

  // Whatever is changed in an accepted answer, it is not accepted again, and not for anybody else.
  describe('refuses an answer changed in', () => {
    let world: MiningWorld
    let answer: Answer
    let other: string
    let elsewhere: string
    before(async () => {
      world = await smallWorld()
      other = await register(world, world.beneficiary, 1)
      // From the last load chunk, which no range in two parts with shard id 0 can draw.
      answer = await answerFor(world, { accept: (position) => position >= 3072n })
      elsewhere = await nonceDrawing(world, (load) => load !== 3072n)
    })
    after(async () => {
      await world.mine.submit(answer)
      expect(await world.mine.currentSubmissions(), 'unchanged, it is accepted').to.equal(1)
    })

    const changes: Record<string, { change: (answer: Answer) => Partial<Answer>; error: string }> = {
      'its id': { change: () => ({ minerId: other }), error: 'FlowRootMismatch' },
      'its nonce': { change: () => ({ nonce: elsewhere }), error: 'RecallMismatch' },
      'its context': { change: () => ({ contextDigest: `0x${'11'.repeat(32)}` }), error: 'ContextMismatch' },
      'its seal context': {
        change: () => ({ sealedContextDigest: `0x${'22'.repeat(32)}` }),
        error: 'SealContextMismatch',
      },
      'its data': {
        change: ({ sealedData }) => ({ sealedData: [flip(sealedData[0] ?? ''), ...sealedData.slice(1)] }),
        error: 'FlowRootMismatch',
      },
      'its last word': {
        change: ({ sealedData }) => ({ sealedData: [...sealedData.slice(0, -1), flip(sealedData.at(-1) ?? '')] }),
        error: 'FlowRootMismatch',
      },
      'its place': {
        change: ({ recallPosition }) => ({ recallPosition: recallPosition ^ BigInt(SEAL_SECTORS) }),
        error: 'FlowRootMismatch',
      },
      'its seal number': {
        change: ({ sealOffset }) => ({ sealOffset: sealOffset ^ 1n }),
        error: 'RecallMismatch',
      },
      'its proof': {
        change: ({ merkleProof }) => ({ merkleProof: [flip(merkleProof[0] ?? ''), ...merkleProof.slice(1)] }),
        error: 'FlowRootMismatch',
      },
      'the length of its proof, longer': {
        change: ({ merkleProof }) => ({ merkleProof: [...merkleProof, `0x${'00'.repeat(32)}`] }),
        error: 'ProofLengthMismatch',
      },
      'the length of its proof, shorter': {
        change: ({ merkleProof }) => ({ merkleProof: merkleProof.slice(1) }),
        error: 'ProofLengthMismatch',
      },
      'its range, shorter': {
        change: ({ range }) => ({ range: { ...range, mineLength: range.mineLength - 1024n } }),
        error: 'RangeMismatch',
      },
      'its range, longer': {
        change: ({ range }) => ({ range: { ...range, mineLength: range.mineLength + 1024n } }),
        error: 'RangeMismatch',
      },
      'its range, empty': {
        change: ({ range }) => ({ range: { ...range, mineLength: 0n } }),
        error: 'RangeMismatch',
      },
      'its start': {
        change: ({ range }) => ({ range: { ...range, startPosition: 1024n } }),
        error: 'RangeNotAligned',
      },
      'its start, aligned': {
        change: ({ range }) => ({ range: { ...range, startPosition: 1n << 25n } }),
        error: 'RangeMismatch',
      },
      'its shard id': { change: ({ range }) => ({ range: { ...range, shardId: 1n } }), error: 'ShardIdMasked' },
      'its shard mask': { change: ({ range }) => ({ range: { ...range, shardMask: 0n } }), error: 'TooManyShards' },
      'its shard mask, within the limit': {
        change: ({ range }) => ({ range: { ...range, shardMask: range.shardMask ^ 1n } }),
        error: 'RecallMismatch',
      },
    }
    for (const [what, { change, error }] of Object.entries(changes)) {
      it(what, async () => {
        await expect(world.mine.submit({ ...answer, ...change(answer) })).to.be.revertedWithCustomError(
          world.mine,
          error,
        )
      })
    }
  })

  // Else a single stored seal would do: any earlier load chunk could be counted up to it.
  it('refuses a seal counted from another load chunk', async () => {
    const world = await smallWorld()
    const { mine } = world
    const work = await workFor(world, world.minerId)
    const sealContext = (await world.flow.queryContextAtPosition.staticCall(1)).digest
    const target = 2048n + 10n * 16n
    // A nonce that draws load chunk 1 (sector 1024), and the seal 74 places on: sector 2208, in load chunk 2.
    const answer = await answerFor(world, {
      accept: (position, offset) => position === 1024n + BigInt(offset) * 16n && offset === 10,
    })
    const data = world.data.seal(target)
    if (data === undefined) throw new Error('no data')
    const sealed = seal({ data, minerId: world.minerId, contextDigest: sealContext, position: target })
    const exploit = {
      ...answer,
      recallPosition: target,
      sealOffset: 74n,
      sealedData: words(sealed),
      merkleProof: world.data.proof(target),
    }
    // Everything but the offset is right: the data is proven, the position is what nonce and offset give.
    expect(await mine.flowRootOf(exploit)).to.equal((await world.flow.getContext()).flowRoot)
    expect(BigInt(await mine.pora(exploit, work.subtaskDigest))).to.be.greaterThan(0n)
    await expect(mine.submit(exploit)).to.be.revertedWithCustomError(mine, 'SealOffsetTooHigh').withArgs(74)
  })

  it('refuses a load chunk behind the range', async () => {
    const world = await smallWorld()
    const { subtaskDigest } = await workFor(world, world.minerId)
    // Three load chunks in two parts: the second part can draw chunk 3, of which there are only 0, 1, 2.
    const range = { startPosition: 0n, mineLength: 3072n, shardId: 1n, shardMask: (1n << 64n) - 2n }
    const nonce = await nonceDrawing(world, (load) => load === undefined, range)
    const answer = { ...(await answerFor(world)), range, nonce, recallPosition: 3072n, sealOffset: 0n }
    await expect(world.mine.pora(answer, subtaskDigest))
      .to.be.revertedWithCustomError(world.mine, 'RecallOutOfRange')
      .withArgs(3, 3)
  })

  it('accepts a part of the range, with a target for its share', async () => {
    const world = await smallWorld({ mining: { difficulty: 8n } })
    const range = { startPosition: 0n, mineLength: 4096n, shardId: 1n, shardMask: (1n << 64n) - 2n }
    const answer = await answerFor(world, { range })
    expect((answer.recallPosition / 1024n) % 2n).to.equal(1n)
    await world.mine.submit(answer)
    expect(await world.mine.currentSubmissions()).to.equal(1)
  })

  it('refuses a hash above the target', async () => {
    const world = await smallWorld({ mining: { difficulty: 1_000_000n } })
    // Mined as if anything won: one in a million of such answers is below the target.
    const answer = await answerFor(world, { target: 1n << 256n })
    await expect(world.mine.submit(answer)).to.be.revertedWithCustomError(world.mine, 'QualityTooLow')
  })

  it('needs a flow of a load chunk or more, and of a sector for every part', async () => {
    const { mine, flow, connection } = await deployStorage({ blocksPerEpoch: 20, mining: { maxShards: 1 << 20 } })
    const context = {
      epoch: 1,
      mineStart: 0,
      flowRoot: EMPTY_HASH,
      blockDigest: EMPTY_HASH,
      digest: `0x${'33'.repeat(32)}`,
    }
    const world = await smallWorld()
    const answer = { ...(await answerFor(world)), contextDigest: context.digest }
    const many = { ...answer, range: { ...answer.range, shardMask: (1n << 64n) - (1n << 13n) } }
    await expect(mine.basicCheck(answer, { ...context, flowLength: 1023 })).to.be.revertedWithCustomError(
      mine,
      'FlowTooShort',
    )
    await expect(mine.basicCheck(many, { ...context, flowLength: 4096 })).to.be.revertedWithCustomError(
      mine,
      'FlowTooShort',
    )
    expect(await flow.epoch()).to.equal(0)
    await connection.close()
  })

  it('takes no more than twice the answers aimed at, and says so', async () => {
    const world = await smallWorld({ mining: { targetSubmissions: 1 } })
    const { mine } = world
    for (let i = 0n; i < 2n; i++) {
      expect(await mine.canSubmit.staticCall()).to.equal(true)
      await mine.submit(await answerFor(world, { firstNonce: 1n + i * 1000n }))
    }
    const third = await answerFor(world, { firstNonce: 5000n, target: 1n << 256n })
    await expect(mine.submit(third)).to.be.revertedWithCustomError(mine, 'EpochFull')
    expect(await mine.canSubmit.staticCall()).to.equal(false)
    expect((await workFor(world, world.minerId)).poraTarget).to.equal(0n)
    await nextEpoch(world)
    expect(await mine.canSubmit.staticCall()).to.equal(true)
    await mine.submit(await answerFor(world))
    expect(await mine.currentSubmissions()).to.equal(1)
  })

  it('goes on while new submissions are halted', async () => {
    const world = await smallWorld()
    await world.flow.pause()
    await world.mine.submit(await answerFor(world))
    expect(await world.mine.currentSubmissions()).to.equal(1)
  })
})

/** The target after an epoch with twice the answers wanted, by the rule of the specification with a ratio of 20. */
function stepped(target: bigint): bigint {
  const current = target >> 16n
  return ((current * 19n + current / 2n) / 20n) << 16n
}

describe('PoraMine: epochs and windows', function () {
  this.timeout(60_000)

  // A target that nobody reaches must become easier with nobody's help.
  it('eases the difficulty for every epoch without an answer, before the first and after', async () => {
    const difficulty = 1n << 40n
    const world = await smallWorld({ mining: { difficulty } })
    const initial = ((1n << 256n) - 1n) / difficulty
    expect((await workFor(world, world.minerId)).poraTarget, 'first epoch').to.equal(initial)
    await nextEpoch(world)
    expect((await workFor(world, world.minerId)).poraTarget, 'second epoch').to.equal(initial * 2n)
    for (let i = 0; i < 38; i++) await nextEpoch(world)
    const { poraTarget } = await workFor(world, world.minerId)
    expect(poraTarget, 'fortieth epoch').to.equal(initial << 39n)
    await world.mine.submit(await answerFor(world))
    expect(await world.mine.poraTarget(), 'kept by the answer').to.equal(poraTarget)

    // One answer in an epoch that aimed at ten, then two epochs of none.
    for (let i = 0; i < 3; i++) await nextEpoch(world)
    const adjusted = (poraTarget >> 16n) * 19n + (poraTarget >> 16n) * 10n
    expect((await workFor(world, world.minerId)).poraTarget).to.equal(min((adjusted / 20n) << 18n, (1n << 256n) - 1n))
  })

  // Silence for an epoch, by choice or by accident, must not pay: the easier target lasts one epoch, not eleven.
  it('takes the easing of a silent epoch back as soon as there are more answers than wanted', async () => {
    const world = await smallWorld({ mining: { difficulty: 64n, targetSubmissions: 1 } })
    const target = async () => (await workFor(world, world.minerId)).poraTarget
    const answer = async (nonce: bigint) => world.mine.submit(await answerFor(world, { firstNonce: nonce }))
    await answer(1n)
    await nextEpoch(world)
    const calm = await target()
    await nextEpoch(world)
    expect(await target(), 'doubled for the silent epoch').to.equal(calm * 2n)
    await answer(1n)
    await answer(1_000n)
    await nextEpoch(world)
    expect(await target(), 'back at once').to.equal(calm)
    await answer(1n)
    await answer(1_000n)
    await nextEpoch(world)
    expect(await target(), 'and as specified from there on').to.equal(stepped(calm))
  })

  it('keeps an easing that the next answers prove right', async () => {
    const world = await smallWorld({ mining: { difficulty: 64n, targetSubmissions: 2 } })
    const target = async () => (await workFor(world, world.minerId)).poraTarget
    const answer = async (nonce: bigint) => world.mine.submit(await answerFor(world, { firstNonce: nonce }))
    await nextEpoch(world)
    const eased = await target()
    await answer(1n)
    await answer(1_000n)
    await nextEpoch(world)
    expect(await target(), 'as many answers as wanted').to.equal((eased >> 16n) << 16n)
    for (let i = 1n; i <= 4n; i++) await answer(i * 1_000n)
    await nextEpoch(world)
    expect(await target(), 'more, later: as specified').to.be.greaterThan((eased * 9n) / 10n)
  })

  it('does not ease below the floor', async () => {
    const world = await smallWorld({ mining: { difficulty: 1n << 20n, minDifficulty: 1n << 19n } })
    for (let i = 0; i < 5; i++) await nextEpoch(world)
    expect((await workFor(world, world.minerId)).poraTarget).to.equal(((1n << 256n) - 1n) >> 19n)
  })

  it('opens each id a window of its own and closes it', async () => {
    const mining = { nSubtasks: 3, subtaskInterval: 50, targetMineBlocks: 40 }
    const world = await smallWorld({ mining })
    const { mine, flow, connection, minerId } = world
    const { digest, mineStart } = await flow.getContext()
    const index = BigInt(connection.ethers.solidityPackedKeccak256(['bytes32', 'bytes32'], [digest, minerId])) % 3n
    const start = mineStart + index * 50n
    const head = BigInt(await connection.ethers.provider.getBlockNumber())
    if (head <= start) await connection.networkHelpers.mineUpTo(start + 1n)
    const answer = await answerFor(world)
    expect((await workFor(world, minerId)).subtaskDigest).to.not.equal(`0x${'00'.repeat(32)}`)
    await connection.networkHelpers.mineUpTo(start + 40n)
    await expect(mine.submit(answer))
      .to.be.revertedWithCustomError(mine, 'WindowClosed')
      .withArgs(start + 40n, start + 41n)
    await connection.networkHelpers.mine(1)
    expect((await workFor(world, minerId)).poraTarget, 'closed').to.equal(0n)
    expect((await workFor(world, minerId)).subtaskDigest, 'closed').to.equal(`0x${'00'.repeat(32)}`)

    // Of many ids some wait for a later window.
    for (let seed = 1; seed < 20; seed++) {
      const waiting = await register(world, world.beneficiary, seed)
      await nextEpoch(world)
      const work = await workFor(world, waiting)
      if (work.poraTarget !== 0n) continue
      const context = await flow.getContext()
      await expect(
        mine.submit({ ...answer, minerId: waiting, contextDigest: context.digest }),
      ).to.be.revertedWithCustomError(mine, 'WindowNotOpen')
      return
    }
    throw new Error('no id waits')
  })

  it('refuses an answer for the context before', async () => {
    const world = await smallWorld()
    const answer = await answerFor(world)
    await nextEpoch(world)
    await expect(world.mine.submit(answer)).to.be.revertedWithCustomError(world.mine, 'ContextMismatch')
  })

  // A digest that could be known in advance could be mined in advance.
  it('does not mine with a block hash that cannot be read', async () => {
    const world = await smallWorld({ blocksPerEpoch: 1000, mining: { targetMineBlocks: 900 } })
    const { mine, connection } = world
    const answer = await answerFor(world)
    await connection.networkHelpers.mine(300)
    for (const code of ['0x', '0x5f5ffd', '0x60015f5260205ff3']) {
      await connection.networkHelpers.setCode(HISTORY_ADDRESS, code)
      await expect(mine.submit(answer)).to.be.revertedWithCustomError(mine, 'BlockHashUnavailable')
      expect((await workFor(world, world.minerId)).poraTarget).to.equal(0n)
    }
  })

  it('does not mine a context without a digest', async () => {
    const { mine } = await deployStorage({ blocksPerEpoch: 20 })
    const world = await smallWorld()
    const context = {
      epoch: 1,
      mineStart: 0,
      flowRoot: EMPTY_HASH,
      flowLength: 4096,
      blockDigest: EMPTY_HASH,
      digest: EMPTY_HASH,
    }
    const answer = { ...(await answerFor(world)), contextDigest: EMPTY_HASH }
    await expect(mine.basicCheck(answer, context)).to.be.revertedWithCustomError(mine, 'ContextNotMinable')
  })

  it('answers the worker context to eth_call alone', async () => {
    const world = await smallWorld()
    const { mine, connection, minerId } = world
    const { provider } = connection.ethers
    for (const from of [WORKER, `0x${'00'.repeat(20)}`]) {
      const worker = await as(mine, provider).computeWorkerContext.staticCall(minerId, { from })
      expect(worker.context.toArray()).to.deep.equal((await world.flow.getContext()).toArray())
      expect(worker.maxShards).to.equal(32n)
    }
    await expect(mine.computeWorkerContext(minerId)).to.be.revertedWithCustomError(mine, 'CallerIsNotWorker')
    await expect(
      as(mine, provider).computeWorkerContext.staticCall(`0x${'00'.repeat(32)}`, { from: WORKER }),
    ).to.be.revertedWithCustomError(mine, 'MinerIdMissing')
    await expect(
      as(mine, provider).computeWorkerContext.staticCall(`0x${'01'.repeat(32)}`, { from: WORKER }),
    ).to.be.revertedWithCustomError(mine, 'MinerIdUnknown')
  })

  it('seals data with the context of the epoch that added it', async () => {
    const world = await smallWorld()
    const first = (await world.flow.getContext()).digest
    await nextEpoch(world)
    const second = (await world.flow.getContext()).digest
    // Still sealed with the first epoch's digest; an answer sealed with the second's is refused.
    const wrong = await answerFor(world, { sealContext: () => second })
    await expect(world.mine.submit(wrong)).to.be.revertedWithCustomError(world.mine, 'SealContextMismatch')
    await world.mine.submit(await answerFor(world, { sealContext: () => first }))
    expect(await world.mine.currentSubmissions()).to.equal(1)
    expect(wholeRange(4096n).mineLength).to.equal(4096n)
  })
})

/** The first nonce that draws a load chunk of this kind, in the context that runs. */
async function nonceDrawing(world: MiningWorld, wanted: (load: bigint | undefined) => boolean, range?: Range) {
  const { subtaskDigest, flowLength } = await workFor(world, world.minerId)
  const puzzle = { minerId: world.minerId, subtaskDigest, range: range ?? wholeRange(flowLength) }
  for (let n = 1n; n < 1000n; n++) {
    const nonce = `0x${n.toString(16).padStart(64, '0')}`
    if (wanted(loadPosition(puzzle.range, scratchpad(padSeed({ ...puzzle, nonce })).recallSeed))) return nonce
  }
  throw new Error('no such nonce in 1000')
}

/** The same with one bit changed. */
function flip(word: string): string {
  return `0x${(BigInt(word) ^ 1n).toString(16).padStart(64, '0')}`
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
