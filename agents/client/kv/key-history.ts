import type { Hex } from '#protocol/hex.ts'
import { KvNodeError } from './errors.ts'
import type { KvNode, KvValue } from './kv-node.ts'

export interface KeyHistoryParameters {
  node: KvNode
  streamId: Hex
  key: Uint8Array
  /** Begin with the newest at or below this. */
  version?: number | undefined
  /** Most bytes of each value. Default 256. */
  maxValueBytes?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * The versions of a key, the newest first; those of `sizeBytes` 0 deleted it. One call to the node for each.
 *
 * A deletion by the very first submission of a network (sequence 0) cannot be told from a key that never was.
 *
 * @example
 * for await (const { version, data } of keyHistory({ node, streamId, key })) console.log(version, data)
 */
export async function* keyHistory({
  node,
  streamId,
  key,
  version,
  maxValueBytes: maxBytes = 256,
  signal,
}: KeyHistoryParameters): AsyncGenerator<KvValue, void, undefined> {
  let at = version
  for (;;) {
    const found = await node.value({ streamId, key, version: at, maxBytes, signal })
    if (found === undefined) return
    if (at !== undefined && found.version > at) {
      throw new KvNodeError({ code: 'KV_ANSWER', message: `${node.url} gives version ${found.version} as of ${at}` })
    }
    yield found
    if (found.version === 0) return
    at = found.version - 1
  }
}
