import {
  credentials,
  type GrpcObject,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { DISPERSER_PROTO_FILE } from '#protocol/da/disperser-proto.ts'

export interface CallOptions {
  /** Default 60 s. */
  timeoutMs?: number | undefined
  /** `x-weightless-voucher`, where blobs are paid for. */
  metadata?: Metadata | undefined
}

/** Calls of a disperser's gRPC service. Errors are those of gRPC, with the disperser's words in `details`. */
export interface DisperserClient {
  /** One call: `DisperseBlob`, `GetBlobStatus`, `RetrieveBlob`. Names and types are those of `disperser.proto`. */
  call(method: string, request: object, options?: CallOptions): Promise<Record<string, unknown>>
  close(): void
}

/** Room for the largest blob. */
const MAX_MESSAGE_BYTES = 64 * 2 ** 20

/**
 * A client of a disperser, made from the protocol file as those of other languages are.
 *
 * @param address `host:port`
 * @example
 * const disperser = openDisperserClient('127.0.0.1:51001')
 * const { request_id } = await disperser.call('DisperseBlob', { data })
 */
export function openDisperserClient(address: string): DisperserClient {
  const definition = loadSync(DISPERSER_PROTO_FILE, { keepCase: true, longs: Number, enums: String, defaults: true })
  const { Disperser } = loadPackageDefinition(definition).disperser as GrpcObject
  const client = new (Disperser as ServiceClientConstructor)(address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
  return {
    call: (method, request, { timeoutMs = 60_000, metadata = new Metadata() } = {}) =>
      new Promise((resolve, reject) => {
        const call = client[method]?.bind(client) as (
          request: object,
          metadata: Metadata,
          options: { deadline: number },
          callback: (error: Error | null, reply: Record<string, unknown>) => void,
        ) => void
        call(request, metadata, { deadline: Date.now() + timeoutMs }, (error, reply) => {
          if (error === null) resolve(reply)
          else reject(error)
        })
      }),
    close: () => client.close(),
  }
}
