import assert from 'node:assert/strict'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { encryptKeystoreJson, Wallet } from 'ethers'
import fc from 'fast-check'
import { createKeystore, KeyError, openKeystore, resolveSigner } from '#kit/keys/keystore.ts'
import { scratchFolder } from '../crash.ts'

const PASSWORD = 'correct horse'
const KEY = `0x${'ab'.repeat(32)}` as const
const quick = { password: PASSWORD, scryptN: 1_024 }

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof KeyError, String(error))
  assert.doesNotMatch(
    JSON.stringify([error.message, error.fix, error.details]),
    /abababab|correct horse/,
    'no secret in it',
  )
  return error.code
}

// The two test vectors of the Web3 Secret Storage definition; password "testpassword".
const VECTOR_KEY = '0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d'
const PBKDF2_VECTOR = {
  crypto: {
    cipher: 'aes-128-ctr',
    cipherparams: { iv: '6087dab2f9fdbbfaddc31a909735c1e6' },
    ciphertext: '5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46',
    kdf: 'pbkdf2',
    kdfparams: {
      c: 262144,
      dklen: 32,
      prf: 'hmac-sha256',
      salt: 'ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd',
    },
    mac: '517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2',
  },
  id: '3198bc9c-6672-5ab3-d995-4942343ae5b6',
  version: 3,
}
const SCRYPT_VECTOR = {
  crypto: {
    cipher: 'aes-128-ctr',
    cipherparams: { iv: '83dbcc02d8ccb40e466191a123791e0e' },
    ciphertext: 'd172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c',
    kdf: 'scrypt',
    kdfparams: {
      dklen: 32,
      n: 262144,
      p: 8,
      r: 1,
      salt: 'ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19',
    },
    mac: '2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097',
  },
  id: '3198bc9c-6672-5ab3-d995-4942343ae5b6',
  version: 3,
}

describe('keystore', () => {
  it('opens the published test vectors', async () => {
    await using folder = await scratchFolder()
    for (const [name, vector] of Object.entries({ pbkdf2: PBKDF2_VECTOR, scrypt: SCRYPT_VECTOR })) {
      const path = join(folder.path, name)
      await writeFile(path, JSON.stringify(vector))
      assert.equal((await openKeystore({ path, password: 'testpassword' })).privateKey, VECTOR_KEY, name)
    }
  })

  it('is read by another implementation, and reads what that one writes', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'keys/ours.json')
    const { address } = await createKeystore({ path, privateKey: KEY, ...quick })
    const theirs = await Wallet.fromEncryptedJson(await readFile(path, 'utf8'), PASSWORD)
    assert.equal(theirs.privateKey, KEY)
    assert.equal(theirs.address, address)
    const accented = join(folder.path, 'accented')
    await createKeystore({ path: accented, privateKey: KEY, password: 'pa\u0308ssw\u00f6rd\u2460', scryptN: 1_024 })
    const composed = await Wallet.fromEncryptedJson(await readFile(accented, 'utf8'), 'p\u00e4ssw\u00f6rd1')
    assert.equal(composed.privateKey, KEY, 'passwords that look the same are the same')
    const back = join(folder.path, 'theirs.json')
    await writeFile(
      back,
      await encryptKeystoreJson({ address, privateKey: KEY }, PASSWORD, { scrypt: { N: 1_024, r: 8, p: 1 } }),
    )
    assert.equal((await openKeystore({ path: back, password: PASSWORD })).privateKey, KEY)
  })

  it('makes a new key each time, for its owner alone, and replaces nothing', async () => {
    await using folder = await scratchFolder()
    const first = await createKeystore({ path: join(folder.path, 'a'), ...quick })
    const second = await createKeystore({ path: join(folder.path, 'b'), ...quick })
    assert.notEqual(first.address, second.address)
    assert.equal((await stat(first.path)).mode & 0o777, 0o600)
    const before = await readFile(first.path, 'utf8')
    assert.equal(await codeOf(createKeystore({ path: first.path, ...quick })), 'KEYSTORE_EXISTS')
    assert.equal(await readFile(first.path, 'utf8'), before)
    assert.equal(await codeOf(createKeystore({ path: join(folder.path, 'c'), password: 'short' })), 'PASSWORD_MISSING')
  })

  it('tells a wrong password, a missing file and a broken file apart', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'k')
    await createKeystore({ path, privateKey: KEY, ...quick })
    assert.equal(await codeOf(openKeystore({ path, password: 'wrong' })), 'KEYSTORE_PASSWORD')
    assert.equal(await codeOf(openKeystore({ path: `${path}x`, password: PASSWORD })), 'KEYSTORE_MISSING')
    const good = JSON.parse(await readFile(path, 'utf8')) as { address: string; crypto: Record<string, unknown> }
    const broken: [unknown, string][] = [
      ['', 'KEYSTORE_CORRUPT'],
      ['{', 'KEYSTORE_CORRUPT'],
      [null, 'KEYSTORE_CORRUPT'],
      [[], 'KEYSTORE_CORRUPT'],
      [{ ...good, version: 1 }, 'KEYSTORE_CORRUPT'],
      [{ ...good, crypto: undefined }, 'KEYSTORE_CORRUPT'],
      [{ ...good, address: '1'.repeat(40) }, 'KEYSTORE_CORRUPT'],
      [{ ...good, crypto: { ...good.crypto, cipher: 'aes-256-cbc' } }, 'KEYSTORE_CORRUPT'],
      [{ ...good, crypto: { ...good.crypto, mac: 'zz' } }, 'KEYSTORE_CORRUPT'],
      [{ ...good, crypto: { ...good.crypto, mac: '0'.repeat(64) } }, 'KEYSTORE_PASSWORD'],
      [{ ...good, crypto: { ...good.crypto, ciphertext: '0'.repeat(64) } }, 'KEYSTORE_PASSWORD'],
      [
        { ...good, crypto: { ...good.crypto, kdfparams: { n: 1000, r: 8, p: 1, dklen: 32, salt: '00' } } },
        'KEYSTORE_CORRUPT',
      ],
      [
        { ...good, crypto: { ...good.crypto, kdfparams: { n: 2 ** 40, r: 8, p: 1, dklen: 32, salt: '00' } } },
        'KEYSTORE_COST',
      ],
      [
        { ...good, crypto: { ...good.crypto, kdfparams: { n: 2, r: 8, p: 9999, dklen: 32, salt: '00' } } },
        'KEYSTORE_COST',
      ],
      [
        {
          ...good,
          crypto: { ...good.crypto, kdf: 'pbkdf2', kdfparams: { c: 1e9, prf: 'hmac-sha256', dklen: 32, salt: '00' } },
        },
        'KEYSTORE_COST',
      ],
    ]
    for (const [content, code] of broken) {
      await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
      assert.equal(
        await codeOf(openKeystore({ path, password: PASSWORD })),
        code,
        JSON.stringify(content).slice(0, 200),
      )
    }
    await writeFile(path, ' '.repeat(70_000))
    await assert.rejects(openKeystore({ path, password: PASSWORD }), { code: 'KEYSTORE_CORRUPT' })
  })

  // Invariant: a file changed in any one byte opens to the same key or fails with a typed error, never to another key.
  it('never gives another key from a damaged file', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'k')
    await createKeystore({ path, privateKey: KEY, password: PASSWORD, scryptN: 2 })
    const good = await readFile(path)
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), async (at, byte) => {
        const bad = Buffer.from(good)
        bad[at] = byte
        await writeFile(path, bad)
        try {
          assert.equal((await openKeystore({ path, password: PASSWORD })).privateKey, KEY)
        } catch (error) {
          assert.ok(error instanceof KeyError, String(error))
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('the signer', () => {
  it('comes from the keystore named, then a configured key, then the environment', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'k')
    const { address } = await createKeystore({ path, ...quick })
    const passwordFile = join(folder.path, 'password')
    await writeFile(passwordFile, `${PASSWORD}\nsecond line`)
    const plain = new Wallet(KEY).address
    const env = { WEIGHTLESS_PRIVATE_KEY: KEY, WEIGHTLESS_KEYSTORE: path, WEIGHTLESS_KEYSTORE_PASSWORD: PASSWORD }
    assert.equal((await resolveSigner({ env })).address, plain)
    assert.equal((await resolveSigner({ env, keystorePath: path })).address, address)
    assert.equal((await resolveSigner({ env: {}, privateKey: KEY.slice(2).toUpperCase() })).address, plain)
    assert.equal((await resolveSigner({ env: { ...env, WEIGHTLESS_PRIVATE_KEY: '' } })).address, address)
    assert.equal((await resolveSigner({ env: {}, keystorePath: path, passwordFile })).address, address)
    const asked: string[] = []
    const promptPassword = async (question: string): Promise<string> => {
      asked.push(question)
      return PASSWORD
    }
    assert.equal((await resolveSigner({ env: {}, keystorePath: path, promptPassword })).address, address)
    assert.deepEqual(asked, [`Password of ${path}: `])
  })

  it('signs as the key it was made from', async () => {
    const account = await resolveSigner({ env: { WEIGHTLESS_PRIVATE_KEY: KEY } })
    assert.equal(await account.signMessage({ message: 'hello' }), await new Wallet(KEY).signMessage('hello'))
  })

  it('says what is missing', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'k')
    await createKeystore({ path, ...quick })
    assert.equal(await codeOf(resolveSigner({ env: {} })), 'SIGNER_MISSING')
    assert.equal(await codeOf(resolveSigner({ env: {}, keystorePath: path })), 'PASSWORD_MISSING')
    assert.equal(
      await codeOf(resolveSigner({ env: {}, keystorePath: path, promptPassword: async () => '' })),
      'PASSWORD_MISSING',
    )
    assert.equal(
      await codeOf(resolveSigner({ env: {}, keystorePath: path, passwordFile: `${path}x` })),
      'PASSWORD_FILE',
    )
    const empty = join(folder.path, 'empty')
    await writeFile(empty, '\n')
    await chmod(empty, 0o600)
    assert.equal(await codeOf(resolveSigner({ env: {}, keystorePath: path, passwordFile: empty })), 'PASSWORD_FILE')
    const order = '0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141'
    for (const bad of ['0x12', 'hello', `0x${'0'.repeat(64)}`, order, `0x${'g'.repeat(64)}`]) {
      assert.equal(await codeOf(resolveSigner({ env: { WEIGHTLESS_PRIVATE_KEY: bad } })), 'PRIVATE_KEY_INVALID', bad)
    }
  })
})
