import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { keccak256, stringToHex } from 'viem'
import { mnemonicToAccount } from 'viem/accounts'
import { signResponse } from '#protocol/compute/response-signature.ts'
import { encodeSessionToken, parseSessionToken, sessionTokenJson } from '#protocol/compute/session-token.ts'
import { fineTuningSettlementDigest, signTeeSettlement, teeSettlementDigest } from '#protocol/compute/settlement.ts'
import { recoverSigner, signDigest } from '#protocol/compute/signature.ts'

// The vectors of the wire specification, section 10.
const MNEMONIC = 'test test test test test test test test test test test junk'
const [user, provider, tee] = [0, 1, 2].map((addressIndex) => mnemonicToAccount(MNEMONIC, { addressIndex }))
assert(user && provider && tee)

const TOKEN_JSON =
  '{"address":"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266","provider":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","timestamp":1700000000000,"expiresAt":1700086400000,"nonce":"00000000000000000000000000000001","generation":0,"tokenId":255}'
const TOKEN_SIGNATURE =
  '0x3fb263fa31a89ce2ed2d88cd999bdf3149a033d6e259680ef8de754d04e761ac1b3158ba40bf8a6027a4f6a0e53050796c8cdf13df778dedfe49274c1be477b91b'

test('a session token is the text, hash and signature of the specification', async () => {
  const token = await encodeSessionToken({
    signer: user,
    provider: provider.address,
    nowMs: 1_700_000_000_000,
    generation: 0,
    nonce: '00000000000000000000000000000001',
  })
  const [json, signature] = Buffer.from(token.slice('app-sk-'.length), 'base64').toString().split('|')
  assert.equal(json, TOKEN_JSON)
  assert.equal(keccak256(stringToHex(TOKEN_JSON)), '0xfa4e0805b5638a0f44cb5d15aae59cb2c076c2ccabcd6a932bdd31ac6334d567')
  assert.equal(signature, TOKEN_SIGNATURE)
  assert.equal(
    createHash('sha256').update(token).digest('hex'),
    '8338af08f8110f540faa0b41f6e9ad6d68bd090b2c939a5d21630ec7d453cc8c',
  )
  const parsed = parseSessionToken(`Bearer ${token}`, { provider: provider.address, nowMs: 1_700_000_000_001 })
  assert.equal(parsed.address, user.address.toLowerCase())
  assert.equal(sessionTokenJson({ ...parsed, address: user.address, provider: provider.address }), TOKEN_JSON)
})

test('a TEE settlement has the digest and signature of the specification', async () => {
  const parameters = {
    chainId: 31_337,
    contract: '0x0165878A594ca255338adfa4d48449f69242Eb8F',
    settlement: {
      requestsHash: `0x${'11'.repeat(32)}`,
      nonce: 17_000_000_000_000_000n,
      provider: provider.address,
      user: user.address,
      totalFeeWei: 123_456_789n,
    },
  } as const
  assert.equal(teeSettlementDigest(parameters), '0x371894688956c402dc28a88a807c703c64d9e56463908f2a387abbf3a6b6cf78')
  const signature =
    '0xe150b5b99ea6ea899b4a560e3c63dc26ab476aee0298bdad2da087d4764150bc3988170a987dc2539e111f6669ce41699ea2f2f5a64d13924eb4da7a3ca2562a1b'
  assert.equal(await signTeeSettlement({ ...parameters, signer: tee }), signature)
  assert.equal(recoverSigner({ digest: teeSettlementDigest(parameters), signature }), tee.address.toLowerCase())
})

test('a fine-tuning settlement has the digest and signature of the specification', async () => {
  const digest = fineTuningSettlementDigest({
    chainId: 31_337,
    contract: '0xA51c1fc2f0D1a1b8494Ed1FE312d7C3a78Ed91C0',
    settlement: {
      id: '6f9619ff-8b86-4d01-b42d-00cf4fc964ff',
      encryptedSecret: '0x',
      modelRootHash: `0x${'22'.repeat(32)}`,
      nonce: 17_000_000_000_000_040n,
      taskFeeWei: 10n ** 16n,
      user: user.address,
    },
  })
  assert.equal(digest, '0xa2498447f6d5b6b2ddce51eb0efd885acf1080119d1d08b6f628d1c77350e13f')
  assert.equal(
    await signDigest({ signer: tee, digest }),
    '0x0c47079d55d22e57d929047501f75a54a449f3866faddd9be3f9efd0f01d2b522e9ac597bd6fa04567674aa59b639490ba579f2047c9e28e896b50ddfbad97a91c',
  )
})

test('a response signature is that of the specification', async () => {
  const { signature } = await signResponse({ signer: tee, text: `${'a'.repeat(64)}:${'b'.repeat(64)}` })
  assert.equal(
    signature,
    '0xa4d4b1efd9444cff5f8298f87747a4bc1066097ebbfa229b36c59517b3de593e2717207ccc69faad6e08f673e88700153a82dc03780308e3a4cb540624d7ebde1c',
  )
})
