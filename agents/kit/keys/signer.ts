import { type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts'
import { FileError, readSmallFile } from '../files.ts'
import { KeyError } from './key-error.ts'
import { checkPrivateKey, openKeystore } from './keystore.ts'

export interface ResolveSignerParameters {
  /** Default `process.env`. Read: `WEIGHTLESS_PRIVATE_KEY`, `WEIGHTLESS_KEYSTORE`, `WEIGHTLESS_KEYSTORE_PASSWORD`,
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
  env = process.env,
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
