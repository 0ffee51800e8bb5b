import { createHmac, timingSafeEqual } from 'node:crypto'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import type { LocalAccount } from 'viem'
import { fromHex, type Hex } from '#protocol/hex.ts'
import type { ByteSource } from '#protocol/storage/byte-source.ts'
import {
  type DecryptionKeys,
  decryptionKey,
  EncryptionError,
  type EncryptionHeader,
  type EncryptionKey,
  encryptedSource,
  HEADER_BYTES,
  parseEncryptionHeader,
  recipientEncryption,
} from '#protocol/storage/encryption.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { DecryptionKeyError } from './errors.ts'

/** For whom a file is encrypted: holders of a 32-byte key, or the holder of a secp256k1 private key. */
export type Encryption = { symmetricKey: Uint8Array } | { recipient: Uint8Array }

/** Keys of a reader. */
export interface Decryption extends DecryptionKeys {
  /**
   * Take a key that cannot be checked. Files of this client carry four bytes that tell a right key from a wrong one;
   * files encrypted by other programs do not. Default false: such a file is refused.
   */
  allowUnverified?: boolean | undefined
}

/** Bytes of the nonce that are the check. */
const CHECK_BYTES = 4
const NONCE_LABEL = 'weightless/storage/nonce/v1'
const CHECK_LABEL = 'weightless/storage/key-check/v1'
const EPHEMERAL_MESSAGE =
  'Weightless storage: secret for encrypting uploads, version 1. Sign this only in the Weightless client.'

/**
 * A source that encrypts as it is read, in the format of 0G's clients (storage-node.md §5.6).
 *
 * The nonce is drawn from key and content rather than at random, so the same file for the same reader encrypts to the
 * same stream: an upload that is repeated has the same root and is not paid twice. It tells onlookers no more than that
 * two uploads are equal. For a recipient the ephemeral key comes from a signature of `account` over a fixed text, and
 * is random without one: then a repeated upload is new content.
 *
 * @example
 * const source = await encryptSource({ source: await fileSource('secret.pdf'), encryption: { symmetricKey } })
 */
export async function encryptSource({
  source,
  encryption,
  account,
  signal,
}: EncryptSourceParameters): Promise<ByteSource> {
  const { root, sizeBytes } = await buildFileTree({ source, signal })
  const content = `${root}/${sizeBytes}`
  if ('symmetricKey' in encryption) {
    const key = encryption.symmetricKey
    // Refuses keys of a wrong length before anything is read.
    decryptionKey({ header: { version: 1, nonce: new Uint8Array(16) }, keys: { symmetricKey: key } })
    return encryptedSource({ source, key, header: { version: 1, nonce: nonceFor(key, content) } })
  }
  const { header, key } = await recipientKey({ recipient: encryption.recipient, account, content })
  return encryptedSource({ source, key, header: { ...header, nonce: nonceFor(key, content) } })
}

export interface EncryptSourceParameters {
  source: ByteSource
  encryption: Encryption
  account?: LocalAccount | undefined
  signal?: AbortSignal | undefined
}

/** Opens what a file's header promises: where its plaintext begins and with which key. */
export interface OpenedEncryption {
  key: Uint8Array
  nonce: Uint8Array
  headerBytes: number
}

/**
 * The key and nonce for a stored stream, from its first bytes.
 *
 * @throws DecryptionKeyError `KEY_DOES_NOT_FIT`, saying which kind of key the file needs
 */
export function openEncryption({ head, decryption }: { head: Uint8Array; decryption: Decryption }): OpenedEncryption {
  let header: EncryptionHeader
  let key: Uint8Array
  try {
    header = parseEncryptionHeader(head)
    key = decryptionKey({ header, keys: decryption })
  } catch (cause) {
    if (!(cause instanceof EncryptionError)) throw cause
    throw new DecryptionKeyError({
      message: `the file cannot be decrypted: ${cause.message}`,
      fix: cause.fix ?? 'give the right key',
      details: { ...cause.details },
      cause,
    })
  }
  const check = checkFor(key, header.nonce.subarray(0, -CHECK_BYTES))
  if (!timingSafeEqual(check, header.nonce.subarray(-CHECK_BYTES)) && decryption.allowUnverified !== true) {
    throw new DecryptionKeyError({
      message:
        'the key does not fit this file, or the file was encrypted by another program, whose keys cannot be checked',
      fix: 'give the right key; for a file of another program allow an unverified key (--allow-unverified-key) and look at the result',
      details: { version: header.version },
    })
  }
  return { key, nonce: header.nonce, headerBytes: HEADER_BYTES[header.version] }
}

/** 12 bytes that depend on key and content, then 4 by which a reader's key is checked. */
function nonceFor(key: Uint8Array, content: string): Uint8Array {
  const unique = createHmac('sha256', key)
    .update(`${NONCE_LABEL}/${content}`)
    .digest()
    .subarray(0, 16 - CHECK_BYTES)
  return Uint8Array.from([...unique, ...checkFor(key, unique)])
}

function checkFor(key: Uint8Array, unique: Uint8Array): Buffer {
  return createHmac('sha256', key).update(CHECK_LABEL).update(unique).digest().subarray(0, CHECK_BYTES)
}

async function recipientKey({
  recipient,
  account,
  content,
}: {
  recipient: Uint8Array
  account: LocalAccount | undefined
  content: string
}): Promise<EncryptionKey & { header: { version: 2 } }> {
  const fresh = recipientEncryption(recipient)
  if (fresh.header.version !== 2) throw new TypeError('a recipient needs version 2')
  if (account === undefined) return { header: fresh.header, key: fresh.key }
  const secret = fromHex(await account.signMessage({ message: EPHEMERAL_MESSAGE }))
  const publicKey = secp256k1.Point.fromBytes(
    recipient.length === 64 ? Uint8Array.of(4, ...recipient) : recipient,
  ).toBytes(true)
  const seed = createHmac('sha512', secret).update(publicKey).update(content).digest()
  const ephemeral = secp256k1.keygen(seed.subarray(0, 48))
  const header = { ...fresh.header, ephemeralPublicKey: ephemeral.publicKey }
  // Diffie-Hellman is symmetric: the key a reader derives from our public key is the one we derive from theirs.
  const key = decryptionKey({
    header: { ...header, ephemeralPublicKey: publicKey },
    keys: { privateKey: ephemeral.secretKey },
  })
  return { header, key }
}

/** A 32-byte key out of text: 64 hex digits, with or without 0x. Undefined when it is none. */
export function parseSymmetricKey(text: string): Uint8Array | undefined {
  const digits = text.trim().replace(/^0x/i, '')
  return /^[0-9a-fA-F]{64}$/.test(digits) ? fromHex(`0x${digits}` as Hex) : undefined
}
