import { setTimeout as delay } from 'node:timers/promises'
import type { BlobCommitment } from '#protocol/da/commitment.ts'
import type { Hash } from '#protocol/hex.ts'
import { readBlob } from '../blob-record.ts'
import type { Certificate } from '../confirm-blobs.ts'
import type { DaConnection } from '../connection.ts'
import type { DaListener } from '../events.ts'
import {
  DisperserFailedError,
  type DisperserQuote,
  type DisperserRequest,
  fetchQuote,
  fetchRequest,
  postBlob,
} from './disperser-http.ts'
import { catchUp, openPurse, owedFor, type Purse, shortfallOf } from './pay-disperser.ts'
import { VoucherBook } from './voucher-book.ts'

export interface DisperseThroughParameters {
  /** HTTP address of the disperser. */
  url: string
  data: Uint8Array
  /** Pay no more than this. Given, it is paid also where that is optional. Default: the quote, where payment is required. */
  maxFeeWei?: bigint | undefined
  /** The user's book of vouchers. Default: the one in the user's data folder. */
  book?: VoucherBook | undefined
  /** Told the quote before anything is signed; what it throws ends the call. */
  onQuote?: ((quote: DisperserQuote) => void) | undefined
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
  /** From the hand-over to the confirmation. Default 10 minutes. */
  timeoutMs?: number | undefined
}

export interface DisperseThroughReturnType {
  certificate: Certificate
  requestId: string
  quote: DisperserQuote
  /** What this user is charged: the quote, or 0 where it is free or an equal blob was paid for. */
  feeWei: bigint
}

/** A voucher is signed anew so often when a disperser finds it too low. */
const MAX_SIGNATURES = 3
const TIMEOUT_MS = 600_000
/** Unanswered looks at a blob in a row: a disperser may be restarting. */
const MAX_FAILED_LOOKS = 30

/**
 * Disperse a blob through a disperser: quote, voucher, hand-over, confirmation. The disperser is not trusted: what it
 * confirmed is compared with the payload and with the chain, and no voucher exceeds the quote. The same call again after
 * a crash goes on, and pays nothing twice.
 *
 * @throws DisperserFailedError
 * @example
 * const { certificate, feeWei } = await disperseThrough(connection, { url: 'http://127.0.0.1:51002', data })
 */
export async function disperseThrough(
  connection: DaConnection,
  parameters: DisperseThroughParameters,
): Promise<DisperseThroughReturnType> {
  const { url, data, signal, onEvent } = parameters
  const commitment = await commit(connection, parameters)
  const { dataRoot } = commitment
  const quote = await fetchQuote({ url, sizeBytes: data.length, signal })
  checkBound(quote, parameters)
  parameters.onQuote?.(quote)
  const isPaid = quote.payment !== null && (quote.payment.mode === 'required' || parameters.maxFeeWei !== undefined)
  if (quote.payment === null || !isPaid) {
    const request = await postBlob({ url, data, voucher: undefined, signal })
    const done = await confirmed(connection, { ...parameters, commitment, request })
    return { ...done, quote, feeWei: 0n }
  }
  const book = parameters.book ?? VoucherBook.open()
  try {
    const purse = await openPurse(connection, { book, url, payment: quote.payment })
    await catchUp(connection, { book, key: purse.key, url, except: dataRoot, signal })
    onEvent?.({ type: 'fee', feeWei: quote.totalWei, blobs: 1 })
    const { id, request } = await handOver({ purse, book, url, data, dataRoot, feeWei: quote.totalWei, signal })
    book.named(id, request.requestId)
    try {
      const done = await confirmed(connection, { ...parameters, commitment, request })
      const owed = owedFor({ key: purse.key, feeWei: quote.totalWei, charge: done.charge })
      const feeWei = book.bill(purse.key, { id, ...owed })
      return { certificate: done.certificate, requestId: done.requestId, quote, feeWei }
    } catch (error) {
      if (error instanceof DisperserFailedError && error.code === 'DISPERSAL_FAILED') book.fail(id)
      throw error
    }
  } finally {
    if (parameters.book === undefined) book.close()
  }
}

async function commit(
  connection: DaConnection,
  { data, signal, onEvent }: DisperseThroughParameters,
): Promise<BlobCommitment> {
  const encoded = await (await connection.codec()).encode(data, { signal })
  try {
    const { commitment } = encoded
    const { dataRoot, header } = commitment
    onEvent?.({ type: 'encoded', dataRoot, sizeBytes: header.sizeBytes, rowBytes: header.rowBytes })
    return commitment
  } finally {
    encoded.release()
  }
}

/** Signs, posts, and signs again where the disperser shows that the book is behind. */
async function handOver({
  purse,
  book,
  url,
  data,
  dataRoot,
  feeWei,
  signal,
}: {
  purse: Purse
  book: VoucherBook
  url: string
  data: Uint8Array
  dataRoot: Hash
  feeWei: bigint
  signal: AbortSignal | undefined
}): Promise<{ id: number; request: DisperserRequest }> {
  const { id, isNew, header } = await purse.sign({ dataRoot, feeWei })
  let voucher = header
  for (let tries = 1; ; tries++) {
    try {
      return { id, request: await postBlob({ url, data, voucher, signal }) }
    } catch (error) {
      // Where it did not clearly say no, or took an equal blob before, the next call looks up what became of it.
      const { status = 500 } = error instanceof DisperserFailedError ? error : {}
      const isRefused = isNew && status < 500
      const shortfall = shortfallOf(error)
      if (shortfall === undefined || tries >= MAX_SIGNATURES) {
        if (isRefused) book.fail(id)
        throw error
      }
      try {
        voucher = await purse.signAgain(shortfall, feeWei)
      } catch (unjustified) {
        if (isRefused) book.fail(id)
        throw unjustified
      }
    }
  }
}

/** Waits until the disperser says that the blob is confirmed, and the chain says so too. */
async function confirmed(
  connection: DaConnection,
  {
    url,
    commitment,
    request: taken,
    signal,
    onEvent,
    timeoutMs = TIMEOUT_MS,
  }: DisperseThroughParameters & { commitment: BlobCommitment; request: DisperserRequest },
): Promise<{ certificate: Certificate; requestId: string; charge: DisperserRequest['charge'] }> {
  const { requestId } = taken
  const startedAt = Date.now()
  let failedLooks = 0
  for (let request = taken; ; ) {
    if (request.state === 'failed') throw failed(url, request)
    if (request.state !== 'processing') {
      const certificate = await certificateOf(connection, { url, commitment, request })
      if (certificate !== undefined) {
        const { dataRoot, confirmTx: txHash, block } = certificate
        if (block !== undefined) onEvent?.({ type: 'confirmed', dataRoot, txHash, block })
        return { certificate, requestId, charge: request.charge }
      }
    }
    const waitedMs = Date.now() - startedAt
    if (waitedMs > timeoutMs) throw late(url, requestId, waitedMs)
    onEvent?.({ type: 'waiting', for: 'receipt', reason: `${url} has not confirmed it yet`, waitedMs })
    await delay(connection.limits.pollIntervalMs, undefined, signal === undefined ? {} : { signal })
    try {
      request = await fetchRequest({ url, id: requestId, signal })
      failedLooks = 0
    } catch (error) {
      const isGone = error instanceof DisperserFailedError && error.code !== 'DISPERSER_UNREACHABLE'
      failedLooks += 1
      if (isGone || failedLooks > MAX_FAILED_LOOKS) throw error
    }
  }
}

/** The certificate, from the chain; undefined while a reorganisation has it in doubt. */
async function certificateOf(
  connection: DaConnection,
  { url, commitment, request }: { url: string; commitment: BlobCommitment; request: DisperserRequest },
): Promise<Certificate | undefined> {
  const { dataRoot, header, rowRoot, rlcRoot } = commitment
  // Where the disperser says it was: for orientation, the chain is asked for the rest.
  const { epoch, quorumId = 0, submitTx, confirmTx, block } = request
  if (request.dataRoot !== dataRoot || epoch === undefined) {
    throw new DisperserFailedError({
      code: 'DISPERSER_DISHONEST',
      message: `${url} confirmed ${request.dataRoot ?? 'nothing'} in place of ${dataRoot}`,
      fix: 'use another disperser, or disperse it yourself: weightless da put without --disperser',
      details: { url, dataRoot, confirmed: request.dataRoot },
    })
  }
  const record = await readBlob(connection, { dataRoot, epoch, quorumId })
  if (record?.confirmed !== true) return undefined
  return {
    ...{ dataRoot, epoch, quorumId, sizeBytes: header.sizeBytes, rowRoot, rlcRoot },
    ...{ expiryEpoch: record.expiryEpoch, submitTx, confirmTx, block },
  }
}

function checkBound({ totalWei, payment }: DisperserQuote, { url, maxFeeWei }: DisperseThroughParameters): void {
  if (maxFeeWei === undefined || payment === null || totalWei <= maxFeeWei) return
  throw new DisperserFailedError({
    code: 'FEE_ABOVE_LIMIT',
    message: `${url} asks ${totalWei} wei for this blob, at most ${maxFeeWei} wei is to be paid`,
    fix: 'raise the limit (--max-fee), or use another disperser',
    details: { url, feeWei: String(totalWei), maxFeeWei: String(maxFeeWei) },
  })
}

function failed(url: string, { requestId, error }: DisperserRequest): DisperserFailedError {
  return new DisperserFailedError({
    code: 'DISPERSAL_FAILED',
    message: `${url} could not disperse the blob: ${error ?? 'it gives no reason'}`,
    fix: 'nothing is charged; try again, or use another disperser',
    details: { url, requestId },
  })
}

function late(url: string, requestId: string, waitedMs: number): DisperserFailedError {
  return new DisperserFailedError({
    code: 'DISPERSER_TIMEOUT',
    message: `${url} has not confirmed the blob after ${waitedMs} ms`,
    fix: 'the same call again goes on waiting and pays nothing twice',
    details: { url, requestId, waitedMs },
  })
}
