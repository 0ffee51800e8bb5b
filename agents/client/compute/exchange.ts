import { createHash, randomBytes } from 'node:crypto'
import { maximumFee } from '#protocol/compute/fees.ts'
import { RANDOMNESS_HEADER, requestHash } from '#protocol/compute/receipt.ts'
import { VOUCHER_HEADER } from '#protocol/compute/voucher.ts'
import { decodeVoucherDemand } from '#protocol/compute/voucher-demand.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import type { BookKey, Reservation } from './book.ts'
import { bookKey, type ComputeConnection } from './connection.ts'
import { ProviderError } from './errors.ts'
import { AnswerReader } from './exchange-answer.ts'
import { type FundedAccount, type FundingEvent, fundProvider } from './fund-provider.ts'
import { asProviderError, parseJson, readCapped, refusal } from './provider-http.ts'
import type { ComputeService } from './services.ts'
import { type AnsweredRequest, type Verification, verifyExchange } from './verify-exchange.ts'
import { meetDemand, voucherHeader } from './voucher-book.ts'

/** What is asked: paths after `/v1/`. */
export type ExchangePath = 'chat/completions' | 'completions' | 'embeddings'

export interface ExchangeParameters {
  service: ComputeService
  path: ExchangePath
  /** The request as it is sent; its hash goes into the receipt. */
  body: Uint8Array
  /** Whether the body asks for a stream. */
  stream: boolean
  /** Tokens the body allows, all choices together; 0 for embeddings. */
  maxTokens: number
  /** `seed` of the body. */
  seed?: number | undefined
  /** Model that the body names; default the service's. */
  model?: string | undefined
  /** Adapter that it includes: the receipt must name it, or none where this is undefined. */
  adapter?: Hash | undefined
  onFunding?: ((event: FundingEvent) => void | Promise<void>) | undefined
  signal?: AbortSignal | undefined
}

/** One request at one provider, from its first token on. */
export interface Exchange {
  readonly service: ComputeService
  /** Model that was asked for, as the provider names it. */
  readonly model: string
  /** Names the answer at the provider. */
  readonly chatId: string | undefined
  readonly contentType: string
  /** What a voucher was signed for: the most this may cost. */
  readonly maxFeeWei: bigint
  /** From sending to the first token (or to the whole answer, without a stream). */
  readonly firstTokenMs: number
  /**
   * The answer as it comes, byte for byte. Read it to its end, or abort.
   *
   * @throws ProviderError `PROVIDER_BROKE_OFF` when the provider fails after the first token
   */
  readonly chunks: AsyncIterable<Uint8Array>
  /** What the client found out about the answer; settles after `chunks` has ended, however it did. Never rejects. */
  readonly verification: Promise<Verification>
}

/** Sends of one request at most: vouchers asked higher, accounts topped up, tokens renewed. */
const MAX_SENDS = 4
const MAX_ERROR_BYTES = 64 * 1024

/**
 * Sends one request to one provider and resolves at its first token; until then any failure is thrown, and nothing was
 * shown to anybody, so another provider may be asked. Opens and tops up the account there, signs vouchers within the
 * books, and checks the receipt afterwards.
 *
 * @throws ProviderError, ComputeFundsError, ComputeChainError; the signal's reason
 */
export async function openExchange(connection: ComputeConnection, parameters: ExchangeParameters): Promise<Exchange> {
  const { service, body, maxTokens, signal } = parameters
  const key = await bookKey(connection, service)
  const maxFeeWei = maximumFee({ bodyBytes: body.length, maxTokens, ...service })
  const funding = { key, maxFeeWei, onEvent: parameters.onFunding, signal }
  const funded = await fundProvider(connection, funding)
  adoptPaid(connection, key, funded)
  const hash = requestHash(body)
  const { inputPriceWei, outputPriceWei } = service
  const terms = { bodyBytes: body.length, maxTokens, inputPriceWei, outputPriceWei }
  const reservation = connection.book.reserve(key, { requestHash: hash, maxFeeWei, terms, nowMs: Date.now() })
  const sent: SentRequest = {
    ...{ connection, parameters, key, funding, reservation, maxFeeWei },
    randomness: toHex(randomBytes(32)),
    requestHash: hash,
    startedMs: Date.now(),
  }
  try {
    const exchange = await send(sent, funded)
    connection.book.notePerformance(service.provider, {
      ok: true,
      firstTokenMs: exchange.firstTokenMs,
      nowMs: Date.now(),
    })
    return exchange
  } catch (error) {
    // What was refused is not owed. After a broken connection or a time-out the provider may have begun.
    const refused =
      error instanceof ProviderError && (error.status !== undefined || error.code === 'VOUCHER_UNJUSTIFIED')
    if (refused) connection.book.fail(reservation.id)
    else connection.book.lose(reservation.id)
    if (error instanceof ProviderError && error.code !== 'PROVIDER_REFUSED') {
      connection.book.notePerformance(service.provider, { ok: false, nowMs: Date.now() })
    }
    throw error
  }
}

interface SentRequest {
  connection: ComputeConnection
  parameters: ExchangeParameters
  key: BookKey
  funding: Parameters<typeof fundProvider>[1]
  reservation: Reservation
  maxFeeWei: bigint
  randomness: `0x${string}`
  requestHash: `0x${string}`
  startedMs: number
}

async function send(sent: SentRequest, firstAccount: FundedAccount): Promise<Exchange> {
  const { connection, parameters, key, reservation } = sent
  const { service } = parameters
  let account = firstAccount
  let cumulativeFeeWei = reservation.cumulativeFeeWei
  let last: ProviderError | undefined
  for (let sends = 0; sends < MAX_SENDS; sends++) {
    const answer = await post(sent, account, cumulativeFeeWei)
    if (answer.ok) return answer.exchange
    const { error, body } = answer
    // Only a new reason is worth another try; 402 may come back once with receipts in hand.
    if (last !== undefined && last.status === error.status && error.status !== 402) throw error
    last = error
    const demand = error.status === 402 ? decodeVoucherDemand(parseJson(body)) : undefined
    if (demand !== undefined) {
      await meetDemand(connection, { key, service, reservation, demand })
      cumulativeFeeWei = connection.book.renew(key, reservation.id)
    } else if (error.status === 401) {
      connection.tokens.forget({ signer: connection.account(), provider: service.provider })
      account = await fundProvider(connection, { ...sent.funding, fresh: true })
    } else if (/insufficient/i.test(error.message)) {
      account = await fundProvider(connection, { ...sent.funding, insufficient: true })
    } else throw error
  }
  throw last ?? new Error('nothing was sent')
}

type Posted =
  | { readonly ok: true; readonly exchange: Exchange }
  | { readonly ok: false; readonly error: ProviderError; readonly body: Uint8Array }

async function post(sent: SentRequest, account: FundedAccount, cumulativeFeeWei: bigint): Promise<Posted> {
  const { connection, parameters, key, reservation, randomness } = sent
  const { service, body, signal, stream } = parameters
  const { provider } = service
  const { limits } = connection
  const token = await connection.tokens.get({ signer: connection.account(), provider, generation: account.generation })
  const { generation } = account
  // Contracts of the original protocol settle by the signer's word alone and know no vouchers.
  const voucher =
    account.paidWei === undefined ? undefined : await voucherHeader(connection, { key, cumulativeFeeWei, generation })
  const watch = new TransferWatch({ firstMs: limits.firstTokenTimeoutMs, idleMs: limits.idleTimeoutMs, signal })
  const startedMs = performance.now()
  try {
    const response = await fetch(urlOf(parameters, { original: voucher === undefined }), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: stream ? 'text/event-stream' : 'application/json',
        'accept-encoding': 'identity',
        authorization: `Bearer ${token}`,
        [RANDOMNESS_HEADER]: randomness,
        ...(voucher === undefined ? {} : { [VOUCHER_HEADER]: voucher }),
      },
      body: body as Uint8Array<ArrayBuffer>,
      redirect: 'error',
      signal: watch.signal,
    })
    if (!response.ok) {
      const errorBody = await readCapped(response, MAX_ERROR_BYTES)
      watch.stop()
      return { ok: false, error: refusal({ provider, status: response.status, body: errorBody }), body: errorBody }
    }
    const chatId = chatIdOf(response.headers.get('ZG-Res-Key'))
    if (chatId !== undefined) connection.book.named(reservation.id, chatId)
    const contentType = response.headers.get('content-type') ?? 'application/json'
    const streamed = stream && contentType.includes('event-stream')
    const maxBytes = limits.maxAnswerBytes
    const reader = new AnswerReader({ provider, body: response.body, streamed, maxBytes, onBytes: () => watch.moved() })
    await reader.untilFirstToken()
    watch.began()
    const firstTokenMs = performance.now() - startedMs
    const { chunks, verification } = deliver({ sent, chatId, reader, watch, original: voucher === undefined })
    const { model = service.model } = parameters
    const facts = { service, model, chatId, contentType, maxFeeWei: sent.maxFeeWei, firstTokenMs }
    return { ok: true, exchange: { ...facts, chunks, verification } }
  } catch (error) {
    watch.stop()
    throw asProviderError({ error, provider, signal, timedOut: watch.timedOut, timeoutMs: limits.firstTokenTimeoutMs })
  }
}

/** Hands the answer on as it comes, then has it verified. */
function deliver(facts: {
  sent: SentRequest
  chatId: string | undefined
  reader: AnswerReader
  watch: TransferWatch
  original: boolean
}): { chunks: AsyncIterable<Uint8Array>; verification: Promise<Verification> } {
  const { sent, chatId, reader, watch, original } = facts
  const { connection, parameters, key, reservation } = sent
  const { service, signal, body, maxTokens, seed, model = service.model, adapter } = parameters
  const { promise: verification, resolve } = Promise.withResolvers<Verification>()
  const hash = createHash('sha256')
  const firstTokenAt = performance.now()

  function finish(whole: boolean): void {
    watch.stop()
    const { usage } = reader
    const seconds = (performance.now() - firstTokenAt) / 1_000
    const tokensPerSecond =
      usage !== undefined && usage.completionTokens > 4 && seconds > 0.05 ? usage.completionTokens / seconds : undefined
    if (whole && tokensPerSecond !== undefined) {
      connection.book.notePerformance(service.provider, { ok: true, tokensPerSecond, nowMs: Date.now() })
    }
    const answered: AnsweredRequest = {
      ...{ key, service, chatId, original, seed, maxTokens, usage, reservation: reservation.id },
      ...{ model, adapter },
      ...{ requestHash: sent.requestHash, randomness: sent.randomness, maxFeeWei: sent.maxFeeWei },
      ...{ bodyBytes: body.length, startedMs: sent.startedMs },
      text: whole ? reader.text : undefined,
      responseSha256: whole ? hash.digest('hex') : undefined,
    }
    const work = verifyExchange(connection, answered)
    connection.background(work)
    void work.then(resolve)
  }

  async function* chunks(): AsyncGenerator<Uint8Array> {
    let whole = false
    try {
      for await (const bytes of reader.chunks()) {
        hash.update(bytes)
        yield bytes
      }
      whole = true
    } catch (error) {
      if (signal?.aborted) throw signal.reason
      const brokeOff = asProviderError({
        ...{ error, provider: service.provider, signal, timedOut: watch.timedOut },
        timeoutMs: connection.limits.idleTimeoutMs,
      })
      connection.book.notePerformance(service.provider, { ok: false, nowMs: Date.now() })
      throw new ProviderError({
        code: 'PROVIDER_BROKE_OFF',
        message: `provider ${service.provider} broke its answer off: ${brokeOff instanceof Error ? brokeOff.message : ''}`,
        fix: 'ask again; what came is incomplete, and only a receipt can make it owed',
        provider: service.provider,
        cause: error,
      })
    } finally {
      if (!whole) watch.cut()
      finish(whole)
    }
  }
  return { chunks: chunks(), verification }
}

/** Ends a transfer that takes too long: to its first token, and then between two pieces. */
class TransferWatch {
  readonly #controller = new AbortController()
  readonly #idleMs: number
  #timer: NodeJS.Timeout | undefined
  #began = false
  timedOut = false
  readonly signal: AbortSignal

  constructor({ firstMs, idleMs, signal }: { firstMs: number; idleMs: number; signal: AbortSignal | undefined }) {
    this.#idleMs = idleMs
    this.signal = signal === undefined ? this.#controller.signal : AbortSignal.any([signal, this.#controller.signal])
    this.#arm(firstMs)
  }

  /** The first token is here: from now on the pauses count. */
  began(): void {
    this.#began = true
    this.#arm(this.#idleMs)
  }

  moved(): void {
    if (this.#began) this.#arm(this.#idleMs)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  /** Ends the transfer because nobody wants it any more. */
  cut(): void {
    this.stop()
    this.#controller.abort(new DOMException('the answer is not wanted any more', 'AbortError'))
  }

  #arm(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.timedOut = true
      this.#controller.abort(new DOMException('took too long', 'TimeoutError'))
    }, ms)
  }
}

/** A contract that has paid more than fresh books know of paid for what was signed elsewhere. */
function adoptPaid(connection: ComputeConnection, key: BookKey, { paidWei = 0n }: FundedAccount): void {
  if (paidWei > connection.book.account(key).signedWei) {
    connection.book.adopt(key, { billedWei: paidWei, signedWei: paidWei })
  }
}

/** Providers of the original protocol know these under /v1/proxy alone. */
function urlOf({ service, path }: ExchangeParameters, { original }: { original: boolean }): string {
  return `${service.url}/v1/${original ? 'proxy/' : ''}${path}`
}

function chatIdOf(header: string | null): string | undefined {
  const id = header?.toLowerCase()
  return id !== undefined && /^[0-9a-z-]{1,64}$/.test(id) ? id : undefined
}
