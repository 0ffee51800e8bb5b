import { keccak_256 } from '@noble/hashes/sha3.js'
import { concatBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { fromHex, type Hash, type Hex, toHex } from '../hex.ts'

/**
 * What a signer signs once to show that it holds its keys: keccak256 of address (20 bytes), chain id (32 bytes,
 * big-endian) and the text `0G_BN254_Pubkey_Registration`.
 */
export function registrationDigest({ signer, chainId }: { signer: Hex; chainId: bigint | number }): Hash {
  const address = fromHex(signer, { byteLength: 20, field: 'signer' })
  return hash(address, word(chainId), utf8ToBytes('0G_BN254_Pubkey_Registration'))
}

/**
 * What the signers of a blob sign: keccak256 of data root, epoch, quorum, row root and root of the combinations, 32 bytes
 * each, big-endian. The last two are X and Y of the erasure commitment on chain.
 */
export function blobDigest({ dataRoot, epoch, quorumId, rowRoot, rlcRoot }: BlobDigestParameters): Hash {
  const root = (value: Hash, field: string) => fromHex(value, { byteLength: 32, field })
  return hash(
    root(dataRoot, 'dataRoot'),
    word(epoch),
    word(quorumId),
    root(rowRoot, 'rowRoot'),
    root(rlcRoot, 'rlcRoot'),
  )
}

export interface BlobDigestParameters {
  dataRoot: Hash
  epoch: bigint | number
  quorumId: bigint | number
  rowRoot: Hash
  rlcRoot: Hash
}

function hash(...parts: Uint8Array[]): Hash {
  return toHex(keccak_256(concatBytes(...parts)))
}

/** Throws for negative numbers, fractions and more than 256 bits: neither has a word. */
function word(value: bigint | number): Uint8Array {
  const number = BigInt(value)
  if (number < 0n || number >> 256n !== 0n) throw new RangeError(`${number} does not fit 256 bits`)
  return fromHex(`0x${number.toString(16).padStart(64, '0')}`)
}
