import { setTimeout as delay } from 'node:timers/promises'
import type { StorageConnection } from '#client/storage/connection.ts'
import { type Encryption, encryptSource } from '#client/storage/encryption.ts'
import { WaitTimeoutError } from '#client/storage/errors.ts'
import { type UploadParameters, type UploadReturnType, upload } from '#client/storage/upload.ts'
import type { Hex } from '#protocol/hex.ts'
import { encodeStreamData, type StreamControl, type StreamKey } from '#protocol/kv/stream-data.ts'
import { encodeStreamTags } from '#protocol/kv/tags.ts'
import { memorySource } from '#protocol/storage/file-tree.ts'
import { KvNodeError, KvWriteRefusedError } from './errors.ts'
import type { KvNode } from './kv-node.ts'

/** The version that never conflicts: whatever was written before is overwritten. */
export const ANY_VERSION = 2n ** 64n - 1n

/** Stream data of one write, in bytes: it is held in memory, a few times over. */
export const MAX_WRITE_BYTES = 256 * 2 ** 20

export interface WriteStreamParameters extends Pick<UploadParameters, 'replicas' | 'method' | 'signal' | 'onEvent'> {
  /** The node whose word on the result is taken. */
  node: KvNode
  /** Values to set; an empty one deletes the key. */
  writes?: readonly (StreamKey & { data: Uint8Array })[] | undefined
  /** Keys that must not be newer than `version` either. */
  reads?: readonly StreamKey[] | undefined
  /** Changes of rights, in order. */
  controls?: readonly StreamControl[] | undefined
  /** The write is refused where a key of it is newer than this submission. Default: overwrites whatever there is. */
  version?: bigint | undefined
  /** Needs a node that reads its streams with the same key. */
  encryption?: Encryption | undefined
  /** Ask the node first whether it would take the write, before anything is paid. Default true. */
  check?: boolean | undefined
  /** Wait until the node has replayed the write. Default true. */
  wait?: boolean | undefined
  /** Limit of that wait. Default 180 s. */
  resultTimeoutMs?: number | undefined
}

export interface WriteStreamReturnType extends UploadReturnType {
  /** `Commit`, or undefined where nobody waited for it. */
  result: string | undefined
}

const RESULT_TIMEOUT_MS = 180_000
const DOWNLOAD_FAILED = 'DownloadFailed'

/**
 * Writes to streams: stores the values as a file tagged with the streams, and waits until the key-value node has taken
 * them. All of a write takes effect, or nothing of it. A write that was interrupted before it was stored goes on where
 * it stopped and is paid once; one that is repeated after that is a new write.
 *
 * @throws KvWriteRefusedError, KvNodeError, WaitTimeoutError, and those of `upload`
 * @example
 * const { txSeq } = await writeStream(connection, { node, writes: [{ streamId, key: utf8('name'), data: utf8('value') }] })
 */
export async function writeStream(
  connection: StorageConnection,
  parameters: WriteStreamParameters,
): Promise<WriteStreamReturnType> {
  const { writes = [], reads = [], controls = [], version = ANY_VERSION, signal } = parameters
  const bytes = writes.reduce((sum, { key, data }) => sum + key.length + data.length, 0)
  if (bytes > MAX_WRITE_BYTES) throw tooLarge(bytes)
  const plain = memorySource(encodeStreamData({ version, writes, reads, controls }))
  const streamIds = [...new Set([...writes, ...controls].map(({ streamId }) => streamId))]
  if (streamIds.length === 0) throw nothing()
  if (parameters.check !== false) await checkBefore({ ...parameters, writes, reads, version, streamIds, connection })
  const { encryption } = parameters
  const { account } = connection
  const source = encryption === undefined ? plain : await encryptSource({ source: plain, encryption, account, signal })
  const { replicas, method, onEvent } = parameters
  const tags = encodeStreamTags(streamIds)
  const stored = await upload(connection, { source, tags, replicas, method, signal, onEvent })
  if (parameters.wait === false) return { ...stored, result: undefined }
  const result = await waitForResult({ ...parameters, connection, txSeq: stored.txSeq })
  if (result !== 'Commit') throw new KvWriteRefusedError({ result, txSeq: stored.txSeq })
  return { ...stored, result }
}

interface CheckParameters {
  node: KvNode
  connection: StorageConnection
  writes: readonly (StreamKey & { data: Uint8Array })[]
  reads: readonly StreamKey[]
  version: bigint
  streamIds: readonly Hex[]
  signal?: AbortSignal | undefined
}

/** Keys asked about before a write; the node decides about all of them in the end. */
const MAX_CHECKED_KEYS = 64

/** What would be refused is refused before it is paid. Another write may still come in between. */
async function checkBefore({ node, connection, writes, reads, version, streamIds, signal }: CheckParameters) {
  for (const streamId of streamIds) {
    if (await node.accepts({ streamId, signal })) continue
    throw new KvNodeError({
      code: 'KV_STREAM_NOT_HELD',
      message: `the key-value node at ${node.url} does not replay the stream ${streamId}; nothing was paid`,
      fix: 'use a node that does, or add the stream to its configuration (streamIds, or allStreams.enabled)',
      details: { url: node.url, streamId },
    })
  }
  if (version < ANY_VERSION) {
    for (const { streamId, key } of [...writes, ...reads].slice(0, MAX_CHECKED_KEYS)) {
      const found = await node.value({ streamId, key, maxBytes: 0, signal })
      if (BigInt(found?.version ?? 0) > version) throw new KvWriteRefusedError({ result: 'VersionConfliction' })
    }
  }
  const account = connection.account?.address.toLowerCase() as Hex | undefined
  if (account === undefined) return
  for (const { streamId, key } of writes.slice(0, MAX_CHECKED_KEYS)) {
    if (await node.mayWrite({ streamId, key, account, signal })) continue
    throw new KvWriteRefusedError({ result: `WritePermissionDenied: stream: ${streamId}, account: ${account}` })
  }
}

async function waitForResult({
  node,
  connection,
  txSeq,
  signal,
  onEvent,
  resultTimeoutMs = RESULT_TIMEOUT_MS,
}: WriteStreamParameters & { connection: StorageConnection; txSeq: number }): Promise<string> {
  const begun = performance.now()
  for (;;) {
    const result = await node.result({ txSeq, signal })
    const waitedMs = performance.now() - begun
    // A node that gave up too early tries again by itself: the data are there by now.
    const isFinal = result !== undefined && (result !== DOWNLOAD_FAILED || waitedMs > resultTimeoutMs)
    if (isFinal) return result
    const { nextSeq } = await node.progress({ signal })
    const missing = [{ url: node.url, reason: `has replayed up to submission ${nextSeq}, of ${txSeq}` }]
    if (waitedMs > resultTimeoutMs) {
      throw new WaitTimeoutError({
        ...{ what: 'the key-value node', waitedMs, missing },
        fix: `the write is stored and paid; see what becomes of it with: weightless kv result ${txSeq}`,
      })
    }
    onEvent?.({ type: 'waiting', for: 'finality', waitedMs, missing })
    await delay(connection.limits.pollIntervalMs, undefined, { signal })
  }
}

function tooLarge(bytes: number): KvNodeError {
  return new KvNodeError({
    code: 'KV_SIZE',
    message: `the values have ${bytes} bytes, and one write takes ${MAX_WRITE_BYTES}`,
    fix: 'write them in parts, or store large content as a file, and its root as the value',
    details: { bytes, limitBytes: MAX_WRITE_BYTES },
  })
}

function nothing(): KvNodeError {
  return new KvNodeError({ code: 'KV_STREAM', message: 'there is nothing to write', fix: 'give a value or a right' })
}
