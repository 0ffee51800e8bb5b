import { type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts'
import { readEnvironment } from '../config/environment.ts'
import { atomicWrite, FileError, readSmallFile } from '../files.ts'
import { KeyError } from './key-error.ts'
import { checkPrivateKey, newPrivateKey } from './private-key.ts'
import { corruptKeystore, openPrivateKey, sealPrivateKey } from './web3-secret.ts'

export { KeyError } from './key-error.ts'
export { checkPrivateKey } from './private-key.ts'

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
  scryptN,
}: CreateKeystoreParameters): Promise<{ address: Hex; path: string }> {
  if (password.length < 8) {
    const fix = 'choose a longer one'
    throw new KeyError({ code: 'PASSWORD_MISSING', message: 'the password has fewer than 8 characters', fix })
  }
  const key = privateKey === undefined ? newPrivateKey() : checkPrivateKey(privateKey)
  const { address, text } = await sealPrivateKey({ privateKey: key, password, scryptN })
  try {
    await atomicWrite({ path, data: text, mode: 0o600, exclusive: true })
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
  return openPrivateKey({ path, text: await readKeystore(path), password })
}

export interface ResolveSignerParameters {
  /** Default the environment with `.env` beneath it. Read: `WEIGHTLESS_PRIVATE_KEY`, `WEIGHTLESS_KEYSTORE`, `WEIGHTLESS_KEYSTORE_PASSWORD`,
   *  `WEIGHTLESS_KEYSTORE_PASSWORD_FILE`. */
  env?: Readonly<Record<string, string | undefined>> | undefined
  /** A keystore named by flag or configuration; wins over the environment. */
  keystorePath?: string | undefined
  /** A file whose first line is the keystore's password. */
  passwordFile?: string | undefined
  /** A private key from a configuration file, where an operator keeps one; wins over the environment. */
  privateKey?: string | undefined
  /** Asks a person when no password is given. Undefined or an empty answer: none. */
  promptPassword?: ((question: string) => Promise<string | undefined>) | undefined
}

/**
 * The account that signs, from the first of: `keystorePath`, `privateKey`, `WEIGHTLESS_PRIVATE_KEY`,
 * `WEIGHTLESS_KEYSTORE`. Keys and passwords are never taken from the command line, where other users can see them.
 *
 * @throws KeyError `SIGNER_MISSING` when none is given, `PASSWORD_MISSING`, `PASSWORD_FILE`, and those of `openKeystore`.
 * @example
 * const account = await resolveSigner({ keystorePath: 'keys/miner.json', passwordFile: '/run/secrets/miner' })
 */
export async function resolveSigner({
  env = readEnvironment(),
  keystorePath,
  passwordFile,
  privateKey,
  promptPassword,
}: ResolveSignerParameters = {}): Promise<PrivateKeyAccount> {
  const plain = keystorePath === undefined ? (privateKey ?? given(env.WEIGHTLESS_PRIVATE_KEY)) : undefined
  if (plain !== undefined) return privateKeyToAccount(checkPrivateKey(plain))
  const path = keystorePath ?? given(env.WEIGHTLESS_KEYSTORE)
  if (path === undefined) {
    throw new KeyError({
      code: 'SIGNER_MISSING',
      message: 'no key is given to sign with',
      fix: 'give --keystore FILE (make one with: weightless key new), or set WEIGHTLESS_KEYSTORE or WEIGHTLESS_PRIVATE_KEY',
    })
  }
  const file = passwordFile ?? given(env.WEIGHTLESS_KEYSTORE_PASSWORD_FILE)
  const password =
    file !== undefined
      ? await readPassword(file)
      : (given(env.WEIGHTLESS_KEYSTORE_PASSWORD) ?? given(await promptPassword?.(`Password of ${path}: `)))
  if (password === undefined) {
    throw new KeyError({
      code: 'PASSWORD_MISSING',
      message: `no password is given for ${path}`,
      fix: 'give --password-file FILE, or set WEIGHTLESS_KEYSTORE_PASSWORD_FILE or WEIGHTLESS_KEYSTORE_PASSWORD',
      details: { path },
    })
  }
  return privateKeyToAccount((await openKeystore({ path, password })).privateKey)
}

async function readPassword(path: string): Promise<string> {
  try {
    const [line = ''] = (await readSmallFile({ path, maxBytes: 4_096 })).split(/\r?\n/)
    if (line !== '') return line
  } catch (cause) {
    if (!(cause instanceof FileError)) throw cause
    const fix = 'check the path and its permissions'
    throw new KeyError({
      code: 'PASSWORD_FILE',
      message: `the password file: ${cause.message}`,
      fix,
      details: { path },
      cause,
    })
  }
  const fix = "put the password on the file's first line"
  throw new KeyError({ code: 'PASSWORD_FILE', message: `the password file ${path} is empty`, fix, details: { path } })
}

function given(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text
}

async function readKeystore(path: string): Promise<string> {
  try {
    return await readSmallFile({ path, maxBytes: 65_536 })
  } catch (cause) {
    if (cause instanceof FileError && cause.code === 'FILE_RANGE') throw corruptKeystore(path, 'it is too large', cause)
    if (!(cause instanceof FileError) || cause.code !== 'FILE_MISSING') throw cause
    const fix = 'check the path, or make a key with: weightless key new'
    throw new KeyError({
      code: 'KEYSTORE_MISSING',
      message: `there is no keystore at ${path}`,
      fix,
      details: { path },
      cause,
    })
  }
}
