import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { privateKeyToAccount } from 'viem/accounts'
import { eciesDecrypt, eciesEncrypt } from '#protocol/compute/fine-tuning/ecies.ts'
import { FineTuningFormatError } from '#protocol/compute/fine-tuning/error.ts'
import {
  artefactDownloadDigest,
  cancelTaskDigest,
  checkTimestamp,
  createTaskDigest,
  datasetUploadDigest,
  signTaskDigest,
  verifyTaskSignature,
} from '#protocol/compute/fine-tuning/task-signature.ts'
import { fineTuningSettlementDigest } from '#protocol/compute/settlement.ts'
import { fromHex, type Hex, toHex } from '#protocol/hex.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'

const keyOf = (index: number): Hex => DEV_ACCOUNTS[index]?.privateKey as Hex
const user = privateKeyToAccount(keyOf(0))
const signer = privateKeyToAccount(keyOf(2))
const ID = '6f9619ff-8b86-4d01-b42d-00cf4fc964ff'
const fails = (code: string) => (error: unknown) => error instanceof FineTuningFormatError && error.code === code

// The vectors are those of the protocol's description, made with its public clients.
describe('signatures of fine-tuning', () => {
  test('create, cancel and settle give the known digests and signatures', async () => {
    const create = createTaskDigest({
      ...{ user: user.address, nonce: 17000000000000040n, datasetHash: `0x${'33'.repeat(32)}` },
    })
    assert.equal(create, '0xd46638528d1eac179e0f795c3bfa3bebad8bb9c6aae2d7c493a3a120b17ed753')
    assert.equal(
      await signTaskDigest({ signer: user, digest: create }),
      '0x920936df3a351a044774e98c9cf290d1e182631cadc08abd423ae181ed9135d20ae1d21342b35b7d73de8ce447bdf95745d6fd226ca5ac2cb20b0d30099274e71c',
    )
    const cancel = cancelTaskDigest({ id: ID })
    assert.equal(cancel, '0xad4ed8f3e6079eb4ac1c6fb7a4de87473a5ea8b9d369d15096299c2fbfdcacf5')
    assert.equal(
      await signTaskDigest({ signer: user, digest: cancel }),
      '0x5e5b4e6770d409ac3621dc608984ca496481af69fc6101b0c44af508f1700be943f4cbf6a2b4f14153d966b94894355c8ed075fa0ea8057625c4b9f21e1d90df1b',
    )
    const settle = fineTuningSettlementDigest({
      ...{ chainId: 31_337, contract: '0xA51c1fc2f0D1a1b8494Ed1FE312d7C3a78Ed91C0' },
      settlement: {
        ...{ id: ID, encryptedSecret: '0x', modelRootHash: `0x${'22'.repeat(32)}`, nonce: 17000000000000040n },
        ...{ taskFeeWei: 10n ** 16n, user: user.address },
      },
    })
    assert.equal(settle, '0xa2498447f6d5b6b2ddce51eb0efd885acf1080119d1d08b6f628d1c77350e13f')
    assert.equal(
      await signer.sign({ hash: settle }),
      '0x0c47079d55d22e57d929047501f75a54a449f3866faddd9be3f9efd0f01d2b522e9ac597bd6fa04567674aa59b639490ba579f2047c9e28e896b50ddfbad97a91c',
    )
  })

  // A signature gives the public key of the account that the path names, and no other's passes.
  test('give the public key of their user and refuse everybody else', async () => {
    const digest = datasetUploadDigest({ user: user.address, timestampS: 1_700_000_000 })
    const signature = await signTaskDigest({ signer: user, digest })
    const key = verifyTaskSignature({ user: user.address.toLowerCase() as Hex, digest, signature })
    assert.equal(toHex(key), user.publicKey)
    for (const wrong of [signer.address, user.address]) {
      const other = wrong === user.address ? artefactDownloadDigest({ id: ID, timestampS: 1 }) : digest
      assert.throws(() => verifyTaskSignature({ user: wrong, digest: other, signature }), fails('TASK_SIGNATURE'))
    }
    for (const broken of ['0x', '0x00', `0x${'ff'.repeat(65)}`]) {
      assert.throws(
        () => verifyTaskSignature({ user: user.address, digest, signature: broken }),
        fails('TASK_SIGNATURE'),
      )
    }
  })

  // Public clients drop the leading zero bytes of a digest before they sign it: both forms are by the same user.
  test('accept a digest that was signed without its leading zeros', async () => {
    let nonce = 0n
    const of = () => createTaskDigest({ user: user.address, nonce, datasetHash: `0x${'33'.repeat(32)}` })
    while (!of().startsWith('0x00')) nonce += 1n
    const stripped = `0x${of().slice(4)}` as Hex
    const signature = await user.signMessage({ message: { raw: stripped } })
    assert.equal(toHex(verifyTaskSignature({ user: user.address, digest: of(), signature })), user.publicKey)
  })

  test('hold for five minutes back and one ahead', () => {
    const nowMs = 1_700_000_000_000
    for (const ageS of [0, 300, -60]) checkTimestamp({ timestampS: nowMs / 1000 - ageS, nowMs })
    for (const ageS of [301, -61]) {
      assert.throws(() => checkTimestamp({ timestampS: nowMs / 1000 - ageS, nowMs }), fails('TASK_SIGNATURE'))
    }
  })
})

describe('encrypted keys', () => {
  const plain = new Uint8Array(32).fill(0x42)
  const secretKey = fromHex(keyOf(0))

  test('open the known one', () => {
    const known =
      '0x04b0627cde16d61f2a1cc85370cd7c0fad1653ec27cc4632ccc2d9d55189b3ef4f477bc495e7df9d8e514c997b89442c448d2bbf02da3b5427ed5bbff5a4c1140edfa8fdc0251e74a62fabd2c3595141949c6734a3044fffde6ea23fa7800451e66b9ac290b9b21167cae8822037dd2d3f831b844a31cd6daa995ed5f30f8b6159'
    assert.deepEqual(eciesDecrypt({ secretKey, data: fromHex(known) }), plain)
  })

  test('open with their own key alone, and unchanged alone', () => {
    const data = eciesEncrypt({ publicKey: fromHex(user.publicKey), plain })
    assert.equal(data.length, 129)
    assert.deepEqual(eciesDecrypt({ secretKey, data }), plain)
    assert.throws(() => eciesDecrypt({ secretKey: fromHex(keyOf(1)), data }), fails('SECRET_KEY'))
    for (const place of [0, 70, 90, 128]) {
      const changed = Uint8Array.from(data)
      changed[place] = (changed[place] ?? 0) ^ 1
      assert.throws(() => eciesDecrypt({ secretKey, data: changed }), fails('SECRET_KEY'), `byte ${place}`)
    }
    assert.throws(() => eciesDecrypt({ secretKey, data: new Uint8Array(0) }), fails('SECRET_FORMAT'))
  })
})
