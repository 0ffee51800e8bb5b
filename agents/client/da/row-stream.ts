import type { RowVerifier } from '#protocol/da/blob-codec.ts'
import type { BlobHeader } from '#protocol/da/commitment.ts'
import { type RowSlice, SliceDecoder } from '#protocol/da/slice.ts'
import { reasonOf, SignerFailedError } from './errors.ts'
import type { BlobAddress, SignerHttp } from './signer-http.ts'

/** Rows verified at once. */
const BATCH_BYTES = 1 << 20

/**
 * Rows `from` to `to` (not included) of one signer, each verified against the commitment before it is given. A signer
 * that sends anything else than such rows, in ascending order, fails at that point.
 *
 * @throws SignerFailedError
 */
export async function* verifiedRows({
  http,
  blob,
  header,
  verifier,
  from,
  to,
  signal,
}: {
  http: SignerHttp
  blob: BlobAddress
  header: BlobHeader
  verifier: RowVerifier
  from: number
  to: number
  signal?: AbortSignal | undefined
}): AsyncGenerator<RowSlice[], void, undefined> {
  const decoder = new SliceDecoder({ header, maxSlices: to - from })
  const batchRows = Math.max(1, Math.floor(BATCH_BYTES / header.rowBytes))
  let batch: RowSlice[] = []
  let next = from
  const body = await http.rows(blob, { from, to, signal })
  for await (const piece of body) {
    for (const slice of faulty(http, () => decoder.push(piece))) {
      if (slice.index < next || slice.index >= to) throw wrong(http, `it sent row ${slice.index} out of turn`)
      next = slice.index + 1
      batch.push(slice)
    }
    if (batch.length >= batchRows) {
      yield await verified(http, verifier, batch)
      batch = []
    }
  }
  faulty(http, () => decoder.end())
  if (batch.length > 0) yield await verified(http, verifier, batch)
}

async function verified(http: SignerHttp, verifier: RowVerifier, rows: RowSlice[]): Promise<RowSlice[]> {
  try {
    await verifier.verify(rows)
    return rows
  } catch (cause) {
    throw wrong(http, reasonOf(cause), cause)
  }
}

function faulty<T>(http: SignerHttp, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw wrong(http, reasonOf(cause), cause)
  }
}

function wrong(http: SignerHttp, reason: string, cause?: unknown): SignerFailedError {
  return new SignerFailedError({
    code: 'SIGNER_BAD_ROWS',
    message: `bad rows: ${reason}`,
    fix: 'take the rows from other signers',
    details: { url: http.url },
    cause,
  })
}
