import { createCipheriv, createDecipheriv, pbkdf2, randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { scryptAsync } from '@noble/hashes/scrypt.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { privateKeyToAddress } from 'viem/accounts'
import { z } from 'zod'
import { KeyError } from './key-error.ts'
import { checkPrivateKey } from './private-key.ts'

type Hex = `0x${string}`

/** Default cost: 256 MiB of memory and about a second. */
export const SCRYPT_N = 262_144

/**
 * Encrypts a private key as Web3 Secret Storage version 3
 * (https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage): scrypt, AES-128-CTR, a
 * Keccak-256 check value.
 */
export async function sealPrivateKey({
  privateKey,
  password,
  scryptN = SCRYPT_N,
}: {
  privateKey: Hex
  password: string
  scryptN?: number | undefined
}): Promise<{ address: Hex; text: string }> {
  const address = privateKeyToAddress(privateKey)
  const salt = randomBytes(32)
  const iv = randomBytes(16)
  const derived = await deriveScrypt(password, { salt, n: scryptN, r: 8, p: 1, dklen: 32 })
  const cipher = createCipheriv('aes-128-ctr', derived.subarray(0, 16), iv)
  const ciphertext = Buffer.concat([cipher.update(Buffer.from(privateKey.slice(2), 'hex')), cipher.final()])
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
  return { address, text: `${JSON.stringify(keystore, null, 2)}\n` }
}

/**
 * Decrypts the text of a Web3 Secret Storage version 3 file, scrypt or PBKDF2. `path` is for messages.
 *
 * @throws KeyError `KEYSTORE_CORRUPT`, `KEYSTORE_COST`, `KEYSTORE_PASSWORD`.
 */
export async function openPrivateKey({
  path,
  text,
  password,
}: {
  path: string
  text: string
  password: string
}): Promise<{ address: Hex; privateKey: Hex }> {
  const { crypto, address: claimed } = parseKeystore(path, text)
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
    throw corruptKeystore(path, `it names the address ${claimed}, its key has ${address}`)
  }
  return { address, privateKey }
}

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

function parseKeystore(path: string, text: string): Keystore {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw corruptKeystore(path, 'it is not JSON', cause)
  }
  // Early wallets wrote "Crypto".
  if (typeof json === 'object' && json !== null && 'Crypto' in json) json = { ...json, crypto: json.Crypto }
  const checked = keystoreSchema.safeParse(json)
  if (checked.success) return checked.data
  const [issue] = checked.error.issues
  throw corruptKeystore(path, `${issue?.path.join('.') || 'the file'}: ${issue?.message}`)
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

async function deriveScrypt(
  password: string,
  { salt, n, r, p, dklen }: { salt: Uint8Array; n: number; r: number; p: number; dklen: number },
): Promise<Uint8Array> {
  const text = password.normalize('NFKC')
  const maxmem = 128 * r * (n + p) + 2 ** 20
  // RFC 7914 wants N < 2^(16 r), and OpenSSL insists; early wallets wrote r = 1 with a larger N.
  if (n >= 2 ** (16 * r)) return scryptAsync(text, salt, { N: n, r, p, dkLen: dklen, maxmem })
  return new Promise((resolve, reject) => {
    scrypt(text, salt, dklen, { N: n, r, p, maxmem }, (error, key) => (error ? reject(error) : resolve(key)))
  })
}

function macOf(derived: Uint8Array, ciphertext: Uint8Array): Buffer {
  return Buffer.from(keccak_256(Buffer.concat([derived.subarray(16, 32), ciphertext])))
}

/** `KEYSTORE_CORRUPT`: the file at `path` is no keystore, for `reason`. */
export function corruptKeystore(path: string, reason: string, cause?: unknown): KeyError {
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
