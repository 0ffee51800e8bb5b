import { WeightlessError } from '#protocol/error.ts'
import type { Logger } from './log.ts'

/** What a closer's time ran out on, or what it threw. */
export interface CloseFailure {
  name: string
  error: unknown
}

/** Resources to give back, newest first. */
export interface CloseStack {
  /** Registers a closer; it runs before all those registered earlier. After `close` it runs at once. */
  defer(name: string, close: () => unknown): void
  /** Runs every closer once, one after the other, each within its limit. Never throws; repeated calls share one run. */
  close(): Promise<CloseFailure[]>
}

/** A closer did not finish in time. Its work goes on unattended; the rest is closed all the same. */
export class CloseTimeoutError extends WeightlessError {
  constructor(name: string, limitMs: number) {
    super({
      code: 'CLOSE_TIMEOUT',
      message: `${name} did not close within ${limitMs} ms`,
      fix: 'it is abandoned; state on disk is safe to reopen',
      details: { name, limitMs },
    })
  }
}

/**
 * Makes a stack of closers. `limitMs` (default 10,000) bounds each of them.
 *
 * @example
 * const stack = createCloseStack({ log })
 * stack.defer('database', () => database.close())
 * await stack.close()
 */
export function createCloseStack({ log, limitMs = 10_000 }: { log?: Logger; limitMs?: number } = {}): CloseStack {
  const closers: { name: string; close: () => unknown }[] = []
  const failures: CloseFailure[] = []
  let closing: Promise<CloseFailure[]> | undefined
  let closed = false

  async function run({ name, close }: { name: string; close: () => unknown }): Promise<void> {
    try {
      await within(Promise.resolve().then(close), name, limitMs)
      log?.debug({ part: name }, 'closed')
    } catch (error) {
      failures.push({ name, error })
      log?.error({ part: name, err: error }, 'closing failed')
    }
  }

  return {
    defer(name, close) {
      if (closed) void run({ name, close })
      else closers.push({ name, close })
    },
    close() {
      closing ??= (async () => {
        for (let next = closers.pop(); next !== undefined; next = closers.pop()) await run(next)
        closed = true
        return failures
      })()
      return closing
    },
  }
}

async function within(work: Promise<unknown>, name: string, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new CloseTimeoutError(name, limitMs)), limitMs)
  })
  try {
    await Promise.race([work, limit])
  } finally {
    clearTimeout(timer)
  }
}
