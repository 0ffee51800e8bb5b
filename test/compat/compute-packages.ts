/**
 * The public compute packages leave a timer of five minutes behind every transaction. From here on no timer of a minute
 * or more keeps a test's process alive; such timers still fire while anything else does.
 */
export function releaseLongTimers(): void {
  const { setTimeout: plain } = globalThis
  globalThis.setTimeout = ((task: () => void, delayMs?: number, ...rest: unknown[]) => {
    const timer = plain(task, delayMs, ...rest)
    if ((delayMs ?? 0) >= 60_000) (timer as unknown as NodeJS.Timeout).unref()
    return timer
  }) as typeof globalThis.setTimeout
}
