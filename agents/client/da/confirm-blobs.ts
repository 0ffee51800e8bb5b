import { encodeFunctionData } from 'viem'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { entranceAbi } from './abi.ts'
import { readBlob } from './blob-record.ts'
import type { CollectedSignatures } from './collect-signatures.ts'
import type { DaConnection } from './connection.ts'
import { awaitEntrance, sendToEntrance } from './entrance-call.ts'
import type { DaListener } from './events.ts'
import { aggregateCertificate } from './signature-book.ts'
import { MAX_BATCH, type SubmittedBlob } from './submit-blobs.ts'
import { passingJournal } from './submit-journal.ts'

/** That a blob is available: its quorum signed, and the chain recorded it. */
export interface Certificate {
  dataRoot: Hash
  epoch: number
  quorumId: number
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
  /** The last epoch in which its signers must hold it. */
  expiryEpoch: number
  /** Undefined where the chain’s endpoint does not tell of the transaction any more. */
  submitTx: Hash | undefined
  confirmTx: Hash | undefined
  /** Block of the confirmation, where it is known. */
  block: number | undefined
}

export interface ConfirmBlobsParameters {
  blobs: readonly ({ submission: SubmittedBlob } & Pick<CollectedSignatures, 'quorum' | 'signatures'>)[]
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/**
 * Put quorums' signatures on the chain, up to 64 blobs in one transaction. Free, and repeatable: blobs that are
 * confirmed already are skipped.
 *
 * @throws EntranceRefusedError when the contract refuses one of them: then none is recorded
 */
export async function confirmBlobs(
  connection: DaConnection,
  { blobs, signal, onEvent }: ConfirmBlobsParameters,
): Promise<Certificate[]> {
  const certificates: Certificate[] = []
  for (let from = 0; from < blobs.length; from += MAX_BATCH) {
    const batch = blobs.slice(from, from + MAX_BATCH)
    certificates.push(...(await confirmBatch(connection, { blobs: batch, signal, onEvent })))
  }
  return certificates
}

async function confirmBatch(
  connection: DaConnection,
  { blobs, signal, onEvent }: ConfirmBlobsParameters,
): Promise<Certificate[]> {
  const data = encodeFunctionData({
    abi: entranceAbi,
    functionName: 'submitVerifiedCommitRoots',
    args: [
      blobs.map(({ submission, quorum, signatures }) => {
        const { dataRoot, epoch, quorumId, rowRoot, rlcRoot } = submission
        return {
          dataRoot,
          epoch: BigInt(epoch),
          quorumId: BigInt(quorumId),
          erasureCommitment: { X: BigInt(rowRoot), Y: BigInt(rlcRoot) },
          ...aggregateCertificate({ quorum, signatures }),
        }
      }),
    ],
  })
  const root = blobs[0]?.submission.dataRoot ?? '0x'
  const call = { root, journal: passingJournal(), purpose: 'confirm' as const, signal, onEvent }
  const entry = await sendToEntrance(connection, { ...call, data, valueWei: 0n })
  const receipt = await awaitEntrance(connection, entry, call)
  const block = receipt === undefined ? undefined : Number(receipt.blockNumber)
  const confirmTx = receipt?.transactionHash
  return Promise.all(
    blobs.map(async ({ submission }) => {
      const { dataRoot, epoch, quorumId, sizeBytes, rowRoot, rlcRoot, submitTx } = submission
      const blob = await readBlob(connection, submission)
      if (blob?.confirmed !== true) throw notConfirmed(submission)
      onEvent?.({ type: 'confirmed', dataRoot, txHash: confirmTx, block: block ?? 0 })
      const { expiryEpoch } = blob
      return { dataRoot, epoch, quorumId, sizeBytes, rowRoot, rlcRoot, expiryEpoch, submitTx, confirmTx, block }
    }),
  )
}

function notConfirmed({ dataRoot, epoch }: SubmittedBlob): WeightlessError {
  return new WeightlessError({
    code: 'CONFIRMATION_LOST',
    message: `the chain does not have the confirmation of ${dataRoot} in epoch ${epoch}, although it was sent`,
    fix: 'run the same command again: nothing is paid twice',
    details: { dataRoot, epoch },
  })
}
