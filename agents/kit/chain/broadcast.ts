import type { Hash } from './block.ts'
import type { Chain } from './client.ts'
import { ChainRpcError, ChainUnavailableError } from './rpc-error.ts'

/** What the chain said to a signed transaction. */
export type BroadcastOutcome =
  | { kind: 'accepted' }
  /** The nonce is used up: by this very transaction, or by another. */
  | { kind: 'nonce-too-low' }
  /** The fee is too low to enter the pool or to replace what is there. */
  | { kind: 'underpriced'; error: ChainRpcError }
  | { kind: 'insufficient-funds'; error: ChainRpcError }
  /** No endpoint answered, or the pool is full: it may have arrived; send the same bytes again later. */
  | { kind: 'unknown'; error: Error }
  /** It will never be accepted. */
  | { kind: 'rejected'; error: ChainRpcError }

const KNOWN = /already (known|imported|exists?)|known transaction|already in (the )?mempool|ALREADY_EXISTS/i
const NONCE_LOW = /nonce (is )?too low|nonce.{0,30}(lower|less|already)|old nonce|invalid nonce|nonce.{0,20}used/i
const UNDERPRICED =
  /underpriced|fee too low|max fee per gas less than|gas price.{0,20}(too low|below|less)|(tip|fee).{0,30}(too low|below)/i
const FUNDS = /insufficient (funds|balance)|out ?of ?funds|exceeds (the )?balance|funds for gas/i
const LATER = /pool.{0,20}(full|limit)|nonce too high|nonce gap|too many pending|try again|already reserved|gapped/i

/** Whether an error says that the account cannot pay. */
export function saysInsufficientFunds(error: unknown): error is ChainRpcError {
  return error instanceof ChainRpcError && FUNDS.test(error.rpcMessage ?? '')
}

/** Sends signed bytes. Sending the same bytes twice does no harm. Throws only on abort or a closed chain. */
export async function broadcast({ chain, raw, signal }: BroadcastParameters): Promise<BroadcastOutcome> {
  try {
    await chain.request('eth_sendRawTransaction', [raw], { signal })
    return { kind: 'accepted' }
  } catch (error) {
    if (error instanceof ChainUnavailableError) return { kind: 'unknown', error }
    if (!(error instanceof ChainRpcError)) throw error
    const message = error.rpcMessage ?? ''
    if (KNOWN.test(message)) return { kind: 'accepted' }
    if (LATER.test(message)) return { kind: 'unknown', error }
    if (NONCE_LOW.test(message)) return { kind: 'nonce-too-low' }
    if (FUNDS.test(message)) return { kind: 'insufficient-funds', error }
    if (UNDERPRICED.test(message)) return { kind: 'underpriced', error }
    return error.rpcCode === undefined || error.kind !== 'answer'
      ? { kind: 'unknown', error }
      : { kind: 'rejected', error }
  }
}

export interface BroadcastParameters {
  chain: Chain
  raw: Hash
  signal?: AbortSignal | undefined
}
