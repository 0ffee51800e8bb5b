import { z } from 'zod'
import { decodeVoucherHeader, type SignedVoucher, VOUCHER_INSUFFICIENT } from './voucher.ts'

const wei = z
  .string()
  .regex(/^\d{1,39}$/)
  .transform(BigInt)

const demandSchema = z.object({
  /** What the provider has billed to this user so far, over the life of the sub-account. */
  cumulativeFeeWei: wei,
  /** What the voucher must say for this request to be served. */
  requiredCumulativeFeeWei: wei,
  /** Header value of the last voucher the provider holds from this user: lets a client that lost its books go on. */
  lastVoucher: z.string().max(2_048).optional(),
  /** The latest chats billed, newest last: the client fetches their receipts before it signs for them. */
  chatIds: z
    .array(z.string().regex(/^[0-9a-z-]{1,64}$/))
    .max(64)
    .default([]),
})

/** What a provider asks for with status 402. */
export interface VoucherDemand {
  readonly cumulativeFeeWei: bigint
  readonly requiredCumulativeFeeWei: bigint
  readonly lastVoucher: SignedVoucher | undefined
  readonly chatIds: readonly string[]
}

/** The body of the 402 answer: `{ error: { message, type, code: "voucher_insufficient", details } }`. */
export function encodeVoucherDemand(parameters: {
  cumulativeFeeWei: bigint
  requiredCumulativeFeeWei: bigint
  /** Value of `X-Weightless-Voucher` as received. */
  lastVoucher?: string | undefined
  chatIds?: readonly string[] | undefined
}): { error: Record<string, unknown> } {
  const { cumulativeFeeWei, requiredCumulativeFeeWei, lastVoucher, chatIds = [] } = parameters
  const details = {
    cumulativeFeeWei: String(cumulativeFeeWei),
    requiredCumulativeFeeWei: String(requiredCumulativeFeeWei),
    ...(lastVoucher === undefined ? {} : { lastVoucher }),
    chatIds: chatIds.slice(-64),
  }
  const message = `insufficient voucher: a voucher over at least ${requiredCumulativeFeeWei} wei in all is needed`
  return { error: { message, type: 'insufficient_quota', code: VOUCHER_INSUFFICIENT, details } }
}

/** Reads the body of a 402 answer; undefined where it is none about vouchers. The error may also be the body itself. */
export function decodeVoucherDemand(body: unknown): VoucherDemand | undefined {
  if (typeof body !== 'object' || body === null) return undefined
  const inner: unknown = Reflect.get(body, 'error')
  const error = typeof inner === 'object' && inner !== null ? inner : body
  if (Reflect.get(error, 'code') !== VOUCHER_INSUFFICIENT) return undefined
  const parsed = demandSchema.safeParse(Reflect.get(error, 'details'))
  if (!parsed.success) return undefined
  const { lastVoucher, ...demand } = parsed.data
  return { ...demand, lastVoucher: readVoucher(lastVoucher) }
}

function readVoucher(value: string | undefined): SignedVoucher | undefined {
  if (value === undefined) return undefined
  try {
    return decodeVoucherHeader(value)
  } catch {
    return undefined
  }
}
