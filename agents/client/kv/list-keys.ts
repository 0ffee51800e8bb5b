import type { Hex } from '#protocol/hex.ts'
import type { KvNode, KvValue } from './kv-node.ts'

export interface ListKeysParameters {
  node: KvNode
  streamId: Hex
  /** Only keys that begin so. */
  prefix?: Uint8Array | undefined
  /** State as of this submission; the newest when absent. */
  version?: number | undefined
  /** Most bytes of each value. Default 256. */
  maxValueBytes?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * The keys of a stream that have a value, in bytewise order. One call to the node for each: bound it by leaving the loop.
 *
 * @example
 * for await (const { key, version } of listKeys({ node, streamId })) console.log(key, version)
 */
export async function* listKeys({
  node,
  streamId,
  prefix = new Uint8Array(),
  version,
  maxValueBytes: maxBytes = 256,
  signal,
}: ListKeysParameters): AsyncGenerator<KvValue, void, undefined> {
  const at = { streamId, version, maxBytes, signal }
  const starts = (key: Uint8Array) => Buffer.compare(key.subarray(0, prefix.length), prefix)
  let found: KvValue | undefined
  if (prefix.length > 0) {
    // The prefix itself may be a key, and the walk begins after it.
    found = await node.value({ ...at, key: prefix })
    if (found !== undefined && found.sizeBytes > 0) yield found
    found = await node.next({ ...at, key: prefix })
  } else found = await node.next(at)
  for (; found !== undefined && starts(found.key) === 0; found = await node.next({ ...at, key: found.key })) yield found
}
