import { receiptDigest, type SignedReceipt, verifyReceipt } from '#protocol/compute/receipt.ts'
import { decodeReceipt } from '#protocol/compute/receipt-json.ts'
import type { StoredReceipt } from './book.ts'
import type { ComputeConnection } from './connection.ts'
import { ComputeRequestError } from './errors.ts'

/** A kept receipt, read and verified anew. */
export interface ShownReceipt extends StoredReceipt {
  readonly signed: SignedReceipt
  /** The signature and the token roots hold now, with nothing but what is stored. */
  readonly intact: boolean
}

/**
 * A receipt from the user's book, by digest or chat id. Its signature and roots are computed anew.
 *
 * @throws ComputeRequestError `RECEIPT_UNKNOWN`
 */
export function showReceipt(connection: Pick<ComputeConnection, 'book'>, { id }: { id: string }): ShownReceipt {
  const stored = connection.book.receipt(id.toLowerCase())
  if (stored !== undefined) return reverify(stored)
  throw new ComputeRequestError({
    code: 'RECEIPT_UNKNOWN',
    message: `there is no receipt ${id.slice(0, 100)} in this book`,
    fix: 'list them with: weightless receipt list',
    details: { id: id.slice(0, 100) },
  })
}

/** The newest receipts, at most `limit` (default 20). */
export function listReceipts(
  connection: Pick<ComputeConnection, 'book'>,
  { limit = 20 }: { limit?: number } = {},
): StoredReceipt[] {
  return connection.book.receipts({ limit })
}

function reverify(stored: StoredReceipt): ShownReceipt {
  const { chainId, contract, signer, digest } = stored
  const signed = decodeReceipt(stored.json)
  try {
    verifyReceipt({ chainId, contract, ...signed, signers: [signer] })
    return { ...stored, signed, intact: receiptDigest({ chainId, contract, receipt: signed.receipt }) === digest }
  } catch {
    return { ...stored, signed, intact: false }
  }
}
