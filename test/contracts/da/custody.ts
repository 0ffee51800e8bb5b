import { expect } from 'chai'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { as } from '../storage/storage-fixture.ts'
import {
  ANSWER_BLOCKS,
  BOND,
  confirm,
  type DaFixture,
  deployDa,
  EPOCH_BLOCKS,
  ETHER,
  memberAt,
  noise,
  PENALTY,
  piece,
} from './entrance-fixture.ts'

/** Three pieces to a row: two of 1024 bytes and one of 512. */
const SIZE = 2_560 * 1_024
const ROW = 5

describe('DACustody', () => {
  let fixture: DaFixture
  let blob: EncodedBlob
  let epoch: bigint

  beforeEach(async () => {
    fixture = await deployDa()
    blob = await fixture.codec.encode(noise(SIZE))
    ;({ epoch } = await confirm(fixture, blob, { signed: [0, 1, 2] }))
  })

  afterEach(async () => {
    blob.release()
    await fixture.codec.close()
  })

  const request = (change: object = {}) => ({
    ...{ dataRoot: blob.commitment.dataRoot, epoch, quorumId: 0, row: ROW, fromSubline: 0, toSubline: 3 },
    ...change,
  })
  const ask = async (change: object = {}, value = 3n * BOND) => {
    const { custody, user } = fixture
    await as(custody, user).challengeCustody(request(change), { value })
    return await custody.challengeId(request(change))
  }
  const answers = (row = ROW) => [0, 1, 2].map((subline) => piece(blob, row, subline))
  const held = async () => fixture.connection.ethers.provider.getBalance(await fixture.custody.getAddress())

  // An honest signer answers and is paid the reader's bond: asking costs the reader, never the signer.
  it('pays the signer that answers', async () => {
    const { custody, members } = fixture
    const id = await ask({}, 3n * BOND + 7n)
    const { wallet } = memberAt(members, 0)
    expect(await custody.openChallenges(wallet.address)).to.equal(1n)
    const pieces = answers()
    await custody.answerCustody(
      id,
      pieces.map(({ data }) => data),
      pieces.map(({ proof }) => proof),
    )
    expect(await custody.payments(wallet.address)).to.equal(3n * BOND)
    expect(await custody.payments(fixture.user.address), 'overpayment').to.equal(7n)
    expect(await custody.openChallenges(wallet.address)).to.equal(0n)
    await custody.withdrawPayments(wallet.address)
    await custody.withdrawPayments(fixture.user.address)
    expect(await held()).to.equal(0n)
    await expect(custody.withdrawPayments(wallet.address)).to.be.revertedWithCustomError(custody, 'NothingDue')
  })

  // A signer that keeps silent loses the penalty: the reader is made whole and more, most of it is burnt, and the
  // contract holds nothing in the end.
  it('takes the stake of a signer that withholds a row', async () => {
    const { custody, signers, members, user, connection } = fixture
    const id = await ask()
    await expect(custody.expireCustody(id)).to.be.revertedWithCustomError(custody, 'AnswerStillPossible')
    await connection.networkHelpers.mine(ANSWER_BLOCKS + 1)
    const pieces = answers()
    await expect(
      custody.answerCustody(
        id,
        pieces.map(({ data }) => data),
        pieces.map(({ proof }) => proof),
      ),
    ).to.be.revertedWithCustomError(custody, 'AnswerLate')
    const { wallet } = memberAt(members, 0)
    const [before] = await signers.stakeOf(wallet.address)
    await custody.expireCustody(id)
    const [bonded, unbonding] = await signers.stakeOf(wallet.address)
    expect(before - bonded - unbonding).to.equal(PENALTY)
    const share = (PENALTY * 30n) / 100n
    expect(await custody.payments(user.address)).to.equal(3n * BOND + share)
    expect(await custody.payments(`0x${'00'.repeat(20)}`), 'burnt').to.equal(PENALTY - share)
    await expect(custody.expireCustody(id)).to.be.revertedWithCustomError(custody, 'ChallengeUnknown')
    await custody.withdrawPayments(user.address)
    await custody.withdrawPayments(`0x${'00'.repeat(20)}`)
    expect(await held()).to.equal(0n)
  })

  // Only the very bytes of the row answer: no other piece, no changed byte, no missing or foreign path.
  it('refuses wrong answers', async () => {
    const { custody } = fixture
    const id = await ask()
    const right = answers()
    const attempt = (pieces: { data: Uint8Array; proof: string[] }[]) =>
      custody.answerCustody(
        id,
        pieces.map(({ data }) => data),
        pieces.map(({ proof }) => proof),
      )
    const refused = async (pieces: { data: Uint8Array; proof: string[] }[], name: string) =>
      await expect(attempt(pieces)).to.be.revertedWithCustomError(custody, name)
    const [first, second, third] = right
    if (!first || !second || !third) throw new Error('three pieces')
    await refused([first, second], 'AnswerLength')
    await refused([second, first, third], 'AnswerWrong')
    await refused(answers(ROW + 1), 'AnswerWrong')
    const changed = Uint8Array.from(first.data)
    changed[100] = (changed[100] ?? 0) ^ 1
    await refused([{ ...first, data: changed }, second, third], 'AnswerWrong')
    await refused([{ ...first, data: first.data.subarray(1) }, second, third], 'AnswerWrong')
    await refused([{ ...first, proof: first.proof.slice(1) }, second, third], 'AnswerWrong')
    await refused([{ ...first, proof: [...first.proof, `0x${'00'.repeat(32)}`] }, second, third], 'AnswerWrong')
    await attempt(right)
  })

  it('asks only for what a signer must hold', async () => {
    const { custody, members, connection } = fixture
    const refused = async (change: object, name: string, value = 3n * BOND) =>
      await expect(ask(change, value)).to.be.revertedWithCustomError(custody, name)
    // Rows 2304 and on are the fourth signer's, who did not sign.
    await refused({ row: 3_000 }, 'RowNotSigned')
    await refused({ dataRoot: `0x${'12'.repeat(32)}` }, 'BlobNotConfirmed')
    await refused({ fromSubline: 2, toSubline: 2 }, 'SublinesOutOfBounds')
    await refused({ toSubline: 4 }, 'SublinesOutOfBounds')
    await refused({}, 'BondTooLow', 3n * BOND - 1n)
    await ask()
    await refused({}, 'ChallengeOpen')
    await ask({ fromSubline: 1 }, 2n * BOND)
    expect(await custody.openChallenges(memberAt(members, 0).wallet.address)).to.equal(2n)
    await connection.networkHelpers.mine(3 * EPOCH_BLOCKS)
    await refused({ row: 7 }, 'BlobExpired')
  })

  // A signer cannot escape by leaving: what it unbonds stays within reach until everything it signed has expired.
  it('reaches the stake of a signer that left', async () => {
    const { custody, signers, members, connection } = fixture
    const { wallet } = memberAt(members, 0)
    await as(signers, wallet).requestUnbond(ETHER)
    await connection.networkHelpers.mine(EPOCH_BLOCKS)
    const id = await ask()
    await connection.networkHelpers.mine(ANSWER_BLOCKS + 1)
    await custody.expireCustody(id)
    const [bonded, unbonding] = await signers.stakeOf(wallet.address)
    expect(bonded + unbonding).to.equal(ETHER - PENALTY)
  })

  it('keeps its terms within bounds, for governance alone, and takes no deposits', async () => {
    const { custody, user } = fixture
    await expect(as(custody, user).setTerms(20, 1, 1)).to.be.revertedWithCustomError(
      custody,
      'AccessManagedUnauthorized',
    )
    await expect(custody.setTerms(9, 1, 1)).to.be.revertedWithCustomError(custody, 'TermsOutOfBounds')
    await expect(custody.setTerms(20, 0, 1)).to.be.revertedWithCustomError(custody, 'TermsOutOfBounds')
    await expect(custody.setTerms(20, 1, 0)).to.be.revertedWithCustomError(custody, 'TermsOutOfBounds')
    await custody.setTerms(30, 5, 7)
    expect((await custody.terms()).toArray()).to.deep.equal([30n, 5n, 7n])
    const to = await custody.getAddress()
    await expect(user.sendTransaction({ to, value: 1n })).to.be.revertedWithCustomError(custody, 'DirectDeposit')
  })
})
