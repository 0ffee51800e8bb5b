import { createCipheriv, createDecipheriv, pbkdf2, randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { privateKeyToAddress } from 'viem/accounts'
import { z } from 'zod'
import { atomicWrite, FileError, readSmallFile } from '../files.ts'
import { KeyError } from './key-error.ts'

export { KeyError } from './key-error.ts'
export { type ResolveSignerParameters, resolveSigner } from './signer.ts'

type Hex = `0x${string}`

export interface CreateKeystoreParameters {
  path: string
  /** At least 8 characters. */
  password: string
  /** Default a new random key. */
  privateKey?: Hex | undefined
  /** scrypt's N, a power of two. Default 262,144 (256 MiB, about a second). Smaller is for tests. */
  scryptN?: number | undefined
}

/**
 * Writes a private key encrypted, as Web3 Secret Storage version 3 (scrypt, AES-128-CTR, Keccak-256), readable by its
 * owner alone. An existing file is never replaced.
 *
 * @throws KeyError `KEYSTORE_EXISTS`, `PASSWORD_MISSING`, `PRIVATE_KEY_INVALID`; FileError `FILE_WRITE`.
 * @example
 * const { address } = await createKeystore({ path: 'keys/miner.json', password })
 */
export async function createKeystore({
  path,
  password,
  privateKey,
  scryptN = 262_144,
}: CreateKeystoreParameters): Promise<{ address: Hex; path: string }> {
  if (password.length < 8) {
    const fix = 'choose a longer one'
    throw new KeyError({ code: 'PASSWORD_MISSING', message: 'the password has fewer than 8 characters', fix })
  }
  const key = privateKey === undefined ? newPrivateKey() : checkPrivateKey(privateKey)
  const address = privateKeyToAddress(key)
  const salt = randomBytes(32)
  const iv = randomBytes(16)
  const derived = await deriveScrypt(password, { salt, n: scryptN, r: 8, p: 1, dklen: 32 })
  const cipher = createCipheriv('aes-128-ctr', derived.subarray(0, 16), iv)
  const ciphertext = Buffer.concat([cipher.update(Buffer.from(key.slice(2), 'hex')), cipher.final()])
  const keystore = {
    version: 3,
    id: randomUUID(),
    address: address.slice(2).toLowerCase(),
    crypto: {
      cipher: 'aes-128-ctr',
      cipherparams: { iv: iv.toString('hex') },
      ciphertext: ciphertext.toString('hex'),
      kdf: 'scrypt',
      kdfparams: { dklen: 32, n: scryptN, r: 8, p: 1, salt: salt.toString('hex') },
      mac: macOf(derived, ciphertext).toString('hex'),
    },
  }
  try {
    await atomicWrite({ path, data: `${JSON.stringify(keystore, null, 2)}\n`, mode: 0o600, exclusive: true })
  } catch (cause) {
    if (!(cause instanceof FileError) || cause.code !== 'FILE_EXISTS') throw cause
    const fix = 'choose another path; an existing key is never replaced'
    throw new KeyError({ code: 'KEYSTORE_EXISTS', message: `${path} exists already`, fix, details: { path }, cause })
  }
  return { address, path }
}

/**
 * Decrypts a Web3 Secret Storage version 3 file (scrypt or PBKDF2-HMAC-SHA256).
 *
 * @throws KeyError `KEYSTORE_MISSING`; `KEYSTORE_CORRUPT` (not such a file); `KEYSTORE_COST` (asks for more than 512 MiB
 * or ten million rounds); `KEYSTORE_PASSWORD` (the password is wrong, or the ciphertext was changed).
 */
export async function openKeystore({
  path,
  password,
}: {
  path: string
  password: string
}): Promise<{ address: Hex; privateKey: Hex }> {
  const { crypto, address: claimed } = await readKeystore(path)
  const ciphertext = Buffer.from(crypto.ciphertext, 'hex')
  const derived = await derive({ path, password, crypto })
  const mac = Buffer.from(crypto.mac, 'hex')
  if (!timingSafeEqual(macOf(derived, ciphertext), mac)) {
    const fix = 'check the password; if it is right, the file was changed: restore a backup'
    throw new KeyError({
      code: 'KEYSTORE_PASSWORD',
      message: `the password does not open ${path}`,
      fix,
      details: { path },
    })
  }
  const decipher = createDecipheriv('aes-128-ctr', derived.subarray(0, 16), Buffer.from(crypto.cipherparams.iv, 'hex'))
  const plain = Buffer.concat([decipher.update(ciphertext), decipher.final()])
  const privateKey = checkPrivateKey(`0x${plain.toString('hex')}`)
  const address = privateKeyToAddress(privateKey)
  if (claimed !== undefined && claimed.replace(/^0x/, '').toLowerCase() !== address.slice(2).toLowerCase()) {
    throw corrupt(path, `it names the address ${claimed}, its key has ${address}`)
  }
  return { address, privateKey }
}

/**
 * A private key as lower-case hex with `0x`, checked to be on the curve. The value itself is never put in an error.
 *
 * @throws KeyError `PRIVATE_KEY_INVALID`.
 */
export function checkPrivateKey(text: string): Hex {
  const digits = text.trim().replace(/^0x/i, '').toLowerCase()
  const value = /^[0-9a-f]{64}$/.test(digits) ? BigInt(`0x${digits}`) : 0n
  if (value > 0n && value < CURVE_ORDER) return `0x${digits}`
  const fix = 'give 64 hex digits, with or without 0x'
  throw new KeyError({ code: 'PRIVATE_KEY_INVALID', message: 'the private key is not a secp256k1 key', fix })
}

/** Order of secp256k1 (SEC 2, section 2.4.1): keys are 1 … n − 1. */
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
const MAX_SCRYPT_BYTES = 512 * 2 ** 20
const MAX_PBKDF2_ROUNDS = 10_000_000

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-fA-F]{${bytes * 2}}$`))
const salt = z.string().regex(/^([0-9a-fA-F]{2}){1,128}$/)
const cryptoSchema = z.object({
  cipher: z.literal('aes-128-ctr'),
  cipherparams: z.object({ iv: hex(16) }),
  ciphertext: hex(32),
  mac: hex(32),
})
const keystoreSchema = z.object({
  version: z.literal(3),
  address: z.string().max(64).optional(),
  crypto: z.discriminatedUnion('kdf', [
    cryptoSchema.extend({
      kdf: z.literal('scrypt'),
      kdfparams: z.object({
        n: z
          .int()
          .min(2)
          .refine((n) => Number.isInteger(Math.log2(n)), 'n is not a power of two'),
        r: z.int().min(1),
        p: z.int().min(1),
        dklen: z.int().min(32).max(64),
        salt,
      }),
    }),
    cryptoSchema.extend({
      kdf: z.literal('pbkdf2'),
      kdfparams: z.object({ c: z.int().min(1), prf: z.literal('hmac-sha256'), dklen: z.int().min(32).max(64), salt }),
    }),
  ]),
})
type Keystore = z.output<typeof keystoreSchema>

async function readKeystore(path: string): Promise<Keystore> {
  let text: string
  try {
    text = await readSmallFile({ path, maxBytes: 65_536 })
  } catch (cause) {
    if (!(cause instanceof FileError) || cause.code !== 'FILE_MISSING') throw corrupt(path, 'it cannot be read', cause)
    const fix = 'check the path, or make a key with: weightless key new'
    throw new KeyError({
      code: 'KEYSTORE_MISSING',
      message: `there is no keystore at ${path}`,
      fix,
      details: { path },
      cause,
    })
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw corrupt(path, 'it is not JSON', cause)
  }
  // Early wallets wrote "Crypto".
  if (typeof json === 'object' && json !== null && 'Crypto' in json) json = { ...json, crypto: json.Crypto }
  const checked = keystoreSchema.safeParse(json)
  if (checked.success) return checked.data
  const [issue] = checked.error.issues
  throw corrupt(path, `${issue?.path.join('.') || 'the file'}: ${issue?.message}`)
}

async function derive({ path, password, crypto }: { path: string; password: string; crypto: Keystore['crypto'] }) {
  const salt = Buffer.from(crypto.kdfparams.salt, 'hex')
  if (crypto.kdf === 'pbkdf2') {
    const { c, dklen } = crypto.kdfparams
    if (c > MAX_PBKDF2_ROUNDS) throw tooCostly(path, `${c} rounds, the limit is ${MAX_PBKDF2_ROUNDS}`)
    return promisify(pbkdf2)(password.normalize('NFKC'), salt, c, dklen, 'sha256')
  }
  const { n, r, p, dklen } = crypto.kdfparams
  const bytes = 128 * n * r
  if (bytes > MAX_SCRYPT_BYTES || p > 16)
    throw tooCostly(path, `${bytes} bytes and p = ${p}, the limits are ${MAX_SCRYPT_BYTES} and 16`)
  return deriveScrypt(password, { salt, n, r, p, dklen })
}

function deriveScrypt(
  password: string,
  { salt, n, r, p, dklen }: { salt: Uint8Array; n: number; r: number; p: number; dklen: number },
): Promise<Buffer> {
  const options = { N: n, r, p, maxmem: 128 * r * (n + p) + 2 ** 20 }
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFKC'), salt, dklen, options, (error, key) => (error ? reject(error) : resolve(key)))
  })
}

function macOf(derived: Uint8Array, ciphertext: Uint8Array): Buffer {
  return Buffer.from(keccak_256(Buffer.concat([derived.subarray(16, 32), ciphertext])))
}

function newPrivateKey(): Hex {
  for (;;) {
    const digits = randomBytes(32).toString('hex')
    const value = BigInt(`0x${digits}`)
    if (value > 0n && value < CURVE_ORDER) return `0x${digits}`
  }
}

function corrupt(path: string, reason: string, cause?: unknown): KeyError {
  const fix = 'give a Web3 Secret Storage version 3 file, or restore a backup'
  return new KeyError({
    code: 'KEYSTORE_CORRUPT',
    message: `${path} is no sound keystore: ${reason}`,
    fix,
    details: { path },
    cause,
  })
}

function tooCostly(path: string, reason: string): KeyError {
  const fix = 'this file is not from a usual wallet; do not open it'
  return new KeyError({
    code: 'KEYSTORE_COST',
    message: `${path} is too costly to open: ${reason}`,
    fix,
    details: { path },
  })
}
