import { randomBytes } from 'node:crypto'
import { KeyError } from './key-error.ts'

/** Order of secp256k1 (SEC 2, section 2.4.1): keys are 1 … n − 1. */
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n

/**
 * A private key as lower-case hex with `0x`, checked to be on the curve. The value itself is never put in an error.
 *
 * @throws KeyError `PRIVATE_KEY_INVALID`.
 */
export function checkPrivateKey(text: string): `0x${string}` {
  const digits = text.trim().replace(/^0x/i, '').toLowerCase()
  const value = /^[0-9a-f]{64}$/.test(digits) ? BigInt(`0x${digits}`) : 0n
  if (value > 0n && value < CURVE_ORDER) return `0x${digits}`
  const fix = 'give 64 hex digits, with or without 0x'
  throw new KeyError({ code: 'PRIVATE_KEY_INVALID', message: 'the private key is not a secp256k1 key', fix })
}

/** A new private key from the system's random source. */
export function newPrivateKey(): `0x${string}` {
  for (;;) {
    const digits = randomBytes(32).toString('hex')
    const value = BigInt(`0x${digits}`)
    if (value > 0n && value < CURVE_ORDER) return `0x${digits}`
  }
}
