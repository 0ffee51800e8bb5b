import { WeightlessError } from '#protocol/error.ts'
import { createCloseStack } from './close-stack.ts'
import type { Logger } from './log.ts'

/** What a starting agent is given. */
export interface AgentContext {
  /** Aborted once, when the agent is to stop. */
  readonly signal: AbortSignal
  /** Registers a closer; closers run in reverse order, each with its own time limit. */
  defer(name: string, close: () => unknown): void
  /** Watches a long-running task: if it fails before the stop, the agent stops with exit code 1. */
  background(name: string, task: Promise<unknown>): void
  /** Asks for a stop from inside: without an error the exit code is 0, with one it is 1. */
  stop(reason: string, error?: unknown): void
}

export interface RunAgentParameters {
  name: string
  log: Logger
  /** Wires and starts the parts; resolves when the agent serves. */
  start: (context: AgentContext) => unknown
  /** Limit of each closer, in milliseconds. Default 10,000. */
  closeLimitMs?: number | undefined
  /** Ends the process. Default `process.exit`; an in-process caller may pass its own. */
  exit?: ((code: number) => void) | undefined
}

/** Exit codes of an agent. 128 + signal number when a second signal cuts the closing short. */
export const EXIT = { ok: 0, failed: 1, configuration: 2 } as const

const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const

/**
 * Runs an agent until it is told to stop, then closes its parts in reverse order and ends the process.
 *
 * The first SIGINT, SIGTERM or SIGHUP aborts `context.signal` and closes; a second ends the process at once. An
 * unhandled rejection or exception is logged and stops the agent with exit code 1. A failed start closes what was
 * opened; its exit code is 2 for a wrong configuration, else 1. Resolves with the exit code when `exit` returns.
 *
 * @example
 * await runAgent({ name: 'storage-node', log, start: async (context) => { await startNode(config, context) } })
 */
export async function runAgent({
  name,
  log,
  start,
  closeLimitMs = 10_000,
  exit = (code) => process.exit(code),
}: RunAgentParameters): Promise<number> {
  const controller = new AbortController()
  const stack = createCloseStack({ log, limitMs: closeLimitMs })
  let code: number = EXIT.ok
  let signalled = false
  let wake: () => void = () => {}
  const stopped = new Promise<void>((resolve) => {
    wake = resolve
  })

  function stop(reason: string, error?: unknown): void {
    if (error !== undefined) code = Math.max(code, exitCodeOf(error))
    if (controller.signal.aborted) {
      if (error !== undefined) log.error({ reason, err: error }, `${name} failed while stopping`)
      return
    }
    if (error === undefined) log.info({ reason }, `${name} is stopping`)
    else log.fatal({ reason, err: error }, `${name} failed`)
    controller.abort(
      new WeightlessError({ code: 'AGENT_STOPPED', message: `${name} stopped: ${reason}`, cause: error }),
    )
    wake()
  }

  function onSignal(signal: keyof typeof SIGNALS): void {
    if (signalled) {
      log.warn({ signal }, `${name} ends at once: second signal`)
      exit(128 + SIGNALS[signal])
      return
    }
    signalled = true
    stop(signal)
  }
  const onRejection = (error: unknown): void => stop('unhandled rejection', error ?? new Error('rejected with nothing'))
  const onException = (error: unknown): void => stop('uncaught exception', error ?? new Error('thrown nothing'))

  for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal)
  process.on('unhandledRejection', onRejection)
  process.on('uncaughtException', onException)

  // An agent whose parts hold no open handle still runs until it is told to stop.
  const alive = setInterval(() => {}, 2 ** 30)
  const context: AgentContext = {
    signal: controller.signal,
    defer: stack.defer,
    stop,
    background(task, promise) {
      promise.catch((error: unknown) => {
        if (!controller.signal.aborted) stop(`${task} failed`, error ?? new Error(`${task} failed`))
      })
    },
  }

  // A start that hangs must not hold up a stop: closing begins when the signal fires, whatever start is doing.
  const started = Promise.resolve()
    .then(() => start(context))
    .then(
      () => {
        if (!controller.signal.aborted) log.info(`${name} is running`)
      },
      (error: unknown) => {
        if (!controller.signal.aborted) stop('start failed', error ?? new Error('start failed'))
      },
    )
  await stopped
  await Promise.race([started, delay(closeLimitMs)])
  const failures = await stack.close()
  if (failures.length > 0) code = Math.max(code, EXIT.failed)
  clearInterval(alive)
  log.info({ code }, `${name} stopped`)
  for (const signal of Object.keys(SIGNALS)) process.off(signal, onSignal)
  process.off('unhandledRejection', onRejection)
  process.off('uncaughtException', onException)
  exit(code)
  return code
}

function exitCodeOf(error: unknown): number {
  return error instanceof WeightlessError && error.code.startsWith('CONFIG') ? EXIT.configuration : EXIT.failed
}

function delay(limitMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, limitMs).unref()
  })
}
