import { WeightlessError } from '#protocol/error.ts'

/** Error codes of JSON-RPC 2.0 section 5.1, and those its usual servers add. */
export const RPC_CODE = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internal: -32603,
  limitExceeded: -32005,
  oversizedRequest: -32701,
  oversizedResponse: -32702,
} as const

export interface RpcErrorParameters {
  rpcCode: number
  message: string
  /** What was wrong and what to do, for people. Sent to the caller. */
  data?: string | undefined
  cause?: unknown
}

/**
 * An error a JSON-RPC method answers with; all three fields go on the wire.
 *
 * @example
 * throw RpcError.invalidParams('root', 'already uploaded and finalized')
 */
export class RpcError extends WeightlessError {
  readonly rpcCode: number
  readonly data: string | undefined

  constructor({ rpcCode, message, data, cause }: RpcErrorParameters) {
    super({ code: 'RPC_ERROR', message, details: { rpcCode, data }, cause })
    this.rpcCode = rpcCode
    this.data = data
  }

  /** −32602 `Invalid params: NAME`. */
  static invalidParams(name: string, reason: string): RpcError {
    return new RpcError({ rpcCode: RPC_CODE.invalidParams, message: `Invalid params: ${name}`, data: reason })
  }

  /** −32603 `Internal error`. */
  static internal(reason: string, cause?: unknown): RpcError {
    return new RpcError({ rpcCode: RPC_CODE.internal, message: 'Internal error', data: reason, cause })
  }

  /** −32600 `Invalid request`. */
  static invalidRequest(reason: string): RpcError {
    return new RpcError({ rpcCode: RPC_CODE.invalidRequest, message: 'Invalid request', data: reason })
  }
}
