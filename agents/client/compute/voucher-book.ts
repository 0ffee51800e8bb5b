import { verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import { sameAddress } from '#protocol/compute/signature.ts'
import { encodeVoucherHeader, type SignedVoucher, signVoucher, verifyVoucher } from '#protocol/compute/voucher.ts'
import type { VoucherDemand } from '#protocol/compute/voucher-demand.ts'
import type { BookKey, ComputeBook, Reservation } from './book.ts'
import type { ComputeConnection } from './connection.ts'
import { ProviderError } from './errors.ts'
import { getProviderJson } from './provider-http.ts'
import { checkReceiptFeeNow } from './receipt-fee.ts'
import type { ComputeService } from './services.ts'
import { signersOf } from './verify-exchange.ts'
import { judgeDemand } from './voucher-terms.ts'

/** Receipts fetched because of one demand, at most. */
const MAX_RECEIPTS = 64

/** A signed voucher over so much in all, as a header value. */
export async function voucherHeader(
  connection: ComputeConnection,
  { key, cumulativeFeeWei, generation }: { key: BookKey; cumulativeFeeWei: bigint; generation: number },
): Promise<string> {
  const { chainId, contract, user, provider } = key
  const nowMs = Date.now()
  // Up to a sixteenth sooner, at random: it tells vouchers over the same amount apart that two books sign at once.
  const lifetimeMs = connection.limits.voucherLifetimeMs * (1 - Math.random() / 16)
  const expiresAtS = Math.floor((nowMs + lifetimeMs) / 1_000)
  const voucher = { user, provider, cumulativeFeeWei, expiresAtS, generation }
  connection.book.noteVoucher(key, voucher, nowMs)
  const signature = await signVoucher({ chainId, contract, voucher, signer: connection.account() })
  return encodeVoucherHeader({ voucher, signature })
}

/**
 * Puts the books right after a provider asked for a higher voucher: fetches the receipts that were missing, or takes
 * over what another book of the same user signed. Returns when the books justify what is asked.
 *
 * @throws ProviderError `VOUCHER_UNJUSTIFIED`
 */
export async function meetDemand(
  connection: ComputeConnection,
  {
    key,
    service,
    reservation,
    demand,
  }: { key: BookKey; service: ComputeService; reservation: Reservation; demand: VoucherDemand },
): Promise<void> {
  const { book } = connection
  await recoverReceipts(connection, { key, service, chatIds: demand.chatIds })
  const verdict = judgeDemand({
    ...{ demand, books: book.account(key), signedBeforeWei: reservation.signedBeforeWei },
    lastVoucherForeign: demand.lastVoucher !== undefined && (await isFromElsewhere(book, key, demand.lastVoucher)),
  })
  if (verdict.verdict === 'sign') return
  if (verdict.verdict === 'adopt') {
    book.adopt(key, verdict)
    return
  }
  const { justifiedWei } = verdict
  throw new ProviderError({
    code: 'VOUCHER_UNJUSTIFIED',
    message: `provider ${key.provider} asks for a voucher over ${demand.requiredCumulativeFeeWei} wei; its receipts and this request justify ${justifiedWei} wei`,
    fix: 'nothing was signed; use another provider',
    provider: key.provider,
    details: {
      requiredCumulativeFeeWei: String(demand.requiredCumulativeFeeWei),
      justifiedWei: String(justifiedWei),
    },
  })
}

/** Enters receipts of requests that lack theirs. A receipt counts when it is sound and answers such a request. */
async function recoverReceipts(
  connection: ComputeConnection,
  { key, service, chatIds }: { key: BookKey; service: ComputeService; chatIds: readonly string[] },
): Promise<void> {
  const { book, limits } = connection
  const lost = book.lost(key, { limit: MAX_RECEIPTS })
  const wanted = new Set([...lost.flatMap(({ chatId }) => chatId ?? []), ...chatIds])
  for (const chatId of [...wanted].slice(0, MAX_RECEIPTS)) {
    if (book.receipt(chatId) !== undefined) continue
    try {
      const call = {
        provider: key.provider,
        url: `${service.url}/v1/receipts/${chatId}`,
        timeoutMs: limits.callTimeoutMs,
      }
      const json = await getProviderJson(call)
      const signed = decodeReceipt(json)
      const { receipt } = signed
      const of = book.lost(key).find(({ requestHash }) => requestHash === receipt.requestHash)
      if (of === undefined) continue
      const { chainId, contract, user, provider } = key
      const expected = { user, provider, requestHash: of.requestHash, maxFeeWei: of.maxFeeWei }
      const { signer, digest } = verifyReceipt({ chainId, contract, ...signed, signers: signersOf(service), expected })
      await checkReceiptFeeNow(connection, { receipt, terms: of.terms })
      const checks = [{ name: 'signature', ok: true, detail: 'fetched later; the answer had not arrived whole' }]
      const { nonce, feeWei } = receipt
      const entry = { chatId, digest, nonce, signer, model: service.model, verified: false, checks, json, feeWei }
      if (book.keepReceipt(key, { ...entry, nowMs: Date.now() })) book.settle(key, { id: of.id, feeWei })
    } catch {
      // A receipt that cannot be had or does not hold justifies nothing; the next one may.
    }
  }
}

/** Whether the user signed this voucher, and not with these books. One that has expired can be claimed by nobody. */
async function isFromElsewhere(book: ComputeBook, key: BookKey, shown: SignedVoucher): Promise<boolean> {
  const { chainId, contract, user, provider } = key
  if (!sameAddress(shown.voucher.user, user) || !sameAddress(shown.voucher.provider, provider)) return false
  if (book.hasSigned(key, shown.voucher)) return false
  return await verifyVoucher({ chainId, contract, ...shown, nowMs: Date.now() }).then(
    () => true,
    () => false,
  )
}
