import type { Hash } from '#protocol/hex.ts'

/** What a transaction of this client is for. */
export type CallPurpose = 'submit' | 'confirm' | 'deposit' | 'request-withdrawal' | 'withdraw' | 'claim'

/** What a blob's dispersal or retrieval is doing. */
export type DaEvent =
  | { type: 'encoded'; dataRoot: Hash; sizeBytes: number; rowBytes: number }
  /** The chain or the journal knows the blob already: nothing is paid. */
  | { type: 'found'; dataRoot: Hash; epoch: number; confirmed: boolean }
  | { type: 'fee'; feeWei: bigint; blobs: number }
  | { type: 'transaction-sent'; purpose: CallPurpose; txHash: Hash }
  | { type: 'submitted'; dataRoot: Hash; epoch: number; txHash: Hash; block: number }
  | { type: 'waiting'; for: 'receipt' | 'depth'; reason: string; waitedMs: number }
  | { type: 'sending'; doneBytes: number; totalBytes: number }
  | { type: 'signed'; signer: Hash; url: string; signedWei: bigint; totalWei: bigint }
  /** One signer failed; `final` when it is not tried again. */
  | { type: 'signer-failed'; signer: Hash; url: string; code: string; reason: string; final: boolean }
  /** The submission moved to another epoch: a reorganisation. Rows go to that epoch's signers. */
  | { type: 'moved'; dataRoot: Hash; fromEpoch: number; toEpoch: number }
  | { type: 'confirmed'; dataRoot: Hash; txHash: Hash | undefined; block: number }
  | { type: 'receiving'; doneRows: number; totalRows: number }
  | { type: 'sampled'; done: number; total: number; failed: number }

/** Hears of progress. Exceptions it throws end the action. */
export type DaListener = (event: DaEvent) => void
