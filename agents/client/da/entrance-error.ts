import type { Hash } from '#protocol/hex.ts'
import { entranceAbi, signersAbi } from './abi.ts'
import { contractRefusal } from './contract-refusal.ts'
import { EntranceRefusedError } from './errors.ts'

/** What to do about the contract's own errors. */
const FIX: Readonly<Record<string, string>> = {
  BlobSizeOutOfBounds: 'give at least one byte and at most what the message says; split what is larger',
  RetentionOutOfBounds: 'choose a retention within the bounds of the message',
  FeeTooLow: 'the price has risen: ask for a new quote',
  NoQuorum: 'nobody signs in this epoch: wait for signers to register and for the next epoch',
  IntakeIsPaused: 'new blobs are refused for now; reading and confirming go on',
  BlobNotSubmitted: 'submit and pay for the blob first',
  CommitmentMismatch: 'confirm with the roots that were submitted',
  EpochTooOld: 'move the blob to the current epoch with resubmit, or submit it again',
  BlobConfirmedAlready: 'nothing is to be done: the blob is confirmed',
}

/** An error of a call to the entrance: the contract's refusal by name, or what it was. */
export function entranceError(error: unknown, entrance: Hash): unknown {
  if (error instanceof EntranceRefusedError) return error
  const refusal = contractRefusal({ error, contract: entrance, abi: [...entranceAbi, ...signersAbi] })
  if (refusal === undefined) return error
  const { said, errorName = '', args } = refusal
  return new EntranceRefusedError({
    code: 'ENTRANCE_REFUSED',
    message: `the entrance contract ${entrance} refused: ${said}`,
    fix: FIX[errorName] ?? 'check the address of the contract and the version of this program',
    details: { entrance, errorName: refusal.errorName, args },
    cause: error,
  })
}
