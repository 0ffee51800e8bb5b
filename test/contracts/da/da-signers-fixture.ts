import { keccak256, type Signer, toUtf8Bytes } from 'ethers'
import { network } from 'hardhat'
import type { daSignersAbi } from '#protocol/abi/da-signers.ts'
import { aggregateG1, aggregateG2, type BlsKey, blsKeyFromSecret, type G1, sign, toEip197 } from '#protocol/da/bls.ts'
import { registrationDigest } from '#protocol/da/messages.ts'
import { encodeBitmap } from '#protocol/da/quorum.ts'
import { type Hash, type Hex, toHex } from '#protocol/hex.ts'
import { as, type Bound, type Connection } from '../storage/storage-fixture.ts'

export const MIN_STAKE = 10n ** 18n
export const EPOCH_BLOCKS = 1000n
export const UNBONDING_EPOCHS = 5n

export type DaSigners = Bound<typeof daSignersAbi>

/** An account with its keys, from its number. */
export interface Member {
  account: Signer
  address: Hex
  key: BlsKey
}

export interface DaSignersFixture {
  connection: Connection
  signers: DaSigners
  /** An account that may slash. */
  custody: Signer
  chainId: bigint
}

/** Deploys the signer table on a fresh simulated chain. The first account governs it without delay, the second slashes. */
export async function deployDaSigners({
  connection,
  custody,
}: {
  connection?: Connection
  custody?: string
} = {}): Promise<DaSignersFixture> {
  const chain = connection ?? (await network.create())
  const [governor, slasher] = await chain.ethers.getSigners()
  if (governor === undefined || slasher === undefined) throw new Error('the simulated chain has no accounts')
  const governance = await chain.ethers.deployContract('Governance', [governor.address, governor.address, 0, []])
  const signers = await chain.ethers.deployContract('DASigners', [
    await governance.getAddress(),
    custody ?? slasher.address,
    { epochBlocks: EPOCH_BLOCKS, unbondingEpochs: UNBONDING_EPOCHS, minStakeWei: MIN_STAKE },
  ])
  const { chainId } = await chain.ethers.provider.getNetwork()
  return { connection: chain, signers: signers as unknown as DaSigners, custody: slasher, chainId }
}

/** Account and keys number `index`, with more than enough to stake. */
export async function member({ networkHelpers, ethers }: Connection, index: number): Promise<Member> {
  const seed = keccak256(toUtf8Bytes(`signer ${index}`))
  const address = `0x${seed.slice(26)}` as Hex
  await networkHelpers.setBalance(address, 10n ** 27n)
  await networkHelpers.impersonateAccount(address)
  // Less than 2^252, so below the order of the group.
  const key = blsKeyFromSecret(`0x0${seed.slice(3)}` as Hex)
  return { account: await ethers.getSigner(address), address, key }
}

/** What a member shows to join. */
export function credentials({ address, key }: Member, chainId: bigint, socket = 'http://127.0.0.1:1') {
  const signature = sign({ secret: key.secret, digest: registrationDigest({ signer: address, chainId }) })
  return { detail: { signer: address, socket, pkG1: key.pk1, pkG2: key.pk2 }, signature }
}

export async function join({ signers, chainId }: DaSignersFixture, who: Member, value = MIN_STAKE) {
  const { detail, signature } = credentials(who, chainId)
  return await (await as(signers, who.account).registerSigner(detail, signature, { value })).wait()
}

/** `count` members with stakes of 1, 2, … 7, 1, 2, … times the least one, in the table of the epoch that now runs. */
export async function joinMany(fixture: DaSignersFixture, count: number): Promise<Member[]> {
  const members: Member[] = []
  for (let i = 0; i < count; i++) {
    const who = await member(fixture.connection, i)
    await join(fixture, who, MIN_STAKE * BigInt(1 + (i % 7)))
    members.push(who)
  }
  await nextEpoch(fixture)
  return members
}

/** Mines up to the first block of the next epoch. */
export async function nextEpoch({ signers, connection }: DaSignersFixture): Promise<void> {
  await connection.networkHelpers.mineUpTo(await signers.nextEpochBlock())
}

/** What is submitted for a digest that everybody but the members at `absent` signed. */
export function aggregate(members: readonly Member[], digest: Hash, absent: readonly number[] = []) {
  const signed = members.map((_, index) => index).filter((index) => !absent.includes(index))
  const keys = signed.flatMap((index) => members[index]?.key ?? [])
  const signature: G1 = aggregateG1(keys.map(({ secret }) => sign({ secret, digest })))
  return {
    bitmap: toHex(encodeBitmap({ count: members.length, signed })),
    aggPkG2: toEip197(aggregateG2(keys.map(({ pk2 }) => pk2))),
    signature,
  }
}
