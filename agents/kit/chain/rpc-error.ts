import { WeightlessError } from '#protocol/error.ts'

/** What to do with a failed call: the pool's decision table. */
export type RpcFailureKind =
  /** The endpoint is down, slow, or talks nonsense: ask another one, let this one rest. */
  | 'endpoint'
  /** The endpoint wants fewer calls: ask another one, let this one rest for as long as it says. */
  | 'rate-limit'
  /** This endpoint lacks the block, state or method: another one may have it. */
  | 'missing'
  /** The range or the answer is too large: ask for less. */
  | 'too-large'
  /** The chain's considered answer (a revert, a refused transaction): every endpoint would say the same. */
  | 'answer'

/**
 * A JSON-RPC call to a chain endpoint failed. `details` names the endpoint by its host alone, never the URL's path,
 * query or credentials, which often hold a key.
 *
 * Codes: `RPC_TIMEOUT`, `RPC_CONNECT`, `RPC_HTTP_STATUS`, `RPC_RATE_LIMIT`, `RPC_BAD_ANSWER`, `RPC_RESPONSE_TOO_LARGE`,
 * `RPC_ERROR` (the endpoint answered with a JSON-RPC error, kept in `rpcCode`, `rpcMessage`, `rpcData`).
 */
export class ChainRpcError extends WeightlessError {
  readonly endpoint: string
  readonly method: string
  readonly kind: RpcFailureKind
  /** The JSON-RPC error's code, where the endpoint sent one. */
  readonly rpcCode: number | undefined
  readonly rpcMessage: string | undefined
  readonly rpcData: unknown
  /** How long the endpoint asked us to wait (`Retry-After`). */
  readonly retryAfterMs: number | undefined

  constructor(parameters: ChainRpcErrorParameters) {
    const { code, endpoint, method, kind, reason, rpcCode, rpcMessage, rpcData, retryAfterMs, cause } = parameters
    super({
      code,
      message: `${method} at ${endpoint}: ${reason}`,
      fix: FIXES[kind],
      details: { endpoint, method, kind, ...(rpcCode === undefined ? {} : { rpcCode }) },
      cause,
    })
    this.endpoint = endpoint
    this.method = method
    this.kind = kind
    this.rpcCode = rpcCode
    this.rpcMessage = rpcMessage
    this.rpcData = rpcData
    this.retryAfterMs = retryAfterMs
  }
}

export interface ChainRpcErrorParameters {
  code: string
  endpoint: string
  method: string
  kind: RpcFailureKind
  reason: string
  rpcCode?: number | undefined
  rpcMessage?: string | undefined
  rpcData?: unknown
  retryAfterMs?: number | undefined
  cause?: unknown
}

/** No endpoint of the list could answer; `cause` is the last failure, `details.failures` the last of each endpoint. */
export class ChainUnavailableError extends WeightlessError {}

/** An endpoint serves another chain than expected. Codes `CHAIN_ID_MISMATCH`. */
export class ChainIdMismatchError extends WeightlessError {
  readonly expected: number
  readonly actual: number
  readonly endpoint: string

  constructor({ expected, actual, endpoint }: { expected: number; actual: number; endpoint: string }) {
    super({
      code: 'CHAIN_ID_MISMATCH',
      message: `${endpoint} serves chain ${actual}, expected chain ${expected}`,
      fix: 'give RPC URLs of one chain, or correct the configured chain id',
      details: { expected, actual, endpoint },
    })
    this.expected = expected
    this.actual = actual
    this.endpoint = endpoint
  }
}

/** The chain connection was used wrongly: `CHAIN_URL_INVALID`, `CHAIN_CLOSED`. */
export class ChainConfigError extends WeightlessError {}

const FIXES: Record<RpcFailureKind, string | undefined> = {
  endpoint: 'check that the endpoint is up, or add another RPC URL to the list',
  'rate-limit': 'use an endpoint with a higher limit, or add another RPC URL to the list',
  missing: 'use an endpoint that is in sync and offers this method',
  'too-large': 'ask for fewer blocks at a time',
  answer: undefined,
}

const TOO_LARGE = new RegExp(
  [
    'block range',
    'range (is )?too (large|wide|big|many)',
    '(exceed|over|above|limit).{0,40}range',
    'range.{0,40}(exceed|limit|over|above)',
    'too many (results|logs|blocks|entries)',
    'more than [\\d,]+ (results|logs|blocks)',
    'max(imum)? (of )?[\\d,]+ (results|logs|blocks)',
    '(response|result|log|logs|query).{0,30}(size|set|count).{0,20}(exceed|too|limit|large)',
    'query (timeout|timed out|takes too long)',
    'limited to [\\d,]+ blocks?',
    'specify less number of address',
  ].join('|'),
  'i',
)
const RATE_LIMIT =
  /rate.?limit|too many requests|request limit|requests? per (second|minute|day)|throttl|quota|compute units|capacity/i
const MISSING =
  /header not found|block not found|unknown block|missing trie node|not (yet )?(available|synced)|no state available|resource not found|historical state|pruned|ahead of (the )?(current|latest)|beyond (current )?head|after last (accepted )?block|method .*(not|un)(available| supported| found)|unsupported method|blockhash.*not found/i
const REVERT = /revert|invalid opcode|out of gas|stack (under|over)flow|invalid jump/i

/**
 * Sorts a JSON-RPC error. Providers disagree on codes (-32005 is "rate limit" here and "too many results" there), so
 * the message decides first.
 */
export function classifyRpcError({ code, message, data }: RpcErrorBody): RpcFailureKind {
  if (typeof data === 'string' && /^0x([0-9a-f]{2})*$/i.test(data) && (code === 3 || REVERT.test(message)))
    return 'answer'
  if (TOO_LARGE.test(message)) return 'too-large'
  if (RATE_LIMIT.test(message)) return 'rate-limit'
  if (REVERT.test(message)) return 'answer'
  if (code === 429 || code === -32005 || code === -32007 || code === -32029) return 'rate-limit'
  if (MISSING.test(message)) return 'missing'
  if (code === -32601 || code === -32004 || code === -32001 || code === -32002) return 'missing'
  if (code === -32603 || code === -32700 || code === -32600) return 'endpoint'
  return 'answer'
}

/** The error object of a JSON-RPC answer. */
export interface RpcErrorBody {
  code: number
  message: string
  data?: unknown
}

/** The {@link ChainRpcError} inside an error that viem wrapped, if there is one. */
export function findRpcError(error: unknown): ChainRpcError | undefined {
  let current = error
  for (let depth = 0; depth < 16 && current instanceof Error; depth++) {
    if (current instanceof ChainRpcError) return current
    current = current.cause
  }
  return undefined
}
