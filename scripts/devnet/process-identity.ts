import { readFileSync } from 'node:fs'

/**
 * A process named so that a later process with the same id is not taken for it: on Linux by its start time. Elsewhere
 * the id alone has to do.
 */
export interface ProcessIdentity {
  pid: number
  /** Clock ticks since boot at which the process started, with the id of the boot; absent where not known. */
  started?: string | undefined
}

/** The identity of a live process, or undefined when there is none with this id. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  if (!isAlive(pid)) return undefined
  return { pid, started: startOf(pid) }
}

/** True while exactly this process lives. A zombie has ended. */
export function isSameProcess({ pid, started }: ProcessIdentity): boolean {
  if (!isAlive(pid)) return false
  const now = startOf(pid)
  return started === undefined || now === undefined || now === started
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 1) return false
  try {
    process.kill(pid, 0)
    return !isZombie(pid)
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

function isZombie(pid: number): boolean {
  return statFields(pid)?.[0] === 'Z'
}

function startOf(pid: number): string | undefined {
  const ticks = statFields(pid)?.[19]
  if (ticks === undefined) return undefined
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${ticks}`
  } catch {
    return ticks
  }
}

/** Fields of `/proc/PID/stat` from the state on: the name before them may hold spaces and brackets. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}
