import { keccak256 } from '#kernels/keccak.ts'
import { WeightlessError } from '../error.ts'
import { toHex } from '../hex.ts'
import { type PhiloxKey, philox4x32 } from './philox.ts'

/** keccak256 of the table's 8192 values as little-endian int32. */
export const GUMBEL_TABLE_HASH = '0xb9bcb94f47a31bdb4c303ad17429610ed363b5a1b5453f48763ab4a323de2373'

/** This machine's logarithm makes another table than the one that is agreed on (code `GUMBEL_TABLE`). */
export class GumbelTableError extends WeightlessError {}

let shared: Int32Array | undefined

/**
 * 8192 Gumbel values times 65536, by the leading zeros of a 32-bit uniform number and the 8 bits after its leading one.
 * The bytes are what counts, not this formula: they are checked against their hash.
 *
 * @throws GumbelTableError `GUMBEL_TABLE`
 */
export function gumbelTable(): Int32Array {
  if (shared !== undefined) return shared
  const table = Int32Array.from({ length: 8192 }, (_, i) => {
    const uniform = 2 ** (-(i >> 8) - 1) * (1 + ((i & 255) + 0.5) / 256)
    return Math.round(-Math.log(-Math.log1p(-uniform)) * 65_536)
  })
  const hash = toHex(keccak256(gumbelTableBytes(table)))
  if (hash !== GUMBEL_TABLE_HASH) {
    throw new GumbelTableError({
      code: 'GUMBEL_TABLE',
      message: 'the Gumbel table computed here differs from the agreed one',
      fix: 'update Node.js, or sample greedily',
      details: { hash, expected: GUMBEL_TABLE_HASH },
    })
  }
  shared = table
  return table
}

/** The table as it is hashed: little-endian int32. */
export function gumbelTableBytes(table: Int32Array): Uint8Array {
  const bytes = new Uint8Array(4 * table.length)
  const view = new DataView(bytes.buffer)
  table.forEach((value, i) => {
    view.setInt32(4 * i, value, true)
  })
  return bytes
}

/**
 * Noise of a token, times 65536: word `token mod 4` of the Philox block with counter (token div 4, position, 0, 0).
 * `position` is the index, from 0, of the token whose logits are read: the first output token of a prompt of m tokens has
 * position m − 1.
 */
export function gumbelQ16({ token, position, key }: GumbelParameters): number {
  const uniform = philox4x32([token >>> 2, position, 0, 0], key)[token & 3] ?? 0
  const zeros = Math.min(31, Math.clz32(uniform))
  const mantissa = ((uniform << zeros) >>> 23) & 255
  return gumbelTable()[zeros * 256 + mantissa] ?? 0
}

export interface GumbelParameters {
  token: number
  position: number
  key: PhiloxKey
}
