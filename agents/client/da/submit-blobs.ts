import { encodeFunctionData, parseEventLogs, type TransactionReceipt } from 'viem'
import { genesisOf } from '#kit/chain/genesis.ts'
import type { BlobCommitment } from '#protocol/da/commitment.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { entranceAbi } from './abi.ts'
import { readBlob } from './blob-record.ts'
import type { DaConnection } from './connection.ts'
import { awaitEntrance, sendToEntrance } from './entrance-call.ts'
import type { DaListener } from './events.ts'
import { quoteBlob, shortestRetention } from './quote.ts'
import { openPaymentJournal, type PaymentJournal } from './submit-journal.ts'

/** Blobs the contract takes in one call. */
export const MAX_BATCH = 64

/** A blob as it was submitted: its rows belong to that epoch's signers. */
export interface SubmittedBlob {
  dataRoot: Hash
  epoch: number
  quorumId: number
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
  /** The last epoch in which it is kept. */
  expiryEpoch: number
  /** Its transaction; undefined where somebody else's submission is used. */
  submitTx: Hash | undefined
  block: number | undefined
  /** Paid by this call; 0 where it was there. */
  feeWei: bigint
}

export interface SubmitBlobsParameters {
  /** At most 64 distinct ones in one transaction; more go out in several. */
  blobs: readonly BlobCommitment[]
  /** Default: the shortest the contract takes. */
  retentionEpochs?: number | undefined
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/**
 * Put blobs on the chain, paying for them, in one transaction. Payments of an earlier call that were still on their way
 * are brought home instead of paying again; equal blobs are paid once.
 *
 * @throws EntranceRefusedError, InsufficientFundsError (nothing was paid); WaitTimeoutError (call again: it goes on)
 * @example
 * const [submission] = await submitBlobs(connection, { blobs: [encoded.commitment] })
 */
export async function submitBlobs(
  connection: DaConnection,
  { blobs, retentionEpochs, signal, onEvent }: SubmitBlobsParameters,
): Promise<SubmittedBlob[]> {
  const distinct = [...new Map(blobs.map((blob) => [blob.dataRoot, blob])).values()]
  const journal = await paymentJournal(connection)
  const found = new Map<Hash, SubmittedBlob>()
  for (const pending of await journal.pending(distinct.map(({ dataRoot }) => dataRoot))) {
    const call = { journal: pending.journal, root: pending.entry.root, purpose: 'submit' as const, signal, onEvent }
    const receipt = await awaitEntrance(connection, pending.entry, call)
    if (receipt === undefined) continue
    for (const blob of readReceipt(connection, receipt)) found.set(blob.dataRoot, { ...blob, feeWei: 0n })
  }
  const retention = retentionEpochs ?? (await shortestRetention(connection))
  const left = distinct.filter(({ dataRoot }) => !found.has(dataRoot))
  for (let from = 0; from < left.length; from += MAX_BATCH) {
    const batch = left.slice(from, from + MAX_BATCH)
    const submitted = await submitBatch(connection, { batch, retention, journal, signal, onEvent })
    for (const blob of submitted) found.set(blob.dataRoot, blob)
  }
  return blobs.map(({ dataRoot }) => {
    const blob = found.get(dataRoot)
    if (blob === undefined) throw noTrace(dataRoot)
    return blob
  })
}

/** Forget that blobs were being paid for: they are confirmed, so that nothing is left to be repeated. */
export async function forgetPayments(connection: DaConnection, dataRoots: readonly Hash[]): Promise<void> {
  if (connection.account === undefined) return
  const journal = await paymentJournal(connection)
  for (const pending of await journal.pending(dataRoots)) await pending.journal.remove()
}

/**
 * Move a blob that its quorum did not sign to the current epoch; free.
 *
 * @throws EntranceRefusedError
 */
export async function resubmitBlob(
  connection: DaConnection,
  { dataRoot, fromEpoch, signal, onEvent }: { dataRoot: Hash; fromEpoch: number } & ListenerOptions,
): Promise<SubmittedBlob> {
  const { passingJournal } = await import('./submit-journal.ts')
  const data = encodeFunctionData({ abi: entranceAbi, functionName: 'resubmit', args: [dataRoot, BigInt(fromEpoch)] })
  const call = { root: dataRoot, journal: passingJournal(), purpose: 'submit' as const, signal, onEvent }
  const receipt = await awaitEntrance(
    connection,
    await sendToEntrance(connection, { ...call, data, valueWei: 0n }),
    call,
  )
  const blob = receipt && readReceipt(connection, receipt).find((one) => one.dataRoot === dataRoot)
  if (blob === undefined) throw noTrace(dataRoot)
  onEvent?.({ type: 'moved', dataRoot, fromEpoch, toEpoch: blob.epoch })
  return { ...blob, feeWei: 0n }
}

interface ListenerOptions {
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

async function submitBatch(
  connection: DaConnection,
  {
    batch,
    retention,
    journal,
    signal,
    onEvent,
  }: { batch: readonly BlobCommitment[]; retention: number; journal: PaymentJournal } & ListenerOptions,
): Promise<SubmittedBlob[]> {
  const fees = await Promise.all(
    batch.map(async ({ header }) => {
      const quote = { sizeBytes: header.sizeBytes, retentionEpochs: retention }
      return (await quoteBlob(connection, quote)).feeWei
    }),
  )
  const feeWei = fees.reduce((sum, fee) => sum + fee, 0n)
  onEvent?.({ type: 'fee', feeWei, blobs: batch.length })
  const dataRoots = batch.map(({ dataRoot }) => dataRoot)
  const data = encodeFunctionData({
    abi: entranceAbi,
    functionName: 'submitBlobs',
    args: [
      batch.map(({ header, rowRoot, rlcRoot }) => ({
        sizeBytes: BigInt(header.sizeBytes),
        retentionEpochs: retention,
        rowRoot,
        rlcRoot,
      })),
    ],
  })
  const call = {
    root: dataRoots[0] ?? '0x',
    journal: journal.open(dataRoots),
    purpose: 'submit' as const,
    ...{ signal, onEvent },
  }
  const entry = await sendToEntrance(connection, { ...call, data, valueWei: feeWei })
  const receipt = await awaitEntrance(connection, entry, call)
  if (receipt === undefined) throw noTrace(dataRoots[0] ?? '0x')
  const events = new Map(readReceipt(connection, receipt).map((blob) => [blob.dataRoot, blob]))
  const submitted: SubmittedBlob[] = []
  for (const { dataRoot } of batch) {
    // A blob that was there already may leave no event: then it is of the epoch of this block.
    const blob = events.get(dataRoot) ?? (await asSubmitted(connection, dataRoot, receipt))
    if (blob === undefined) throw noTrace(dataRoot)
    const { epoch, submitTx: txHash = receipt.transactionHash } = blob
    onEvent?.({ type: 'submitted', dataRoot, epoch, txHash, block: Number(receipt.blockNumber) })
    submitted.push(blob)
  }
  return submitted
}

/** What a transaction submitted. */
function readReceipt(connection: DaConnection, receipt: TransactionReceipt): SubmittedBlob[] {
  const logs = receipt.logs.filter(({ address }) => address.toLowerCase() === connection.contracts.entrance)
  return parseEventLogs({ abi: entranceAbi, eventName: 'BlobSubmitted', logs }).map(({ args }) => ({
    dataRoot: args.dataRoot,
    epoch: Number(args.epoch),
    quorumId: Number(args.quorumId),
    sizeBytes: Number(args.sizeBytes),
    rowRoot: args.rowRoot,
    rlcRoot: args.rlcRoot,
    expiryEpoch: Number(args.epoch) + Number(args.retentionEpochs),
    submitTx: receipt.transactionHash,
    block: Number(receipt.blockNumber),
    feeWei: args.feeWei,
  }))
}

async function asSubmitted(
  connection: DaConnection,
  dataRoot: Hash,
  receipt: TransactionReceipt,
): Promise<SubmittedBlob | undefined> {
  const { currentEpoch } = await import('./blob-record.ts')
  const now = await currentEpoch(connection)
  const blob =
    (await readBlob(connection, { dataRoot, epoch: now })) ?? (await readBlob(connection, { dataRoot, epoch: now - 1 }))
  if (blob === undefined) return undefined
  const { epoch, quorumId, sizeBytes, rowRoot, rlcRoot, expiryEpoch } = blob
  const where = { submitTx: receipt.transactionHash, block: Number(receipt.blockNumber) }
  return { dataRoot, epoch, quorumId, sizeBytes, rowRoot, rlcRoot, expiryEpoch, ...where, feeWei: 0n }
}

async function paymentJournal(connection: DaConnection): Promise<PaymentJournal> {
  const chain = await connection.chain()
  return openPaymentJournal({
    dir: connection.journalDir,
    chainId: chain.id,
    genesis: await genesisOf(chain),
    entrance: connection.contracts.entrance,
    payer: connection.payer('pay for blobs').address,
  })
}

function noTrace(dataRoot: Hash): WeightlessError {
  return new WeightlessError({
    code: 'SUBMISSION_REPLACED',
    message: `the transaction that submits ${dataRoot} was replaced by another one of the same account`,
    fix: 'run the same command again; let no other program send from this account at the same time',
    details: { dataRoot },
  })
}
