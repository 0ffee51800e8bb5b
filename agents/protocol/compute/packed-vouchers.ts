import { WeightlessError } from '../error.ts'
import { fromHex, type Hex, toHex } from '../hex.ts'
import { recoverSigner, sameAddress } from './signature.ts'
import { type SignedVoucher, type VoucherDomain, voucherDigest } from './voucher.ts'

/**
 * Vouchers in the form of `settlePackedVouchers` (IInferenceServing): 117 bytes each instead of the ABI's 352, and the
 * bytes it answers with. All numbers big-endian.
 */

/** Bytes of one packed voucher: user 20, cumulative fee 12, claim 12, expiry 5, generation 4, signature 64. */
export const PACKED_VOUCHER_BYTES = 117
/** The most that the contract takes in one call. */
export const MAX_PACKED_VOUCHERS = 100
/** Bytes of one payment in the event `VouchersSettled`: user 20, wei 12. */
export const VOUCHER_PAYMENT_BYTES = 32

/** Bytes that are no packed vouchers, or vouchers that do not fit. Codes `PACKED_VOUCHERS_LENGTH`, `PACKED_VOUCHERS_FIELD`. */
export class PackedVouchersError extends WeightlessError {}

/** A voucher and what is claimed of it. */
export interface PackedVoucher {
  /** Lower case. */
  readonly user: Hex
  /** Below 2^96. */
  readonly cumulativeFeeWei: bigint
  /** What the provider has claimed in all when this is settled, below 2^96. */
  readonly claimWei: bigint
  /** In seconds since 1970, below 2^40. */
  readonly expiresAtS: number
  /** Below 2^32. */
  readonly generation: number
  /** 64 bytes, EIP-2098. */
  readonly signature: Hex
}

/** What became of a voucher, by the contract's number. */
export const VOUCHER_STATUSES: readonly string[] = [
  'success',
  'partial',
  'no-account',
  'expired',
  'wrong-generation',
  'invalid-signature',
  'above-voucher',
]

const NUMBERS = [
  { name: 'cumulativeFeeWei', bytes: 12 },
  { name: 'claimWei', bytes: 12 },
  { name: 'expiresAtS', bytes: 5 },
  { name: 'generation', bytes: 4 },
] as const
const SIGNATURE_AT = PACKED_VOUCHER_BYTES - 64
const PARITY_BIT = 0x80

/**
 * The argument of `settlePackedVouchers`.
 *
 * @throws PackedVouchersError `PACKED_VOUCHERS_LENGTH` for none or more than 100, `PACKED_VOUCHERS_FIELD`; InvalidHexError
 */
export function packVouchers(vouchers: readonly PackedVoucher[]): Hex {
  if (vouchers.length === 0 || vouchers.length > MAX_PACKED_VOUCHERS) {
    throw wrongLength('vouchers', vouchers.length, `1 to ${MAX_PACKED_VOUCHERS} vouchers`)
  }
  const packed = new Uint8Array(vouchers.length * PACKED_VOUCHER_BYTES)
  for (const [index, voucher] of vouchers.entries()) {
    let at = index * PACKED_VOUCHER_BYTES
    packed.set(fromHex(voucher.user, { byteLength: 20, field: `vouchers[${index}].user` }), at)
    at += 20
    for (const { name, bytes } of NUMBERS) {
      if (!fits(voucher[name], bytes)) throw tooLarge(`vouchers[${index}].${name}`, voucher[name], bytes)
      writeNumber(packed, { at, bytes, value: BigInt(voucher[name]) })
      at += bytes
    }
    packed.set(fromHex(voucher.signature, { byteLength: 64, field: `vouchers[${index}].signature` }), at)
  }
  return toHex(packed)
}

/**
 * Reads the argument of `settlePackedVouchers`.
 *
 * @throws PackedVouchersError `PACKED_VOUCHERS_LENGTH`; InvalidHexError
 */
export function unpackVouchers(packed: Hex): PackedVoucher[] {
  const bytes = fromHex(packed, { field: 'packed' })
  const count = bytes.length / PACKED_VOUCHER_BYTES
  if (!Number.isInteger(count) || count === 0 || count > MAX_PACKED_VOUCHERS) {
    throw wrongLength('packed', bytes.length, `1 to ${MAX_PACKED_VOUCHERS} times ${PACKED_VOUCHER_BYTES} bytes`)
  }
  return Array.from({ length: count }, (_, index) => {
    const start = index * PACKED_VOUCHER_BYTES
    return {
      user: toHex(bytes.subarray(start, start + 20)),
      cumulativeFeeWei: readNumber(bytes, { at: start + 20, bytes: 12 }),
      claimWei: readNumber(bytes, { at: start + 32, bytes: 12 }),
      expiresAtS: Number(readNumber(bytes, { at: start + 44, bytes: 5 })),
      generation: Number(readNumber(bytes, { at: start + 49, bytes: 4 })),
      signature: toHex(bytes.subarray(start + SIGNATURE_AT, start + PACKED_VOUCHER_BYTES)),
    }
  })
}

/**
 * A claim on a voucher in the form that can be packed; undefined where it cannot be: the numbers are too large, or the
 * signature is not by the user's own key (a contract's word, EIP-1271, takes `settleVouchers`).
 */
export function packableVoucher({
  voucher,
  signature,
  claimWei,
  ...domain
}: VoucherDomain & SignedVoucher & { claimWei: bigint }): PackedVoucher | undefined {
  const { user, cumulativeFeeWei, expiresAtS, generation } = voucher
  const item = { user: user.toLowerCase() as Hex, cumulativeFeeWei, claimWei, expiresAtS, generation }
  if (NUMBERS.some(({ name, bytes }) => !fits(item[name], bytes))) return undefined
  try {
    const long = expandSignature(signature)
    const signer = recoverSigner({ digest: voucherDigest({ ...domain, voucher }), signature: long })
    return sameAddress(signer, user) ? { ...item, signature: compactSignature(long) } : undefined
  } catch {
    return undefined
  }
}

/**
 * The statuses that `settlePackedVouchers` returned, one for each voucher.
 *
 * @throws PackedVouchersError `PACKED_VOUCHERS_LENGTH` when there are not `count`; InvalidHexError
 */
export function decodePackedStatuses(statuses: Hex, count: number): number[] {
  const bytes = fromHex(statuses, { field: 'statuses' })
  if (bytes.length !== count) throw wrongLength('statuses', bytes.length, `${count} bytes`)
  return [...bytes]
}

/**
 * The payments of an event `VouchersSettled`: who paid, and what now.
 *
 * @throws PackedVouchersError `PACKED_VOUCHERS_LENGTH`; InvalidHexError
 */
export function decodeVoucherPayments(payments: Hex): { user: Hex; paidWei: bigint }[] {
  const bytes = fromHex(payments, { field: 'payments' })
  const count = bytes.length / VOUCHER_PAYMENT_BYTES
  if (!Number.isInteger(count)) {
    throw wrongLength('payments', bytes.length, `a multiple of ${VOUCHER_PAYMENT_BYTES} bytes`)
  }
  return Array.from({ length: count }, (_, index) => {
    const at = index * VOUCHER_PAYMENT_BYTES
    return { user: toHex(bytes.subarray(at, at + 20)), paidWei: readNumber(bytes, { at: at + 20, bytes: 12 }) }
  })
}

/** 65 bytes (r, s, v) as 64: the parity goes into the highest bit of s, which is free there (EIP-2098). */
function compactSignature(long: Hex): Hex {
  const bytes = fromHex(long, { byteLength: 65, field: 'signature' })
  const compact = bytes.slice(0, 64)
  if (bytes[64] === 28) compact[32] = (compact[32] ?? 0) | PARITY_BIT
  return toHex(compact)
}

/** 64 bytes as 65; anything else as it is. */
function expandSignature(signature: Hex): Hex {
  if (signature.length !== 2 + 2 * 64) return signature
  const long = new Uint8Array(65)
  long.set(fromHex(signature, { byteLength: 64, field: 'signature' }))
  const top = long[32] ?? 0
  long[32] = top & ~PARITY_BIT
  long[64] = top >= PARITY_BIT ? 28 : 27
  return toHex(long)
}

function fits(value: bigint | number, bytes: number): boolean {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return false
  return BigInt(value) >= 0n && BigInt(value) < 1n << BigInt(8 * bytes)
}

function writeNumber(to: Uint8Array, { at, bytes, value }: { at: number; bytes: number; value: bigint }): void {
  for (let index = 0; index < bytes; index += 1) {
    to[at + index] = Number((value >> BigInt(8 * (bytes - 1 - index))) & 0xffn)
  }
}

function readNumber(from: Uint8Array, { at, bytes }: { at: number; bytes: number }): bigint {
  let value = 0n
  for (const byte of from.subarray(at, at + bytes)) value = (value << 8n) | BigInt(byte)
  return value
}

function wrongLength(field: string, length: number, wanted: string): PackedVouchersError {
  return new PackedVouchersError({
    code: 'PACKED_VOUCHERS_LENGTH',
    message: `${field} has length ${length}`,
    fix: `give ${wanted}`,
    details: { field, length },
  })
}

function tooLarge(field: string, value: bigint | number, bytes: number): PackedVouchersError {
  return new PackedVouchersError({
    code: 'PACKED_VOUCHERS_FIELD',
    message: `${field} is ${value}`,
    fix: `give a whole number below 2^${8 * bytes}, or settle this voucher with settleVouchers`,
    details: { field, value: String(value), bits: 8 * bytes },
  })
}
