import { createInterface } from 'node:readline'
import { WeightlessError } from '#protocol/error.ts'
import { TrainerError } from './error.ts'
import { MAX_PROTOCOL_LINE_BYTES, requestSchema, type TrainerEvent } from './protocol.ts'
import { installWorkerThreads } from './worker-threads.ts'

/**
 * The trainer's process: one job from standard input, events to standard output, both JSON lines. Closing standard input
 * or SIGTERM stops it with a checkpoint; a kill at any moment loses at most the steps since the last one.
 */
const abort = new AbortController()
process.once('SIGTERM', () => abort.abort())
process.once('SIGINT', () => abort.abort())
// Whoever read it is gone: the checkpoint is still worth writing.
process.stdout.on('error', () => abort.abort())

function report(event: TrainerEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`)
}

async function main(): Promise<number> {
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
  let started: Promise<number> | undefined
  for await (const line of lines) {
    if (line.length > MAX_PROTOCOL_LINE_BYTES) return fail(protocolError('the line is too long'))
    const request = parseRequest(line)
    if (request instanceof TrainerError) return fail(request)
    if (request.type === 'stop') {
      abort.abort()
      break
    }
    if (started !== undefined) return fail(protocolError('a trainer takes one job'))
    installWorkerThreads(request.job.threads)
    started = import('./job.ts')
      .then(({ runJob }) => runJob({ job: request.job, report, signal: abort.signal }))
      .then(
        (result) => {
          report({ type: 'result', result })
          return 0
        },
        (error: unknown) => fail(error),
      )
    // The job ends the process; standard input may stay open until then.
    void started.then(exit)
  }
  if (started === undefined) return fail(protocolError('standard input ended before a job'))
  // Whoever asked is gone, or said stop: nobody would read the result.
  abort.abort()
  return started
}

function parseRequest(line: string) {
  try {
    const parsed = requestSchema.safeParse(JSON.parse(line))
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    const isRecipe = issue?.path[1] === 'recipe'
    const message = `${issue?.path.join('.')}: ${issue?.message}`
    return isRecipe ? new TrainerError({ code: 'TRAINER_RECIPE', message }) : protocolError(message)
  } catch (cause) {
    return protocolError('the line is not JSON', cause)
  }
}

function fail(error: unknown): number {
  if (error instanceof WeightlessError) {
    const { code, message, fix, details } = error
    report({ type: 'error', code, message, fix, details: { ...details } })
  } else {
    const message = error instanceof Error ? error.message : String(error)
    report({ type: 'error', code: 'TRAINER_CRASHED', message })
    process.stderr.write(`${error instanceof Error ? error.stack : message}\n`)
  }
  return 1
}

function protocolError(message: string, cause?: unknown): TrainerError {
  return new TrainerError({ code: 'TRAINER_PROTOCOL', message, cause })
}

/** Ends once everything said is written: the device's threads would keep the process alive. */
function exit(code: number): void {
  process.stdout.write('', () => process.exit(code))
}

main().then(exit, (error: unknown) => exit(fail(error)))
