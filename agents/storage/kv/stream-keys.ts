import { createHmac } from 'node:crypto'
import { readSmallFile } from '#kit/files.ts'
import { checkPrivateKey, openKeystore } from '#kit/keys/keystore.ts'
import { fromHex, type Hex } from '#protocol/hex.ts'
import type { DecryptionKeys } from '#protocol/storage/encryption.ts'
import type { KvConfig } from './config.ts'
import { KvError } from './error.ts'

export interface StreamKeysParameters {
  encryption: KvConfig['encryption']
  /** Gives the password of the keystore, where one is configured. */
  password?: (() => Promise<string>) | undefined
}

const KEY_FILE_BYTES = 4_096
const FINGERPRINT_LABEL = 'weightless/kv/stream-key/v1'

/**
 * The key that opens the streams of this node, or undefined where the streams are not encrypted.
 *
 * @throws KvError `KV_KEY` when what is configured is no key; KeyError for keystores. No key is part of an error.
 */
export async function streamKeys({ encryption, password }: StreamKeysParameters): Promise<DecryptionKeys | undefined> {
  const { key, keyFile, walletKey, keystore } = encryption
  if (key !== undefined) return { symmetricKey: symmetricKey(key, 'encryption.key') }
  if (keyFile !== undefined) {
    const text = await readSmallFile({ path: keyFile, maxBytes: KEY_FILE_BYTES })
    return { symmetricKey: symmetricKey(text, keyFile) }
  }
  if (walletKey !== undefined) return { privateKey: fromHex(checkPrivateKey(walletKey)) }
  if (keystore === undefined) return undefined
  if (password === undefined) {
    throw new KvError({ code: 'KV_KEY', message: `nobody gives the password of ${keystore}`, details: { keystore } })
  }
  const { privateKey } = await openKeystore({ path: keystore, password: await password() })
  return { privateKey: fromHex(privateKey) }
}

/** Tells one key from another without giving it away: a keyed hash. `none` without a key. */
export function keyFingerprint(keys: DecryptionKeys | undefined): string {
  const key = keys?.symmetricKey ?? keys?.privateKey
  if (key === undefined) return 'none'
  const kind = keys?.symmetricKey === undefined ? 'wallet' : 'symmetric'
  return `${kind}-${createHmac('sha256', key).update(FINGERPRINT_LABEL).digest('hex').slice(0, 32)}`
}

function symmetricKey(text: string, where: string): Uint8Array {
  const digits = text.trim().replace(/^0x/i, '')
  if (/^[0-9a-fA-F]{64}$/.test(digits)) return fromHex(`0x${digits}` as Hex)
  throw new KvError({
    code: 'KV_KEY',
    message: `${where} holds no key`,
    fix: 'a key is 32 bytes as 64 hex digits (openssl rand -hex 32)',
    details: { where },
  })
}
