import { setTimeout as delay } from 'node:timers/promises'
import type { Address, Hash, Hex, PrivateKeyAccount, TransactionReceipt } from 'viem'
import { keccak256, TransactionReceiptNotFoundError } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { DeployError } from './error.ts'

const attempts = 6
const attemptMs = 60_000
const pendingMs = 300_000
const pollMs = 250
/** How long a receipt may be missing of a nonce that is used, before it counts as used by somebody else. */
const receiptLagMs = 3_000

/** Fees of one gas, as the chain wants them: with a base fee, or one price on older chains. Wei. */
export type GasFees = { maxFeePerGas: bigint; maxPriorityFeePerGas: bigint } | { gasPrice: bigint }

/** What the chain asks for now. The most that is paid for one gas is `maxFeePerGas` or `gasPrice`. */
export async function currentFees(chain: Chain): Promise<GasFees> {
  const { baseFeePerGas } = await chain.client.getBlock({ blockTag: 'latest' })
  if (baseFeePerGas === null) return { gasPrice: await chain.client.getGasPrice() }
  const { maxFeePerGas, maxPriorityFeePerGas } = await chain.client.estimateFeesPerGas({ type: 'eip1559' })
  return { maxFeePerGas, maxPriorityFeePerGas }
}

/** The most one gas can cost under these fees, wei. */
export function feeBound(fees: GasFees): bigint {
  return 'gasPrice' in fees ? fees.gasPrice : fees.maxFeePerGas
}

/**
 * Waits until `nonce` is the account's next one: transactions it has pending take theirs first.
 *
 * @returns false when the nonce is used already
 * @throws {DeployError} `DEPLOY_TIMEOUT` when the earlier transactions are not mined within five minutes
 */
export async function waitForNonce({
  chain,
  address,
  nonce,
  signal,
}: {
  chain: Chain
  address: Address
  nonce: number
  signal?: AbortSignal | undefined
}): Promise<boolean> {
  const giveUpAt = performance.now() + pendingMs
  while (performance.now() < giveUpAt) {
    const used = await chain.client.getTransactionCount({ address, blockTag: 'latest' })
    if (used >= nonce) return used === nonce
    await delay(pollMs, undefined, { signal })
  }
  throw new DeployError({
    code: 'DEPLOY_TIMEOUT',
    message: `${address} has pending transactions before nonce ${nonce} that are not mined`,
    fix: 'wait until they are mined or replace them, and run the deployment again',
    details: { address, nonce },
  })
}

/**
 * Creates a contract with exactly this nonce, so that it lies at the planned address or not at all. A transaction that
 * is not mined within a minute is replaced by one that offers 25 % more, five times.
 *
 * @returns the receipt, or undefined when another transaction took the nonce
 * @throws {DeployError} `DEPLOY_REVERTED`, `DEPLOY_TIMEOUT`
 */
export async function sendCreation({
  chain,
  account,
  nonce,
  data,
  gas,
  signal,
  onSent,
}: {
  chain: Chain
  account: PrivateKeyAccount
  nonce: number
  data: Hex
  gas: bigint
  signal?: AbortSignal | undefined
  onSent: (hash: Hash) => void
}): Promise<TransactionReceipt | undefined> {
  const hashes: Hash[] = []
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const fees = raise(await currentFees(chain), attempt)
    const signed = await account.signTransaction({ chainId: chain.id, nonce, data, gas, value: 0n, ...fees })
    const hash = keccak256(signed)
    try {
      await chain.client.sendRawTransaction({ serializedTransaction: signed })
      hashes.push(hash)
      onSent(hash)
    } catch (error) {
      const text = error instanceof Error ? error.message.toLowerCase() : ''
      // A node that has it already, or that will only take a higher price: what was sent before is still on its way.
      const known = /already known|already imported|underpriced|nonce too low|nonce is too low/.test(text)
      if (!known) throw error
      if (/already/.test(text)) hashes.push(hash)
    }
    const receipt = await waitForAny({ chain, account, nonce, hashes, signal })
    if (receipt === 'taken') return undefined
    if (receipt === undefined) continue
    if (receipt.status === 'success') return receipt
    throw new DeployError({
      code: 'DEPLOY_REVERTED',
      message: `the creation in ${receipt.transactionHash} reverted after ${receipt.gasUsed} gas`,
      fix: 'check that the chain supports the Cancun instructions and that its block gas limit is high enough',
      details: { hash: receipt.transactionHash, gasUsed: receipt.gasUsed.toString() },
    })
  }
  throw new DeployError({
    code: 'DEPLOY_TIMEOUT',
    message: `no transaction with nonce ${nonce} was mined within ${(attempts * attemptMs) / 60_000} minutes`,
    fix: 'look at the transactions named in details and run the deployment again: it goes on where it stopped',
    details: { nonce, hashes },
  })
}

async function waitForAny({
  chain,
  account,
  nonce,
  hashes,
  signal,
}: {
  chain: Chain
  account: PrivateKeyAccount
  nonce: number
  hashes: readonly Hash[]
  signal?: AbortSignal | undefined
}): Promise<TransactionReceipt | 'taken' | undefined> {
  const giveUpAt = performance.now() + attemptMs
  let takenAt = Number.POSITIVE_INFINITY
  while (performance.now() < giveUpAt) {
    signal?.throwIfAborted()
    // Asked before the receipts: one of ours may be mined in between, and then must not count as taken.
    const used = await chain.client.getTransactionCount({ address: account.address, blockTag: 'latest' })
    for (const hash of hashes) {
      const receipt = await receiptOf({ chain, hash })
      if (receipt !== undefined) return receipt
    }
    // Endpoints may count a transaction a moment before they know its receipt.
    if (used > nonce) takenAt = Math.min(takenAt, performance.now())
    if (performance.now() - takenAt > receiptLagMs) return 'taken'
    await delay(pollMs, undefined, { signal })
  }
  return undefined
}

/** The receipt of a mined transaction; undefined while there is none. */
export async function receiptOf({
  chain,
  hash,
}: {
  chain: Chain
  hash: Hash
}): Promise<TransactionReceipt | undefined> {
  try {
    return await chain.client.getTransactionReceipt({ hash })
  } catch (error) {
    if (error instanceof TransactionReceiptNotFoundError) return undefined
    throw error
  }
}

function raise(fees: GasFees, attempt: number): GasFees {
  const up = (wei: bigint) => (wei * 5n ** BigInt(attempt)) / 4n ** BigInt(attempt)
  return 'gasPrice' in fees
    ? { gasPrice: up(fees.gasPrice) }
    : { maxFeePerGas: up(fees.maxFeePerGas), maxPriorityFeePerGas: up(fees.maxPriorityFeePerGas) }
}
