import { promptTokenBound, type TokenPrices, usageFee } from '#protocol/compute/fees.ts'
import { type Receipt, ReceiptError } from '#protocol/compute/receipt.ts'
import type { ComputeConnection } from './connection.ts'
import { getService } from './services.ts'

/** What a request allowed. */
export interface RequestTerms extends TokenPrices {
  /** Length of the request body. */
  readonly bodyBytes: number
  /** All choices together. */
  readonly maxTokens: number
}

/**
 * Checks that a receipt charges no more than its tokens cost at the price the request was sent for, and counts no more
 * tokens than the request could have.
 *
 * @throws ReceiptError `RECEIPT_FEE`
 */
export function checkReceiptFee({ receipt, terms }: { receipt: Receipt; terms: RequestTerms }): void {
  const { promptLen, outputLen, feeWei } = receipt
  const { bodyBytes, maxTokens } = terms
  const mostWei = usageFee({ ...terms, promptTokens: promptLen, completionTokens: outputLen })
  if (feeWei > mostWei) throw wrong('fee', `the fee is ${feeWei} wei, its tokens cost ${mostWei} at the agreed price`)
  if (promptLen > promptTokenBound(bodyBytes)) {
    throw wrong('promptLen', `${promptLen} prompt tokens for ${bodyBytes} bytes`)
  }
  if (outputLen > maxTokens) throw wrong('outputLen', `${outputLen} output tokens where ${maxTokens} were asked for`)
}

/**
 * As {@link checkReceiptFee}, but where the agreed price does not do, the one on the chain now does: the provider may
 * have changed it in the moments since the client looked. What the request could cost at most was bounded before.
 *
 * @throws ReceiptError `RECEIPT_FEE`
 */
export async function checkReceiptFeeNow(
  connection: ComputeConnection,
  { receipt, terms }: { receipt: Receipt; terms: RequestTerms },
): Promise<void> {
  try {
    checkReceiptFee({ receipt, terms })
  } catch (error) {
    const now = await getService(connection, { provider: receipt.provider }).catch(() => terms)
    const { inputPriceWei, outputPriceWei } = now
    if (inputPriceWei === terms.inputPriceWei && outputPriceWei === terms.outputPriceWei) throw error
    checkReceiptFee({ receipt, terms: { ...terms, inputPriceWei, outputPriceWei } })
  }
}

function wrong(field: string, message: string): ReceiptError {
  return new ReceiptError({ code: 'RECEIPT_FEE', message, fix: 'use another provider', details: { field } })
}
