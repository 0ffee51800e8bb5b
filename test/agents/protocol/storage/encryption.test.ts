import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as sdk from '@0gfoundation/0g-ts-sdk'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import fc from 'fast-check'
import {
  cryptAt,
  type DecryptionKeys,
  decryptionKey,
  type EncryptionKey,
  encodeEncryptionHeader,
  encryptedSource,
  parseEncryptionHeader,
  recipientEncryption,
  StreamDecryptor,
  symmetricEncryption,
} from '#protocol/storage/encryption.ts'
import { buildFileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { seededBytes } from '../vectors.ts'

const symmetricKey = seededBytes(32, 5)
const privateKey = seededBytes(32, 6)
const publicKey = secp256k1.getPublicKey(privateKey, true)
const keys: DecryptionKeys = { symmetricKey, privateKey }
const versions: [string, () => EncryptionKey][] = [
  ['version 1', () => symmetricEncryption(symmetricKey)],
  ['version 2', () => recipientEncryption(publicKey)],
]

async function encrypt(plain: Uint8Array, encryption: EncryptionKey): Promise<Uint8Array> {
  const source = encryptedSource({ source: memorySource(plain), ...encryption })
  return source.read({ offset: 0, length: source.sizeBytes })
}

function decrypt(stored: Uint8Array, given: DecryptionKeys, pieceBytes = stored.length || 1): Uint8Array {
  const decryptor = new StreamDecryptor(given)
  const pieces: Uint8Array[] = []
  for (let at = 0; at < stored.length; at += pieceBytes)
    pieces.push(decryptor.push(stored.subarray(at, at + pieceBytes)))
  decryptor.end()
  return Buffer.concat(pieces)
}

for (const [name, begin] of versions) {
  describe(`encryption ${name}`, () => {
    it('comes back, whatever the length and the pieces', async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: 3000 }), fc.integer({ min: 1, max: 500 }), async (length, pieceBytes) => {
          const plain = seededBytes(length, length)
          const stored = await encrypt(plain, begin())
          assert.deepEqual(decrypt(stored, keys, pieceBytes), Buffer.from(plain))
        }),
        { numRuns: 40 },
      )
    })

    // The uploader reads segments in any order: each range is the same bytes as in the whole stream.
    it('can be read from any offset', async () => {
      const plain = seededBytes(2000, 1)
      const encryption = begin()
      const whole = await encrypt(plain, encryption)
      const source = encryptedSource({ source: memorySource(plain), ...encryption })
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: 2100 }), fc.nat({ max: 2100 }), async (offset, length) => {
          assert.deepEqual(await source.read({ offset, length }), whole.slice(offset, offset + length))
        }),
      )
    })

    it('is read by 0g-ts-sdk', async () => {
      const plain = seededBytes(5000, 2)
      const stored = await encrypt(plain, begin())
      const header = sdk.parseEncryptionHeader(stored)
      const key = sdk.resolveDecryptionKey(symmetricKey, privateKey, header)
      assert.deepEqual(sdk.decryptFile(key, stored), plain)
    })

    it('is what the tree and the size are of', async () => {
      const source = encryptedSource({ source: memorySource(seededBytes(300_000)), ...begin() })
      const { root } = await buildFileTree({ source })
      const whole = await source.read({ offset: 0, length: source.sizeBytes })
      assert.equal(root, (await buildFileTree({ source: memorySource(whole) })).root)
    })
  })
}

describe('encryption', () => {
  it('reads what 0g-ts-sdk writes', async () => {
    const plain = seededBytes(4000, 3)
    for (const file of [
      sdk.newSymmetricEncryptedFile(new sdk.MemData(plain), symmetricKey),
      sdk.newEciesEncryptedFile(new sdk.MemData(plain), publicKey),
    ]) {
      const { buffer } = await file.readFromFile(0, file.size())
      assert.deepEqual(decrypt(Uint8Array.from(buffer), keys, 7), Buffer.from(plain))
    }
  })

  it('takes a public key in every form', async () => {
    const long = secp256k1.getPublicKey(privateKey, false)
    for (const form of [publicKey, long, long.subarray(1)]) {
      const stored = await encrypt(seededBytes(100), recipientEncryption(form))
      assert.deepEqual(decrypt(stored, { privateKey }), Buffer.from(seededBytes(100)))
    }
    assert.throws(() => recipientEncryption(new Uint8Array(33)), { code: 'ENCRYPTION_KEY' })
    assert.throws(() => recipientEncryption(new Uint8Array(5)), { code: 'ENCRYPTION_KEY' })
  })

  // The counter is a 128-bit number: it carries over every byte, past 2^32 blocks, and wraps.
  it('counts blocks like 0g-ts-sdk at any offset', () => {
    const data = seededBytes(100, 4)
    for (const nonce of [new Uint8Array(16).fill(0xff), seededBytes(16, 9), new Uint8Array(16)]) {
      for (const offset of [0, 1, 15, 16, 17, 4095, 2 ** 32 - 1, 2 ** 36 + 5, 2 ** 43]) {
        const theirs = Uint8Array.from(data)
        sdk.cryptAt(symmetricKey, nonce, offset, theirs)
        assert.deepEqual(
          Uint8Array.from(cryptAt({ key: symmetricKey, nonce, offset, data })),
          theirs,
          `offset ${offset}`,
        )
      }
    }
  })

  it('asks for the key that is missing, and never shows one', async () => {
    const [first, second] = [symmetricEncryption(symmetricKey).header, recipientEncryption(publicKey).header]
    assert.throws(() => decryptionKey({ header: first, keys: { privateKey } }), { code: 'ENCRYPTION_KEY_MISSING' })
    assert.throws(() => decryptionKey({ header: second, keys: { symmetricKey } }), { code: 'ENCRYPTION_KEY_MISSING' })
    assert.throws(() => decryptionKey({ header: second, keys: { privateKey: new Uint8Array(32) } }), {
      code: 'ENCRYPTION_KEY',
    })
    assert.throws(
      () => symmetricEncryption(new Uint8Array(31)),
      (error: Error) => {
        assert.equal('code' in error && error.code, 'ENCRYPTION_KEY')
        return true
      },
    )
  })

  it('refuses what has no header', () => {
    assert.throws(() => parseEncryptionHeader(new Uint8Array(0)), { code: 'ENCRYPTION_HEADER' })
    assert.throws(() => parseEncryptionHeader(Uint8Array.of(3, 1, 2)), { code: 'ENCRYPTION_HEADER' })
    assert.throws(() => parseEncryptionHeader(Uint8Array.of(1, 1, 2)), { code: 'ENCRYPTION_HEADER' })
    assert.throws(() => decrypt(new Uint8Array(0), keys), { code: 'ENCRYPTION_HEADER' })
    assert.throws(() => decrypt(Uint8Array.of(2, 1), keys), { code: 'ENCRYPTION_HEADER' })
  })

  it('writes the header it reads', () => {
    for (const [, begin] of versions) {
      const { header } = begin()
      assert.deepEqual(parseEncryptionHeader(encodeEncryptionHeader(header)), header)
    }
  })
})
