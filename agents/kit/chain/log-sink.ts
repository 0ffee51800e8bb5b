import { WeightlessError } from '#protocol/error.ts'
import type { BlockRef, RawLog } from './block.ts'

/** What the follower hands to the sink at once. */
export interface LogBatch {
  /** First block of the batch: the one after the last batch, or the start block. */
  readonly from: number
  /** Last block of the batch; the new checkpoint. */
  readonly to: BlockRef
  /** Every wanted log of `from`–`to`, in chain order. Often empty: the checkpoint advances all the same. */
  readonly logs: readonly RawLog[]
  /** The chain's head when the batch was read. */
  readonly headBlock: number
}

/**
 * Where logs go. The sink keeps its checkpoints (each `batch.to` it applied) in the same transaction as what it made of
 * the logs; that pair is all the follower needs to go on after a crash or a reorg.
 */
export interface LogSink {
  /** What was applied, newest first. May be thinned ({@link thinCheckpoints}), never reordered. */
  checkpoints(): readonly BlockRef[] | Promise<readonly BlockRef[]>
  /**
   * Applies a batch, wholly or not at all. Throw {@link LogGapError} when a log is missing (a sequence number was
   * skipped): the batch is then read again elsewhere, and if that does not help, earlier ones are too.
   */
  apply(batch: LogBatch): void | Promise<void>
  /** Forgets everything after the checkpoint `to`; undefined: everything. */
  revert(to: BlockRef | undefined): void | Promise<void>
}

/** The sink noticed that a log is missing before those it was given. */
export class LogGapError extends WeightlessError {}

/** The sink kept failing; `cause` is its last error. Code `LOG_SINK`. */
export class LogSinkError extends WeightlessError {}
