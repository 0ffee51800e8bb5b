import { expect } from 'chai'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { as } from '../storage/storage-fixture.ts'
import {
  confirm,
  confirmation,
  type DaFixture,
  deployDa,
  EPOCH_BLOCKS,
  ETHER,
  noise,
  submissionOf,
  submit,
} from './entrance-fixture.ts'

describe('DAEntrance', () => {
  let fixture: DaFixture
  let blob: EncodedBlob

  beforeEach(async () => {
    fixture = await deployDa()
    blob = await fixture.codec.encode(noise(200_000))
  })

  afterEach(async () => {
    blob.release()
    await fixture.codec.close()
  })

  const balance = async (contract: { getAddress(): Promise<string> }) =>
    fixture.connection.ethers.provider.getBalance(await contract.getAddress())

  // Solidity and the codec name a blob alike, at sizes on both sides of a row unit.
  it('gives the data root that the codec gives', async () => {
    for (const sizeBytes of [1, 65_536, 65_537, 200_000]) {
      const other = await fixture.codec.encode(noise(sizeBytes, sizeBytes))
      const { dataRoot, rowRoot, rlcRoot } = other.commitment
      expect(await fixture.entrance.dataRootOf(sizeBytes, rowRoot, rlcRoot)).to.equal(dataRoot)
      other.release()
    }
  })

  // A blob costs what was quoted, overpayment comes back, and the contract holds exactly the fees.
  it('charges what it quotes and returns the rest', async () => {
    const { entrance, user } = fixture
    const fee = await entrance.quote(200_000, 3)
    expect(fee).to.equal(4n * 65_536n * 3n * 1_000n)
    const submission = submissionOf(blob.commitment, 3)
    const change = await as(entrance, user).submitBlobs([submission], { value: fee + ETHER })
    await expect(change).to.changeEtherBalances(fixture.connection.ethers, [user, entrance], [-fee, fee])
    await expect(as(entrance, user).submitBlobs([submissionOf(blob.commitment, 4)], { value: fee / 3n - 1n }))
      .to.be.revertedWithCustomError(entrance, 'FeeTooLow')
      .withArgs(fee / 3n - 1n, fee / 3n)
  })

  // The same blob in the same epoch is paid for once; a longer retention costs the difference.
  it('does not charge twice for one blob', async () => {
    const { entrance } = fixture
    const fee = await entrance.quote(200_000, 2)
    const { dataRoot } = blob.commitment
    const epoch = await submit(fixture, blob, 2)
    await entrance.submitBlobs([submissionOf(blob.commitment, 2)], { value: ETHER })
    expect(await balance(entrance)).to.equal(fee)
    await entrance.submitBlobs([submissionOf(blob.commitment, 5)], { value: ETHER })
    expect(await balance(entrance)).to.equal(await entrance.quote(200_000, 5))
    await entrance.submitBlobs([submissionOf(blob.commitment, 3)])
    expect((await entrance.blobOf(dataRoot, epoch, 0)).expiryEpoch).to.equal(epoch + 5n)
  })

  it('confirms a paid blob by two thirds of the stake, and says so as 0G does', async () => {
    const { entrance } = fixture
    const { dataRoot, rowRoot, rlcRoot } = blob.commitment
    const { epoch, receipt } = await confirm(fixture, blob, { signed: [0, 1, 3] })
    expect(await entrance.commitmentExists(dataRoot, epoch, 0)).to.equal(true)
    expect((await entrance.verifiedErasureCommitment(dataRoot, epoch, 0)).toArray()).to.deep.equal([
      BigInt(rowRoot),
      BigInt(rlcRoot),
    ])
    expect((await entrance.blobOf(dataRoot, epoch, 0)).signedBitmap).to.equal(0b1011n)
    const names = receipt?.logs.map((log) => entrance.interface.parseLog(log)?.name)
    expect(names).to.deep.equal(['ErasureCommitmentVerified', 'BlobConfirmed'])
    // Again: skipped, not refused, so that two dispersers do not hinder each other.
    const again = confirmation({ fixture, commitment: blob.commitment, epoch, signed: [0, 1, 2] })
    await entrance.submitVerifiedCommitRoots([again])
    expect((await entrance.blobOf(dataRoot, epoch, 0)).signedBitmap).to.equal(0b1011n)
  })

  // What was not paid for, not signed by enough, or signed for something else is never confirmed.
  it('refuses every other confirmation', async () => {
    const { entrance, signers, connection } = fixture
    const { commitment } = blob
    const refused = async (item: object, name: string, contract: typeof entrance | typeof signers = entrance) =>
      await expect(entrance.submitVerifiedCommitRoots([item])).to.be.revertedWithCustomError(contract, name)

    const unpaid = confirmation({ fixture, commitment, epoch: await signers.epochNumber(), signed: [0, 1, 2, 3] })
    await refused(unpaid, 'BlobNotSubmitted')
    const epoch = await submit(fixture, blob)
    const right = confirmation({ fixture, commitment, epoch, signed: [0, 1, 2, 3] })
    await refused(confirmation({ fixture, commitment, epoch, signed: [0, 1] }), 'StakeBelowQuorum', signers)
    await refused({ ...right, quorumId: 1 }, 'BlobNotSubmitted')
    await refused({ ...right, erasureCommitment: { ...right.erasureCommitment, Y: 1n } }, 'CommitmentMismatch')
    const otherKeys = confirmation({ fixture, commitment, epoch, signed: [0, 1, 2] })
    await refused({ ...right, quorumBitmap: otherKeys.quorumBitmap }, 'SignatureInvalid', signers)
    await refused({ ...right, signature: otherKeys.signature }, 'SignatureInvalid', signers)
    const otherEpoch = confirmation({ fixture, commitment, epoch: epoch + 1n, signed: [0, 1, 2, 3] })
    await refused({ ...right, signature: otherEpoch.signature }, 'SignatureInvalid', signers)
    await connection.networkHelpers.mine(2 * EPOCH_BLOCKS)
    await refused(right, 'EpochTooOld')
    await expect(entrance.submitVerifiedCommitRoots([])).to.be.revertedWithCustomError(entrance, 'NoSubmissions')
  })

  // A blob whose quorum did not sign in time is not lost: it moves to the next epoch and costs nothing more.
  it('moves an unconfirmed blob to the current epoch', async () => {
    const { entrance, connection } = fixture
    const { commitment } = blob
    const { dataRoot } = commitment
    const epoch = await submit(fixture, blob)
    const fees = await balance(entrance)
    await expect(entrance.resubmit(dataRoot, epoch)).to.be.revertedWithCustomError(entrance, 'EpochNotOver')
    await connection.networkHelpers.mine(EPOCH_BLOCKS)
    await entrance.resubmit(dataRoot, epoch)
    expect(await balance(entrance)).to.equal(fees)
    await expect(entrance.resubmit(dataRoot, epoch)).to.be.revertedWithCustomError(entrance, 'BlobNotSubmitted')
    const item = confirmation({ fixture, commitment, epoch: epoch + 1n, signed: [1, 2, 3] })
    await entrance.submitVerifiedCommitRoots([item])
    expect(await entrance.commitmentExists(dataRoot, epoch + 1n, 0)).to.equal(true)
    await connection.networkHelpers.mine(EPOCH_BLOCKS)
    await expect(entrance.resubmit(dataRoot, epoch + 1n)).to.be.revertedWithCustomError(
      entrance,
      'BlobConfirmedAlready',
    )
  })

  it('bounds size, retention and count', async () => {
    const { entrance } = fixture
    const base = submissionOf(blob.commitment)
    const refused = async (change: object, name: string) =>
      await expect(entrance.submitBlobs([{ ...base, ...change }], { value: ETHER })).to.be.revertedWithCustomError(
        entrance,
        name,
      )
    await refused({ sizeBytes: 0 }, 'BlobSizeOutOfBounds')
    await refused({ sizeBytes: 2 ** 25 + 1 }, 'BlobSizeOutOfBounds')
    await refused({ retentionEpochs: 1 }, 'RetentionOutOfBounds')
    await refused({ retentionEpochs: 11 }, 'RetentionOutOfBounds')
    await expect(entrance.submitBlobs([])).to.be.revertedWithCustomError(entrance, 'NoSubmissions')
    await expect(entrance.submitBlobs(Array(65).fill(base))).to.be.revertedWithCustomError(entrance, 'TooManyItems')
  })

  // The guardian can halt new intake, and nothing else: a blob that was paid for is still confirmed.
  it('takes no submissions while paused, and goes on with all else', async () => {
    const { entrance, user } = fixture
    const epoch = await submit(fixture, blob)
    await expect(as(entrance, user).pause()).to.be.revertedWithCustomError(entrance, 'AccessManagedUnauthorized')
    await entrance.pause()
    await expect(entrance.submitBlobs([submissionOf(blob.commitment)], { value: ETHER })).to.be.revertedWithCustomError(
      entrance,
      'IntakeIsPaused',
    )
    const item = confirmation({ fixture, commitment: blob.commitment, epoch, signed: [0, 1, 2] })
    await entrance.submitVerifiedCommitRoots([item])
    expect(await entrance.commitmentExists(blob.commitment.dataRoot, epoch, 0)).to.equal(true)
    await entrance.unpause()
    await submit(fixture, blob)
    await expect(entrance.setPricePerByteEpoch(1_000_001n)).to.be.revertedWithCustomError(entrance, 'PriceTooHigh')
  })
})
