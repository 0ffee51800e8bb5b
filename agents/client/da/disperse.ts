import { setTimeout as delay } from 'node:timers/promises'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import type { BlobCommitment } from '#protocol/da/commitment.ts'
import type { Hash } from '#protocol/hex.ts'
import { currentEpoch, findSubmission, readBlob } from './blob-record.ts'
import { type CollectedSignatures, collectSignatures, SubmissionMovedError } from './collect-signatures.ts'
import { type Certificate, type ConfirmBlobsParameters, confirmBlobs } from './confirm-blobs.ts'
import type { DaConnection } from './connection.ts'
import { EntranceRefusedError, QuorumNotReachedError, type SignerFailure } from './errors.ts'
import type { DaListener } from './events.ts'
import { forgetPayments, resubmitBlob, type SubmittedBlob, submitBlobs } from './submit-blobs.ts'

export interface DisperseParameters {
  data: Uint8Array
  /** Epochs after the current one for which the blob is kept. Default: the shortest the contract takes. */
  retentionEpochs?: number | undefined
  /** In place of a transaction for this blob alone. */
  stages?: DisperseStages | undefined
  /** Pay even where the blob is there and not expired. Default false. */
  force?: boolean | undefined
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/** The steps that cost a transaction, for whoever lets several blobs share one. */
export interface DisperseStages {
  submit(blob: BlobCommitment): Promise<SubmittedBlob>
  confirm(blob: ConfirmBlobsParameters['blobs'][number]): Promise<Certificate>
}

export interface DisperseReturnType {
  certificate: Certificate
  /** Paid by this call; 0 where an earlier submission was used. */
  feeWei: bigint
  /** Whether the blob was confirmed before. */
  existed: boolean
  /** Signers that did not sign in time, and why. */
  failures: SignerFailure[]
}

/** Rounds of gathering signatures: the submission may move to another epoch in between. */
const MAX_ROUNDS = 4

/**
 * Disperse a blob: encode, pay, bring the rows to the signers, put their signatures on the chain. A blob that is there
 * is not paid twice: the same call gives its certificate. After a crash the same call goes on where it stopped.
 *
 * @throws InvalidBlobError `BLOB_SIZE`; EntranceRefusedError, InsufficientFundsError; QuorumNotReachedError
 * @example
 * const { certificate } = await disperse(connection, { data: await readFile('batch.bin') })
 */
export async function disperse(connection: DaConnection, parameters: DisperseParameters): Promise<DisperseReturnType> {
  const { data, signal } = parameters
  const encoded = await (await connection.codec()).encode(data, { signal })
  try {
    const { dataRoot, header } = encoded.commitment
    parameters.onEvent?.({ type: 'encoded', dataRoot, sizeBytes: header.sizeBytes, rowBytes: header.rowBytes })
    return await disperseEncoded(connection, { ...parameters, encoded })
  } finally {
    encoded.release()
  }
}

/** {@link disperse} for a blob that is encoded already. It stays the caller's to release. */
export function disperseEncoded(
  connection: DaConnection,
  parameters: DisperseEncodedParameters,
): Promise<DisperseReturnType> {
  // Equal blobs one after the other: the second finds the certificate of the first.
  const key = `blob/${parameters.encoded.commitment.dataRoot}`
  return connection.exclusively(key, () => disperseNow(connection, parameters))
}

export interface DisperseEncodedParameters extends Omit<DisperseParameters, 'data'> {
  encoded: EncodedBlob
}

async function disperseNow(
  connection: DaConnection,
  parameters: DisperseEncodedParameters,
): Promise<DisperseReturnType> {
  const { encoded, signal, onEvent } = parameters
  const { dataRoot } = encoded.commitment
  const listener = { signal, onEvent }
  const existing = parameters.force === true ? undefined : await existingBlob(connection, dataRoot, listener)
  if (existing?.certificate !== undefined) {
    await forgetPayments(connection, [dataRoot])
    return { certificate: existing.certificate, feeWei: 0n, existed: true, failures: [] }
  }
  const left = existing?.submission
  const submission =
    left === undefined
      ? await pay(connection, parameters)
      : await brought(connection, { submission: left, ...listener })
  const { stages } = parameters
  const { feeWei } = submission
  const { submission: signed, ...collected } = await gather(connection, { encoded, submission, stages, ...listener })
  const blob = { submission: signed, ...collected }
  const certificate = await (stages?.confirm(blob) ?? confirmOne(connection, { blob, ...listener }))
  await forgetPayments(connection, [dataRoot])
  return { certificate, feeWei, existed: false, failures: collected.failures }
}

/** What the chain has of a blob: its certificate, or a submission that waits for signatures. */
async function existingBlob(
  connection: DaConnection,
  dataRoot: Hash,
  { signal, onEvent }: { signal: AbortSignal | undefined; onEvent: DaListener | undefined },
): Promise<{ certificate?: Certificate; submission?: SubmittedBlob } | undefined> {
  const { confirmations, limits } = connection
  const chain = await connection.chain(signal)
  const startedAt = Date.now()
  for (;;) {
    const blob = await findSubmission(connection, dataRoot)
    if (blob === undefined) return undefined
    const { epoch, quorumId, sizeBytes, rowRoot, rlcRoot, expiryEpoch, confirmed, submitTx, confirmTx } = blob
    const shared = { dataRoot, epoch, quorumId, sizeBytes, rowRoot, rlcRoot, expiryEpoch, submitTx }
    const block = blob.confirmBlock
    const depth = block === undefined ? 0 : Number(await chain.client.getBlockNumber()) - block + 1
    const waitedMs = Date.now() - startedAt
    if (!confirmed || depth >= confirmations || waitedMs > limits.receiptTimeoutMs) {
      onEvent?.({ type: 'found', dataRoot, epoch, confirmed })
      if (confirmed) return { certificate: { ...shared, confirmTx, block } }
      return { submission: { ...shared, block: undefined, feeWei: 0n } }
    }
    onEvent?.({ type: 'waiting', for: 'depth', reason: `${depth} of ${confirmations} blocks`, waitedMs })
    await delay(limits.pollIntervalMs, undefined, signal === undefined ? {} : { signal })
  }
}

async function pay(
  connection: DaConnection,
  { encoded, retentionEpochs, stages, signal, onEvent }: DisperseEncodedParameters,
): Promise<SubmittedBlob> {
  if (stages !== undefined) return stages.submit(encoded.commitment)
  const [submission] = await submitBlobs(connection, {
    blobs: [encoded.commitment],
    ...{ retentionEpochs, signal, onEvent },
  })
  if (submission === undefined) throw new RangeError('a submission gave no blob')
  return submission
}

async function confirmOne(
  connection: DaConnection,
  {
    blob,
    signal,
    onEvent,
  }: {
    blob: ConfirmBlobsParameters['blobs'][number]
    signal: AbortSignal | undefined
    onEvent: DaListener | undefined
  },
): Promise<Certificate> {
  const [certificate] = await confirmBlobs(connection, { blobs: [blob], signal, onEvent })
  if (certificate === undefined) throw new RangeError('a confirmation gave no certificate')
  return certificate
}

/** Signatures for a blob, in whichever epoch it ends up in. */
async function gather(
  connection: DaConnection,
  {
    encoded,
    submission: first,
    stages,
    signal,
    onEvent,
  }: {
    encoded: EncodedBlob
    submission: SubmittedBlob
    stages: DisperseStages | undefined
    signal: AbortSignal | undefined
    onEvent: DaListener | undefined
  },
): Promise<CollectedSignatures & { submission: SubmittedBlob }> {
  let submission = first
  for (let round = 1; ; round++) {
    try {
      return { submission, ...(await collectSignatures(connection, { blob: encoded, submission, signal, onEvent })) }
    } catch (error) {
      const again =
        round < MAX_ROUNDS
          ? await elsewhere(connection, { error, submission, encoded, stages, signal, onEvent })
          : undefined
      if (again === undefined) throw error
      submission = again
    }
  }
}

/** Where a blob can still find its quorum; undefined when it cannot. */
async function elsewhere(
  connection: DaConnection,
  {
    error,
    submission,
    encoded,
    stages,
    signal,
    onEvent,
  }: {
    error: unknown
    submission: SubmittedBlob
    encoded: EncodedBlob
    stages: DisperseStages | undefined
    signal: AbortSignal | undefined
    onEvent: DaListener | undefined
  },
): Promise<SubmittedBlob | undefined> {
  const { dataRoot, epoch } = submission
  if (error instanceof SubmissionMovedError) {
    connection.forget('quorum')
    // The journal sends the same transaction again; it cannot pay twice.
    const paid = await pay(connection, { encoded, stages, signal, onEvent })
    onEvent?.({ type: 'moved', dataRoot, fromEpoch: epoch, toEpoch: paid.epoch })
    return paid
  }
  if (!(error instanceof QuorumNotReachedError) || (await currentEpoch(connection)) <= epoch) return undefined
  return await moved(connection, { dataRoot, epoch, signal, onEvent })
}

/** A submission that an earlier run left: in the epoch that is now, as one of long ago cannot be confirmed any more. */
async function brought(
  connection: DaConnection,
  {
    submission,
    signal,
    onEvent,
  }: { submission: SubmittedBlob; signal: AbortSignal | undefined; onEvent: DaListener | undefined },
): Promise<SubmittedBlob> {
  const { dataRoot, epoch } = submission
  if ((await currentEpoch(connection)) <= epoch) return submission
  return (await moved(connection, { dataRoot, epoch, signal, onEvent })) ?? submission
}

/** Moves a submission to the epoch that is now; undefined where there is none to move, nor one that was moved. */
async function moved(
  connection: DaConnection,
  {
    dataRoot,
    epoch,
    signal,
    onEvent,
  }: { dataRoot: Hash; epoch: number; signal: AbortSignal | undefined; onEvent: DaListener | undefined },
): Promise<SubmittedBlob | undefined> {
  try {
    return await resubmitBlob(connection, { dataRoot, fromEpoch: epoch, signal, onEvent })
  } catch (refused) {
    if (!(refused instanceof EntranceRefusedError)) throw refused
    // Somebody else may have moved or confirmed it meanwhile.
    const blob = await readBlob(connection, { dataRoot, epoch: await currentEpoch(connection) })
    if (blob === undefined) return undefined
    return { ...blob, submitTx: undefined, block: undefined, feeWei: 0n }
  }
}
