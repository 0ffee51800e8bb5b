import { WeightlessError } from '#protocol/error.ts'

/** Stable codes of what a storage node refuses or fails at. */
export type NodeErrorCode =
  | 'DATA_EMPTY'
  | 'DATA_LENGTH'
  | 'ROOT_MISMATCH'
  | 'FILE_SIZE_MISMATCH'
  | 'ALREADY_FINALIZED'
  | 'ALREADY_PRUNED'
  | 'CACHE_FILE_TOO_LARGE'
  | 'CACHE_SIZE_CONFLICT'
  | 'CACHE_FULL'
  | 'NOT_A_FILE'
  | 'SEGMENT_DUPLICATE'
  | 'TX_UNKNOWN'
  | 'TX_REVERTED'
  | 'DISK_FULL'
  | 'DISK_FAILURE'
  | 'DATA_DIR_IN_USE'
  | 'DATA_DIR_FOREIGN'
  | 'NODE_CLOSED'
  | 'NODE_HALTED'
  | 'NODE_BUSY'
  | 'REQUEST_INVALID'
  | 'REQUEST_TOO_LARGE'
  | 'REQUEST_STALLED'
  | 'RANGE_INVALID'
  | 'LOG_INVALID'
  | 'LOG_GAP'
  | 'FLOW_MISMATCH'
  | 'FLOW_ROOT_UNKNOWN'
  | 'SECTOR_UNAVAILABLE'
  | 'PEER_FAILED'
  | 'PEER_STALLED'
  | 'PEER_LIED'
  | 'SYNC_DISABLED'
  | 'NODE_KEY'

/** What a storage node refuses or fails at; `code` is stable, `details` name the file, segment, limit or peer. */
export class NodeError extends WeightlessError {
  override readonly code: NodeErrorCode

  constructor(parameters: {
    code: NodeErrorCode
    message: string
    fix?: string | undefined
    details?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super(parameters)
    this.code = parameters.code
  }
}

/** The message of anything thrown, for status texts. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
