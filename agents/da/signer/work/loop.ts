import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '#kit/log.ts'
import { reasonOf } from '../error.ts'

/** A task that is repeated until the signal aborts. What it throws is logged and does not end it. */
export interface Loop {
  readonly name: string
  readonly done: Promise<void>
  /** What kept the last round from succeeding. */
  problem(): string | undefined
  /** Begins the next round now. */
  wake(): void
}

/** Runs `round` again and again, `intervalMs` apart. */
export function startLoop({
  name,
  intervalMs,
  round,
  log,
  signal,
}: {
  name: string
  intervalMs: number
  round: () => Promise<void>
  log: Logger
  signal: AbortSignal
}): Loop {
  let problem: string | undefined
  let waker = new AbortController()
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        await round()
        problem = undefined
      } catch (error) {
        if (signal.aborted) break
        // The same trouble is told once, not with every round.
        if (problem !== reasonOf(error)) log.warn({ err: error, task: name }, `${name} failed; it is tried again`)
        problem = reasonOf(error)
      }
      await delay(intervalMs, undefined, { signal: AbortSignal.any([signal, waker.signal]) }).catch(() => {})
      waker = new AbortController()
    }
  }
  return { name, done: run(), problem: () => problem, wake: () => waker.abort() }
}
