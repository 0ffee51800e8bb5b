import { setTimeout as delay } from 'node:timers/promises'
import type { RowVerifier } from '#protocol/da/blob-codec.ts'
import { type BlobCommitment, blobCommitment } from '#protocol/da/commitment.ts'
import { DATA_ROWS } from '#protocol/da/constants.ts'
import type { Hash } from '#protocol/hex.ts'
import { type BlobRecord, findBlob } from './blob-record.ts'
import type { DaConnection } from './connection.ts'
import { BlobExpiredError, BlobUnavailableError, codeOf, reasonOf, type SignerFailure } from './errors.ts'
import type { DaListener } from './events.ts'
import { readQuorum } from './quorum-reader.ts'
import { collectRows, PASSING_FAILURES, type RowSource } from './row-collector.ts'
import { rowSources } from './row-sources.ts'

export interface RetrieveParameters {
  dataRoot: Hash
  /** The submission meant. Default: the latest confirmed one. */
  epoch?: number | undefined
  quorumId?: number | undefined
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

export interface RetrieveReturnType {
  /** The payload: re-encoded here, and found to have the roots on the chain. */
  data: Uint8Array
  blob: BlobRecord
  /** Rows given, by signer. */
  servedBy: { signer: string; rows: number }[]
  /** Signers that failed, and why. The payload is right all the same. */
  failures: SignerFailure[]
}

/**
 * Fetch a blob from its signers. Each row is verified when it comes; whatever a signer does, the answer is the payload
 * of the data root or an error.
 *
 * @throws BlobUnknownError, BlobExpiredError; BlobUnavailableError (try again); InvalidBlobError `BLOB_INCONSISTENT` (the
 * blob is invalid for every reader)
 * @example
 * const { data } = await retrieve(connection, { dataRoot })
 */
export async function retrieve(connection: DaConnection, parameters: RetrieveParameters): Promise<RetrieveReturnType> {
  const { limits } = connection
  const { onEvent } = parameters
  const timer = AbortSignal.timeout(limits.retrieveTimeoutMs)
  const signal = parameters.signal === undefined ? timer : AbortSignal.any([timer, parameters.signal])
  const blob = await findBlob(connection, parameters)
  const commitment = blobCommitment(blob)
  const sources = rowSources(connection, await readQuorum(connection, blob), blob.signed)
  try {
    const { verifier, failures: early } = await openVerifier(connection, { blob, commitment, sources, signal })
    try {
      const needRows = Math.ceil(blob.sizeBytes / commitment.header.rowBytes)
      const { header } = commitment
      const found = await collectRows({ blob, header, verifier, sources, needRows, signal, onEvent, ...limits })
      const data = await (await connection.codec()).reconstruct({
        commitment,
        rows: [...rowList(found.rows), ...zeroRows(needRows, header.rowBytes)],
        signal,
      })
      const failed = new Map([...early, ...found.failures].map((failure) => [failure.signer, failure]))
      // Next time their addresses are read anew: they may have moved.
      if ([...failed.values()].some(({ code }) => code === 'SIGNER_UNREACHABLE')) connection.forget('quorum')
      const servedBy = [...found.servedBy].map(([signer, rows]) => ({ signer, rows }))
      return { data, blob, servedBy, failures: [...failed.values()] }
    } finally {
      verifier.release()
    }
  } catch (error) {
    parameters.signal?.throwIfAborted()
    connection.forget('quorum')
    throw explain({ error, blob, timedOut: timer.aborted, limitMs: limits.retrieveTimeoutMs })
  }
}

/**
 * A verifier for a blob's rows: the combinations come from any signer and are checked against the chain's root.
 *
 * @throws BlobUnavailableError when no signer gives the right ones
 */
export async function openVerifier(
  connection: DaConnection,
  {
    blob,
    commitment,
    sources,
    signal,
  }: { blob: BlobRecord; commitment: BlobCommitment; sources: readonly RowSource[]; signal: AbortSignal },
): Promise<{ verifier: RowVerifier; failures: SignerFailure[] }> {
  const codec = await connection.codec()
  const failures = new Map<RowSource, SignerFailure>()
  const stop = new AbortController()
  const limit = AbortSignal.any([signal, stop.signal])
  let found: RowVerifier | undefined
  const ask = async (source: RowSource): Promise<void> => {
    try {
      const rlc = await source.http.rlc(blob, { signal: limit })
      const verifier = await codec.verifier({ commitment, rlc })
      if (found === undefined) found = verifier
      else verifier.release()
      stop.abort(new DOMException('the combinations are here', 'AbortError'))
    } catch (error) {
      if (limit.aborted) return
      const failure = { signer: source.address, url: source.url, code: codeOf(error), reason: reasonOf(error) }
      failures.set(source, failure)
    }
  }
  // Those that signed first. The next is asked when one has failed or has been silent for a while.
  const queue = [...sources.filter(({ signed }) => signed), ...sources.filter(({ signed }) => !signed)]
  for (let round = 0; round < connection.limits.attempts && !limit.aborted; round++) {
    const asked: Promise<void>[] = []
    for (const source of queue) {
      if (limit.aborted) break
      if (round > 0 && !mayPass(failures.get(source))) continue
      const one = ask(source)
      asked.push(one)
      await Promise.race([one, delay(connection.limits.hedgeMs / 4, undefined, { signal: limit }).catch(() => {})])
    }
    await Promise.all(asked)
  }
  if (found !== undefined) return { verifier: found, failures: [...failures.values()] }
  signal.throwIfAborted()
  throw new BlobUnavailableError({
    dataRoot: blob.dataRoot,
    haveRows: 0,
    needRows: DATA_ROWS,
    failures: [...failures.values()],
  })
}

/** Whether a signer may answer at another try. */
function mayPass(failure: SignerFailure | undefined): boolean {
  return failure !== undefined && PASSING_FAILURES.has(failure.code)
}

function rowList(rows: ReadonlyMap<number, Uint8Array>): { index: number; data: Uint8Array }[] {
  return [...rows].map(([index, data]) => ({ index, data }))
}

/** The data rows behind the payload: nobody needs to send zeros. That the coder wrote zeros is checked by re-encoding. */
function zeroRows(from: number, rowBytes: number): { index: number; data: Uint8Array }[] {
  const data = new Uint8Array(rowBytes)
  return Array.from({ length: DATA_ROWS - from }, (_, i) => ({ index: from + i, data }))
}

function explain({
  error,
  blob,
  timedOut,
  limitMs,
}: {
  error: unknown
  blob: BlobRecord
  timedOut: boolean
  limitMs: number
}): unknown {
  const { dataRoot, expiryEpoch, currentEpoch } = blob
  const missing = error instanceof BlobUnavailableError
  if (missing && currentEpoch > expiryEpoch) {
    return new BlobExpiredError({ dataRoot, expiryEpoch, currentEpoch, cause: error })
  }
  if (!timedOut || missing) return error
  const failures = [{ signer: dataRoot, url: '', code: 'SIGNER_TIMEOUT', reason: `not enough within ${limitMs} ms` }]
  return new BlobUnavailableError({ dataRoot, haveRows: 0, needRows: DATA_ROWS, failures })
}
