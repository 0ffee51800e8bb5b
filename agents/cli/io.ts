import type { Readable, Writable } from 'node:stream'
import { WeightlessError } from '#protocol/error.ts'
import { createProgress, type Progress, type ProgressParameters } from './progress.ts'

/** What the process gives to the command line: passed in, so that tests can replace every part of it. */
export interface CliEnvironment {
  argv: readonly string[]
  env: Record<string, string | undefined>
  cwd: string
  stdin: Readable & { isTTY?: boolean }
  stdout: Writable & { isTTY?: boolean; columns?: number }
  stderr: Writable & { isTTY?: boolean; columns?: number }
}

/**
 * How a command talks: results go to stdout (plain lines, or one JSON object with `--json`), everything else to stderr.
 *
 * @example
 * io.info('waiting for the log entry')
 * io.result({ json: { root }, text: [`file uploaded, root = ${root}`] })
 */
export interface CliIo extends CliEnvironment {
  /** `--json`: one JSON object on stdout, no progress, errors as JSON too. */
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  /** Colour is allowed on stderr: a terminal, no `NO_COLOR`, no `--no-color`, no `TERM=dumb`. */
  readonly color: boolean
  /** stderr is a terminal, so a progress bar can be drawn. */
  readonly isTty: boolean
  /** Aborted by the first Ctrl-C or SIGTERM; the second one ends the process at once. Handlers live from first use on. */
  readonly signal: AbortSignal
  /** What the process exits with when the command ends without an error. Default 0. */
  exitCode: number
  /** Which signal aborted `signal`. */
  readonly interruptedBy: 'SIGINT' | 'SIGTERM' | undefined
  /** Line on stderr, unless `--quiet` or `--json`. */
  info(text: string): void
  /** Line on stderr with `--verbose` only. */
  detail(text: string): void
  /** Warning on stderr; shown with `--quiet` too, not with `--json` (put warnings in the result there). */
  warn(text: string): void
  /** The command's answer, on stdout. Bigints become decimal strings in JSON. */
  result(answer: { json: Record<string, unknown>; text: readonly string[] }): void
  /** Explain an error: what, cause, fix. With `--json` one object on stdout. */
  fail(error: unknown): void
  /** A progress bar (terminal), lines (no terminal) or nothing (`--json`, `--quiet`). */
  progress(parameters: Omit<ProgressParameters, 'io'>): Progress
  /** Remove the signal handlers. */
  dispose(): void
}

/** Read the output flags straight from argv, so that usage errors already follow `--json` and `--no-color`. */
export function createIo(environment: CliEnvironment): CliIo {
  const before = environment.argv.slice(
    0,
    environment.argv.indexOf('--') < 0 ? undefined : environment.argv.indexOf('--'),
  )
  const has = (...names: string[]) => names.some((name) => before.includes(name))
  const json = has('--json')
  const quiet = has('--quiet', '-q')
  const verbose = has('--verbose', '-v')
  const isTty = environment.stderr.isTTY === true
  const color = isTty && !has('--no-color') && !environment.env.NO_COLOR && environment.env.TERM !== 'dumb'
  const write = (text: string) => environment.stderr.write(`${text}\n`)
  const paint = (code: number, text: string) => (color ? `\u001b[${code}m${text}\u001b[0m` : text)
  const interrupt = createInterrupt()

  const io: CliIo = {
    ...environment,
    json,
    quiet,
    verbose,
    color,
    isTty,
    exitCode: 0,
    get signal() {
      return interrupt.signal()
    },
    get interruptedBy() {
      return interrupt.by()
    },
    info: (text) => void (json || quiet || write(text)),
    detail: (text) => void (verbose && !json && write(paint(2, text))),
    warn: (text) => void (json || write(`${paint(33, 'warning:')} ${text}`)),
    result: (answer) => {
      if (json) environment.stdout.write(`${toJson(answer.json)}\n`)
      else for (const line of answer.text) environment.stdout.write(`${line}\n`)
    },
    fail: (error) => {
      const report = explainError(error)
      if (json) {
        environment.stdout.write(`${toJson({ error: report })}\n`)
        return
      }
      write(`${paint(31, 'error:')} ${report.message} [${report.code}]`)
      for (const cause of report.causes) write(`  cause: ${cause}`)
      if (report.fix !== undefined) write(`  ${paint(32, 'fix:')} ${report.fix}`)
      if (verbose && error instanceof Error && error.stack !== undefined) write(paint(2, error.stack))
    },
    progress: (parameters) => createProgress({ ...parameters, io }),
    dispose: interrupt.dispose,
  }
  return io
}

/** An error as the command line shows it. */
export interface ErrorReport {
  code: string
  message: string
  causes: string[]
  fix: string | undefined
  details: Readonly<Record<string, unknown>>
}

/** Flatten an error and its chain of causes (at most 5) to what a person or a program needs. */
export function explainError(error: unknown): ErrorReport {
  const causes: string[] = []
  let fix = error instanceof WeightlessError ? error.fix : undefined
  let cause = error instanceof Error ? error.cause : undefined
  while (cause !== undefined && causes.length < 5) {
    const text = oneLine(cause)
    if (text !== '' && causes.at(-1) !== text) causes.push(text)
    if (cause instanceof WeightlessError) fix ??= cause.fix
    cause = cause instanceof Error ? cause.cause : undefined
  }
  return {
    code: codeOf(error),
    message: oneLine(error),
    causes,
    fix,
    details: error instanceof WeightlessError ? error.details : {},
  }
}

function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code
  return error instanceof Error && error.name === 'AbortError' ? 'ABORTED' : 'UNEXPECTED'
}

/** viem's messages carry request bodies and version lines: its `shortMessage` says what matters. */
function oneLine(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const short = 'shortMessage' in error && typeof error.shortMessage === 'string' ? error.shortMessage : error.message
  const details =
    'details' in error && typeof error.details === 'string' && error.details !== short ? error.details : ''
  return [short, details]
    .filter((part) => part !== '')
    .join(' ')
    .replaceAll(/\s*\n\s*/g, ' ')
    .slice(0, 500)
}

/** One line of JSON; bigints as decimal strings because JSON numbers cannot carry wei. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? item.toString() : item))
}

function createInterrupt() {
  let controller: AbortController | undefined
  let by: 'SIGINT' | 'SIGTERM' | undefined
  const onSignal = (name: NodeJS.Signals) => {
    if (by !== undefined) process.exit(by === 'SIGINT' ? 130 : 143)
    by = name === 'SIGTERM' ? 'SIGTERM' : 'SIGINT'
    controller?.abort(new DOMException(`interrupted by ${by}`, 'AbortError'))
  }
  return {
    by: () => by,
    signal: () => {
      if (controller === undefined) {
        controller = new AbortController()
        process.on('SIGINT', onSignal)
        process.on('SIGTERM', onSignal)
      }
      return controller.signal
    },
    dispose: () => {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    },
  }
}
