import { z } from 'zod'
import { RpcError } from '#kit/http/rpc-error.ts'
import { type RpcMethod, rpcBytes, rpcHash, rpcMethod, rpcUint, rpcUint64 } from '#kit/http/rpc-method.ts'
import type { Hex } from '#protocol/hex.ts'
import { hasWritePermission, type StreamState } from '#protocol/kv/replay.ts'
import { MAX_KEY_BYTES } from '#protocol/kv/stream-data.ts'
import { LATEST, stateAt } from './state.ts'
import type { KvStore, StoredValue } from './store.ts'
import type { ValueLog } from './value-log.ts'

export interface KvRpcParameters {
  store: KvStore
  values: ValueLog
  /** Longest piece of a value that one call gives, in bytes. */
  maxQueryBytes: number
}

const stream = rpcHash()
const key = rpcBytes({ maxBytes: MAX_KEY_BYTES })
const length = rpcUint64()
const account = z
  .string({ error: 'expected an address' })
  .regex(/^(0x)?[0-9a-fA-F]{40}$/, 'expected an address of 40 hex digits')
  .transform((text): Hex => `0x${text.replace(/^0x/, '').toLowerCase()}`)
/** Versions are 64-bit; clients send the largest for "newest". */
const version = rpcUint64()
  .nullish()
  .transform((given) => (given === null || given === undefined || given > BigInt(LATEST) ? LATEST : Number(given)))

/** The `kv_*` methods as 0G's clients call them (0G storage-kv RPC). */
export function kvMethods({ store, values, maxQueryBytes }: KvRpcParameters): Record<string, RpcMethod> {
  async function piece(found: StoredValue, start: bigint, wanted: bigint) {
    if (start > BigInt(found.length))
      throw RpcError.invalidParams('start_index', 'start index is greater than value size')
    const from = Number(start)
    const size = Math.min(Number(wanted), found.length - from)
    const data = size === 0 ? new Uint8Array() : await values.read({ offset: found.offset + from, length: size })
    return { version: found.version, data: Buffer.from(data).toString('base64'), size: found.length }
  }

  function checkLength(wanted: bigint): void {
    if (wanted > BigInt(maxQueryBytes)) throw RpcError.invalidParams('len', 'query length too large')
  }

  function checkKey(given: Uint8Array): void {
    if (given.length === 0) throw RpcError.invalidParams('key', 'key is empty')
  }

  async function pair(found: StoredValue | undefined, start: bigint, wanted: bigint) {
    if (found === undefined) return null
    return { ...(await piece(found, start, wanted)), key: Buffer.from(found.key).toString('base64') }
  }

  const neighbour = (direction: 'next' | 'previous'): RpcMethod =>
    rpcMethod({
      params: z.tuple([stream, key, rpcUint64(), length, z.boolean(), version.optional()]),
      names: ['streamId', 'key', 'start_index', 'len', 'inclusive', 'version'],
      handler: async ([streamId, from, start, wanted, inclusive, at = LATEST]) => {
        checkLength(wanted)
        checkKey(from)
        return pair(store.neighbour({ streamId, key: from, direction, inclusive, version: at }), start, wanted)
      },
    })
  const end = (direction: 'next' | 'previous'): RpcMethod =>
    rpcMethod({
      params: z.tuple([stream, rpcUint64(), length, version.optional()]),
      names: ['streamId', 'start_index', 'len', 'version'],
      handler: async ([streamId, start, wanted, at = LATEST]) => {
        checkLength(wanted)
        return pair(store.neighbour({ streamId, direction, inclusive: true, version: at }), start, wanted)
      },
    })
  const accountRight = (test: (state: StreamState, right: { account: Hex; streamId: Hex }) => boolean): RpcMethod =>
    rpcMethod({
      params: z.tuple([account, stream, version.optional()]),
      names: ['account', 'streamId', 'version'],
      handler: ([who, streamId, at = LATEST]) => test(stateAt(store, at), { account: who, streamId }),
    })
  const keyRight = (
    test: (state: StreamState, right: { account: Hex; streamId: Hex; key: Uint8Array }) => boolean,
  ): RpcMethod =>
    rpcMethod({
      params: z.tuple([account, stream, key, version.optional()]),
      names: ['account', 'streamId', 'key', 'version'],
      handler: ([who, streamId, given, at = LATEST]) => {
        checkKey(given)
        return test(stateAt(store, at), { account: who, streamId, key: given })
      },
    })

  const isAdmin = accountRight((state, right) => state.isAdmin(right))
  return {
    kv_getStatus: rpcMethod({ handler: () => true }),
    kv_getValue: rpcMethod({
      params: z.tuple([stream, key, rpcUint64(), length, version.optional()]),
      names: ['streamId', 'key', 'start_index', 'len', 'version'],
      handler: async ([streamId, given, start, wanted, at = LATEST]) => {
        checkLength(wanted)
        checkKey(given)
        const found = store.value(streamId, given, at)
        return found === undefined ? { version: 0, data: '', size: 0 } : piece(found, start, wanted)
      },
    }),
    kv_getNext: neighbour('next'),
    kv_getPrev: neighbour('previous'),
    kv_getFirst: end('next'),
    kv_getLast: end('previous'),
    kv_getTransactionResult: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: ([seq]) => store.result(seq),
    }),
    kv_getHoldingStreamIds: rpcMethod({ handler: () => store.streams() }),
    // Not among 0G's methods: whether a write of this stream would be replayed here.
    weightless_acceptsStream: rpcMethod({
      params: z.tuple([stream]),
      names: ['streamId'],
      handler: ([streamId]) => store.accepts(streamId),
    }),
    kv_getReplayProgress: rpcMethod({
      handler: () => ({
        appliedSeq: store.nextSubmission()?.seq ?? store.loggedSeq(),
        firstTxSeq: store.firstSubmissionSeq(),
      }),
    }),
    kv_hasWritePermission: keyRight(hasWritePermission),
    kv_isAdmin: isAdmin,
    // The published SDKs write it with a capital I.
    kv_IsAdmin: isAdmin,
    kv_isSpecialKey: rpcMethod({
      params: z.tuple([stream, key, version.optional()]),
      names: ['streamId', 'key', 'version'],
      handler: ([streamId, given, at = LATEST]) => {
        checkKey(given)
        return stateAt(store, at).isSpecialKey({ streamId, key: given })
      },
    }),
    kv_isWriterOfKey: keyRight((state, right) => state.isWriterOfKey(right)),
    kv_isWriterOfStream: accountRight((state, right) => state.isWriterOfStream(right)),
  }
}
