import type { FileTree } from '#protocol/storage/file-tree.ts'
import type { Candidate } from './list-nodes.ts'
import type { FileInfo } from './node-answers.ts'
import type { CallOptions } from './storage-node.ts'

/**
 * A submission of the same content that the nodes know already, by whomever. The same root with another size is another
 * file: files that differ in trailing zeros share a root. Of several, a finalized one, else the earliest.
 */
export async function findSubmission({
  tree,
  nodes,
  signal,
}: { tree: FileTree; nodes: readonly Candidate[] } & CallOptions): Promise<FileInfo | undefined> {
  const answers = await Promise.all(
    nodes.map(({ node }) => node.fileInfo({ root: tree.root, needAvailable: true }, { signal }).catch(() => null)),
  )
  signal?.throwIfAborted()
  const same = answers
    .filter((info) => info !== null)
    .filter((info) => info.sizeBytes === tree.sizeBytes && !info.pruned)
  return same.find((info) => info.finalized) ?? same.toSorted((a, b) => a.txSeq - b.txSeq)[0]
}
