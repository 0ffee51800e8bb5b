import type { TransactionReceipt } from 'viem'
import type { JournalEntry } from '#client/storage/submission-journal.ts'
import type { DaConnection } from './connection.ts'
import { awaitCall, type ContractCall, sendToContract } from './contract-call.ts'
import { entranceError } from './entrance-error.ts'

/** A call to the entrance. */
export type EntranceCall = Omit<ContractCall, 'to' | 'refusal' | 'extraGas'>

/** Room for an epoch that ends between the estimate and the block. */
const EPOCH_TURN_GAS = 200_000n

/**
 * Signs and sends a call to the entrance; the journal has it before it goes out.
 *
 * @throws EntranceRefusedError before anything is paid; InsufficientFundsError; `TRANSACTION_REFUSED`
 */
export function sendToEntrance(connection: DaConnection, call: EntranceCall): Promise<JournalEntry> {
  const { entrance } = connection.contracts
  const refusal = (error: unknown) => entranceError(error, entrance)
  return sendToContract(connection, { ...call, to: entrance, extraGas: EPOCH_TURN_GAS, refusal })
}

/**
 * Waits until a call to the entrance is mined and as deep as this connection wants; see {@link awaitCall}.
 *
 * @throws WaitTimeoutError, `TRANSACTION_REVERTED`
 */
export function awaitEntrance(
  connection: DaConnection,
  entry: JournalEntry,
  call: Omit<EntranceCall, 'data' | 'valueWei'>,
): Promise<TransactionReceipt | undefined> {
  return awaitCall(connection, entry, { ...call, to: connection.contracts.entrance })
}
