import { openStorageConnection, type StorageConnectionParameters } from './storage/connection.ts'
import { createStorageClient, type StorageClient } from './storage/storage-client.ts'

export interface ConnectParameters extends StorageConnectionParameters {}

/** Everything a program does on the network. */
export interface Client extends AsyncDisposable {
  readonly storage: StorageClient
  /** Ends connections and threads. Actions under way fail. */
  close(): Promise<void>
}

/**
 * A client for the network. Connections are made when an action first needs them; give what the actions at hand need.
 *
 * @example
 * const account = privateKeyToAccount(key) // viem/accounts
 * await using client = await connect({ rpcUrl: 'http://127.0.0.1:8545', indexerUrl: 'http://127.0.0.1:12345', account })
 * const { root } = await client.storage.upload({ source: await fileSource('model.gguf') })
 * await client.storage.download({ root, to: 'copy.gguf' })
 */
export async function connect(parameters: ConnectParameters): Promise<Client> {
  const connection = openStorageConnection(parameters)
  return {
    storage: createStorageClient(connection),
    close: () => connection.close(),
    [Symbol.asyncDispose]: () => connection.close(),
  }
}
