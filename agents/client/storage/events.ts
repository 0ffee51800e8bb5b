import type { NodeAttempt } from './errors.ts'

/**
 * What an upload or download is doing. Byte counts only grow within one `type`, except that a failed transfer is sent
 * again.
 */
export type TransferEvent =
  | { type: 'hashing'; doneBytes: number; totalBytes: number }
  | { type: 'nodes-selected'; nodes: readonly { url: string; shard: string }[] }
  /** The network knows the file already: nothing is paid. */
  | { type: 'submission-found'; txSeq: number; by: 'nodes' | 'journal' | 'chain' }
  | { type: 'fee'; feeWei: bigint; sectors: number }
  | { type: 'transaction-sent'; txHash: `0x${string}` }
  | { type: 'transaction-mined'; txHash: `0x${string}`; txSeq: number; block: number }
  /** What is being waited for, and at which node. Repeated while it lasts. */
  | { type: 'waiting'; for: 'receipt' | 'log-entry' | 'finality'; missing: readonly NodeAttempt[]; waitedMs: number }
  | { type: 'sending'; doneBytes: number; totalBytes: number }
  | { type: 'receiving'; doneBytes: number; totalBytes: number }
  /** A node failed; the transfer goes on with another try or another node. */
  | { type: 'retry'; url: string; reason: string }
  | { type: 'node-dropped'; url: string; reason: string }
  | { type: 'finalized'; url: string }
  /** One file of a directory, or one fragment of a large file, begins. */
  | { type: 'item'; name: string; index: number; count: number; sizeBytes: number }

/** Hears of progress. Exceptions it throws end the action. */
export type TransferListener = (event: TransferEvent) => void
