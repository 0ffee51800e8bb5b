import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { encryptSource } from '#client/storage/encryption.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { encryptedSource, symmetricEncryption } from '#protocol/storage/encryption.ts'
import { seededBytes, testSeed } from './seeded.ts'
import { type StorageNetwork, startStorageNetwork } from './storage-network.ts'

const seed = testSeed()
const bytesOf = (name: string, length: number) => seededBytes({ seed: `${seed}/${name}`, length })
const collect = async (parts: AsyncIterable<Uint8Array>) => {
  const all: Uint8Array[] = []
  for await (const part of parts) all.push(part)
  return new Uint8Array(Buffer.concat(all))
}

describe(`encrypted files and fragments (seed ${seed})`, () => {
  let network: StorageNetwork
  before(async () => {
    network = await startStorageNetwork()
  })
  after(() => network.stop())

  test('a symmetric key: comes back in full and in ranges; the repeated upload is the same content', async () => {
    const client = await network.client()
    const symmetricKey = new Uint8Array(randomBytes(32))
    const bytes = bytesOf('symmetric', 900_001)
    const source = await encryptSource({ source: memorySource(bytes), encryption: { symmetricKey } })
    const stored = await client.storage.upload({ source })
    assert.equal(stored.sizeBytes, bytes.length + 17)
    const to = join(network.dir, 'symmetric')
    const fetched = await client.storage.download({ root: stored.root, to, decryption: { symmetricKey } })
    assert.equal(fetched.sizeBytes, bytes.length)
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
    for (const rest of ['.part', '.part.state', '.part.plain']) {
      assert.equal(await stat(`${to}${rest}`).catch(() => undefined), undefined, rest)
    }
    for (const [offset, length] of [
      [0, 1],
      [17, 100],
      [262_120, 50],
      [899_990, 100],
    ] as const) {
      const range = { root: stored.root, offset, length, decryption: { symmetricKey } }
      assert.deepEqual(await collect(client.storage.readFile(range)), bytes.slice(offset, offset + length))
    }
    const again = await encryptSource({ source: memorySource(bytes), encryption: { symmetricKey } })
    const repeated = await client.storage.upload({ source: again })
    assert.deepEqual({ root: repeated.root, paid: repeated.paid }, { root: stored.root, paid: false })
  })

  test('a recipient: only its private key opens the file; the same sender repeats without paying', async () => {
    const client = await network.client()
    const { account } = client.storage.connection
    const reader = secp256k1.keygen()
    const bytes = bytesOf('recipient', 300_000)
    const encryption = { recipient: reader.publicKey }
    const stored = await client.storage.upload({
      source: await encryptSource({ source: memorySource(bytes), encryption, account }),
    })
    const { root } = stored
    assert.deepEqual(
      await collect(client.storage.readFile({ root, decryption: { privateKey: reader.secretKey } })),
      bytes,
    )
    const repeated = await client.storage.upload({
      source: await encryptSource({ source: memorySource(bytes), encryption, account }),
    })
    assert.equal(repeated.paid, false)
    const other = secp256k1.keygen().secretKey
    await assert.rejects(collect(client.storage.readFile({ root, decryption: { privateKey: other } })), {
      code: 'KEY_DOES_NOT_FIT',
    })
  })

  test('a wrong key, a wrong kind of key, a file that is not encrypted: refused before anything is written', async () => {
    const client = await network.client()
    const symmetricKey = new Uint8Array(randomBytes(32))
    const bytes = bytesOf('wrong', 2_000_000)
    const source = await encryptSource({ source: memorySource(bytes), encryption: { symmetricKey } })
    const { root } = await client.storage.upload({ source })
    const plain = await client.storage.upload({ source: memorySource(bytes) })
    const to = join(network.dir, 'wrong')
    const attempts = [
      { root, decryption: { symmetricKey: new Uint8Array(randomBytes(32)) } },
      { root, decryption: { privateKey: secp256k1.keygen().secretKey } },
      { root: plain.root, decryption: { symmetricKey } },
    ]
    for (const attempt of attempts)
      await assert.rejects(client.storage.download({ ...attempt, to }), { code: 'KEY_DOES_NOT_FIT' })
    for (const path of [to, `${to}.part`]) assert.equal(await stat(path).catch(() => undefined), undefined)
  })

  test('a file another program encrypted opens when the caller accepts a key that cannot be checked', async () => {
    const client = await network.client()
    const symmetricKey = new Uint8Array(randomBytes(32))
    const bytes = bytesOf('foreign', 10_000)
    const source = encryptedSource({ source: memorySource(bytes), ...symmetricEncryption(symmetricKey) })
    const { root } = await client.storage.upload({ source })
    await assert.rejects(collect(client.storage.readFile({ root, decryption: { symmetricKey } })), {
      code: 'KEY_DOES_NOT_FIT',
    })
    const decryption = { symmetricKey, allowUnverified: true }
    assert.deepEqual(await collect(client.storage.readFile({ root, decryption })), bytes)
  })

  test('a file in fragments, encrypted as a whole, comes back as one', async () => {
    const client = await network.client()
    const symmetricKey = new Uint8Array(randomBytes(32))
    const bytes = bytesOf('fragments', 2_500_000)
    const source = await encryptSource({ source: memorySource(bytes), encryption: { symmetricKey } })
    const { roots, fragments } = await client.storage.uploadFragments({ source, fragmentBytes: 1 << 20 })
    assert.equal(roots.length, 3)
    assert.equal(new Set(fragments.map(({ txSeq }) => txSeq)).size, 3)
    const to = join(network.dir, 'fragments')
    await client.storage.download({ root: roots, to, decryption: { symmetricKey } })
    assert.deepEqual(new Uint8Array(await readFile(to)), bytes)
    const range = { root: roots, offset: (1 << 20) - 50, length: 200, decryption: { symmetricKey } }
    assert.deepEqual(await collect(client.storage.readFile(range)), bytes.slice((1 << 20) - 50, (1 << 20) + 150))
  })
})
