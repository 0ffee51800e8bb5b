import { createHash } from 'node:crypto'
import { globSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'

/**
 * SHA-256 over the names and contents of every file that `patterns` match below `root`, in name order, and over
 * `extra`. Two trees with the same hash build the same thing.
 */
export function contentHash({
  root,
  patterns,
  extra = [],
}: {
  root: string
  patterns: readonly string[]
  extra?: readonly string[]
}): string {
  const hash = createHash('sha256')
  for (const name of matchingFiles({ root, patterns })) {
    const content = readFileSync(path.join(root, name))
    hash.update(`${name}\0${content.length}\0`).update(content)
  }
  for (const text of extra) hash.update(`\0${text}`)
  return hash.digest('hex')
}

/** Files below `root` that match, as relative names with forward slashes, sorted. */
export function matchingFiles({ root, patterns }: { root: string; patterns: readonly string[] }): string[] {
  return [...new Set(globSync([...patterns], { cwd: root }))]
    .filter((name) => statSync(path.join(root, name)).isFile())
    .map((name) => name.replaceAll(path.sep, '/'))
    .sort()
}

/** Sizes of the files that `patterns` match: enough to see that an output was deleted or cut short. */
export function outputSizes({ root, patterns }: { root: string; patterns: readonly string[] }): Record<string, number> {
  return Object.fromEntries(
    matchingFiles({ root, patterns }).map((name) => [name, statSync(path.join(root, name)).size]),
  )
}
