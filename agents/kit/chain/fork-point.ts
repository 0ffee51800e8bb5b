import type { BlockRef } from './block.ts'

/**
 * The newest checkpoint still on the canonical chain, or undefined when none is. Older blocks of a canonical block are
 * canonical, so the search gallops back and then bisects: about 2·log2(n) look-ups.
 *
 * @param checkpoints newest first.
 */
export async function findForkPoint({
  checkpoints,
  isCanonical,
}: {
  checkpoints: readonly BlockRef[]
  isCanonical: (block: BlockRef) => Promise<boolean>
}): Promise<BlockRef | undefined> {
  // Invariant: everything before `bad` is off the chain, `good` (once found) is on it.
  let bad = 0
  let good = checkpoints.length
  for (let step = 1; bad < checkpoints.length; step *= 2) {
    const index = Math.min(bad + step - 1, checkpoints.length - 1)
    const candidate = checkpoints[index]
    if (candidate === undefined) break
    if (await isCanonical(candidate)) {
      good = index
      break
    }
    bad = index + 1
  }
  while (bad < good) {
    const middle = (bad + good) >> 1
    const candidate = checkpoints[middle]
    if (candidate === undefined) break
    if (await isCanonical(candidate)) good = middle
    else bad = middle + 1
  }
  return checkpoints[good]
}
