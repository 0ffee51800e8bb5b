import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { encodePacked, getAddress, keccak256, stringToHex } from 'viem'
import { fromHex, type Hash, type Hex, toHex } from '../../hex.ts'
import { type MessageSigner, personalDigest, sameAddress } from '../signature.ts'
import { FineTuningFormatError } from './error.ts'

/** Oldest and furthest timestamp of a signed request, in seconds from the server's clock (compute.md §4.2). */
export const TIMESTAMP_WINDOW_S = { past: 300, future: 60 } as const

/** What a user signs to create a task: packed user, nonce (32 bytes), dataset hash as text. */
export function createTaskDigest(parameters: { user: Hex; nonce: bigint; datasetHash: string }): Hash {
  const { user, nonce, datasetHash } = parameters
  return keccak256(encodePacked(['address', 'uint256', 'string'], [user, nonce, datasetHash]))
}

/** What a user signs to cancel a task: the 16 bytes of its id. */
export function cancelTaskDigest({ id }: { id: string }): Hash {
  return keccak256(`0x${id.replaceAll('-', '')}`)
}

/** What a user signs to send a dataset: its address with checksum, then the time in seconds. */
export function datasetUploadDigest({ user, timestampS }: { user: Hex; timestampS: number }): Hash {
  return keccak256(stringToHex(`${getAddress(user)}${timestampS}`))
}

/** What a user signs to fetch an artefact: the task's id without hyphens, then the time in seconds. */
export function artefactDownloadDigest({ id, timestampS }: { id: string; timestampS: number }): Hash {
  return keccak256(stringToHex(`${id.replaceAll('-', '')}${timestampS}`))
}

/** The user's signature of a digest: `personal_sign` over its 32 bytes. */
export async function signTaskDigest({ signer, digest }: { signer: MessageSigner; digest: Hash }): Promise<Hex> {
  return await signer.signMessage({ message: { raw: digest } })
}

/**
 * Checks who signed a digest and gives the signer's public key (65 bytes, uncompressed): what keys are encrypted for.
 *
 * A public client signs the digest without its leading zero bytes, one time in 256; that form is accepted too.
 *
 * @throws FineTuningFormatError `TASK_SIGNATURE`
 */
export function verifyTaskSignature(parameters: { user: Hex; digest: Hash; signature: string }): Uint8Array {
  const { user, digest, signature } = parameters
  const bytes = fromHex(digest, { byteLength: 32, field: 'digest' })
  const stripped = bytes.subarray(bytes.findIndex((byte) => byte !== 0))
  for (const message of stripped.length === bytes.length ? [bytes] : [bytes, stripped]) {
    const key = recoverPublicKey({ digest: personalDigest(message), signature })
    if (key !== undefined && sameAddress(addressOf(key), user)) return key
  }
  throw new FineTuningFormatError({
    code: 'TASK_SIGNATURE',
    message: `this is not signed by ${user}`,
    fix: 'sign with the key of the account that the path names',
    details: { field: 'signature' },
  })
}

/** The address (lower case) of an uncompressed public key. */
export function addressOf(publicKey: Uint8Array): Hex {
  return toHex(keccak_256(publicKey.subarray(1)).subarray(12))
}

/**
 * Refuses a signed request that is too old, or of the future.
 *
 * @throws FineTuningFormatError `TASK_SIGNATURE`
 */
export function checkTimestamp({ timestampS, nowMs }: { timestampS: number; nowMs: number }): void {
  const ageS = nowMs / 1000 - timestampS
  if (ageS <= TIMESTAMP_WINDOW_S.past && ageS >= -TIMESTAMP_WINDOW_S.future) return
  throw new FineTuningFormatError({
    code: 'TASK_SIGNATURE',
    message: `the timestamp ${timestampS} is not of now`,
    fix: `sign the current time in seconds; at most ${TIMESTAMP_WINDOW_S.past} s old`,
    details: { field: 'timestamp', limit: TIMESTAMP_WINDOW_S },
  })
}

function recoverPublicKey({ digest, signature }: { digest: Hash; signature: string }): Uint8Array | undefined {
  try {
    const bytes = fromHex(signature, { byteLength: 65, field: 'signature' })
    const v = bytes[64] ?? 0
    const recovery = v >= 27 ? v - 27 : v
    if (recovery > 1) return undefined
    const parsed = secp256k1.Signature.fromBytes(bytes.subarray(0, 64), 'compact').addRecoveryBit(recovery)
    if (parsed.hasHighS()) return undefined
    return parsed.recoverPublicKey(fromHex(digest)).toBytes(false)
  } catch {
    return undefined
  }
}
