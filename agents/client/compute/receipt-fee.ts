import { promptTokenBound, type TokenPrices, usageFee } from '#protocol/compute/fees.ts'
import { type Receipt, ReceiptError } from '#protocol/compute/receipt.ts'

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

function wrong(field: string, message: string): ReceiptError {
  return new ReceiptError({ code: 'RECEIPT_FEE', message, fix: 'use another provider', details: { field } })
}
