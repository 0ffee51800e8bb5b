import type { TransactionReceipt } from 'viem'
import { resumeSend, type SendOnceParameters, signAndSend } from '#client/storage/send-once.ts'
import type { JournalEntry, SubmissionJournal } from '#client/storage/submission-journal.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { DaConnection } from './connection.ts'
import { entranceError } from './entrance-error.ts'
import type { DaListener } from './events.ts'

export interface EntranceCall {
  data: Hex
  valueWei: bigint
  journal: SubmissionJournal
  /** Names the call in the journal. */
  root: Hash
  purpose: 'submit' | 'confirm'
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/** Room for an epoch that ends between the estimate and the block. */
const EPOCH_TURN_GAS = 200_000n

/**
 * Signs and sends a call to the entrance; the journal has it before it goes out.
 *
 * @throws EntranceRefusedError before anything is paid; InsufficientFundsError; `TRANSACTION_REFUSED`
 */
export async function sendToEntrance(connection: DaConnection, call: EntranceCall): Promise<JournalEntry> {
  const { entrance } = connection.contracts
  const chain = await connection.chain(call.signal)
  const account = connection.payer(`${call.purpose} blobs`)
  return connection.exclusively(`${chain.id}/${account.address}`, async () => {
    const request = { from: account.address, to: entrance, data: call.data, value: `0x${call.valueWei.toString(16)}` }
    let gas: bigint
    try {
      gas = BigInt(String(await chain.request('eth_estimateGas', [request])))
    } catch (error) {
      throw entranceError(error, entrance)
    }
    const parameters = await sendParameters(connection, call)
    return signAndSend({ ...parameters, gas: (gas * 13n) / 10n + EPOCH_TURN_GAS })
  })
}

/**
 * Waits until a sent call is mined and as deep as this connection wants. A call that a reorganisation removes is sent
 * again. Undefined when its nonce went to another transaction: then nothing was paid.
 *
 * @throws WaitTimeoutError, `TRANSACTION_REVERTED`
 */
export async function awaitEntrance(
  connection: DaConnection,
  entry: JournalEntry,
  call: Omit<EntranceCall, 'data' | 'valueWei'>,
): Promise<TransactionReceipt | undefined> {
  const { confirmations, limits } = connection
  const chain = await connection.chain(call.signal)
  const startedAt = Date.now()
  for (;;) {
    const parameters = await sendParameters(connection, { ...call, data: '0x', valueWei: 0n })
    const receipt = await resumeSend(entry, { ...parameters, gas: 0n })
    if (receipt === undefined) return undefined
    const depth = Number((await chain.client.getBlockNumber()) - receipt.blockNumber) + 1
    if (depth >= confirmations) return receipt
    const waitedMs = Date.now() - startedAt
    if (waitedMs > limits.receiptTimeoutMs) {
      const { WaitTimeoutError } = await import('#client/storage/errors.ts')
      const missing = [{ url: chain.endpoints.join(', '), reason: `has ${depth} of ${confirmations} blocks` }]
      throw new WaitTimeoutError({ what: 'the transaction to be deep enough', waitedMs, missing })
    }
    call.onEvent?.({ type: 'waiting', for: 'depth', reason: `${depth} of ${confirmations} blocks`, waitedMs })
    await new Promise((resolve) => setTimeout(resolve, limits.pollIntervalMs))
    call.signal?.throwIfAborted()
  }
}

async function sendParameters(
  connection: DaConnection,
  { data, valueWei, journal, root, purpose, signal, onEvent }: EntranceCall,
): Promise<Omit<SendOnceParameters, 'gas'>> {
  return {
    chain: await connection.chain(signal),
    account: connection.payer(`${purpose} blobs`),
    ...{ journal, root, data, valueWei, signal, to: connection.contracts.entrance },
    timeoutMs: connection.limits.receiptTimeoutMs,
    pollIntervalMs: connection.limits.pollIntervalMs,
    onSent: (txHash) => onEvent?.({ type: 'transaction-sent', purpose, txHash }),
    onWaiting: ({ reason, waitedMs }) => {
      if (waitedMs > 2_000) onEvent?.({ type: 'waiting', for: 'receipt', reason, waitedMs })
    },
  }
}
