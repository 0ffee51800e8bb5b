import { hashTypedData } from 'viem'
import { z } from 'zod'
import { type DigestSigner, recoverSigner, sameAddress, signDigest } from '../compute/signature.ts'
import { WeightlessError } from '../error.ts'
import type { Hash, Hex } from '../hex.ts'

/** The request header that carries a voucher; in gRPC the metadata of the same name in lower case. */
export const DISPERSAL_VOUCHER_HEADER = 'X-Weightless-Voucher'
/** Code of the refusal (HTTP 402) that says what a voucher must cover; its details are a {@link VoucherShortfall}. */
export const DISPERSAL_VOUCHER_INSUFFICIENT = 'VOUCHER_INSUFFICIENT'

/** A voucher that is no good. Codes `VOUCHER_FORMAT`, `VOUCHER_SIGNATURE`, `VOUCHER_EXPIRED`. */
export class DispersalVoucherError extends WeightlessError {}

/**
 * A user's promise: the disperser may have claimed up to `cumulativeFeeWei` from this user in all, over the whole life
 * of the account. Later vouchers replace earlier ones; a disperser that confirmed less claims less.
 */
export interface DispersalVoucher {
  readonly user: Hex
  readonly disperser: Hex
  readonly cumulativeFeeWei: bigint
  /** Until when it can be claimed, in seconds since 1970. */
  readonly expiresAtS: number
}

/** A voucher with its signature, as it travels. */
export interface SignedDispersalVoucher {
  readonly voucher: DispersalVoucher
  readonly signature: Hex
}

/** Where a voucher is good. */
export interface DispersalVoucherDomain {
  chainId: number
  /** DispersalAccounts. */
  contract: Hex
}

const TYPES = {
  DispersalVoucher: [
    { name: 'user', type: 'address' },
    { name: 'disperser', type: 'address' },
    { name: 'cumulativeFee', type: 'uint128' },
    { name: 'expiry', type: 'uint64' },
  ],
} as const

/** Longest header looked at, in characters. */
const MAX_HEADER_CHARS = 2_048
const MAX_UINT128 = 2n ** 128n - 1n

/** EIP-712 typed data of a voucher, in the form viem and wallets take. */
export function dispersalVoucherTypedData({
  chainId,
  contract,
  voucher,
}: DispersalVoucherDomain & { voucher: DispersalVoucher }) {
  const { user, disperser, cumulativeFeeWei, expiresAtS } = voucher
  return {
    domain: { name: 'Weightless Dispersal', version: '1', chainId, verifyingContract: contract },
    types: TYPES,
    primaryType: 'DispersalVoucher',
    message: { user, disperser, cumulativeFee: cumulativeFeeWei, expiry: BigInt(expiresAtS) },
  } as const
}

/** What is signed. */
export function dispersalVoucherDigest(parameters: DispersalVoucherDomain & { voucher: DispersalVoucher }): Hash {
  return hashTypedData(dispersalVoucherTypedData(parameters))
}

/** The user's signature of a voucher. */
export async function signDispersalVoucher({
  signer,
  ...parameters
}: DispersalVoucherDomain & { voucher: DispersalVoucher; signer: DigestSigner }): Promise<SignedDispersalVoucher> {
  const signature = await signDigest({ signer, digest: dispersalVoucherDigest(parameters) })
  return { voucher: parameters.voucher, signature }
}

/** The value of {@link DISPERSAL_VOUCHER_HEADER}: base64url of JSON, the amount as a decimal string. */
export function encodeDispersalVoucher({ voucher, signature }: SignedDispersalVoucher): string {
  const { user, disperser, cumulativeFeeWei, expiresAtS } = voucher
  const json = { user, disperser, cumulativeFee: String(cumulativeFeeWei), expiry: expiresAtS, signature }
  return Buffer.from(JSON.stringify(json), 'utf8').toString('base64url')
}

const hexOf = (byteLength: number) =>
  z
    .string(`must be ${byteLength} bytes in 0x hex`)
    .regex(new RegExp(`^0x[0-9a-fA-F]{${2 * byteLength}}$`), `must be ${byteLength} bytes in 0x hex`)
    .transform((text) => text.toLowerCase() as Hex)
const amount = z
  .string('must be a decimal string below 2^128')
  .regex(/^\d{1,39}$/, 'must be a decimal string below 2^128')
  .transform(BigInt)
  .refine((wei) => wei <= MAX_UINT128, 'must be a decimal string below 2^128')
const headerSchema = z.object(
  {
    user: hexOf(20),
    disperser: hexOf(20),
    cumulativeFee: amount,
    expiry: z.int('must be a whole number of seconds').min(0, 'must be a whole number of seconds'),
    signature: hexOf(65),
  },
  'must be a JSON object',
)

/**
 * Reads the value of {@link DISPERSAL_VOUCHER_HEADER}. Says nothing of who signed: see {@link verifyDispersalVoucher}.
 *
 * @throws DispersalVoucherError `VOUCHER_FORMAT`
 */
export function decodeDispersalVoucher(value: string): SignedDispersalVoucher {
  if (value.length > MAX_HEADER_CHARS || !/^[A-Za-z0-9_-]+$/.test(value)) {
    throw format(DISPERSAL_VOUCHER_HEADER, `must be at most ${MAX_HEADER_CHARS} characters of base64url`)
  }
  let fields: unknown
  try {
    fields = JSON.parse(Buffer.from(value, 'base64url').toString('utf8'))
  } catch (cause) {
    throw format(DISPERSAL_VOUCHER_HEADER, 'must be JSON in base64url', cause)
  }
  const read = headerSchema.safeParse(fields)
  if (!read.success) {
    const [issue] = read.error.issues
    throw format(issue?.path.join('.') || DISPERSAL_VOUCHER_HEADER, issue?.message ?? 'is wrong')
  }
  const { user, disperser, cumulativeFee, expiry, signature } = read.data
  return { voucher: { user, disperser, cumulativeFeeWei: cumulativeFee, expiresAtS: expiry }, signature }
}

/**
 * Checks that the user's key signed the voucher and, with `nowMs`, that it has not expired. Vouchers signed by contracts
 * (EIP-1271) need the chain and are not taken here.
 *
 * @throws DispersalVoucherError `VOUCHER_SIGNATURE`, `VOUCHER_EXPIRED`
 */
export function verifyDispersalVoucher({
  voucher,
  signature,
  nowMs,
  ...domain
}: DispersalVoucherDomain & SignedDispersalVoucher & { nowMs?: number | undefined }): void {
  const { user, expiresAtS } = voucher
  if (nowMs !== undefined && expiresAtS * 1_000 <= nowMs) {
    throw new DispersalVoucherError({
      code: 'VOUCHER_EXPIRED',
      message: `the voucher expired at ${expiresAtS}`,
      fix: 'sign a voucher with a later expiry',
      details: { field: 'expiry', expiresAtS },
    })
  }
  let signer: Hex | undefined
  let cause: unknown
  try {
    signer = recoverSigner({ digest: dispersalVoucherDigest({ ...domain, voucher }), signature })
  } catch (error) {
    cause = error
  }
  if (signer !== undefined && sameAddress(signer, user)) return
  throw new DispersalVoucherError({
    code: 'VOUCHER_SIGNATURE',
    message: `the voucher is not signed by ${user}`,
    fix: 'sign it with the key of the account it is drawn on, for this chain and this contract',
    details: { field: 'signature', user, signer, ...domain },
    cause,
  })
}

/** What a voucher that does not cover a blob lacks, as it travels in an error's details. */
export interface VoucherShortfall {
  /** Charged and reserved by the disperser so far, over the life of the account. */
  readonly cumulativeFeeWei: bigint
  /** What a new voucher must say at least for this blob to be taken. */
  readonly requiredCumulativeFeeWei: bigint
  /** The best voucher the disperser holds: a client that lost its book can go on from it. */
  readonly lastVoucher: SignedDispersalVoucher | undefined
}

const shortfallSchema = z.object({
  cumulativeFeeWei: amount,
  requiredCumulativeFeeWei: amount,
  lastVoucher: z.string().max(MAX_HEADER_CHARS).optional(),
})

/** The details of a refusal with the code {@link DISPERSAL_VOUCHER_INSUFFICIENT}. */
export function encodeVoucherShortfall({
  cumulativeFeeWei,
  requiredCumulativeFeeWei,
  lastVoucher,
}: VoucherShortfall): Record<string, string> {
  return {
    cumulativeFeeWei: String(cumulativeFeeWei),
    requiredCumulativeFeeWei: String(requiredCumulativeFeeWei),
    ...(lastVoucher === undefined ? {} : { lastVoucher: encodeDispersalVoucher(lastVoucher) }),
  }
}

/** Reads such details; undefined where they are none. A voucher in them that cannot be read is left out. */
export function decodeVoucherShortfall(details: unknown): VoucherShortfall | undefined {
  const read = shortfallSchema.safeParse(details)
  if (!read.success) return undefined
  const { lastVoucher, ...amounts } = read.data
  try {
    return { ...amounts, lastVoucher: lastVoucher === undefined ? undefined : decodeDispersalVoucher(lastVoucher) }
  } catch {
    return { ...amounts, lastVoucher: undefined }
  }
}

function format(field: string, problem: string, cause?: unknown): DispersalVoucherError {
  return new DispersalVoucherError({
    code: 'VOUCHER_FORMAT',
    message: `the voucher's ${field} ${problem}`,
    fix: `${field} ${problem}`,
    details: { field },
    cause,
  })
}
