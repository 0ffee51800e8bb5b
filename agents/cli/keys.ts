import { resolve } from 'node:path'
import type { Decryption, Encryption } from '#client/storage/encryption.ts'
import { parseSymmetricKey } from '#client/storage/encryption.ts'
import { WeightlessError } from '#protocol/error.ts'
import { fromHex } from '#protocol/hex.ts'
import { askSecret } from './ask.ts'
import type { CliIo } from './io.ts'

/** Flags that say for whom a file is encrypted. */
export interface EncryptionOptions {
  encrypt?: boolean
  keyFile?: string
  recipient?: string
}

/**
 * What an upload is encrypted with: `--recipient`, or with `--encrypt` the key of `--key-file` or
 * `WEIGHTLESS_ENCRYPTION_KEY`. Keys are never taken from the command line.
 *
 * @throws WeightlessError `CLI_USAGE`
 */
export async function encryptionOf({
  options,
  io,
}: {
  options: EncryptionOptions
  io: CliIo
}): Promise<Encryption | undefined> {
  if (options.recipient !== undefined) {
    if (options.keyFile !== undefined) throw usage('--recipient and --key-file exclude each other', 'give one of them')
    return { recipient: publicKey(options.recipient) }
  }
  if (options.encrypt !== true && options.keyFile === undefined) return undefined
  const symmetricKey = await symmetricKeyOf({ keyFile: options.keyFile, io })
  if (symmetricKey !== undefined) return { symmetricKey }
  throw usage(
    'no key is given to encrypt with',
    'give --key-file FILE with 64 hex digits (openssl rand -hex 32 > FILE), set WEIGHTLESS_ENCRYPTION_KEY, or use --recipient',
  )
}

/** Flags that say how a download is decrypted. */
export interface DecryptionOptions {
  decryptKeyFile?: string
  decryptKeystore?: string
  passwordFile?: string
  decrypt?: boolean
  allowUnverifiedKey?: boolean
}

/**
 * Keys of a reader: a symmetric key from `--decrypt-key-file` or, with `--decrypt`, from `WEIGHTLESS_ENCRYPTION_KEY`; a
 * private key from `--decrypt-keystore` or, with `--decrypt`, from `WEIGHTLESS_PRIVATE_KEY`.
 */
export async function decryptionOf({
  options,
  io,
}: {
  options: DecryptionOptions
  io: CliIo
}): Promise<Decryption | undefined> {
  const wanted =
    options.decrypt === true || options.decryptKeyFile !== undefined || options.decryptKeystore !== undefined
  if (!wanted) return undefined
  const symmetricKey = await symmetricKeyOf({ keyFile: options.decryptKeyFile, io })
  const privateKey = await privateKeyOf({ options, io })
  if (symmetricKey === undefined && privateKey === undefined) {
    throw usage(
      'no key is given to decrypt with',
      'give --decrypt-key-file or --decrypt-keystore, or set WEIGHTLESS_ENCRYPTION_KEY or WEIGHTLESS_PRIVATE_KEY',
    )
  }
  return { symmetricKey, privateKey, allowUnverified: options.allowUnverifiedKey }
}

async function symmetricKeyOf({
  keyFile,
  io,
}: {
  keyFile: string | undefined
  io: CliIo
}): Promise<Uint8Array | undefined> {
  const { readSmallFile } = await import('#kit/files.ts')
  const text =
    keyFile === undefined
      ? io.env.WEIGHTLESS_ENCRYPTION_KEY
      : await readSmallFile({ path: resolve(io.cwd, keyFile), maxBytes: 4_096 })
  if (text === undefined || text === '') return undefined
  const key = parseSymmetricKey(text)
  if (key !== undefined) return key
  throw usage(`${keyFile ?? 'WEIGHTLESS_ENCRYPTION_KEY'} holds no key`, 'a key is 32 bytes as 64 hex digits')
}

async function privateKeyOf({
  options,
  io,
}: {
  options: DecryptionOptions
  io: CliIo
}): Promise<Uint8Array | undefined> {
  const { checkPrivateKey, openKeystore } = await import('#kit/keys/keystore.ts')
  if (options.decryptKeystore === undefined) {
    const text = io.env.WEIGHTLESS_PRIVATE_KEY
    return text === undefined || text === '' ? undefined : fromHex(checkPrivateKey(text))
  }
  const { keystorePassword } = await import('./keystore-password.ts')
  const path = resolve(io.cwd, options.decryptKeystore)
  const password = await keystorePassword({
    passwordFile: options.passwordFile,
    io,
    ask: () => askSecret({ io, question: `Password of ${path}` }),
  })
  const { privateKey } = await openKeystore({ path, password })
  return fromHex(privateKey)
}

function publicKey(text: string): Uint8Array {
  const digits = text.trim().replace(/^0x/i, '')
  if (/^(0[23][0-9a-fA-F]{64}|04[0-9a-fA-F]{128}|[0-9a-fA-F]{128})$/.test(digits)) return fromHex(`0x${digits}`)
  throw usage(
    '--recipient is no public key',
    'give what `weightless key show` prints: 33 bytes as hex, beginning 02 or 03',
  )
}

function usage(message: string, fix: string): WeightlessError {
  return new WeightlessError({ code: 'CLI_USAGE', message, fix })
}
