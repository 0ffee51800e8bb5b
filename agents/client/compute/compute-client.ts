import {
  deposit,
  getLedger,
  listProviderAccounts,
  retrieveFromProviders,
  transferToProvider,
  withdraw,
} from './accounts.ts'
import { type ChatAnswer, type ChatParameters, chat } from './chat.ts'
import { type ComputeConnection, type ComputeConnectionParameters, openComputeConnection } from './connection.ts'
import { listReceipts, showReceipt } from './receipts.ts'
import { findProviders } from './route.ts'
import { listServices } from './services.ts'

/** The actions of the compute market, bound to one connection. */
export interface ComputeClient extends AsyncDisposable {
  readonly connection: ComputeConnection
  chat(parameters: ChatParameters): Promise<ChatAnswer>
  services(parameters?: Parameters<typeof listServices>[1]): ReturnType<typeof listServices>
  findProviders(parameters: Parameters<typeof findProviders>[1]): ReturnType<typeof findProviders>
  deposit(parameters: Parameters<typeof deposit>[1]): ReturnType<typeof deposit>
  withdraw(parameters: Parameters<typeof withdraw>[1]): ReturnType<typeof withdraw>
  transfer(parameters: Parameters<typeof transferToProvider>[1]): ReturnType<typeof transferToProvider>
  retrieve(parameters: Parameters<typeof retrieveFromProviders>[1]): ReturnType<typeof retrieveFromProviders>
  ledger(parameters?: Parameters<typeof getLedger>[1]): ReturnType<typeof getLedger>
  accounts(parameters?: Parameters<typeof listProviderAccounts>[1]): ReturnType<typeof listProviderAccounts>
  receipts(parameters?: Parameters<typeof listReceipts>[1]): ReturnType<typeof listReceipts>
  receipt(parameters: Parameters<typeof showReceipt>[1]): ReturnType<typeof showReceipt>
  close(): Promise<void>
}

/**
 * A client of the compute market.
 *
 * @example
 * await using compute = connectCompute({ rpcUrl: 'http://127.0.0.1:8545', ledger, account })
 * await compute.deposit({ amountWei: parseEther('3') })
 * const answer = await compute.chat({ messages: [{ role: 'user', content: 'hello' }] })
 */
export function connectCompute(parameters: ComputeConnectionParameters): ComputeClient {
  const connection = openComputeConnection(parameters)
  return {
    connection,
    chat: (request) => chat(connection, request),
    services: (options) => listServices(connection, options),
    findProviders: (options) => findProviders(connection, options),
    deposit: (options) => deposit(connection, options),
    withdraw: (options) => withdraw(connection, options),
    transfer: (options) => transferToProvider(connection, options),
    retrieve: (options) => retrieveFromProviders(connection, options),
    ledger: (options) => getLedger(connection, options),
    accounts: (options) => listProviderAccounts(connection, options),
    receipts: (options) => listReceipts(connection, options),
    receipt: (options) => showReceipt(connection, options),
    close: () => connection.close(),
    [Symbol.asyncDispose]: () => connection.close(),
  }
}
