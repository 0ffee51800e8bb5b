import type { TransactionReceipt } from 'viem'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from './block.ts'

/** Whatever kept a transaction from being mined well; the classes below say what. */
export class TransactionError extends WeightlessError {}

/**
 * The contract reverted, when the gas was estimated or when the transaction was mined (then there is a `receipt`).
 * Code `CONTRACT_REVERT`.
 */
export class ContractRevertError extends TransactionError {
  /** The custom error's name; `Error` for a revert string, `Panic` for a panic; undefined where the ABI lacks it. */
  readonly errorName: string | undefined
  readonly args: readonly unknown[]
  /** What the contract returned. */
  readonly data: Hash
  readonly receipt: TransactionReceipt | undefined

  constructor(parameters: {
    errorName: string | undefined
    args: readonly unknown[]
    data: Hash
    to: Hash | undefined
    receipt?: TransactionReceipt | undefined
    cause?: unknown
  }) {
    const { errorName, args, data, to, receipt, cause } = parameters
    const what =
      errorName !== undefined
        ? `${errorName}(${args.map(String).join(', ')})`
        : data === '0x'
          ? 'no reason given'
          : `unknown error ${data.slice(0, 10)}`
    super({
      code: 'CONTRACT_REVERT',
      message: `the contract ${to ?? 'being created'} refused: ${what}`,
      fix:
        errorName === undefined ? 'check the address and the contract version: the error is not in the ABI' : undefined,
      details: { errorName, to, data: data.slice(0, 1026), transactionHash: receipt?.transactionHash },
      cause,
    })
    this.errorName = errorName
    this.args = args
    this.data = data
    this.receipt = receipt
  }
}

/** The account cannot pay. Code `INSUFFICIENT_FUNDS`. */
export class InsufficientFundsError extends TransactionError {
  readonly address: Hash
  readonly balanceWei: bigint
  /** Value plus the most the gas may cost; without gas where it could not be estimated. */
  readonly neededWei: bigint

  constructor(parameters: { address: Hash; balanceWei: bigint; neededWei: bigint; cause?: unknown }) {
    const { address, balanceWei, neededWei, cause } = parameters
    super({
      code: 'INSUFFICIENT_FUNDS',
      message: `${address} holds ${balanceWei} wei, the transaction needs up to ${neededWei} wei`,
      fix: `send at least ${neededWei > balanceWei ? neededWei - balanceWei : 1n} wei to ${address}`,
      details: { address, balanceWei: String(balanceWei), neededWei: String(neededWei) },
      cause,
    })
    this.address = address
    this.balanceWei = balanceWei
    this.neededWei = neededWei
  }
}

/**
 * Not mined, or not confirmed, in time. The transaction may still be: wait for `hashes`
 * (`TransactionSender.waitFor`) before paying again. Code `TRANSACTION_TIMEOUT`.
 */
export class TransactionTimeoutError extends TransactionError {
  /** Every version sent, oldest first; empty when none was. */
  readonly hashes: readonly Hash[]
  readonly nonce: number | undefined

  constructor(parameters: {
    hashes: readonly Hash[]
    nonce: number | undefined
    timeoutMs: number
    reason: string
    cause?: unknown
  }) {
    const { hashes, nonce, timeoutMs, reason, cause } = parameters
    super({
      code: 'TRANSACTION_TIMEOUT',
      message: `the transaction was not confirmed within ${timeoutMs} ms: ${reason}`,
      fix:
        hashes.length === 0
          ? 'try again'
          : 'look for the hashes in details before sending again: it may still be mined',
      details: { hashes, nonce, timeoutMs },
      cause,
    })
    this.hashes = hashes
    this.nonce = nonce
  }
}

/**
 * The chain refused the transaction, or its nonce went to another one. Codes `TRANSACTION_REJECTED`,
 * `TRANSACTION_REPLACED`, `TRANSACTION_GAS_CAP`, `TRANSACTION_FEE_CAP`, `SENDER_CLOSED`.
 */
export class TransactionRejectedError extends TransactionError {}
