import type { Address, TransactionReceipt } from 'viem'
import { resumeSend, type SendOnceParameters, signAndSend } from '#client/storage/send-once.ts'
import type { JournalEntry, SubmissionJournal } from '#client/storage/submission-journal.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { DaConnection } from './connection.ts'
import type { CallPurpose, DaListener } from './events.ts'

export interface ContractCall {
  to: Address
  data: Hex
  valueWei: bigint
  journal: SubmissionJournal
  /** Names the call in the journal. */
  root: Hash
  purpose: CallPurpose
  /** Added to the estimate, beside three tenths of it. */
  extraGas?: bigint | undefined
  /** What a refusal of the contract is told as. */
  refusal: (error: unknown) => unknown
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/**
 * Signs and sends a call; the journal has it before it goes out. Calls of one account wait for each other.
 *
 * @throws what `refusal` makes of a revert, before anything is paid; InsufficientFundsError; `TRANSACTION_REFUSED`
 */
export async function sendToContract(connection: DaConnection, call: ContractCall): Promise<JournalEntry> {
  const { to, data, valueWei, extraGas = 0n } = call
  const chain = await connection.chain(call.signal)
  const account = connection.payer(PURPOSES[call.purpose])
  return connection.exclusively(`${chain.id}/${account.address}`, async () => {
    const request = { from: account.address, to, data, value: `0x${valueWei.toString(16)}` }
    let gas: bigint
    try {
      gas = BigInt(String(await chain.request('eth_estimateGas', [request])))
    } catch (error) {
      throw call.refusal(error)
    }
    const parameters = await sendParameters(connection, call)
    return signAndSend({ ...parameters, gas: (gas * 13n) / 10n + extraGas })
  })
}

/**
 * Waits until a sent call is mined and as deep as this connection wants. A call that a reorganisation removes is sent
 * again. Undefined when its nonce went to another transaction: then nothing was paid.
 *
 * @throws WaitTimeoutError, `TRANSACTION_REVERTED`
 */
export async function awaitCall(
  connection: DaConnection,
  entry: JournalEntry,
  call: Omit<ContractCall, 'data' | 'valueWei' | 'refusal'>,
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

const PURPOSES: Record<CallPurpose, string> = {
  submit: 'submit blobs',
  confirm: 'confirm blobs',
  deposit: 'deposit for a disperser',
  'request-withdrawal': 'take a deposit back',
  withdraw: 'take a deposit back',
  claim: 'claim fees',
}

async function sendParameters(
  connection: DaConnection,
  { to, data, valueWei, journal, root, purpose, signal, onEvent }: Omit<ContractCall, 'refusal'>,
): Promise<Omit<SendOnceParameters, 'gas'>> {
  return {
    chain: await connection.chain(signal),
    account: connection.payer(PURPOSES[purpose]),
    ...{ journal, root, data, valueWei, signal, to },
    timeoutMs: connection.limits.receiptTimeoutMs,
    pollIntervalMs: connection.limits.pollIntervalMs,
    onSent: (txHash) => onEvent?.({ type: 'transaction-sent', purpose, txHash }),
    onWaiting: ({ reason, waitedMs }) => {
      if (waitedMs > 2_000) onEvent?.({ type: 'waiting', for: 'receipt', reason, waitedMs })
    },
  }
}
