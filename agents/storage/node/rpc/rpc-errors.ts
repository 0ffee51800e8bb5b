import { RPC_CODE, RpcError } from '#kit/http/json-rpc.ts'
import { SizeError } from '#protocol/storage/padding.ts'
import { type InvalidSegmentCode, InvalidSegmentError } from '#protocol/storage/segment-proof.ts'
import { NodeError } from '../error.ts'

/** Code of a failure that is told by its message alone, as the reference does. */
const SERVER_ERROR = -32_000

/** Name and reason of `Invalid params`, word for word as clients of the field match them (storage-node §3.2, §4.4). */
const SEGMENT_REASONS: Record<InvalidSegmentCode, readonly [param: string, reason: string]> = {
  SEGMENT_INDEX: ['index', 'index out of bound'],
  SEGMENT_LENGTH: ['data', 'invalid data length'],
  SEGMENT_PROOF_SHAPE: ['proof', 'invalid proof'],
  SEGMENT_PROOF: ['proof', 'validation failed'],
  SEGMENT_PADDING: ['proof', 'invalid proof node value in the padding range'],
}

/** A failure of the node as JSON-RPC tells it; other errors come back unchanged. */
export function toRpcError(error: unknown): unknown {
  if (error instanceof InvalidSegmentError) {
    const [param, reason] = SEGMENT_REASONS[error.code]
    return RpcError.invalidParams(param, reason)
  }
  if (error instanceof SizeError) return RpcError.invalidParams('file_size', error.message)
  if (!(error instanceof NodeError)) return error
  const { code, message } = error
  switch (code) {
    case 'ROOT_MISMATCH':
      return RpcError.internal(message)
    case 'FILE_SIZE_MISMATCH':
    case 'CACHE_FILE_TOO_LARGE':
      return RpcError.invalidParams('file_size', message)
    case 'ALREADY_FINALIZED':
    case 'ALREADY_PRUNED':
    case 'NOT_A_FILE':
      return RpcError.invalidParams('root', message)
    case 'TX_UNKNOWN':
      return RpcError.invalidParams('tx_seq', message)
    case 'FLOW_ROOT_UNKNOWN':
      return RpcError.invalidParams('flow_root', message)
    case 'SYNC_DISABLED':
      return RpcError.internal(message)
    default:
      return new RpcError({ rpcCode: SERVER_ERROR, message, cause: error })
  }
}

/** Runs a handler and tells its failures as JSON-RPC does. */
export async function asRpc<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw toRpcError(error)
  }
}

/** A range of sectors that cannot be read. */
export function invalidRange(reason: string): RpcError {
  return new RpcError({ rpcCode: RPC_CODE.invalidParams, message: 'Invalid params: end_index', data: reason })
}
