import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { pino } from 'pino'
import { prettyFactory } from 'pino-pretty'
import { WeightlessError } from '#protocol/error.ts'
import { redact, redactUrls } from './redact.ts'

/** A structured logger: `log.info({ epoch, root }, 'proof accepted')`. */
export type Logger = pino.Logger

/** Levels from the noisiest to none at all. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export interface CreateLogParameters {
  /** Who is speaking: `storage-node`, `indexer`. */
  name: string
  /** Least level written. Default `info`. */
  level?: LogLevel | undefined
  /** Also append JSON lines to this file (its folder is created); the file is opened once and never rotated here. */
  file?: string | undefined
  /** Human-readable lines instead of JSON. Default: when standard error is a terminal. */
  pretty?: boolean | undefined
  /** Where lines go besides `file`. Default standard error, so that standard output stays free for results. */
  stream?: { write(line: string): void } | undefined
}

/**
 * Opens an agent's log. Values under names that look like secrets are censored at any depth, and credentials in URLs
 * are cut, in fields, messages and errors alike.
 *
 * @throws WeightlessError `LOG_FILE` when the file cannot be opened.
 * @example
 * const log = createLog({ name: 'storage-node', file: 'data/node.log' })
 * log.info({ txSeq: 7 }, 'file finalized')
 */
export function createLog({ name, level = 'info', file, pretty, stream }: CreateLogParameters): Logger {
  const streams: pino.StreamEntry[] = []
  const human = pretty ?? (stream === undefined && process.stderr.isTTY === true)
  const console = stream ?? pino.destination({ fd: 2, sync: true })
  streams.push({ level: 'trace', stream: human ? readable(console, stream === undefined) : console })
  if (file !== undefined) streams.push({ level: 'trace', stream: openLogFile(file) })
  const log = pino(
    {
      name,
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      base: { pid: process.pid },
      formatters: { level: (label) => ({ level: label }), log: redactFields, bindings: redactFields },
      serializers: { err: describeError, error: describeError, cause: describeError },
      hooks: {
        logMethod(args, method) {
          const given: unknown[] = args
          for (const [index, argument] of given.entries()) {
            if (typeof argument === 'string') given[index] = redactUrls(argument)
          }
          // A line without words takes those of its error, which the library would copy unseen.
          const [fields] = given
          const error: unknown = fields instanceof Error ? fields : Reflect.get(Object(fields), 'err')
          if (given.length === 1 && error instanceof Error) given.push(redactUrls(error.message))
          method.apply(this, args)
        },
      },
    },
    pino.multistream(streams),
  )
  // The library does not pass what children are bound to through the formatters above.
  const { child } = log
  log.child = function (this: Logger, bindings: object, options?: object) {
    return child.call(this, redactFields({ ...bindings }), options)
  } as typeof log.child
  return log
}

/** A logger that writes nothing, for tests and for libraries used without one. */
export function silentLog(): Logger {
  return pino({ level: 'silent' })
}

/**
 * An error as plain data for a log line: name, code, message, facts, fix, stack and up to five causes, with secrets cut.
 */
export function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return redact(error)
  const described: Record<string, unknown> = { type: error.name, message: redactUrls(error.message) }
  const code: unknown = Reflect.get(error, 'code')
  if (code !== undefined) described.code = code
  if (error instanceof WeightlessError) {
    if (error.fix !== undefined) described.fix = redactUrls(error.fix)
    if (Object.keys(error.details).length > 0) described.details = redact(error.details)
  }
  if (error.stack !== undefined) described.stack = redactUrls(error.stack)
  if (error.cause !== undefined && depth < 5) described.cause = describeError(error.cause, depth + 1)
  return described
}

function redactFields(fields: Record<string, unknown>): Record<string, unknown> {
  return redact(fields) as Record<string, unknown>
}

function readable(stream: { write(line: string): void }, colorize: boolean): { write(line: string): void } {
  const options = { translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname', singleLine: true, colorize } as const
  const prettify = prettyFactory(options)
  return { write: (line) => stream.write(String(prettify(line))) }
}

function openLogFile(file: string): { write(line: string): void } {
  try {
    mkdirSync(dirname(file), { recursive: true })
    return pino.destination({ dest: file, append: true, sync: true, mode: 0o640 })
  } catch (cause) {
    throw new WeightlessError({
      code: 'LOG_FILE',
      message: `the log file ${file} cannot be opened`,
      fix: 'give a path in a folder this user may write to',
      details: { file },
      cause,
    })
  }
}
