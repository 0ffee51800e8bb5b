import type { Hash } from '#protocol/hex.ts'
import { formatShard, replicaCount } from '#protocol/storage/shard.ts'
import type { StorageConnection } from './connection.ts'
import { FileNotStoredError, NodeAnswerError } from './errors.ts'
import { findHolders, type Holder } from './file-info.ts'
import type { CallOptions } from './storage-node.ts'

/** A file with the nodes that can give all of it. */
export interface LocatedFile {
  root: Hash
  sizeBytes: number
  holders: Holder[]
}

/**
 * Nodes that have finalized a file and together hold every shard of it. The root does not commit to the size (files
 * that differ in trailing zeros share a root), so nodes that disagree about it are not mixed: the size most of them
 * give wins only if they cover the file; `txSeq` settles which submission is meant.
 *
 * @throws RootUnknownError, FileNotStoredError naming what each node says
 */
export async function locateFile(
  connection: StorageConnection,
  { root, txSeq, signal }: { root: Hash; txSeq?: number | undefined } & CallOptions,
): Promise<LocatedFile> {
  const wanted = root.toLowerCase() as Hash
  const { holders, failed } = await findHolders(connection, { root: wanted, txSeq, signal })
  const wrong = holders.find(({ info }) => info.root !== wanted)
  if (wrong !== undefined) {
    throw new NodeAnswerError({
      url: wrong.node.url,
      reason: `submission ${txSeq} has root ${wrong.info.root}, not ${wanted}`,
    })
  }
  const ready = holders.filter(({ info }) => info.finalized && !info.pruned)
  const sizes = [...Map.groupBy(ready, ({ info }) => info.sizeBytes)].sort(([, a], [, b]) => b.length - a.length)
  for (const [sizeBytes, group] of sizes) {
    if (replicaCount(group.map(({ config }) => config)) >= 1) return { root: wanted, sizeBytes, holders: group }
  }
  throw new FileNotStoredError({
    file: `file ${wanted}`,
    states: [
      ...holders.map(({ node, config, info }) => ({
        url: node.url,
        state: `(shard ${formatShard(config)}) ${stateOf(info)}`,
      })),
      ...failed.map(({ url, reason }) => ({ url, state: `does not answer (${reason})` })),
    ],
  })
}

function stateOf({ finalized, pruned, uploadedSegments }: Holder['info']): string {
  if (pruned) return 'has pruned it'
  return finalized ? 'has its part' : `has ${uploadedSegments} segments and waits for more`
}
