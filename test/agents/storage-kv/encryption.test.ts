import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { fromHex, type Hex, toHex } from '#protocol/hex.ts'
import { replayTransaction, type StreamState } from '#protocol/kv/replay.ts'
import { encodeStreamData } from '#protocol/kv/stream-data.ts'
import {
  type DecryptionKeys,
  type EncryptionKey,
  encryptedSource,
  recipientEncryption,
  symmetricEncryption,
} from '#protocol/storage/encryption.ts'
import { memorySource } from '#protocol/storage/file-tree.ts'
import { kvConfigSchema } from '#storage/kv/config.ts'
import { decryptStreams } from '#storage/kv/decrypt-stream.ts'
import { KvStore, type LoggedSubmission } from '#storage/kv/store.ts'
import { keyFingerprint, streamKeys } from '#storage/kv/stream-keys.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const word = (id: number): Hex => `0x${id.toString(16).padStart(64, '0')}`
const STREAM = word(1)
const SENDER: Hex = `0x${'a1'.repeat(20)}`
const key = fromHex(`0x${'11'.repeat(32)}`)
const wallet = secp256k1.keygen()

/** A node that has seen nothing yet: every stream is new. */
const FRESH: StreamState = {
  isMonitored: () => true,
  latestVersion: () => undefined,
  isNew: () => true,
  isAdmin: () => false,
  isSpecialKey: () => false,
  isWriterOfStream: () => false,
  isWriterOfKey: () => false,
  isWriterOfAnything: () => false,
}

const plain = encodeStreamData({
  version: 1n,
  writes: [
    { streamId: STREAM, key: utf8('k'), data: utf8('secret value') },
    { streamId: STREAM, key: utf8('large'), data: new Uint8Array(100_000).fill(7) },
  ],
})

async function encrypted(encryption: EncryptionKey): Promise<Uint8Array> {
  const source = encryptedSource({ source: memorySource(plain), ...encryption })
  return source.read({ offset: 0, length: source.sizeBytes })
}

/** Replays `stored` as a node with `keys` does; the file is disposed of whatever becomes of it. */
async function replay(stored: Uint8Array, keys: DecryptionKeys) {
  const submission: LoggedSubmission = {
    ...{ seq: 0, root: word(9), sizeBytes: stored.length, sender: SENDER, streamIds: [STREAM], block: 1 },
  }
  let open = 0
  const fetch = decryptStreams({
    keys,
    fetch: async () => {
      open += 1
      // As from storage: whole sectors, with zeros behind the last byte.
      const padded = new Uint8Array(Math.ceil(stored.length / 256) * 256)
      padded.set(stored)
      return {
        sizeBytes: padded.length,
        read: async ({ offset, length }) => padded.subarray(offset, offset + length),
        [Symbol.asyncDispose]: async () => {
          open -= 1
        },
      }
    },
  })
  const reader = await fetch(submission, AbortSignal.timeout(1_000))
  const outcome = await replayTransaction({ transaction: submission, reader, state: FRESH })
  const values = await Promise.all(
    (outcome.writes ?? []).map(async (range) => Buffer.from(await reader.read(range)).toString()),
  )
  await reader[Symbol.asyncDispose]()
  assert.equal(open, 0, 'a file stays open')
  return { result: outcome.result, values }
}

describe('encrypted streams', () => {
  it('reads streams encrypted with the key of the node, at any offset', async () => {
    const { result, values } = await replay(await encrypted(symmetricEncryption(key)), { symmetricKey: key })
    assert.equal(result, 'Commit')
    assert.deepEqual(values, ['secret value', '\u0007'.repeat(100_000)])
  })

  it('reads streams encrypted for the wallet of the node', async () => {
    const stored = await encrypted(recipientEncryption(wallet.publicKey))
    assert.equal((await replay(stored, { privateKey: wallet.secretKey })).values[0], 'secret value')
  })

  // What cannot be deciphered is settled at once: fetching it again would not change it.
  it('records what it cannot decipher as data that do not parse', async () => {
    const other = fromHex(`0x${'22'.repeat(32)}`)
    const symmetric = await encrypted(symmetricEncryption(key))
    const ecies = await encrypted(recipientEncryption(wallet.publicKey))
    assert.equal((await replay(plain, { symmetricKey: key })).result, 'DataParseError: Not encrypted')
    assert.match((await replay(symmetric, { symmetricKey: other })).result, /^DataParseError: /)
    assert.match((await replay(ecies, { privateKey: secp256k1.keygen().secretKey })).result, /^DataParseError: /)
    const wrongKind = 'DataParseError: Encrypted for another kind of key'
    assert.equal((await replay(ecies, { symmetricKey: key })).result, wrongKind)
    assert.equal((await replay(symmetric, { privateKey: wallet.secretKey })).result, wrongKind)
    const noPoint = ecies.slice()
    noPoint.fill(0xff, 1, 34)
    assert.equal(
      (await replay(noPoint, { privateKey: wallet.secretKey })).result,
      'DataParseError: Invalid encryption header',
    )
    for (const length of [1, 16, 17, 49, 60]) {
      assert.match((await replay(symmetric.slice(0, length), { symmetricKey: key })).result, /^DataParseError: /)
    }
  })
})

describe('the key of a key-value node', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weightless-kv-key-'))
  })
  after(() => rm(folder, { recursive: true }))

  const parse = (encryption: Record<string, string>) =>
    kvConfigSchema.safeParse({
      chain: { rpcUrls: ['http://127.0.0.1:1'], flow: SENDER },
      storage: { nodes: ['http://127.0.0.1:2'] },
      encryption,
    })
  const given = (encryption: Record<string, string>) => ({ encryption: parse(encryption).data?.encryption ?? {} })

  it('comes from a file, a secret setting or a wallet, and from one of them only', async () => {
    const keyFile = join(folder, 'key')
    await writeFile(keyFile, `0x${'11'.repeat(32)}\n`)
    assert.deepEqual(await streamKeys(given({ keyFile })), { symmetricKey: key })
    assert.deepEqual(await streamKeys(given({ key: '11'.repeat(32) })), { symmetricKey: key })
    const walletKey = toHex(wallet.secretKey)
    assert.deepEqual(await streamKeys(given({ walletKey })), { privateKey: wallet.secretKey })
    assert.equal(await streamKeys(given({})), undefined)
    assert.equal(parse({ keyFile, walletKey }).success, false)
  })

  it('is not shown when it is wrong', async () => {
    const wrong = 'f00d'.repeat(15)
    await assert.rejects(streamKeys(given({ key: wrong })), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'KV_KEY')
      assert.ok(!JSON.stringify({ ...error, message: error.message }).includes('f00d'))
      return true
    })
    await assert.rejects(streamKeys(given({ keystore: join(folder, 'none') })), { code: 'KV_KEY' })
  })

  // Results under one key say nothing about another: with a new key, everything is replayed.
  it('makes the node replay everything when it changes', () => {
    const store = new KvStore(join(folder, 'kv.db'))
    store.addStreams([STREAM])
    store.log([{ seq: 0, root: word(9), sizeBytes: 1, sender: SENDER, streamIds: [STREAM], block: 1 }], 1, {
      number: 1,
      hash: word(1),
    })
    store.settle({ seq: 0, result: 'DataParseError: Invalid stream data', valueEnd: 0 })
    assert.equal(store.setKey(keyFingerprint(undefined)), false)
    assert.notEqual(store.result(0), null)
    assert.equal(store.setKey(keyFingerprint({ symmetricKey: key })), true)
    assert.equal(store.result(0), null)
    assert.equal(store.setKey(keyFingerprint({ symmetricKey: key })), false)
    assert.notEqual(keyFingerprint({ symmetricKey: key }), keyFingerprint({ privateKey: key }))
    store.close()
  })
})
