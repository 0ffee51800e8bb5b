import { createCipheriv, createDecipheriv } from 'node:crypto'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { concatBytes } from '@noble/hashes/utils.js'
import { type Hash, type Hex, toHex } from '../../hex.ts'
import { recoverSigner, sameAddress } from '../signature.ts'
import { FineTuningFormatError } from './error.ts'

/** Bytes of plaintext under one tag. */
export const ARTEFACT_CHUNK_BYTES = 64 * 2 ** 20
export const ARTEFACT_TAG_BYTES = 16
export const ARTEFACT_SIGNATURE_BYTES = 65
export const ARTEFACT_IV_BYTES = 12
/** Signature and first iv, in front of the chunks. */
export const ARTEFACT_HEADER_BYTES = ARTEFACT_SIGNATURE_BYTES + ARTEFACT_IV_BYTES

/** A place of an encrypted artefact. */
export interface ArtefactChunk {
  index: number
  /** In the encrypted file. */
  offset: number
  /** With its tag. */
  sizeBytes: number
}

/**
 * Encrypts one chunk of a finished model: AES-256-GCM, ciphertext ‖ tag. The iv of each chunk is that of the one before
 * plus one, as a big-endian integer (compute.md §4.6).
 */
export function sealChunk(parameters: { key: Uint8Array; iv: Uint8Array; index: number; plain: Uint8Array }) {
  const { key, iv, index, plain } = parameters
  const cipher = createCipheriv('aes-256-gcm', key, ivAt(iv, index))
  const body = cipher.update(plain)
  cipher.final()
  return { body, tag: new Uint8Array(cipher.getAuthTag()) }
}

/** @throws FineTuningFormatError `ARTEFACT_KEY` */
export function openChunk(parameters: { key: Uint8Array; iv: Uint8Array; index: number; sealed: Uint8Array }) {
  const { key, iv, index, sealed } = parameters
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, ivAt(iv, index))
    decipher.setAuthTag(sealed.subarray(-ARTEFACT_TAG_BYTES))
    const plain = decipher.update(sealed.subarray(0, -ARTEFACT_TAG_BYTES))
    decipher.final()
    return plain
  } catch (cause) {
    throw new FineTuningFormatError({
      code: 'ARTEFACT_KEY',
      message: `chunk ${index} of the artefact does not open with this key`,
      fix: 'use the key of this task; fetch the artefact again if it may be damaged',
      details: { index },
      cause,
    })
  }
}

/** Where the chunks of an encrypted artefact lie. @throws FineTuningFormatError `ARTEFACT_FORMAT` */
export function artefactChunks(sizeBytes: number): ArtefactChunk[] {
  const chunks: ArtefactChunk[] = []
  for (let offset = ARTEFACT_HEADER_BYTES; offset < sizeBytes; ) {
    const size = Math.min(ARTEFACT_CHUNK_BYTES + ARTEFACT_TAG_BYTES, sizeBytes - offset)
    chunks.push({ index: chunks.length, offset, sizeBytes: size })
    offset += size
  }
  const last = chunks.at(-1)
  if (last !== undefined && last.sizeBytes > ARTEFACT_TAG_BYTES) return chunks
  throw new FineTuningFormatError({
    code: 'ARTEFACT_FORMAT',
    message: `an encrypted artefact of ${sizeBytes} bytes is cut short`,
    fix: 'fetch it again',
    details: { sizeBytes },
  })
}

/** What the signer signs, without prefix: keccak-256 of all tags in order. */
export function artefactDigest(tags: readonly Uint8Array[]): Hash {
  return toHex(keccak_256(concatBytes(...tags)))
}

/** @throws FineTuningFormatError `ARTEFACT_SIGNATURE` unless `signer` signed the tags */
export function verifyArtefactSignature(parameters: {
  signer: Hex
  signature: Uint8Array
  tags: readonly Uint8Array[]
}): void {
  const { signer, signature, tags } = parameters
  try {
    const found = recoverSigner({ digest: artefactDigest(tags), signature: toHex(signature), zeroBased: true })
    if (sameAddress(found, signer)) return
  } catch {
    // Not a signature at all is told in the same words.
  }
  throw new FineTuningFormatError({
    code: 'ARTEFACT_SIGNATURE',
    message: `the artefact is not signed by ${signer}, the signer of its provider`,
    fix: 'do not use it, and do not acknowledge it',
    details: { signer },
  })
}

function ivAt(iv: Uint8Array, index: number): Uint8Array {
  const out = Uint8Array.from(iv)
  let carry = index
  for (let i = out.length - 1; i >= 0 && carry > 0; i--) {
    const sum = (out[i] ?? 0) + carry
    out[i] = sum & 0xff
    carry = sum >>> 8
  }
  return out
}
