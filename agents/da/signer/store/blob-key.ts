import type { Hash } from '#protocol/hex.ts'

/** A blob as it was submitted: the same content may be there in several epochs. */
export interface BlobKey {
  readonly dataRoot: Hash
  readonly epoch: number
  readonly quorumId: number
}

/** One text for a key, for maps. */
export function keyText({ dataRoot, epoch, quorumId }: BlobKey): string {
  return `${dataRoot}/${epoch}/${quorumId}`
}
