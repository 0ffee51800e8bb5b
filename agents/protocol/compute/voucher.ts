import { hashTypedData } from 'viem'
import { WeightlessError } from '../error.ts'
import type { Hash, Hex } from '../hex.ts'
import { type DigestSigner, recoverSigner, sameAddress, signDigest } from './signature.ts'

/** The request header that carries a voucher. */
export const VOUCHER_HEADER = 'X-Weightless-Voucher'
/** `code` of the 402 answer that tells what the voucher must cover; see `voucher-demand.ts`. */
export const VOUCHER_INSUFFICIENT = 'voucher_insufficient'

/** A voucher that is no good. Codes `VOUCHER_FORMAT`, `VOUCHER_SIGNATURE`, `VOUCHER_EXPIRED`. */
export class VoucherError extends WeightlessError {}

/**
 * A user's promise: the provider may have claimed up to `cumulativeFeeWei` from this user in all, over the whole life
 * of the sub-account. Later vouchers replace earlier ones; a provider that charges less than the amount claims less.
 */
export interface Voucher {
  readonly user: Hex
  readonly provider: Hex
  readonly cumulativeFeeWei: bigint
  /** Until when it can be settled, in seconds since 1970. */
  readonly expiresAtS: number
  /**
   * The sub-account's generation. Revoking all tokens ends it for vouchers too, but what was signed before stays
   * claimable for the contract's lock time, as it may pay for what was served.
   */
  readonly generation: number
}

const TYPES = {
  Voucher: [
    { name: 'user', type: 'address' },
    { name: 'provider', type: 'address' },
    { name: 'cumulativeFee', type: 'uint128' },
    { name: 'expiry', type: 'uint64' },
    { name: 'generation', type: 'uint64' },
  ],
} as const

/** Longest header looked at, in characters. */
const MAX_HEADER_CHARS = 2_048
const MAX_UINT128 = 2n ** 128n - 1n

/** Where a voucher is good. */
export interface VoucherDomain {
  chainId: number
  /** InferenceServing. */
  contract: Hex
}

/** EIP-712 typed data of a voucher, in the form viem and wallets take. */
export function voucherTypedData({ chainId, contract, voucher }: VoucherDomain & { voucher: Voucher }) {
  return {
    domain: { name: 'Weightless Inference', version: '1', chainId, verifyingContract: contract },
    types: TYPES,
    primaryType: 'Voucher',
    message: {
      user: voucher.user,
      provider: voucher.provider,
      cumulativeFee: voucher.cumulativeFeeWei,
      expiry: BigInt(voucher.expiresAtS),
      generation: BigInt(voucher.generation),
    },
  } as const
}

/** What is signed. */
export function voucherDigest(parameters: VoucherDomain & { voucher: Voucher }): Hash {
  return hashTypedData(voucherTypedData(parameters))
}

/** The user's signature of a voucher. */
export async function signVoucher({
  signer,
  ...parameters
}: VoucherDomain & { voucher: Voucher; signer: DigestSigner }): Promise<Hex> {
  return await signDigest({ signer, digest: voucherDigest(parameters) })
}

/** A voucher with its signature, as it travels. */
export interface SignedVoucher {
  readonly voucher: Voucher
  readonly signature: Hex
}

/** The value of {@link VOUCHER_HEADER}: base64url of JSON, amounts as decimal strings. */
export function encodeVoucherHeader({ voucher, signature }: SignedVoucher): string {
  const { user, provider, cumulativeFeeWei, expiresAtS, generation } = voucher
  const json = { user, provider, cumulativeFee: String(cumulativeFeeWei), expiry: expiresAtS, generation, signature }
  return Buffer.from(JSON.stringify(json), 'utf8').toString('base64url')
}

/**
 * Reads the value of {@link VOUCHER_HEADER}. Says nothing of who signed: see {@link verifyVoucher}.
 *
 * @throws VoucherError `VOUCHER_FORMAT`
 */
export function decodeVoucherHeader(value: string): SignedVoucher {
  if (value.length > MAX_HEADER_CHARS || !/^[A-Za-z0-9_-]+$/.test(value)) {
    throw format(VOUCHER_HEADER, `at most ${MAX_HEADER_CHARS} characters of base64url`)
  }
  let fields: unknown
  try {
    fields = JSON.parse(Buffer.from(value, 'base64url').toString('utf8'))
  } catch (cause) {
    throw format(VOUCHER_HEADER, 'JSON', cause)
  }
  if (typeof fields !== 'object' || fields === null) throw format(VOUCHER_HEADER, 'a JSON object')
  const field = (name: string): unknown => Reflect.get(fields, name)
  const hex = (name: string, byteLength: number): Hex => {
    const text = field(name)
    if (typeof text === 'string' && new RegExp(`^0x[0-9a-fA-F]{${2 * byteLength}}$`).test(text)) {
      return text.toLowerCase() as Hex
    }
    throw format(name, `${byteLength} bytes in 0x hex`)
  }
  const integer = (name: string): number => {
    const number = field(name)
    if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number
    throw format(name, 'a whole number')
  }
  const amount = field('cumulativeFee')
  if (typeof amount !== 'string' || !/^\d{1,39}$/.test(amount) || BigInt(amount) > MAX_UINT128) {
    throw format('cumulativeFee', 'a decimal string below 2^128')
  }
  return {
    voucher: {
      user: hex('user', 20),
      provider: hex('provider', 20),
      cumulativeFeeWei: BigInt(amount),
      expiresAtS: integer('expiry'),
      generation: integer('generation'),
    },
    signature: hex('signature', 65),
  }
}

/**
 * Checks that the user signed the voucher and, with `nowMs`, that it has not expired.
 *
 * @throws VoucherError `VOUCHER_SIGNATURE`, `VOUCHER_EXPIRED`
 */
export async function verifyVoucher({
  voucher,
  signature,
  nowMs,
  ...domain
}: VoucherDomain & SignedVoucher & { nowMs?: number | undefined }): Promise<void> {
  if (nowMs !== undefined && voucher.expiresAtS * 1000 <= nowMs) {
    throw new VoucherError({
      code: 'VOUCHER_EXPIRED',
      message: `the voucher expired at ${voucher.expiresAtS}`,
      fix: 'sign a voucher with a later expiry',
      details: { field: 'expiry', expiresAtS: voucher.expiresAtS },
    })
  }
  let signer: Hex | undefined
  let cause: unknown
  try {
    signer = recoverSigner({ digest: voucherDigest({ ...domain, voucher }), signature })
  } catch (error) {
    cause = error
  }
  if (signer !== undefined && sameAddress(signer, voucher.user)) return
  throw new VoucherError({
    code: 'VOUCHER_SIGNATURE',
    message: `the voucher is not signed by ${voucher.user}`,
    fix: 'sign it with the key of the account it is drawn on, for this chain and this InferenceServing',
    details: { field: 'signature', user: voucher.user, signer, ...domain },
    cause,
  })
}

function format(field: string, wanted: string, cause?: unknown): VoucherError {
  return new VoucherError({
    code: 'VOUCHER_FORMAT',
    message: `the voucher's ${field} is not ${wanted}`,
    fix: `send ${field} as ${wanted}`,
    details: { field },
    cause,
  })
}
