import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { TrainerError } from './error.ts'
import {
  errorOfEvent,
  jobSchema,
  MAX_PROTOCOL_LINE_BYTES,
  parseEvent,
  TRAINER_PROTOCOL,
  type TrainerEvent,
  type TrainerJobInput,
  type TrainerResult,
} from './protocol.ts'

/** Last part of a trainer's standard error that is kept for the error message. */
const STDERR_BYTES = 8 * 1024

export interface TrainerProcessParameters {
  /**
   * The command of an external trainer and its arguments; default: this project's trainer in Node. It is started without a
   * shell and speaks the protocol of docs/training.md on its standard streams.
   */
  command?: readonly string[] | undefined
  /** Environment of the command. Default: PATH and HOME alone, so that secrets of the agent stay with the agent. */
  environment?: Readonly<Record<string, string>> | undefined
  /** The longest silence; a trainer that says nothing for so long is stopped. Default 10 minutes. */
  silenceMs?: number | undefined
  /** Time between asking a trainer to stop and killing it. Default 60 s. */
  stopMs?: number | undefined
}

export interface TrainerRunParameters {
  job: TrainerJobInput
  onEvent?: ((event: TrainerEvent) => void) | undefined
  signal?: AbortSignal | undefined
}

/**
 * Runs training jobs in a child process each, so that their memory goes back when they end and a crash takes nothing else
 * along. A job whose trainer was killed can be run again with the same parameters: it goes on from its checkpoint.
 *
 * @example
 * const trainer = new TrainerProcess({})
 * const { adapterPath } = await trainer.run({ job: { basePath, datasetPath, outputDir, recipe: {} } })
 */
export class TrainerProcess {
  readonly #parameters: TrainerProcessParameters

  constructor(parameters: TrainerProcessParameters) {
    this.#parameters = parameters
  }

  /**
   * One job to its end. An abort asks the trainer for a checkpoint and then rejects with `TRAINER_ABORTED`.
   *
   * @throws TrainerError whatever the trainer reports, or `TRAINER_CRASHED`, `TRAINER_STALLED`, `TRAINER_PROTOCOL`
   */
  async run({ job, onEvent, signal }: TrainerRunParameters): Promise<TrainerResult> {
    const parsed = jobSchema.safeParse(job)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      const field = issue?.path.join('.') ?? ''
      throw new TrainerError({
        code: 'TRAINER_RECIPE',
        message: `${field}: ${issue?.message}`,
        fix: 'see docs/training.md for the settings and their limits',
        details: { field },
      })
    }
    if (signal?.aborted) throw aborted()
    const child = this.#start()
    const { stopMs = 60_000, silenceMs = 600_000 } = this.#parameters
    let failure: TrainerError | undefined
    let result: TrainerResult | undefined
    let stopTimer: NodeJS.Timeout | undefined
    const stop = (reason: TrainerError): void => {
      failure ??= reason
      if (stopTimer !== undefined) return
      child.stdin.end(`${JSON.stringify({ type: 'stop' })}\n`)
      stopTimer = setTimeout(() => child.kill('SIGKILL'), stopMs)
    }
    const kill = (reason: TrainerError): void => {
      failure ??= reason
      child.kill('SIGKILL')
    }
    const onAbort = (): void => stop(aborted())
    signal?.addEventListener('abort', onAbort, { once: true })
    const silence = setTimeout(() => kill(stalled(silenceMs)), silenceMs)

    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_BYTES)
    })
    child.stdin.on('error', () => undefined) // it ended; its exit says why
    const unfinished = { bytes: 0 }
    child.stdout.on('data', (chunk: Buffer) => {
      const end = chunk.lastIndexOf(10)
      unfinished.bytes = end < 0 ? unfinished.bytes + chunk.length : chunk.length - end - 1
      if (unfinished.bytes > MAX_PROTOCOL_LINE_BYTES) kill(overlong())
    })
    createInterface({ input: child.stdout }).on('line', (line) => {
      silence.refresh()
      if (line.trim() === '' || failure?.code === 'TRAINER_PROTOCOL') return
      try {
        const event = parseEvent(line)
        if (event === undefined) return
        if (event.type === 'error') failure ??= errorOfEvent(event)
        if (event.type === 'result') result = event.result
        onEvent?.(event)
      } catch (error) {
        kill(error instanceof TrainerError ? error : callbackFailed(error))
      }
    })
    child.stdin.write(`${JSON.stringify({ type: 'job', protocol: TRAINER_PROTOCOL, job: parsed.data })}\n`)

    try {
      const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
      if (failure !== undefined) throw failure
      if (result !== undefined) return result
      throw crashed({ code, killedBy, stderr })
    } catch (error) {
      if (error instanceof TrainerError) throw error
      throw new TrainerError({
        code: 'TRAINER_CRASHED',
        message: `the trainer ${this.#command().join(' ')} cannot be started`,
        fix: 'check that the command exists and may be executed',
        cause: error,
      })
    } finally {
      clearTimeout(silence)
      clearTimeout(stopTimer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #command(): readonly string[] {
    return this.#parameters.command ?? [process.execPath, fileURLToPath(new URL('./run.ts', import.meta.url))]
  }

  #start(): ChildProcessWithoutNullStreams {
    const [file = '', ...rest] = this.#command()
    const { PATH = '', HOME = '' } = process.env
    return spawn(file, rest, { env: this.#parameters.environment ?? { PATH, HOME }, stdio: ['pipe', 'pipe', 'pipe'] })
  }
}

function aborted(): TrainerError {
  return new TrainerError({ code: 'TRAINER_ABORTED', message: 'the job was stopped' })
}

function stalled(silenceMs: number): TrainerError {
  return new TrainerError({
    code: 'TRAINER_STALLED',
    message: `the trainer said nothing for ${Math.round(silenceMs / 1000)} s`,
    fix: 'look at the load of the machine; the job goes on from its last checkpoint when it is run again',
    details: { silenceMs },
  })
}

function overlong(): TrainerError {
  return new TrainerError({
    code: 'TRAINER_PROTOCOL',
    message: `the trainer wrote a line of more than ${MAX_PROTOCOL_LINE_BYTES} bytes`,
    details: { limit: MAX_PROTOCOL_LINE_BYTES },
  })
}

function callbackFailed(cause: unknown): TrainerError {
  return new TrainerError({ code: 'TRAINER_ABORTED', message: 'whoever followed the job failed', cause })
}

function crashed({
  code,
  killedBy,
  stderr,
}: {
  code: number | null
  killedBy: NodeJS.Signals | null
  stderr: string
}): TrainerError {
  const how = killedBy === null ? `with code ${code}` : `by ${killedBy}`
  return new TrainerError({
    code: 'TRAINER_CRASHED',
    message: `the trainer ended ${how} and left no result`,
    fix: 'run the job again: it goes on from its last checkpoint',
    details: { code, killedBy, stderr },
  })
}
