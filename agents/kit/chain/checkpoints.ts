import type { BlockRef } from './block.ts'

/**
 * Thins a list of checkpoints (newest first), for sinks that keep theirs for ever: the newest `dense` stay, older ones
 * at distances that about double. A reorg of any depth then costs a few times its length to repair, and the list
 * stays shorter than `dense + 54`.
 *
 * @example
 * const keep = thinCheckpoints({ checkpoints, dense: 128 })
 */
export function thinCheckpoints({
  checkpoints,
  dense = 128,
}: {
  checkpoints: readonly BlockRef[]
  dense?: number | undefined
}): BlockRef[] {
  const kept = checkpoints.slice(0, dense)
  const edge = kept.at(-1)?.number ?? 0
  // One per power of two of distance, the oldest of each: as the edge moves on, what was kept is found again.
  let bucket = -1
  let candidate: BlockRef | undefined
  for (const checkpoint of checkpoints.slice(dense)) {
    const distance = Math.floor(Math.log2(Math.max(1, edge - checkpoint.number)))
    if (distance !== bucket && candidate !== undefined) kept.push(candidate)
    bucket = distance
    candidate = checkpoint
  }
  if (candidate !== undefined) kept.push(candidate)
  return kept
}
