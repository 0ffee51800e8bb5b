import type { HardhatEthersSigner } from '@nomicfoundation/hardhat-ethers/types'
import type { ContractTransactionReceipt } from 'ethers'
import { network } from 'hardhat'
import type { daCustodyAbi } from '#protocol/abi/da-custody.ts'
import type { daEntranceAbi } from '#protocol/abi/da-entrance.ts'
import type { daSignersAbi } from '#protocol/abi/da-signers.ts'
import { BlobCodec, type EncodedBlob } from '#protocol/da/blob-codec.ts'
import { aggregateG1, aggregateG2, type BlsKey, blsKeyFromSecret, sign, toEip197 } from '#protocol/da/bls.ts'
import type { BlobCommitment } from '#protocol/da/commitment.ts'
import { blobDigest, registrationDigest } from '#protocol/da/messages.ts'
import { encodeBitmap } from '#protocol/da/quorum.ts'
import { sublineProof } from '#protocol/da/row-proof.ts'
import { toHex } from '#protocol/hex.ts'
import type { Bound, Connection } from '../storage/storage-fixture.ts'

export const ETHER = 10n ** 18n
export const EPOCH_BLOCKS = 200
export const ANSWER_BLOCKS = 20
export const BOND = 10n ** 15n
export const PENALTY = ETHER / 2n

/** A signer of the fixture. */
export interface TestSigner {
  wallet: HardhatEthersSigner
  key: BlsKey
}

export interface DaFixture {
  connection: Connection
  signers: Bound<typeof daSignersAbi>
  entrance: Bound<typeof daEntranceAbi>
  custody: Bound<typeof daCustodyAbi>
  /** In the epoch's order. */
  members: TestSigner[]
  codec: BlobCodec
  /** Somebody who is no signer. */
  user: HardhatEthersSigner
}

/** The contracts on a fresh chain, with signers of one ether each from epoch 1 on, in which the chain is. */
export async function deployDa({ signerCount = 4 }: { signerCount?: number } = {}): Promise<DaFixture> {
  const connection = await network.create()
  const { ethers, networkHelpers } = connection
  const [deployer, user, ...wallets] = await ethers.getSigners()
  if (deployer === undefined || user === undefined) throw new Error('the simulated chain has no accounts')
  const nonce = await deployer.getNonce()
  const [governanceAt, signersAt, entranceAt, custodyAt] = [0, 1, 2, 3].map((offset) =>
    ethers.getCreateAddress({ from: deployer.address, nonce: nonce + offset }),
  )
  await ethers.deployContract('Governance', [deployer.address, deployer.address, 0, [entranceAt]])
  const signers = await ethers.deployContract('DASigners', [
    ...[governanceAt, custodyAt],
    { epochBlocks: EPOCH_BLOCKS, unbondingEpochs: 12, minStakeWei: ETHER },
  ])
  const entrance = await ethers.deployContract('DAEntrance', [
    ...[governanceAt, signersAt],
    {
      pricePerByteEpoch: 1_000n,
      maxPricePerByteEpoch: 1_000_000n,
      minRetentionEpochs: 2,
      maxRetentionEpochs: 10,
      samplePeriod: 30,
      targetRoundSubmissions: 2,
      rewardRatio: 10,
    },
  ])
  const custody = await ethers.deployContract('DACustody', [
    ...[governanceAt, signersAt, entranceAt],
    ...[ANSWER_BLOCKS, BOND, PENALTY],
  ])
  if ((await custody.getAddress()) !== custodyAt) throw new Error('the addresses were worked out wrong')
  const fixture: DaFixture = {
    connection,
    signers: signers as DaFixture['signers'],
    entrance: entrance as DaFixture['entrance'],
    custody: custody as DaFixture['custody'],
    members: [],
    codec: await BlobCodec.create({ workers: 1 }),
    user,
  }
  const { chainId } = await ethers.provider.getNetwork()
  for (const [index, wallet] of wallets.slice(0, signerCount).entries()) {
    const key = blsKeyFromSecret(toHex(Buffer.alloc(32, index + 1)))
    const digest = registrationDigest({ signer: toHex(Buffer.from(wallet.address.slice(2), 'hex')), chainId })
    const detail = { signer: wallet.address, socket: `http://signer-${index}`, pkG1: key.pk1, pkG2: key.pk2 }
    await fixture.signers.connect(wallet).getFunction('registerSigner')(detail, sign({ secret: key.secret, digest }), {
      value: ETHER,
    })
    fixture.members.push({ wallet, key })
  }
  await networkHelpers.mine(EPOCH_BLOCKS)
  return fixture
}

/** Bytes that repeat nowhere. */
export function noise(sizeBytes: number, seed = 1): Uint8Array {
  let state = seed
  return Uint8Array.from({ length: sizeBytes }, () => {
    state = (Math.imul(state, 1103515245) + 12345) | 0
    return state >>> 16
  })
}

/** The submission of a blob. */
export function submissionOf({ header, rowRoot, rlcRoot }: BlobCommitment, retentionEpochs = 2) {
  return { sizeBytes: header.sizeBytes, retentionEpochs, rowRoot, rlcRoot }
}

/** Pays for a blob; returns its epoch. */
export async function submit(fixture: DaFixture, blob: EncodedBlob, retentionEpochs = 2): Promise<bigint> {
  const { entrance, signers } = fixture
  const { commitment } = blob
  const value = await entrance.quote(commitment.header.sizeBytes, retentionEpochs)
  const response = await entrance.submitBlobs([submissionOf(commitment, retentionEpochs)], { value })
  await response.wait()
  return await signers.epochNumber()
}

/** What confirms a blob by some of the members. */
export function confirmation({
  fixture: { members },
  commitment: { dataRoot, rowRoot, rlcRoot },
  epoch,
  signed,
}: {
  fixture: DaFixture
  commitment: BlobCommitment
  epoch: bigint
  signed: readonly number[]
}) {
  const digest = blobDigest({ dataRoot, epoch: Number(epoch), quorumId: 0, rowRoot, rlcRoot })
  const keys = signed.map((index) => memberAt(members, index).key)
  return {
    dataRoot,
    epoch,
    quorumId: 0,
    erasureCommitment: { X: BigInt(rowRoot), Y: BigInt(rlcRoot) },
    quorumBitmap: encodeBitmap({ count: members.length, signed }),
    aggPkG2: toEip197(aggregateG2(keys.map(({ pk2 }) => pk2))),
    signature: aggregateG1(keys.map(({ secret }) => sign({ secret, digest }))),
  }
}

/** Pays for a blob and confirms it by some of the members; returns its epoch. */
export async function confirm(
  fixture: DaFixture,
  blob: EncodedBlob,
  { signed = fixture.members.map((_, index) => index), retentionEpochs = 2 } = {},
): Promise<{ epoch: bigint; receipt: ContractTransactionReceipt | null }> {
  const epoch = await submit(fixture, blob, retentionEpochs)
  const item = confirmation({ fixture, commitment: blob.commitment, epoch, signed })
  const response = await fixture.entrance.submitVerifiedCommitRoots([item])
  return { epoch, receipt: await response.wait() }
}

export function memberAt(members: readonly TestSigner[], index: number): TestSigner {
  const member = members[index]
  if (member === undefined) throw new Error(`no member ${index}`)
  return member
}

/** A piece of a row with its whole path. */
export function piece(blob: EncodedBlob, row: number, subline: number): { data: Uint8Array; proof: string[] } {
  const slice = blob.slice(row)
  const { data, path } = sublineProof({ row: Uint8Array.from(slice.data), subline })
  const hashes = Buffer.concat([path, slice.path])
  const proof = Array.from({ length: hashes.length / 32 }, (_, i) => toHex(hashes.subarray(32 * i, 32 * i + 32)))
  return { data: Uint8Array.from(data), proof }
}
