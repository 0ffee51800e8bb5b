import type { Hash } from '#protocol/hex.ts'
import type { StorageConnection } from './connection.ts'
import { type NodeAttempt, NodeUnreachableError, RootUnknownError, reasonOf } from './errors.ts'
import { type Candidate, candidate, listNodes, uniqueByUrl } from './list-nodes.ts'
import type { FileInfo } from './node-answers.ts'
import type { CallOptions } from './storage-node.ts'

export interface FileInfoParameters extends CallOptions {
  /** File root, or give `txSeq`. */
  root?: Hash | undefined
  txSeq?: number | undefined
}

/** A file's place in the flow and what each node has of it. */
export interface FileInfoReturnType {
  root: Hash
  txSeq: number
  sizeBytes: number
  startSector: number
  /** At least one node has all its shard must hold. Whether the whole file can be had depends on the shards. */
  finalized: boolean
  nodes: { url: string; shard: string; finalized: boolean; uploadedSegments: number; pruned: boolean }[]
  /** Nodes that did not answer. */
  failed: NodeAttempt[]
}

/**
 * What the storage nodes know of a file.
 *
 * @throws RootUnknownError when none knows it
 * @example
 * const { sizeBytes, txSeq } = await fileInfo(connection, { root: '0x…' })
 */
export async function fileInfo(
  connection: StorageConnection,
  parameters: FileInfoParameters,
): Promise<FileInfoReturnType> {
  const { holders, failed } = await findHolders(connection, parameters)
  const best = holders.find(({ info }) => info.finalized) ?? holders[0]
  if (best === undefined) throw unknownFile(parameters, [], failed)
  const { root, txSeq, sizeBytes, startSector } = best.info
  return {
    root,
    txSeq,
    sizeBytes,
    startSector,
    finalized: holders.some(({ info }) => info.finalized),
    nodes: holders.map(({ node, config, info }) => ({
      url: node.url,
      shard: `${config.shardId}/${config.numShard}`,
      finalized: info.finalized,
      uploadedSegments: info.uploadedSegments,
      pruned: info.pruned,
    })),
    failed,
  }
}

/** A node that knows the file. */
export interface Holder extends Candidate {
  info: FileInfo
}

/**
 * Ask every node that may have the file: those the indexer names for it, and all nodes when it names none or one of them
 * does not answer.
 *
 * @throws RootUnknownError when no node knows it
 */
export async function findHolders(
  connection: StorageConnection,
  { root, txSeq, signal }: FileInfoParameters,
): Promise<{ holders: Holder[]; failed: NodeAttempt[] }> {
  const failed: NodeAttempt[] = []
  const query = queryOf({ root, txSeq })
  async function ask(some: readonly Candidate[]): Promise<Holder[]> {
    const answers = await Promise.all(
      some.map(async (entry): Promise<Holder | undefined> => {
        try {
          const info = await entry.node.fileInfo(query, { signal })
          return info === null ? undefined : { ...entry, info }
        } catch (error) {
          signal?.throwIfAborted()
          failed.push({ url: entry.node.url, reason: reasonOf(error) })
          return undefined
        }
      }),
    )
    return answers.filter((entry) => entry !== undefined)
  }

  const located = await locatedBy(connection, { root, signal })
  const holders = await ask(located)
  let candidates = located
  // What the indexer remembers may be behind: where one of its nodes does not answer, any other may hold the file too.
  if (located.length === 0 || failed.length > 0) {
    const listed = await listNodes(connection, { signal })
    failed.push(...listed.failed)
    const known = new Set(located.map(({ node }) => node.url))
    const others = listed.nodes.filter(({ node }) => !known.has(node.url))
    holders.push(...(await ask(others)))
    candidates = [...located, ...others]
  }
  if (holders.length === 0) {
    const [first] = failed
    if (first !== undefined && failed.length >= candidates.length) throw new NodeUnreachableError(first)
    throw unknownFile(
      { root, txSeq },
      candidates.map(({ node }) => node.url),
      failed,
    )
  }
  return { holders, failed }
}

function queryOf({ root, txSeq }: Pick<FileInfoParameters, 'root' | 'txSeq'>) {
  if (txSeq !== undefined) return { txSeq }
  if (root !== undefined) return { root, needAvailable: true }
  throw new TypeError('give root or txSeq')
}

/** The nodes that the indexer names for a file; none where there is no indexer to ask. */
async function locatedBy(
  connection: StorageConnection,
  { root, signal }: { root: Hash | undefined; signal: AbortSignal | undefined },
): Promise<Candidate[]> {
  if (connection.nodeUrls.length > 0 || connection.indexer === undefined || root === undefined) return []
  const located = await connection.indexer.locations({ root }, { signal })
  return uniqueByUrl(located.map((listed) => candidate(connection, listed, true)))
}

function unknownFile(
  file: { root?: Hash | undefined; txSeq?: number | undefined },
  nodes: string[],
  failed: NodeAttempt[],
) {
  const causes = failed.map(({ url, reason }) => new Error(`${url}: ${reason}`))
  return new RootUnknownError({
    file: file.txSeq === undefined ? `root ${file.root}` : `submission ${file.txSeq}`,
    nodes,
    causes,
  })
}
