import { execFileSync } from 'node:child_process'
import path from 'node:path'

/** Commit of the sources, with `-dirty` when contracts have uncommitted changes; undefined outside a git checkout. */
export function gitCommit(): string | undefined {
  const cwd = path.join(import.meta.dirname, '..', '..')
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 5_000 }).trim()
  try {
    const commit = git('rev-parse', 'HEAD')
    return git('status', '--porcelain', '--', 'contracts') === '' ? commit : `${commit}-dirty`
  } catch {
    return undefined
  }
}
