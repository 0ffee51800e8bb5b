import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { encodeAbiParameters, encodePacked, keccak256 } from 'viem'
import { blobDigest, registrationDigest } from '#protocol/da/messages.ts'
import type { Hash } from '#protocol/hex.ts'

const ROOT: Hash = `0x${'11'.repeat(32)}`

describe('messages that signers sign', () => {
  // The contract hashes with abi.encodePacked and abi.encode: another implementation of both agrees.
  it('are those of the contract', () => {
    const signer = '0x52908400098527886E0F7030069857D2E4169EE7'
    const packed = encodePacked(['address', 'uint256', 'string'], [signer, 31337n, '0G_BN254_Pubkey_Registration'])
    assert.equal(registrationDigest({ signer, chainId: 31337 }), keccak256(packed))
    assert.equal(
      registrationDigest({ signer: '0x52908400098527886e0f7030069857d2e4169ee7', chainId: 31337n }),
      keccak256(packed),
    )

    const [rowRoot, rlcRoot]: Hash[] = [`0x${'22'.repeat(32)}`, `0x${'33'.repeat(32)}`]
    assert.ok(rowRoot && rlcRoot)
    const types = ['bytes32', 'uint256', 'uint256', 'uint256', 'uint256'].map((type) => ({ type }))
    const encoded = encodeAbiParameters(types, [ROOT, 7n, 0n, BigInt(rowRoot), BigInt(rlcRoot)])
    assert.equal(blobDigest({ dataRoot: ROOT, epoch: 7, quorumId: 0n, rowRoot, rlcRoot }), keccak256(encoded))
  })

  it('differ in every part', () => {
    const base = { dataRoot: ROOT, epoch: 7, quorumId: 0, rowRoot: ROOT, rlcRoot: ROOT }
    const other: Hash = `0x${'12'.repeat(32)}`
    const digests = [
      base,
      { ...base, dataRoot: other },
      { ...base, epoch: 8 },
      { ...base, quorumId: 1 },
      { ...base, rowRoot: other },
      { ...base, rlcRoot: other },
    ].map(blobDigest)
    assert.equal(new Set(digests).size, digests.length)
  })

  it('refuse what is no address, root or number', () => {
    assert.throws(() => registrationDigest({ signer: '0x1234', chainId: 1 }), { code: 'INVALID_HEX' })
    const base = { dataRoot: ROOT, epoch: 7, quorumId: 0, rowRoot: ROOT, rlcRoot: ROOT }
    assert.throws(() => blobDigest({ ...base, dataRoot: '0x11' }), { code: 'INVALID_HEX' })
    assert.throws(() => blobDigest({ ...base, epoch: -1 }), RangeError)
    assert.throws(() => blobDigest({ ...base, epoch: 2n ** 256n }), RangeError)
  })
})
