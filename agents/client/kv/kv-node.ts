import { z } from 'zod'
import { createJsonRpcClient, RpcResponseError } from '#kit/http/json-rpc-client.ts'
import type { Hex } from '#protocol/hex.ts'
import { KvNodeError } from './errors.ts'

/** A value of a key at one version. `sizeBytes` 0: deleted there. */
export interface KvValue {
  key: Uint8Array
  /** Sequence number of the submission that wrote it. */
  version: number
  sizeBytes: number
  /** All of it, or as much as was asked for. */
  data: Uint8Array
}

interface At {
  streamId: Hex
  /** The newest write at or below this; the newest of all when absent. */
  version?: number | undefined
  signal?: AbortSignal | undefined
}

interface AtKey extends At {
  key: Uint8Array
}

/** A key-value node: any that speaks 0G's `kv_*`. What it says is taken on trust: it holds the state, and proves none. */
export interface KvNode {
  readonly url: string
  /** The value, undefined for a key that was never written. At most `maxBytes` of it are fetched (default: all). */
  value(at: AtKey & { maxBytes?: number | undefined }): Promise<KvValue | undefined>
  /** The next key that has a value, after `key` (or the first of all), with at most `maxBytes` of its value. */
  next(at: At & { key?: Uint8Array | undefined; maxBytes: number }): Promise<KvValue | undefined>
  /** What became of a submission; undefined while it is not replayed. */
  result(at: { txSeq: number; signal?: AbortSignal | undefined }): Promise<string | undefined>
  streams(at?: { signal?: AbortSignal | undefined }): Promise<Hex[]>
  /** Whether writes of the stream are replayed there. */
  accepts(at: { streamId: Hex; signal?: AbortSignal | undefined }): Promise<boolean>
  /** The next submission to replay. */
  progress(at?: { signal?: AbortSignal | undefined }): Promise<{ nextSeq: number; firstTxSeq: number | null }>
  mayWrite(at: AtKey & { account: Hex }): Promise<boolean>
  isAdmin(at: At & { account: Hex }): Promise<boolean>
  isWriter(at: At & { account: Hex }): Promise<boolean>
  isKeyWriter(at: AtKey & { account: Hex }): Promise<boolean>
  /** A protected key is written by its own writers and by admins alone. */
  isProtected(at: AtKey): Promise<boolean>
  close(): void
}

/** Longest piece that a node gives in one call, in bytes (0G's default). */
const PIECE_BYTES = 262_144
/** Largest value that is read into memory, in bytes. */
const MAX_VALUE_BYTES = 2 ** 30
const METHOD_UNKNOWN = -32_601

const safeInteger = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const base64 = z.base64().transform((text) => new Uint8Array(Buffer.from(text, 'base64')))
const pieceSchema = z.object({ version: safeInteger, data: base64, size: safeInteger })
const pairSchema = pieceSchema.extend({ key: base64 }).nullable()
const idSchema = z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/)
const progressSchema = z.object({ appliedSeq: safeInteger, firstTxSeq: safeInteger.nullish() })

/**
 * @example
 * const node = openKvNode({ url: 'http://127.0.0.1:6789' })
 * const value = await node.value({ streamId, key: new TextEncoder().encode('name') })
 */
export function openKvNode({ url, timeoutMs = 15_000 }: { url: string; timeoutMs?: number | undefined }): KvNode {
  const client = createJsonRpcClient({ url, timeoutMs })

  async function call<T>(schema: z.ZodType<T>, method: string, params: unknown[], signal?: AbortSignal): Promise<T> {
    const answer = await client.call(method, params, signal === undefined ? {} : { signal }).catch((cause: unknown) => {
      signal?.throwIfAborted()
      throw failed({ url, cause })
    })
    const parsed = schema.safeParse(answer)
    if (parsed.success) return parsed.data
    throw wrongAnswer(url, `${method}: ${z.prettifyError(parsed.error)}`)
  }

  /** The rest of a value that one call does not give, all of one version. */
  async function complete(found: KvValue, { streamId, signal, maxBytes }: At & { maxBytes: number }): Promise<KvValue> {
    const { key, version, sizeBytes } = found
    const wanted = Math.min(sizeBytes, maxBytes)
    if (wanted > MAX_VALUE_BYTES) throw tooLarge(sizeBytes)
    const data = new Uint8Array(wanted)
    data.set(found.data.subarray(0, wanted))
    for (let at = Math.min(found.data.length, wanted); at < wanted; ) {
      const length = Math.min(PIECE_BYTES, wanted - at)
      const params = [streamId, toBase64(key), at, length, version]
      const piece = await call(pieceSchema, 'kv_getValue', params, signal)
      if (piece.version !== version || piece.size !== sizeBytes || piece.data.length !== length) {
        throw wrongAnswer(url, 'a value changed while it was read')
      }
      data.set(piece.data, at)
      at += length
    }
    return { ...found, data }
  }

  const has = (method: string, params: unknown[], signal?: AbortSignal) => call(z.boolean(), method, params, signal)
  return {
    url,
    value: async ({ streamId, key, version, signal, maxBytes = Number.POSITIVE_INFINITY }) => {
      const length = Math.min(PIECE_BYTES, maxBytes)
      const params = [streamId, toBase64(key), 0, length, version ?? null]
      const { version: found, size, data } = await call(pieceSchema, 'kv_getValue', params, signal)
      if (size === 0 && found === 0) return undefined
      if (data.length !== Math.min(length, size)) throw wrongAnswer(url, 'a value of another length than it says')
      return complete({ key, version: found, sizeBytes: size, data }, { streamId, signal, maxBytes })
    },
    next: async ({ streamId, key, version, signal, maxBytes }) => {
      const length = Math.min(PIECE_BYTES, maxBytes)
      const tail = [0, length, ...(key === undefined ? [] : [false]), version ?? null]
      const found =
        key === undefined
          ? await call(pairSchema, 'kv_getFirst', [streamId, ...tail], signal)
          : await call(pairSchema, 'kv_getNext', [streamId, toBase64(key), ...tail], signal)
      if (found === null) return undefined
      if (key !== undefined && Buffer.compare(found.key, key) <= 0) throw wrongAnswer(url, 'keys that do not go on')
      const { key: name, version: at, size: sizeBytes, data } = found
      return complete({ key: name, version: at, sizeBytes, data }, { streamId, signal, maxBytes })
    },
    result: async ({ txSeq, signal }) =>
      (await call(z.string().max(65_536).nullable(), 'kv_getTransactionResult', [txSeq], signal)) ?? undefined,
    streams: async ({ signal } = {}) => {
      const ids = await call(z.array(idSchema), 'kv_getHoldingStreamIds', [], signal)
      return ids.map((id): Hex => `0x${id.replace(/^0x/, '').toLowerCase()}`)
    },
    accepts: async ({ streamId, signal }) => {
      try {
        return await has('weightless_acceptsStream', [streamId], signal)
      } catch (error) {
        // Not a node of ours: what it holds already is all that it takes.
        const unknown = error instanceof KvNodeError && error.details.rpcCode === METHOD_UNKNOWN
        if (!unknown) throw error
        const ids = await call(z.array(idSchema), 'kv_getHoldingStreamIds', [], signal)
        return ids.some((id) => id.replace(/^0x/, '').toLowerCase() === streamId.slice(2))
      }
    },
    progress: async ({ signal } = {}) => {
      const { appliedSeq, firstTxSeq = null } = await call(progressSchema, 'kv_getReplayProgress', [], signal)
      return { nextSeq: appliedSeq, firstTxSeq }
    },
    mayWrite: ({ account, streamId, key, version, signal }) =>
      has('kv_hasWritePermission', [account, streamId, toBase64(key), version ?? null], signal),
    isAdmin: ({ account, streamId, version, signal }) =>
      has('kv_isAdmin', [account, streamId, version ?? null], signal),
    isWriter: ({ account, streamId, version, signal }) =>
      has('kv_isWriterOfStream', [account, streamId, version ?? null], signal),
    isKeyWriter: ({ account, streamId, key, version, signal }) =>
      has('kv_isWriterOfKey', [account, streamId, toBase64(key), version ?? null], signal),
    isProtected: ({ streamId, key, version, signal }) =>
      has('kv_isSpecialKey', [streamId, toBase64(key), version ?? null], signal),
    close: () => client.close(),
  }
}

function toBase64(key: Uint8Array): string {
  return Buffer.from(key).toString('base64')
}

function failed({ url, cause }: { url: string; cause: unknown }): KvNodeError {
  const text = cause instanceof Error ? cause.message : String(cause)
  if (cause instanceof RpcResponseError) {
    return new KvNodeError({
      code: 'KV_REFUSED',
      message: `the key-value node refuses: ${text}`,
      fix: 'see the reason it gave; check that the address is one of a key-value node',
      details: { url, rpcCode: cause.rpcCode },
      cause,
    })
  }
  return new KvNodeError({
    code: 'KV_UNREACHABLE',
    message: `the key-value node at ${url} did not answer: ${text}`,
    fix: 'check that it runs and that its address is right (--kv)',
    details: { url },
    cause,
  })
}

function wrongAnswer(url: string, what: string): KvNodeError {
  return new KvNodeError({
    code: 'KV_ANSWER',
    message: `the key-value node at ${url} sent what is no answer: ${what.slice(0, 300)}`,
    fix: 'ask again, or use another node',
    details: { url },
  })
}

function tooLarge(sizeBytes: number): KvNodeError {
  return new KvNodeError({
    code: 'KV_SIZE',
    message: `the value has ${sizeBytes} bytes, and at most ${MAX_VALUE_BYTES} are read into memory`,
    fix: 'store large content as a file, and its root as the value',
    details: { sizeBytes, limitBytes: MAX_VALUE_BYTES },
  })
}
