import { type ChildProcess, fork } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { EngineError } from '../engine-error.ts'
import { SMALL_MODEL_BYTES } from '../llama-parameters.ts'
import type { FromChild, LoadedInfo, LoadOptions, Reply, ToChild } from './messages.ts'

/** The child gets these variables and no others: the parent's may hold keys. */
const VARIABLES =
  /^(PATH|HOME|LANG|LC_.*|TMPDIR|TEMP|TMP|SystemRoot|LD_LIBRARY_PATH|CUDA_.*|NVIDIA_.*|GGML_.*|VK_.*|XDG_.*)$/

/** Bytes of its last words that are kept. */
const MAX_STDERR = 4096
const CLOSE_LIMIT_MS = 5_000

export interface ChildHandleParameters {
  options: LoadOptions
  onReplies: (replies: readonly Reply[]) => void
  onLog: (level: string, text: string) => void
  /** The process is about to end, and these adapters may be why. */
  onSuspects: (adapters: readonly string[]) => void
  /** The process ended without being asked to. */
  onCrash: (error: EngineError) => void
}

/** The child process of an engine, from its start to its end. */
export class ChildHandle {
  readonly info: LoadedInfo
  readonly #process: ChildProcess
  readonly #state: { isClosing: boolean }

  private constructor(process: ChildProcess, info: LoadedInfo, state: { isClosing: boolean }) {
    this.#process = process
    this.info = info
    this.#state = state
  }

  /**
   * Starts a process and loads the model in it.
   *
   * @throws EngineError `ENGINE_LOAD`
   */
  static async start({ options, onReplies, onLog, onSuspects, onCrash }: ChildHandleParameters): Promise<ChildHandle> {
    const child = fork(fileURLToPath(new URL('./child.ts', import.meta.url)), [], {
      serialization: 'advanced',
      execArgv: [],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: await childVariables(options.modelPath),
    })
    const state = { isClosing: false }
    let lastWords = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      lastWords = (lastWords + text).slice(-MAX_STDERR)
    })
    const info = await new Promise<LoadedInfo>((resolve, reject) => {
      child.on('message', (message: FromChild) => {
        if (message.type === 'replies') onReplies(message.replies)
        else if (message.type === 'log') onLog(message.level, message.text)
        else if (message.type === 'suspects') onSuspects(message.adapters)
        else if (message.type === 'loaded') resolve(message.info)
        else {
          state.isClosing = true
          child.kill('SIGKILL')
          reject(new EngineError(message.error))
        }
      })
      child.on('error', (cause) => reject(crash({ cause, lastWords })))
      child.on('exit', (code, signal) => {
        const error = crash({ code, signal, lastWords })
        reject(
          new EngineError({
            code: 'ENGINE_LOAD',
            message: error.message,
            fix: 'see its last words',
            details: error.details,
          }),
        )
        if (!state.isClosing) onCrash(error)
      })
      child.send({ type: 'load', options } satisfies ToChild)
    })
    return new ChildHandle(child, info, state)
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  send(message: ToChild): void {
    // A process that is just ending takes no more messages; its end is reported by itself.
    if (this.#process.connected) this.#process.send(message, () => undefined)
  }

  /** Ends a process that hangs, without calling that a crash. */
  kill(): void {
    this.#state.isClosing = true
    this.#process.kill('SIGKILL')
  }

  async close(): Promise<void> {
    this.#state.isClosing = true
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const ended = new Promise<void>((resolve) => this.#process.once('exit', () => resolve()))
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), CLOSE_LIMIT_MS)
    if (this.#process.connected) this.#process.disconnect()
    await ended
    clearTimeout(timer)
  }
}

/**
 * Variables of the child. Each token is handed to a thread of its pool and back, twice: with several threads a different
 * one wakes each time, its caches cold, which costs a small model some percent. A larger one would gain nothing by a pool
 * of one thread, and wait while an adapter loads.
 */
async function childVariables(modelPath: string): Promise<NodeJS.ProcessEnv> {
  const sizeBytes = await stat(modelPath).then(
    ({ size }) => size,
    () => Number.POSITIVE_INFINITY,
  )
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => VARIABLES.test(name))),
    ...(sizeBytes < SMALL_MODEL_BYTES ? { UV_THREADPOOL_SIZE: '1' } : {}),
  }
}

function crash({ code, signal, cause, lastWords }: CrashParameters): EngineError {
  const how = signal ? `signal ${signal}` : `code ${code ?? 'none'}`
  return new EngineError({
    code: 'ENGINE_CRASHED',
    message: `the process of the model ended with ${how}`,
    fix: 'it is being started again: repeat the request',
    details: { exitCode: code, signal, lastWords: lastWords.trim().split('\n').slice(-5).join('\n') },
    cause,
  })
}

interface CrashParameters {
  code?: number | null
  signal?: string | null
  cause?: unknown
  lastWords: string
}
