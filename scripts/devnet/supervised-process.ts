import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, renameSync, statSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** How to start one process of a devnet. */
export interface ProcessPlan {
  name: string
  /** Arguments after `node`. */
  args: readonly string[]
  cwd: string
  env: Record<string, string | undefined>
  logFile: string
  /** How long it may take to end after SIGTERM before it is killed. */
  stopLimitMs: number
}

/** What happened to a process; shown to the user as it happens. */
export type ProcessEvent =
  | { type: 'started'; name: string; pid: number }
  | { type: 'ended'; name: string; how: string; restartInMs: number; logFile: string }
  | { type: 'killed'; name: string }

/** A process that is started again, with growing pauses, until it is stopped. */
export interface SupervisedProcess {
  readonly name: string
  /** Undefined between a crash and the restart. */
  readonly pid: number | undefined
  readonly restarts: number
  /** How it last ended, if it did. */
  readonly lastEnd: string | undefined
  /** Ends it for good; resolves when it is gone. Never rejects. */
  stop(): Promise<void>
}

const firstPauseMs = 500
const longestPauseMs = 30_000
/** A process that ran this long is not one that ends at its start: it comes back after the shortest pause. */
const stableAfterMs = 10_000
const groupGraceMs = 5_000
const maxLogBytes = 64 * 2 ** 20

/**
 * Starts a process and keeps it running. It is a process group of its own, so that Ctrl-C in the terminal reaches the
 * supervisor alone, which then ends everything in order; and it ends by itself when the supervisor is gone
 * (`end-with-parent.ts`).
 */
export function superviseProcess({
  plan,
  onEvent,
}: {
  plan: ProcessPlan
  onEvent: (event: ProcessEvent) => void
}): SupervisedProcess {
  const { name, logFile } = plan
  let child: ChildProcess | undefined
  let restarts = 0
  let pauseMs = firstPauseMs
  let lastEnd: string | undefined
  const stopping = new AbortController()

  const run = async () => {
    while (!stopping.signal.aborted) {
      const startedAt = performance.now()
      const current = startChild(plan)
      child = current
      if (current.pid !== undefined) onEvent({ type: 'started', name, pid: current.pid })
      const how = await endOf(current)
      await endGroup(current.pid)
      child = undefined
      if (stopping.signal.aborted) return
      lastEnd = how
      if (performance.now() - startedAt > stableAfterMs) pauseMs = firstPauseMs
      onEvent({ type: 'ended', name, how, restartInMs: pauseMs, logFile })
      await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined)
      pauseMs = Math.min(pauseMs * 2, longestPauseMs)
      restarts += 1
    }
  }
  const running = run()

  return {
    name,
    get pid() {
      return child?.pid
    },
    get restarts() {
      return restarts
    },
    get lastEnd() {
      return lastEnd
    },
    stop: async () => {
      stopping.abort()
      const current = child
      if (current !== undefined) {
        current.kill('SIGTERM')
        const timer = setTimeout(() => {
          onEvent({ type: 'killed', name })
          current.kill('SIGKILL')
        }, plan.stopLimitMs)
        await running
        clearTimeout(timer)
      }
      await running
    },
  }
}

function startChild({ args, cwd, env, logFile }: ProcessPlan): ChildProcess {
  rotate(logFile)
  const log = openSync(logFile, 'a')
  try {
    return spawn(
      process.execPath,
      [
        '--import',
        path.join(import.meta.dirname, 'end-with-parent.ts'),
        '--disable-warning=ExperimentalWarning',
        ...args,
      ],
      { cwd, env, stdio: ['pipe', log, log], detached: true },
    )
  } finally {
    closeSync(log)
  }
}

function endOf(child: ChildProcess): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  child.stdin?.on('error', () => {})
  child.once('error', (error) => resolve(`could not be started: ${error.message}`))
  child.once('exit', (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`))
  return promise
}

/**
 * Ends what a process that is gone left in its group, such as the chain below a killed wrapper: it would hold the port.
 * Given a moment to write its state first.
 */
async function endGroup(pid: number | undefined): Promise<void> {
  if (pid === undefined) return
  const giveUpAt = performance.now() + groupGraceMs
  let signal: NodeJS.Signals | 0 = 'SIGTERM'
  while (signalGroup(pid, signal)) {
    await delay(50)
    signal = performance.now() > giveUpAt ? 'SIGKILL' : 0
  }
}

/** False when the group has nobody left. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal)
  } catch {
    return false
  }
}

/** One older log is kept. */
function rotate(logFile: string): void {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0
  if (size > maxLogBytes) renameSync(logFile, `${logFile}.1`)
}
