import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { lockDirectory } from '#kit/directory-lock.ts'
import { WeightlessError } from '#protocol/error.ts'
import { DevnetError } from './error.ts'
import type { DevnetLayout } from './layout.ts'
import { identifyProcess, isSameProcess, type ProcessIdentity } from './process-identity.ts'

/** Held by the one supervisor of a directory. */
export interface DevnetLock {
  release(): void
}

/**
 * Takes the directory for this supervisor and writes down which process it is. The lock is the system's and goes with
 * the process, so nothing stale is ever left.
 *
 * @throws {DevnetError} `DEVNET_RUNNING`
 */
export function takeDevnet(layout: DevnetLayout): DevnetLock {
  try {
    const lock = lockDirectory(layout.directory)
    writeFileSync(layout.supervisorFile, `${JSON.stringify(identifyProcess(process.pid) ?? { pid: process.pid })}\n`)
    return {
      release: () => {
        rmSync(layout.supervisorFile, { force: true })
        lock.release()
      },
    }
  } catch (cause) {
    if (!(cause instanceof WeightlessError) || cause.code !== 'DIRECTORY_LOCKED') throw cause
    const holder = readSupervisor(layout)
    throw new DevnetError({
      code: 'DEVNET_RUNNING',
      message: `a devnet already runs in ${layout.directory}${holder === undefined ? '' : ` (process ${holder.pid})`}`,
      fix: 'use it, end it with Ctrl-C or `weightless down`, or start another one with --dir',
      details: { pid: holder?.pid, directory: layout.directory },
      cause,
    })
  }
}

/** The supervisor that runs in the directory now, if any. */
export function runningSupervisor(layout: DevnetLayout): ProcessIdentity | undefined {
  const holder = readSupervisor(layout)
  return holder !== undefined && isSameProcess(holder) ? holder : undefined
}

function readSupervisor({ supervisorFile }: DevnetLayout): ProcessIdentity | undefined {
  try {
    const { pid, started }: { pid?: unknown; started?: unknown } = JSON.parse(readFileSync(supervisorFile, 'utf8'))
    if (typeof pid !== 'number') return undefined
    return { pid, started: typeof started === 'string' ? started : undefined }
  } catch {
    return undefined
  }
}

const stopLimitMs = 60_000

/**
 * Asks the supervisor of a directory to end its devnet, and waits until it has.
 *
 * @returns its process id; undefined when none runs
 * @throws {DevnetError} `DEVNET_RUNNING` when it has not ended after a minute
 */
export async function stopSupervisor({
  layout,
  signal,
}: {
  layout: DevnetLayout
  signal: AbortSignal
}): Promise<number | undefined> {
  const holder = runningSupervisor(layout)
  if (holder === undefined) return undefined
  process.kill(holder.pid, 'SIGTERM')
  const giveUpAt = performance.now() + stopLimitMs
  while (isSameProcess(holder)) {
    if (performance.now() > giveUpAt) {
      throw new DevnetError({
        code: 'DEVNET_RUNNING',
        message: `process ${holder.pid} has not ended within ${stopLimitMs / 1000} s`,
        fix: `look at the logs in ${layout.logsDirectory}`,
        details: { pid: holder.pid },
      })
    }
    await delay(100, undefined, { signal })
  }
  return holder.pid
}
