import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { WeightlessError } from './error.ts'

/** Bytes as text: `0x` and lower-case digits where this project writes it. */
export type Hex = `0x${string}`

/** A 32-byte hash as lower-case hex. */
export type Hash = Hex

/** Text that is not the hex it should be. `details.field` names the value. */
export class InvalidHexError extends WeightlessError {}

/** Bytes to lower-case `0x` hex. */
export function toHex(bytes: Uint8Array): Hex {
  return `0x${bytesToHex(bytes)}`
}

/**
 * `0x` hex, any case, to bytes. With `byteLength` the length must match.
 *
 * @throws InvalidHexError `INVALID_HEX`
 */
export function fromHex(hex: string, { byteLength, field = 'value' }: FromHexParameters = {}): Uint8Array {
  const wanted = byteLength === undefined ? 'an even number of hex digits' : `${2 * byteLength} hex digits`
  const fits = byteLength === undefined ? hex.length % 2 === 0 : hex.length === 2 + 2 * byteLength
  if (!fits || !hex.startsWith('0x')) throw invalid(field, wanted)
  try {
    return hexToBytes(hex.slice(2))
  } catch (cause) {
    throw invalid(field, wanted, cause)
  }
}

export interface FromHexParameters {
  byteLength?: number | undefined
  /** Name of the value in the error. */
  field?: string | undefined
}

/** Whether two byte strings are equal. Not constant-time: for public values. */
export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

function invalid(field: string, wanted: string, cause?: unknown): InvalidHexError {
  return new InvalidHexError({
    code: 'INVALID_HEX',
    message: `${field} is not 0x-prefixed hex`,
    fix: `give 0x and ${wanted}`,
    details: { field },
    cause,
  })
}
