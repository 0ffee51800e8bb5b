import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { WeightlessError } from '#protocol/error.ts'

/** A data folder held by this process. */
export interface DirectoryLock extends Disposable {
  readonly path: string
  /** Gives the folder back; repeated calls do nothing. */
  release(): void
}

/**
 * Takes a data folder for this process alone, so that two agents never write the same files. The lock is SQLite's file
 * lock on `PATH/lock`: the system drops it when the process ends in any way, and nothing stale is left to clean up.
 *
 * @throws WeightlessError `DIRECTORY_LOCKED` when another holder has it, `DIRECTORY_LOCK` when it cannot be taken at all.
 * @example
 * const lock = lockDirectory('data/node-0')
 * context.defer('data folder', () => lock.release())
 */
export function lockDirectory(path: string): DirectoryLock {
  let holder: DatabaseSync | undefined
  try {
    mkdirSync(path, { recursive: true })
    holder = new DatabaseSync(join(path, 'lock'), { timeout: 0 })
    // An exclusive transaction left open; journal in memory, so that no second file appears.
    holder.exec('pragma journal_mode = memory; pragma locking_mode = exclusive; begin exclusive')
  } catch (cause) {
    if (holder?.isOpen) holder.close()
    const busy = cause instanceof Error && Number(Reflect.get(cause, 'errcode')) === 5
    throw new WeightlessError({
      code: busy ? 'DIRECTORY_LOCKED' : 'DIRECTORY_LOCK',
      message: busy ? `${path} is in use by another process` : `${path} cannot be locked`,
      fix: busy ? 'stop the other agent, or give this one its own data folder' : 'check the folder and its permissions',
      details: { path },
      cause,
    })
  }
  const held = holder
  const release = (): void => {
    if (held.isOpen) held.close()
  }
  return { path, release, [Symbol.dispose]: release }
}
