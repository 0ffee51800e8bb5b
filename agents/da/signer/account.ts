import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { keccak256, stringToBytes } from 'viem'
import { readSmallFile } from '#kit/files.ts'
import { devPrivateKey } from '#kit/keys/agent-account.ts'
import { createKeystore, KeyError, openKeystore } from '#kit/keys/keystore.ts'
import { fromHex, toHex } from '#protocol/hex.ts'
import type { SignerConfig } from './config.ts'
import { SignerError } from './error.ts'

/** Order of BN254's groups; a secret lies in 1 … r − 1. */
const BN254_ORDER = 21888242871839275222246405745257275088548364400416034343698204186575808495617n

type KeySettings = Pick<SignerConfig, 'key' | 'bls' | 'chain' | 'data'>

interface KeyContext {
  config: KeySettings
  env: Readonly<Record<string, string | undefined>>
  promptPassword?: ((question: string) => Promise<string | undefined>) | undefined
}

/**
 * The secret that signs blobs, 32 bytes. It is kept encrypted, as Web3 Secret Storage version 3; a missing keystore is
 * made with a new random secret. The password is that of `bls.passwordFile`, else of the account's.
 *
 * @throws KeyError; SignerError `SIGNER_KEY`
 */
export async function blsSecret({
  config,
  env,
  promptPassword,
  scryptN,
}: KeyContext & { scryptN?: number | undefined }): Promise<Uint8Array> {
  const { keystore, passwordFile, devAccount } = config.bls
  if (devAccount !== undefined) {
    const digest = BigInt(
      keccak256(
        stringToBytes(
          `weightless da ${devPrivateKey({ chain: config.chain, setting: 'bls.devAccount', index: devAccount })}`,
        ),
      ),
    )
    return fromHex(`0x${((digest % (BN254_ORDER - 1n)) + 1n).toString(16).padStart(64, '0')}`)
  }
  const path = keystore ?? defaultBlsKeystore(config)
  const password = await blsPassword({ path, env, promptPassword, file: passwordFile ?? config.key.passwordFile })
  if (!existsSync(path)) {
    await createKeystore({ path, password, privateKey: toHex(newSecret()), scryptN })
  }
  const secret = fromHex((await openKeystore({ path, password })).privateKey)
  if (isSecret(secret)) return secret
  throw new SignerError({
    code: 'SIGNER_KEY',
    message: `the key in ${path} is too large for BN254`,
    fix: 'name another file with bls.keystore: a fitting one is made when it is missing',
    details: { path },
  })
}

/** Beside the account's keystore, where backups are made: an account can never have another BLS key. */
function defaultBlsKeystore({ key, data }: KeySettings): string {
  if (key.keystore === undefined) return join(data.dir, 'bls.json')
  return `${key.keystore.replace(/\.json$/i, '')}.bls.json`
}

async function blsPassword({
  path,
  file,
  env,
  promptPassword,
}: { path: string; file: string | undefined } & Omit<KeyContext, 'config'>): Promise<string> {
  const named = file ?? (env.WEIGHTLESS_KEYSTORE_PASSWORD_FILE || undefined)
  const given =
    named === undefined
      ? env.WEIGHTLESS_KEYSTORE_PASSWORD || (await promptPassword?.(`Password of ${path}: `))
      : (await readSmallFile({ path: named, maxBytes: 4_096 })).split(/\r?\n/)[0]
  if (given) return given
  throw new KeyError({
    code: 'PASSWORD_MISSING',
    message: `no password is given for ${path}`,
    fix: 'set bls.passwordFile or key.passwordFile, or WEIGHTLESS_KEYSTORE_PASSWORD_FILE in the environment',
    details: { path },
  })
}

function newSecret(): Uint8Array {
  for (;;) {
    const bytes = randomBytes(32)
    // Uniform below the order: about four tries in five are too large.
    if (isSecret(bytes)) return bytes
  }
}

function isSecret(bytes: Uint8Array): boolean {
  const value = BigInt(toHex(bytes))
  return value > 0n && value < BN254_ORDER
}
