import type { Abi, TransactionReceipt } from 'viem'
import type { Hash } from './block.ts'
import type { Fees } from './fees.ts'
import type { TransactionRequest } from './receipts.ts'

/** A transaction that was signed and is not settled yet. */
export interface PendingTransaction {
  readonly request: TransactionRequest
  readonly gas: bigint
  readonly abi: Abi
  readonly confirmations: number
  /** Fills a hole in the nonces; nobody waits for it. */
  readonly filler: boolean
  readonly onHash: ((hash: Hash) => void | Promise<void>) | undefined
  readonly settled: PromiseWithResolvers<TransactionReceipt>
  nonce: number
  fees: Fees
  /** Every version signed for this nonce, oldest first. */
  attempts: { hash: Hash; raw: Hash }[]
  broadcastAt: number
  /** When its turn came: nothing before it is missing any more. */
  turnSince: number | undefined
  /** When a hole before it was seen first. */
  gapSince: number | undefined
  /** When its nonce was found used without any version being mined. */
  missingSince: number | undefined
  missingLooks: number
  /** A version of it was in a block when last looked. */
  mined: boolean
  /** New nonces it was given after somebody else used its own. */
  resends: number
  /** The caller has stopped waiting. */
  abandonedAt: number | undefined
  lastError: string | undefined
}

export interface NewPendingParameters {
  request: TransactionRequest
  gas: bigint
  fees: Fees
  nonce: number
  abi?: Abi | undefined
  confirmations?: number | undefined
  filler?: boolean | undefined
  onHash?: PendingTransaction['onHash']
}

export function newPending(parameters: NewPendingParameters): PendingTransaction {
  const { request, gas, fees, nonce, abi = [], confirmations = 1, filler = false, onHash } = parameters
  const settled = Promise.withResolvers<TransactionReceipt>()
  // Whoever waits sees the failure; when nobody waits any more it must not end the process.
  settled.promise.catch(() => undefined)
  return {
    request,
    gas,
    abi,
    confirmations: Math.max(1, confirmations),
    filler,
    onHash,
    settled,
    nonce,
    fees,
    attempts: [],
    broadcastAt: 0,
    turnSince: undefined,
    gapSince: undefined,
    missingSince: undefined,
    missingLooks: 0,
    mined: false,
    resends: 0,
    abandonedAt: filler ? Date.now() : undefined,
    lastError: undefined,
  }
}
