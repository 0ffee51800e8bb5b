import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { WeightlessError } from '../error.ts'
import { fromHex, type Hash, type Hex, toHex } from '../hex.ts'

/** A signature that is malformed or by somebody else. Codes `SIGNATURE_FORMAT`, `SIGNATURE_SIGNER`. */
export class InvalidSignatureError extends WeightlessError {}

/** Signs a 32-byte digest as it is (EIP-712: no prefix). viem's local accounts have it as `sign`. */
export interface DigestSigner {
  readonly address: Hex
  sign?: ((parameters: { hash: Hash }) => Promise<Hex>) | undefined
}

/** Signs with the prefix of EIP-191 (version 0x45). viem's local accounts do. */
export interface MessageSigner {
  readonly address: Hex
  signMessage(parameters: { message: { raw: Hex } | string }): Promise<Hex>
}

/**
 * The address (lower case) whose key signed `digest`: 65 bytes r ‖ s ‖ v, s in the lower half (EIP-2), v 27 or 28. With
 * `zeroBased` v may be 0 or 1 too, as some wallets write it.
 *
 * @throws InvalidSignatureError `SIGNATURE_FORMAT`
 */
export function recoverSigner({
  digest,
  signature,
  zeroBased = false,
}: {
  digest: Hash
  signature: string
  zeroBased?: boolean
}): Hex {
  try {
    const bytes = fromHex(signature, { byteLength: 65, field: 'signature' })
    const v = bytes[64] ?? 0
    const recovery = v >= 27 ? v - 27 : zeroBased ? v : 4
    if (recovery > 1) throw new Error(`v is ${v}`)
    const parsed = secp256k1.Signature.fromBytes(bytes.subarray(0, 64), 'compact').addRecoveryBit(recovery)
    if (parsed.hasHighS()) throw new Error('s is in the upper half')
    const key = parsed.recoverPublicKey(fromHex(digest, { byteLength: 32, field: 'digest' })).toBytes(false)
    return toHex(keccak_256(key.subarray(1)).subarray(12))
  } catch (cause) {
    throw new InvalidSignatureError({
      code: 'SIGNATURE_FORMAT',
      message: 'the signature is not one of 65 bytes over secp256k1',
      fix: 'send r, s (lower half) and v (27 or 28) as 0x and 130 hex digits',
      details: { field: 'signature' },
      cause,
    })
  }
}

/** The digest of EIP-191 `personal_sign` over bytes. */
export function personalDigest(message: Uint8Array): Hash {
  const prefix = new TextEncoder().encode(`\x19Ethereum Signed Message:\n${message.length}`)
  const whole = new Uint8Array(prefix.length + message.length)
  whole.set(prefix)
  whole.set(message, prefix.length)
  return toHex(keccak_256(whole))
}

/** Whether two addresses are the same, whatever their case. */
export function sameAddress(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}

/**
 * Signs a digest with an account that can.
 *
 * @throws InvalidSignatureError `SIGNATURE_SIGNER` for an account that cannot sign digests
 */
export async function signDigest({ signer, digest }: { signer: DigestSigner; digest: Hash }): Promise<Hex> {
  if (signer.sign === undefined) {
    throw new InvalidSignatureError({
      code: 'SIGNATURE_SIGNER',
      message: `the account ${signer.address} cannot sign typed data by its digest`,
      fix: 'use an account that signs locally (viem: privateKeyToAccount)',
      details: { address: signer.address },
    })
  }
  return await signer.sign({ hash: digest })
}
