import { join } from 'node:path'
import { credentials, type GrpcObject, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { PROTO_FILE } from '#da/disperser/grpc.ts'
import {
  type DisperserConfigInput,
  disperserConfigSchema,
  type RunningDisperser,
  startDisperser,
} from '#da/disperser/main.ts'
import { createLog, silentLog } from '#kit/log.ts'
import { accountOf, type DaNet } from '../da-signer/harness.ts'

/** Account of the disperser: away from the signers' and the clients'. */
export const DISPERSER_ACCOUNT = 9

/** Starts a disperser on a test network; `name` is its folder. */
export async function openDisperser(
  net: DaNet,
  { name = 'disperser', jobs, data }: { name?: string } & Pick<DisperserConfigInput, 'jobs' | 'data'> = {},
): Promise<RunningDisperser> {
  const config = disperserConfigSchema.parse({
    data: { dir: join(net.folder, name), minFreeBytes: 0, ...data },
    chain: {
      rpcUrls: [net.anvil.url],
      id: 31337,
      signers: net.contracts.signers,
      entrance: net.contracts.entrance,
      startBlock: net.contracts.block,
      confirmations: 3,
      pollIntervalMs: 100,
    },
    jobs: { batchMs: 50, ...jobs },
    listen: '127.0.0.1:0',
    listenGrpc: '127.0.0.1:0',
  })
  const log = process.env.DA_TEST_LOG ? createLog({ name, level: 'debug' }) : silentLog()
  return startDisperser(config, { log, account: accountOf(DISPERSER_ACCOUNT) })
}

/** A client made from the protocol file, as those of other languages are. */
export interface GrpcClient {
  call(method: string, request: object): Promise<Record<string, unknown>>
  close(): void
}

export function openGrpcClient(address: string): GrpcClient {
  const definition = loadSync(PROTO_FILE, { keepCase: true, longs: Number, enums: String, defaults: true })
  const { Disperser } = loadPackageDefinition(definition).disperser as GrpcObject
  const limit = { 'grpc.max_receive_message_length': 2 ** 26, 'grpc.max_send_message_length': 2 ** 26 }
  const client = new (Disperser as ServiceClientConstructor)(address, credentials.createInsecure(), limit)
  return {
    call: (method, request) =>
      new Promise((resolve, reject) => {
        const deadline = { deadline: Date.now() + 30_000 }
        const work = client[method]?.bind(client) as (
          request: object,
          options: object,
          callback: (error: Error | null, reply: Record<string, unknown>) => void,
        ) => void
        work(request, deadline, (error, reply) => (error === null ? resolve(reply) : reject(error)))
      }),
    close: () => client.close(),
  }
}
