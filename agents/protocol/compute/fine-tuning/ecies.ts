import { createCipheriv, createDecipheriv } from 'node:crypto'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes, randomBytes } from '@noble/hashes/utils.js'
import { FineTuningFormatError } from './error.ts'

const POINT_BYTES = 65
const NONCE_BYTES = 16
const TAG_BYTES = 16
const HEAD_BYTES = POINT_BYTES + NONCE_BYTES + TAG_BYTES
/** Largest plaintext: what is encrypted this way are keys. */
const MAX_PLAIN_BYTES = 65_536

/**
 * Encrypts a few bytes for the owner of a public key: ephemeral point (65, uncompressed) ‖ nonce (16) ‖ tag (16) ‖
 * ciphertext. AES-256-GCM with HKDF-SHA256 over ephemeral point ‖ shared point, no salt, no info (compute.md §4.6; the
 * layout of eciesjs 0.4 and of Go's ecies v2).
 */
export function eciesEncrypt({ publicKey, plain }: { publicKey: Uint8Array; plain: Uint8Array }): Uint8Array {
  const ephemeral = secp256k1.utils.randomSecretKey()
  const point = secp256k1.getPublicKey(ephemeral, false)
  const shared = secp256k1.getSharedSecret(ephemeral, publicKey, false)
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', derive(point, shared), nonce)
  const body = concatBytes(cipher.update(plain), cipher.final())
  return concatBytes(point, nonce, cipher.getAuthTag(), body)
}

/**
 * @throws FineTuningFormatError `SECRET_FORMAT` of the wrong shape, `SECRET_KEY` for another key, or changed
 */
export function eciesDecrypt({ secretKey, data }: { secretKey: Uint8Array; data: Uint8Array }): Uint8Array {
  if (data.length <= HEAD_BYTES || data.length > HEAD_BYTES + MAX_PLAIN_BYTES) {
    throw new FineTuningFormatError({
      code: 'SECRET_FORMAT',
      message: `an encrypted key has more than ${HEAD_BYTES} bytes, this has ${data.length}`,
      fix: 'wait until the task is settled: the key is on the chain then',
      details: { sizeBytes: data.length },
    })
  }
  const point = data.subarray(0, POINT_BYTES)
  const nonce = data.subarray(POINT_BYTES, POINT_BYTES + NONCE_BYTES)
  const tag = data.subarray(POINT_BYTES + NONCE_BYTES, HEAD_BYTES)
  try {
    const shared = secp256k1.getSharedSecret(secretKey, point, false)
    const decipher = createDecipheriv('aes-256-gcm', derive(point, shared), nonce)
    decipher.setAuthTag(tag)
    return concatBytes(decipher.update(data.subarray(HEAD_BYTES)), decipher.final())
  } catch (cause) {
    throw new FineTuningFormatError({
      code: 'SECRET_KEY',
      message: 'the encrypted key does not open with this account',
      fix: 'use the account that created the task',
      cause,
    })
  }
}

function derive(point: Uint8Array, shared: Uint8Array): Uint8Array {
  return hkdf(sha256, concatBytes(point, shared), undefined, undefined, 32)
}
