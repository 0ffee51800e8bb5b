import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '#kit/log.ts'

/** Runs a task again and again with pauses until the signal aborts. A failure is logged and does not end the loop. */
export async function repeat({
  name,
  intervalMs,
  task,
  log,
  signal,
}: {
  name: string
  intervalMs: number
  task: () => unknown
  log: Logger
  signal: AbortSignal
}): Promise<void> {
  while (!signal.aborted) {
    try {
      await task()
    } catch (error) {
      if (!signal.aborted) log.error({ err: error, task: name }, `${name} failed; it runs again later`)
    }
    await delay(intervalMs, undefined, { signal }).catch(() => {})
  }
}
