import {
  type GrpcObject,
  loadPackageDefinition,
  type Metadata,
  Server,
  ServerCredentials,
  type ServiceClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import type { Logger } from '#kit/log.ts'
import { DISPERSAL_VOUCHER_HEADER } from '#protocol/da/dispersal-voucher.ts'
import { DISPERSER_PROTO_FILE } from '#protocol/da/disperser-proto.ts'
import { WeightlessError } from '#protocol/error.ts'
import { toHex } from '#protocol/hex.ts'
import type { Disperser } from './disperser.ts'
import { DisperserError } from './error.ts'
import type { RequestState, StoredRequest } from './request-store.ts'

/** Room for a blob of the largest size and a little more, so that one too large is told so in words. */
const MAX_MESSAGE_BYTES = 64 * 2 ** 20

const STATUS: Record<RequestState, string> = {
  processing: 'PROCESSING',
  confirmed: 'CONFIRMED',
  final: 'FINALIZED',
  failed: 'FAILED',
}

/** gRPC status by error code; everything else is INTERNAL. */
const CODES: Record<string, status> = {
  BLOB_SIZE: status.INVALID_ARGUMENT,
  REQUEST_INVALID: status.INVALID_ARGUMENT,
  REQUEST_UNKNOWN: status.NOT_FOUND,
  BLOB_UNKNOWN: status.NOT_FOUND,
  BLOB_EXPIRED: status.NOT_FOUND,
  BLOB_UNAVAILABLE: status.UNAVAILABLE,
  CHAIN_UNREACHABLE: status.UNAVAILABLE,
  VOUCHER_MISSING: status.FAILED_PRECONDITION,
  VOUCHER_FORMAT: status.INVALID_ARGUMENT,
  VOUCHER_FOREIGN: status.INVALID_ARGUMENT,
  VOUCHER_SIGNATURE: status.INVALID_ARGUMENT,
  VOUCHER_EXPIRED: status.FAILED_PRECONDITION,
  VOUCHER_INSUFFICIENT: status.FAILED_PRECONDITION,
  DEPOSIT_INSUFFICIENT: status.FAILED_PRECONDITION,
  BLOB_STORE_FULL: status.RESOURCE_EXHAUSTED,
  DISPERSER_CLOSED: status.UNAVAILABLE,
}

interface GrpcCall {
  request: Record<string, unknown>
  metadata: Metadata
}
type Callback = (error: Partial<ServiceError> | null, reply?: object) => void

export interface GrpcServer {
  /** @throws WeightlessError `GRPC_LISTEN` */
  listen(): Promise<{ host: string; port: number }>
  close(): Promise<void>
}

/** The service of `disperser.proto`, as clients of the field speak it. */
export function createGrpcServer({
  disperser,
  host,
  port,
  maxCalls,
  log,
}: {
  disperser: Disperser
  host: string
  port: number
  /** Calls of one connection at a time; each may hold a blob. */
  maxCalls: number
  log: Logger
}): GrpcServer {
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': maxCalls,
  })
  const answer =
    (handle: (request: Record<string, unknown>, metadata: Metadata) => Promise<object>) =>
    (call: GrpcCall, callback: Callback) => {
      handle(call.request, call.metadata).then(
        (reply) => callback(null, reply),
        (error: unknown) => {
          const code = error instanceof WeightlessError ? (CODES[error.code] ?? status.INTERNAL) : status.INTERNAL
          if (code === status.INTERNAL) log.warn({ err: error }, 'a gRPC call failed')
          callback({ code, details: describe(error) })
        },
      )
    }
  server.addService(serviceOf(), {
    DisperseBlob: answer(async ({ data }, metadata) => {
      const [voucher] = metadata.get(DISPERSAL_VOUCHER_HEADER.toLowerCase()).map(String)
      const { id } = await disperser.accept(asBytes(data, 'data'), { voucher })
      return { result: 'PROCESSING', request_id: Buffer.from(id, 'ascii') }
    }),
    GetBlobStatus: answer(async ({ request_id }) => {
      return statusReply(disperser.request(Buffer.from(asBytes(request_id, 'request_id')).toString('ascii')))
    }),
    RetrieveBlob: answer(async ({ storage_root, epoch, quorum_id }) => {
      const root = asBytes(storage_root, 'storage_root')
      if (root.length !== 32) throw invalid('storage_root', `it has ${root.length} bytes, not 32`)
      const blob = { dataRoot: toHex(root), epoch: Number(epoch), quorumId: Number(quorum_id) }
      return { data: await disperser.retrieve(blob) }
    }),
  })
  return {
    listen: async () => {
      const bound = await new Promise<number>((resolve, reject) => {
        server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (cause, chosen) => {
          if (cause === null) resolve(chosen)
          else reject(cannotListen({ host, port, cause }))
        })
      })
      return { host, port: bound }
    },
    close: () =>
      new Promise((resolve) => {
        const force = setTimeout(() => server.forceShutdown(), 3_000)
        server.tryShutdown(() => {
          clearTimeout(force)
          resolve()
        })
      }),
  }
}

function serviceOf() {
  const definition = loadSync(DISPERSER_PROTO_FILE, { keepCase: true, longs: String, enums: String, defaults: true })
  const disperser = loadPackageDefinition(definition).disperser as GrpcObject
  return (disperser.Disperser as ServiceClientConstructor).service
}

function statusReply({ state, dataRoot, epoch, quorumId }: StoredRequest): object {
  const isConfirmed = state === 'confirmed' || state === 'final'
  if (!isConfirmed || dataRoot === undefined) return { status: STATUS[state] }
  const root = Buffer.from(dataRoot.slice(2), 'hex')
  return { status: STATUS[state], info: { blob_header: { storage_root: root, epoch, quorum_id: quorumId } } }
}

function asBytes(value: unknown, field: string): Uint8Array {
  if (value instanceof Uint8Array) return value
  throw invalid(field, 'it is missing')
}

function invalid(field: string, reason: string): DisperserError {
  return new DisperserError({
    code: 'REQUEST_INVALID',
    message: `${field} cannot be used: ${reason}`,
    fix: 'see disperser.proto',
    details: { field },
  })
}

function describe(error: unknown): string {
  if (!(error instanceof WeightlessError)) return 'internal error'
  return `${error.code}: ${error.message}${error.fix === undefined ? '' : ` (${error.fix})`}`
}

function cannotListen({ host, port, cause }: { host: string; port: number; cause: Error }): WeightlessError {
  return new WeightlessError({
    code: 'GRPC_LISTEN',
    message: `gRPC cannot listen on ${host}:${port}: ${cause.message}`,
    fix: 'choose another address with listenGrpc',
    details: { host, port },
    cause,
  })
}
