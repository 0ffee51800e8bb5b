import { createCipheriv, randomBytes } from 'node:crypto'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { WeightlessError } from '../error.ts'
import type { ByteSource } from './byte-source.ts'

/**
 * Client-side encryption as 0G's clients do it (storage-node §5.6): header ‖ AES-256-CTR ciphertext. The stored stream
 * is what the root and the size are of. It hides content, not size, and does not authenticate: the file root does.
 *
 * - version 1, for holders of a 32-byte key: `01 ‖ nonce 16`
 * - version 2, for the holder of a secp256k1 key: `02 ‖ ephemeral public key 33 ‖ nonce 16`; the AES key is
 *   HKDF-SHA256 of the x coordinate of the Diffie-Hellman point
 */
export type EncryptionHeader =
  | { version: 1; nonce: Uint8Array }
  | { version: 2; nonce: Uint8Array; ephemeralPublicKey: Uint8Array }

/** Keys of a reader; which one is needed, the header says. */
export interface DecryptionKeys {
  /** 32 bytes, for version 1. */
  symmetricKey?: Uint8Array | undefined
  /** secp256k1 private key of 32 bytes, for version 2. */
  privateKey?: Uint8Array | undefined
}

/** Codes `ENCRYPTION_HEADER`, `ENCRYPTION_KEY`, `ENCRYPTION_KEY_MISSING`. Keys are never part of an error. */
export class EncryptionError extends WeightlessError {}

const NONCE_BYTES = 16
const PUBLIC_KEY_BYTES = 33
const KEY_BYTES = 32
const BLOCK_BYTES = 16

const KEY_INFO = new TextEncoder().encode('0g-storage-client/ecies/v1/aes-256')

/** Bytes of the header of each version. */
export const HEADER_BYTES = { 1: 1 + NONCE_BYTES, 2: 1 + PUBLIC_KEY_BYTES + NONCE_BYTES } as const

/** Bytes from the front of a file that are enough to parse any header. */
export const MAX_HEADER_BYTES = HEADER_BYTES[2]

/** The header as stored. */
export function encodeEncryptionHeader(header: EncryptionHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES[header.version])
  bytes[0] = header.version
  if (header.version === 2) bytes.set(header.ephemeralPublicKey, 1)
  bytes.set(header.nonce, bytes.length - NONCE_BYTES)
  return bytes
}

/**
 * The header at the front of a stored stream. Nothing tells an encrypted file from any other: only parse what should
 * be encrypted.
 *
 * @throws EncryptionError `ENCRYPTION_HEADER`
 */
export function parseEncryptionHeader(bytes: Uint8Array): EncryptionHeader {
  const version = bytes[0]
  if (version !== 1 && version !== 2) {
    throw headerError(version === undefined ? 'an empty file has no encryption header' : `${version} is no version`)
  }
  if (bytes.length < HEADER_BYTES[version]) {
    throw headerError(`a header of version ${version} has ${HEADER_BYTES[version]} bytes, the file ${bytes.length}`)
  }
  const nonce = bytes.slice(HEADER_BYTES[version] - NONCE_BYTES, HEADER_BYTES[version])
  if (version === 1) return { version, nonce }
  return { version, nonce, ephemeralPublicKey: bytes.slice(1, 1 + PUBLIC_KEY_BYTES) }
}

/** A key with the header that goes before what it encrypts. */
export interface EncryptionKey {
  header: EncryptionHeader
  /** AES-256 key. */
  key: Uint8Array
}

/**
 * A fresh header for a symmetric key.
 *
 * @throws EncryptionError `ENCRYPTION_KEY` when the key is not 32 bytes
 */
export function symmetricEncryption(symmetricKey: Uint8Array): EncryptionKey {
  checkKey(symmetricKey, 'symmetricKey')
  return { header: { version: 1, nonce: Uint8Array.from(randomBytes(NONCE_BYTES)) }, key: symmetricKey }
}

/**
 * A fresh header and key that only the holder of the private key can derive again.
 *
 * @param publicKey secp256k1, compressed (33 bytes) or not (65, or 64 without the prefix)
 * @throws EncryptionError `ENCRYPTION_KEY` when it is no point of the curve
 */
export function recipientEncryption(publicKey: Uint8Array): EncryptionKey {
  const ephemeral = secp256k1.keygen()
  const header: EncryptionHeader = {
    version: 2,
    nonce: Uint8Array.from(randomBytes(NONCE_BYTES)),
    ephemeralPublicKey: ephemeral.publicKey,
  }
  return { header, key: sharedKey({ privateKey: ephemeral.secretKey, publicKey: compressedKey(publicKey) }) }
}

/**
 * The AES key for a header.
 *
 * @throws EncryptionError `ENCRYPTION_KEY_MISSING` when the header needs a key that is not given, `ENCRYPTION_KEY`
 */
export function decryptionKey({ header, keys }: DecryptionKeyParameters): Uint8Array {
  if (header.version === 1) {
    if (!keys.symmetricKey) throw missingKey('a 32-byte symmetric key', 'symmetricKey')
    checkKey(keys.symmetricKey, 'symmetricKey')
    return keys.symmetricKey
  }
  if (!keys.privateKey) throw missingKey('the private key of its recipient', 'privateKey')
  checkKey(keys.privateKey, 'privateKey')
  return sharedKey({ privateKey: keys.privateKey, publicKey: header.ephemeralPublicKey })
}

export interface DecryptionKeyParameters {
  header: EncryptionHeader
  keys: DecryptionKeys
}

/**
 * Encrypts or decrypts (the same operation) bytes that stand `offset` bytes after the header. Gives new bytes; about a
 * gigabyte a second.
 *
 * @throws EncryptionError `ENCRYPTION_KEY` when the key is not 32 bytes
 */
export function cryptAt({ key, nonce, offset, data }: CryptAtParameters): Uint8Array {
  checkKey(key, 'key')
  const skip = offset % BLOCK_BYTES
  const cipher = createCipheriv('aes-256-ctr', key, counterAt(nonce, (offset - skip) / BLOCK_BYTES))
  if (skip > 0) cipher.update(new Uint8Array(skip))
  return cipher.update(data)
}

export interface CryptAtParameters {
  /** AES-256 key. */
  key: Uint8Array
  nonce: Uint8Array
  /** Bytes of plaintext before `data`. */
  offset: number
  data: Uint8Array
}

/** A source of the encrypted stream of another source, encrypted as it is read: header, then ciphertext. */
export function encryptedSource({ source, header, key }: EncryptedSourceParameters): ByteSource {
  const head = encodeEncryptionHeader(header)
  const sizeBytes = head.length + source.sizeBytes
  const read = async ({ offset, length }: { offset: number; length: number }): Promise<Uint8Array> => {
    const end = Math.min(offset + length, sizeBytes)
    const bytes = new Uint8Array(Math.max(0, end - offset))
    bytes.set(head.subarray(offset, end))
    const from = Math.max(0, offset - head.length)
    const bodyBytes = end - head.length - from
    if (bodyBytes > 0) {
      const plain = await source.read({ offset: from, length: bodyBytes })
      bytes.set(cryptAt({ key, nonce: header.nonce, offset: from, data: plain }), bytes.length - bodyBytes)
    }
    return bytes
  }
  return { sizeBytes, read }
}

export interface EncryptedSourceParameters extends EncryptionKey {
  /** Plaintext. */
  source: ByteSource
}

/**
 * Decrypts a stored stream piece by piece, in order and in pieces of any size.
 *
 * @example
 * const decryptor = new StreamDecryptor({ symmetricKey })
 * for await (const piece of download) yield decryptor.push(piece)
 * decryptor.end()
 */
export class StreamDecryptor {
  readonly #keys: DecryptionKeys
  #pending = new Uint8Array(0)
  #opened: { key: Uint8Array; nonce: Uint8Array } | undefined
  #offset = 0

  constructor(keys: DecryptionKeys) {
    this.#keys = keys
  }

  /**
   * The plaintext of the next piece; empty while the header is not complete.
   *
   * @throws EncryptionError
   */
  push(piece: Uint8Array): Uint8Array {
    const data = this.#opened ? piece : this.#open(piece)
    if (!this.#opened || data.length === 0) return new Uint8Array(0)
    const plain = cryptAt({ ...this.#opened, offset: this.#offset, data })
    this.#offset += plain.length
    return plain
  }

  /** @throws EncryptionError `ENCRYPTION_HEADER` when the stream ended inside the header */
  end(): void {
    if (!this.#opened) parseEncryptionHeader(this.#pending)
  }

  #open(piece: Uint8Array): Uint8Array {
    const bytes = new Uint8Array(this.#pending.length + piece.length)
    bytes.set(this.#pending)
    bytes.set(piece, this.#pending.length)
    this.#pending = bytes
    const version = bytes[0]
    const wanted = version === 1 || version === 2 ? HEADER_BYTES[version] : 1
    if (bytes.length < wanted) return new Uint8Array(0)
    const header = parseEncryptionHeader(bytes)
    this.#opened = { key: decryptionKey({ header, keys: this.#keys }), nonce: header.nonce }
    this.#pending = new Uint8Array(0)
    return bytes.subarray(wanted)
  }
}

/** The nonce as a 128-bit big-endian number plus `blocks`, modulo 2^128. */
function counterAt(nonce: Uint8Array, blocks: number): Uint8Array {
  const counter = Uint8Array.from(nonce)
  let carry = blocks
  for (let i = counter.length - 1; i >= 0 && carry > 0; i--) {
    carry += counter[i] ?? 0
    counter[i] = carry % 256
    carry = Math.floor(carry / 256)
  }
  return counter
}

function sharedKey({ privateKey, publicKey }: { privateKey: Uint8Array; publicKey: Uint8Array }): Uint8Array {
  try {
    const point = secp256k1.getSharedSecret(privateKey, publicKey, true)
    return hkdf(sha256, point.subarray(1), undefined, KEY_INFO, KEY_BYTES)
  } catch {
    throw keyError('the private key or the public key is not one of secp256k1', 'privateKey')
  }
}

function compressedKey(publicKey: Uint8Array): Uint8Array {
  try {
    const prefixed = publicKey.length === 64 ? Uint8Array.of(4, ...publicKey) : publicKey
    return secp256k1.Point.fromBytes(prefixed).toBytes(true)
  } catch {
    throw keyError('the public key is no point of secp256k1', 'publicKey')
  }
}

function checkKey(key: Uint8Array, field: string): void {
  if (key.length !== KEY_BYTES) throw keyError(`a key has ${KEY_BYTES} bytes, not ${key.length}`, field)
}

function keyError(message: string, field: string): EncryptionError {
  return new EncryptionError({ code: 'ENCRYPTION_KEY', message, details: { field } })
}

function missingKey(what: string, field: string): EncryptionError {
  return new EncryptionError({
    code: 'ENCRYPTION_KEY_MISSING',
    message: `this file needs ${what}`,
    fix: `give ${field}`,
    details: { field },
  })
}

function headerError(what: string): EncryptionError {
  return new EncryptionError({
    code: 'ENCRYPTION_HEADER',
    message: `the file does not begin with an encryption header: ${what}`,
    fix: 'download it without decryption',
  })
}
