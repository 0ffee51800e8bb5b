import type { Address } from 'viem'
import { z } from 'zod'
import { parseJson, readCapped } from '#client/compute/provider-http.ts'
import { DISPERSAL_VOUCHER_HEADER } from '#protocol/da/dispersal-voucher.ts'
import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { reasonOf } from '../errors.ts'

/**
 * A disperser did not do what was asked. Codes `DISPERSER_UNREACHABLE`, `DISPERSER_ANSWER`, `DISPERSER_DISHONEST`,
 * `DISPERSAL_FAILED`, `FEE_ABOVE_LIMIT`, `VOUCHER_UNJUSTIFIED`, or what the disperser itself says: `VOUCHER_MISSING`,
 * `VOUCHER_INSUFFICIENT`, `DEPOSIT_INSUFFICIENT` and others.
 */
export class DisperserFailedError extends WeightlessError {
  /** HTTP status, where it answered. */
  readonly status: number | undefined

  constructor({ status, ...parameters }: WeightlessErrorParameters & { status?: number | undefined }) {
    super(parameters)
    this.status = status
  }
}

/** Of any answer: none is more than a page. */
const MAX_ANSWER_BYTES = 64 * 1024
const CALL_TIMEOUT_MS = 10_000
/** A blob may take a second for each 64 KiB on top of this. */
const POST_TIMEOUT_MS = 60_000
const POST_BYTES_PER_MS = 64

const wei = z
  .string()
  .regex(/^\d{1,39}$/)
  .transform(BigInt)
const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/)
  .transform((text) => text.toLowerCase() as Address)
const hash = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/)
  .transform((text) => text.toLowerCase() as Hash)
const count = z.int().min(0)

const quoteSchema = z.object({
  sizeBytes: count,
  retentionEpochs: count,
  /** What the disperser pays the chain for the blob. */
  chainFeeWei: wei,
  /** What it adds. */
  serviceFeeWei: wei,
  /** What the user is charged. */
  totalWei: wei,
  /** How; null where blobs are free. */
  payment: z
    .object({
      mode: z.enum(['required', 'optional']),
      chainId: count,
      contract: address,
      disperser: address,
      lockSeconds: count,
      minVoucherLifetimeMs: count,
    })
    .nullable(),
})

const requestSchema = z.object({
  requestId: z.string().min(1).max(200),
  state: z.enum(['processing', 'confirmed', 'final', 'failed']),
  dataRoot: hash.optional(),
  epoch: count.optional(),
  quorumId: count.optional(),
  submitTx: hash.optional(),
  confirmTx: hash.optional(),
  /** Block of the confirmation. */
  block: count.optional(),
  error: z.string().max(4_096).optional(),
  /** Equal blobs are one charge, which has one id. */
  charge: z.object({ id: count, user: address, feeWei: wei, state: z.string().max(32) }).nullish(),
})

/** What a disperser says a blob costs. */
export type DisperserQuote = z.output<typeof quoteSchema>
/** What a disperser says of a blob it took. */
export type DisperserRequest = z.output<typeof requestSchema>

interface CallParameters {
  /** The disperser's HTTP address. */
  url: string
  signal?: AbortSignal | undefined
}

/** What a blob of this size costs now. @throws DisperserFailedError */
export function fetchQuote({ sizeBytes, ...call }: CallParameters & { sizeBytes: number }): Promise<DisperserQuote> {
  return ask({ ...call, path: `/v1/quote?size=${sizeBytes}`, schema: quoteSchema, timeoutMs: CALL_TIMEOUT_MS })
}

/** How a blob stands. @throws DisperserFailedError; `REQUEST_UNKNOWN` */
export function fetchRequest({ id, ...call }: CallParameters & { id: string }): Promise<DisperserRequest> {
  const path = `/v1/blobs/${encodeURIComponent(id)}`
  return ask({ ...call, path, schema: requestSchema, timeoutMs: CALL_TIMEOUT_MS })
}

/** Hands a blob over, with its voucher where it is paid for. @throws DisperserFailedError */
export function postBlob({
  data,
  voucher,
  ...call
}: CallParameters & { data: Uint8Array; voucher: string | undefined }): Promise<DisperserRequest> {
  const headers = {
    'content-type': 'application/octet-stream',
    ...(voucher === undefined ? {} : { [DISPERSAL_VOUCHER_HEADER]: voucher }),
  }
  const timeoutMs = POST_TIMEOUT_MS + Math.ceil(data.length / POST_BYTES_PER_MS)
  const body = Buffer.from(data)
  return ask({ ...call, path: '/v1/blobs', schema: requestSchema, timeoutMs, init: { method: 'POST', headers, body } })
}

const errorSchema = z.object({
  code: z.string().regex(/^[A-Z0-9_]{1,64}$/),
  message: z.string().max(2_000),
  fix: z.string().max(2_000).optional(),
  details: z.record(z.string(), z.unknown()).optional(),
})

async function ask<T>({
  url,
  path,
  schema,
  timeoutMs,
  signal,
  init = {},
}: CallParameters & { path: string; schema: z.ZodType<T>; timeoutMs: number; init?: RequestInit }): Promise<T> {
  const limit = AbortSignal.timeout(timeoutMs)
  const both = signal === undefined ? limit : AbortSignal.any([signal, limit])
  let status: number | undefined
  let body: unknown
  try {
    // No redirects: a disperser must not send vouchers elsewhere.
    const response = await fetch(new URL(path, url), { ...init, redirect: 'error', signal: both })
    status = response.status
    body = parseJson(await readCapped(response, MAX_ANSWER_BYTES))
  } catch (error) {
    signal?.throwIfAborted()
    const cause = error instanceof Error ? (error.cause ?? error) : error
    throw new DisperserFailedError({
      code: 'DISPERSER_UNREACHABLE',
      message: limit.aborted ? `${url} did not answer within ${timeoutMs} ms` : `${url}: ${reasonOf(cause)}`,
      fix: 'check the address and that the disperser runs; the same call again pays nothing twice',
      details: { url },
      cause: error,
    })
  }
  if (status >= 400) throw refusal({ url, status, body })
  const read = schema.safeParse(body)
  if (read.success) return read.data
  throw new DisperserFailedError({
    code: 'DISPERSER_ANSWER',
    message: `${url} answered something else than a disperser of this version does`,
    fix: 'check the address',
    status,
    details: { url, path },
    cause: read.error,
  })
}

function refusal({ url, status, body }: { url: string; status: number; body: unknown }): DisperserFailedError {
  const read = errorSchema.safeParse(body)
  if (!read.success) {
    return new DisperserFailedError({
      code: 'DISPERSER_ANSWER',
      message: `${url} answered with status ${status}`,
      fix: 'check the address',
      status,
      details: { url },
    })
  }
  const { code, message, fix, details } = read.data
  return new DisperserFailedError({ code, message: `${url}: ${message}`, fix, status, details: { ...details, url } })
}
