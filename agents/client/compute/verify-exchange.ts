import { setTimeout as sleep } from 'node:timers/promises'
import { adapterOfEngine } from '#protocol/compute/adapter-name.ts'
import { receiptSeed, type SignedReceipt, verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import { checkResponseSignature } from '#protocol/compute/response-signature.ts'
import { sameAddress } from '#protocol/compute/signature.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { BookKey, Check } from './book.ts'
import type { ComputeConnection } from './connection.ts'
import { ProviderError, reasonOf } from './errors.ts'
import { getProviderJson } from './provider-http.ts'
import { checkReceiptFeeNow } from './receipt-fee.ts'
import { type ComputeService, serviceModel } from './services.ts'
import type { StreamUsage } from './sse.ts'
import { isTextOf } from './token-text.ts'

/** What is known of a request that was answered. */
export interface AnsweredRequest {
  readonly key: BookKey
  readonly service: ComputeService
  /** The book's entry of it. */
  readonly reservation: number
  readonly chatId: string | undefined
  /** Model that was asked for. */
  readonly model: string
  /** Adapter that must have taken part; undefined: none. */
  readonly adapter: Hash | undefined
  /** The market is of the original protocol: no vouchers, no receipts. */
  readonly original: boolean
  readonly requestHash: Hash
  readonly randomness: Hex
  /** `seed` of the request body; it stands in place of the seed made from `randomness`. */
  readonly seed: number | undefined
  readonly bodyBytes: number
  readonly maxTokens: number
  readonly maxFeeWei: bigint
  readonly startedMs: number
  /** SHA-256 of the body received, hex; undefined where it did not arrive whole. */
  readonly responseSha256: string | undefined
  /** Tokens as the answer itself tells. */
  readonly usage: StreamUsage | undefined
  /** What was said, where that is plain text of one choice and arrived whole. */
  readonly text: string | undefined
}

/** What the client found out about an answer. */
export interface Verification {
  /** Every check was made and passed. */
  readonly verified: boolean
  /** Of the receipt (verifiable-inference §A.2); 0 without one. */
  readonly level: number
  readonly checks: readonly Check[]
  readonly chatId: string | undefined
  /** Name of the receipt, where a sound one came: `weightless receipt show <digest>`. */
  readonly digest: Hash | undefined
  /** The fee of the receipt; undefined without a sound one. */
  readonly feeWei: bigint | undefined
  readonly usage: StreamUsage | undefined
}

/** A clock may be wrong by so much. */
const CLOCK_SKEW_MS = 300_000

/**
 * Fetches the receipt of an answer and checks everything that can be checked: who signed, for which request, which
 * tokens, at which price; and that the provider signed for the bytes received. A sound receipt goes into the books (its
 * fee is owed from then on) and is kept. Never throws: what fails is a check that is not ok.
 */
export async function verifyExchange(connection: ComputeConnection, request: AnsweredRequest): Promise<Verification> {
  const checks: Check[] = []
  const answer = { chatId: request.chatId, usage: request.usage }
  const signed = await attempt(checks, 'receipt', () => fetchReceipt(connection, request))
  if (signed === undefined) {
    if (request.original) await attempt(checks, 'answer', () => checkAnswer(connection, request))
    connection.book.lose(request.reservation)
    return { verified: false, level: 0, checks, digest: undefined, feeWei: undefined, ...answer }
  }
  const { receipt } = signed.read
  const sound = await attempt(checks, 'signature', () => checkReceipt(request, signed.read))
  if (sound !== undefined) {
    await attempt(checks, 'fee', () => checkFee(connection, request, signed.read))
    await attempt(checks, 'model', () => checkModel(connection, request, signed.read))
    const named = adapterOfEngine(signed.read.engine)
    if (request.adapter !== undefined || named !== undefined) {
      await attempt(checks, 'adapter', async () => checkAdapter(request.adapter, named))
    }
    await attempt(checks, 'answer', () => checkAnswer(connection, request))
    await attempt(checks, 'tokens', () => checkTokens(connection, request, signed.read))
  }
  const verified = checks.every(({ ok }) => ok)
  const justified = sound !== undefined && checks.some(({ name, ok }) => name === 'fee' && ok)
  const { chatId = '', key, reservation } = request
  const kept =
    justified &&
    connection.book.keepReceipt(key, {
      ...{ chatId, digest: sound.digest, nonce: receipt.nonce, signer: sound.signer, model: request.model },
      ...{ verified, checks, json: signed.json, feeWei: receipt.feeWei, nowMs: Date.now() },
    })
  if (justified && !kept) {
    checks.push({ name: 'nonce', ok: false, detail: 'the provider used the number of this receipt before' })
  }
  if (kept) connection.book.settle(key, { id: reservation, feeWei: receipt.feeWei })
  else connection.book.lose(reservation)
  const facts = { digest: kept ? sound.digest : undefined, feeWei: kept ? receipt.feeWei : undefined }
  return { verified: verified && kept, level: receipt.level, checks, ...facts, ...answer }
}

/** Asks until the receipt is there: a provider signs it when the answer has ended. */
async function fetchReceipt(connection: ComputeConnection, { service, chatId, original }: AnsweredRequest) {
  const { provider, url } = service
  if (original) throw new Error('providers of this market give none')
  if (chatId === undefined) throw new Error('the provider named no chat id')
  const { receiptTimeoutMs: timeoutMs, callTimeoutMs } = connection.limits
  const deadline = performance.now() + timeoutMs
  for (let pauseMs = 50; ; pauseMs = Math.min(1_000, 2 * pauseMs)) {
    try {
      const call = { provider, url: `${url}/v1/receipts/${chatId}`, timeoutMs: Math.min(timeoutMs, callTimeoutMs) }
      const json = await getProviderJson(call)
      return { value: { json, read: decodeReceipt(json) }, detail: `receipt of chat ${chatId}` }
    } catch (error) {
      const later = error instanceof ProviderError && (error.status === 404 || error.status === 425)
      if (!later || performance.now() + pauseMs > deadline) throw error
      await sleep(pauseMs)
    }
  }
}

async function checkReceipt(request: AnsweredRequest, signed: SignedReceipt) {
  const { key, service, requestHash, randomness } = request
  const { chainId, contract, user, provider } = key
  // A body's seed is a JSON number; as a 64-bit word it may have been negative.
  const seed =
    request.seed === undefined ? receiptSeed({ requestHash, randomness }) : BigInt.asUintN(64, BigInt(request.seed))
  const { signer, digest } = verifyReceipt({
    ...{ chainId, contract, ...signed },
    signers: signersOf(service),
    expected: { user, provider, requestHash, seed, maxFeeWei: request.maxFeeWei },
  })
  const issuedMs = signed.receipt.issuedAtS * 1_000
  if (issuedMs < request.startedMs - CLOCK_SKEW_MS || issuedMs > Date.now() + CLOCK_SKEW_MS) {
    throw new Error(`it is dated ${new Date(issuedMs).toISOString()}`)
  }
  const who = sameAddress(signer, provider) ? 'the provider' : "the provider's registered signer"
  return { value: { signer, digest }, detail: `signed by ${who} for the request as it was sent` }
}

/** The provider's own key, and the signer its service names, once that is approved. */
export function signersOf({ provider, teeSigner, acknowledged }: ComputeService): readonly Hex[] {
  return acknowledged ? [provider, teeSigner] : [provider]
}

async function checkFee(
  connection: ComputeConnection,
  { service, maxTokens, bodyBytes }: AnsweredRequest,
  { receipt }: SignedReceipt,
) {
  const { inputPriceWei, outputPriceWei } = service
  const terms = { inputPriceWei, outputPriceWei, maxTokens, bodyBytes }
  await checkReceiptFeeNow(connection, { receipt, terms })
  const { feeWei, promptLen, outputLen } = receipt
  return { value: true, detail: `${feeWei} wei for ${promptLen} + ${outputLen} tokens, as priced on the chain` }
}

async function checkModel(connection: ComputeConnection, { service }: AnsweredRequest, { receipt }: SignedReceipt) {
  const registered = await serviceModel(connection, service)
  if (registered === undefined) return { value: true, detail: 'the provider registered no weights to compare with' }
  if (registered === receipt.modelId) return { value: true, detail: `weights ${registered}` }
  throw new Error(`the receipt names weights ${receipt.modelId}, the chain ${registered}`)
}

/** The adapter is the one that was asked for: the receipt's signed engine text names it beside the base's weights. */
function checkAdapter(wanted: Hash | undefined, named: Hash | undefined) {
  if (wanted === named) return { value: true, detail: `adapter ${wanted}` }
  if (named === undefined) throw new Error(`the receipt names no adapter, ${wanted} was asked for`)
  throw new Error(`the receipt names adapter ${named}, ${wanted ?? 'the plain model'} was asked for`)
}

/** The bytes received are those the provider signed for. */
async function checkAnswer(connection: ComputeConnection, { service, chatId, responseSha256 }: AnsweredRequest) {
  const { provider, url } = service
  if (responseSha256 === undefined) throw new Error('the answer did not arrive whole')
  const timeoutMs = connection.limits.callTimeoutMs
  const query = new URLSearchParams({ model: service.model })
  const answer = await getProviderJson({ provider, url: `${url}/v1/proxy/signature/${chatId}?${query}`, timeoutMs })
  const { signer } = checkResponseSignature({ answer, responseSha256 })
  if (signersOf(service).some((allowed) => sameAddress(allowed, signer))) {
    return { value: true, detail: 'signed for the bytes received' }
  }
  throw new Error(`the answer is signed by ${signer}, who is not registered for this provider`)
}

/** Counts told while the answer came are those of the receipt, and its tokens give the text, where that can be told. */
async function checkTokens(
  connection: ComputeConnection,
  { usage, text }: AnsweredRequest,
  { receipt, outputTokens }: SignedReceipt,
) {
  const { promptLen, outputLen, modelId, stopReason } = receipt
  if (usage !== undefined && (usage.promptTokens !== promptLen || usage.completionTokens !== outputLen)) {
    const told = `${usage.promptTokens} + ${usage.completionTokens}`
    throw new Error(`the answer told of ${told} tokens, the receipt of ${promptLen} + ${outputLen}`)
  }
  if (outputTokens === undefined) return { value: true, detail: 'counts only: the engine tells no token ids' }
  const textOf = text === undefined ? undefined : await connection.modelTexts(modelId)
  if (text === undefined || textOf === undefined) {
    return { value: true, detail: 'ids under the signed roots; not compared with the text: no tokenizer at hand' }
  }
  if (!isTextOf({ text, decoded: textOf(outputTokens), cut: stopReason === 'stop-sequence' })) {
    throw new Error('the tokens of the receipt do not give the text received')
  }
  return { value: true, detail: 'ids under the signed roots, and they give the text received' }
}

/** Makes one check: notes how it went, returns its value or undefined. */
async function attempt<T>(
  checks: Check[],
  name: string,
  work: () => Promise<{ value: T; detail: string }>,
): Promise<T | undefined> {
  try {
    const { value, detail } = await work()
    checks.push({ name, ok: true, detail })
    return value
  } catch (error) {
    checks.push({ name, ok: false, detail: reasonOf(error) })
    return undefined
  }
}
