import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { HttpError } from '#kit/http/http-error.ts'
import { MAX_BLOB_BYTES } from '#protocol/da/constants.ts'
import { DISPERSAL_VOUCHER_HEADER } from '#protocol/da/dispersal-voucher.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import type { Disperser } from './disperser.ts'
import type { ClaimJob } from './fees/claim-job.ts'
import type { FeeBook } from './fees/fee-book.ts'
import type { BlobQuote, FeeDesk, PaymentTerms } from './fees/fee-desk.ts'
import type { StoredRequest } from './request-store.ts'
import { disperserStatus } from './status.ts'

/** HTTP status by error code. */
const STATUS: Record<string, number> = {
  BLOB_SIZE: 413,
  REQUEST_INVALID: 400,
  VOUCHER_FORMAT: 400,
  VOUCHER_FOREIGN: 400,
  VOUCHER_SIGNATURE: 403,
  VOUCHER_MISSING: 402,
  VOUCHER_EXPIRED: 402,
  VOUCHER_INSUFFICIENT: 402,
  DEPOSIT_INSUFFICIENT: 402,
  ENTRANCE_REFUSED: 400,
  REQUEST_UNKNOWN: 404,
  BLOB_UNKNOWN: 404,
  BLOB_EXPIRED: 410,
  BLOB_UNAVAILABLE: 503,
  CHAIN_UNREACHABLE: 503,
  BLOB_STORE_FULL: 507,
  DISPERSER_BUSY: 503,
}

const rootParams = z.object({
  root: z
    .string()
    .regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes as 0x and 64 hex digits')
    .transform((text) => text.toLowerCase() as Hash),
})
const count = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const retrieveQuery = z.object({ epoch: count.optional(), quorum: count.optional() })
const quoteQuery = z
  .object({ size: count.optional(), sizeBytes: count.optional() })
  .transform(({ size, sizeBytes }) => size ?? sizeBytes)
  .refine((sizeBytes) => sizeBytes !== undefined, { path: ['size'], message: 'is missing: give the bytes of the blob' })
  .transform((sizeBytes) => ({ sizeBytes: sizeBytes ?? 0 }))
const userParams = z.object({
  user: z
    .string()
    .regex(/^0x[0-9a-fA-F]{40}$/, 'expected an address')
    .transform((text) => text.toLowerCase() as Hash),
})

/**
 * What gRPC offers, over plain HTTP:
 *
 * - `POST /v1/blobs` (application/octet-stream) → 202 with the request; `GET /v1/blobs/{id}` tells how it stands.
 *   Where blobs are paid for: with `X-Weightless-Voucher`; a voucher that does not do is refused with 402
 * - `GET /v1/data/{dataRoot}?epoch&quorum` gives the bytes, verified
 * - `GET /v1/quote?size` tells the fee, wei, and how it is paid
 * - `GET /v1/accounts/{user}` tells how a user stands here; `GET /v1/status` what was charged and claimed
 */
export function registerDisperserRoutes({
  app,
  disperser,
  desk,
  book,
  claims,
  address,
  maxUploads,
}: {
  app: FastifyInstance
  disperser: Disperser
  desk: FeeDesk
  book: FeeBook
  claims: ClaimJob | undefined
  /** The disperser's account. */
  address: Hash
  maxUploads: number
}): void {
  let uploads = 0
  const counted = new WeakSet<object>()
  app.register(async (scope) => {
    scope.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
    scope.post(
      '/v1/blobs',
      {
        bodyLimit: MAX_BLOB_BYTES,
        // Before the body is read: each may take 32 MiB of memory.
        onRequest: async (request) => {
          if (uploads >= maxUploads) throw busy(maxUploads)
          uploads += 1
          counted.add(request)
        },
        onResponse: async (request) => {
          if (counted.delete(request)) uploads -= 1
        },
      },
      async (request, reply) => {
        const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
        const voucher = headerOf(request.headers[DISPERSAL_VOUCHER_HEADER.toLowerCase()])
        const accepted = await asHttp(disperser.accept(body, { voucher }))
        return reply.status(202).send(requestJson(accepted, disperser))
      },
    )
  })
  app.get('/v1/blobs/:id', async (request) => {
    const { id } = z.object({ id: z.string().max(200) }).parse(request.params)
    return requestJson(await asHttp(Promise.resolve().then(() => disperser.request(id))), disperser)
  })
  app.get('/v1/data/:root', async (request, reply) => {
    const { root } = parse(rootParams, request.params)
    const { epoch, quorum } = parse(retrieveQuery, request.query)
    const data = await asHttp(disperser.retrieve({ dataRoot: root, epoch, quorumId: quorum }))
    return reply.type('application/octet-stream').send(Buffer.from(data.buffer, data.byteOffset, data.length))
  })
  app.get('/v1/quote', async (request) => {
    const { sizeBytes } = parse(quoteQuery, request.query)
    const [quote, terms] = await asHttp(Promise.all([desk.quote(sizeBytes), desk.terms()]))
    return quoteJson(quote, terms)
  })
  app.get('/v1/accounts/:user', async (request) => {
    const { user } = parse(userParams, request.params)
    if (desk.mode === 'free') throw new HttpError({ ...freeHere(), statusCode: 404 })
    const account = await asHttp(desk.account(user))
    const standing = book.standing(user, account.claimedWei)
    const { balanceWei, claimedWei, withdrawingWei, unlockAtS } = account
    return {
      ...{ user, disperser: address, balanceWei: String(balanceWei), claimedWei: String(claimedWei) },
      ...{ withdrawingWei: String(withdrawingWei), unlockAtS },
      ...{ chargedWei: String(standing.chargedWei), reservedWei: String(standing.reservedWei) },
      freeWei: String(desk.freeWei(account, standing)),
    }
  })
  app.get('/v1/status', async () => disperserStatus({ disperser, desk, book, claims, address }))
}

/** A request as it is told: no bytes, no paths. */
function requestJson(request: StoredRequest, disperser: Disperser): object {
  const { id, state, sizeBytes, acceptedAtMs, dataRoot, epoch, quorumId, expiryEpoch, block, feeWei, error } = request
  const { submitTx, confirmTx } = request
  const facts = { dataRoot, epoch, quorumId, expiryEpoch, submitTx, confirmTx, block, feeWei, error }
  const charged = disperser.chargeOf(request)
  const charge =
    charged === undefined
      ? null
      : { id: charged.id, user: charged.user, feeWei: String(charged.feeWei), state: charged.state }
  return { requestId: id, state, sizeBytes, acceptedAtMs, ...facts, charge }
}

function quoteJson(quote: BlobQuote, terms: PaymentTerms | undefined): object {
  const { sizeBytes, retentionEpochs, chainFeeWei, serviceFeeWei, totalWei } = quote
  return {
    ...{ sizeBytes, retentionEpochs, chainFeeWei: String(chainFeeWei), serviceFeeWei: String(serviceFeeWei) },
    ...{ totalWei: String(totalWei), payment: terms ?? null },
  }
}

function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}

function freeHere(): { code: string; message: string; fix: string } {
  return { code: 'ACCOUNT_UNKNOWN', message: 'blobs are free here: there are no accounts', fix: 'send no voucher' }
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const read = schema.safeParse(value)
  if (read.success) return read.data
  const [issue] = read.error.issues
  const field = issue?.path.join('.') ?? ''
  throw new HttpError({
    statusCode: 400,
    code: 'REQUEST_INVALID',
    message: `${field}: ${issue?.message ?? 'is wrong'}`,
    fix: `correct ${field}`,
    details: { field },
  })
}

async function asHttp<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof WeightlessError) || error instanceof HttpError) throw error
    const { code, message, fix, details, cause } = error
    const statusCode = STATUS[code] ?? 502
    throw new HttpError({ statusCode, code, message, fix, details, cause })
  }
}

function busy(maxUploads: number): HttpError {
  return new HttpError({
    statusCode: 503,
    code: 'DISPERSER_BUSY',
    message: `${maxUploads} blobs are being received already`,
    fix: 'try again in a moment',
    details: { maxUploads },
  })
}
