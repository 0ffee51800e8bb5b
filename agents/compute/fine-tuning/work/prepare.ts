import { Worker } from 'node:worker_threads'
import { TrainerError, type TrainerErrorCode, trainerErrorCodes } from '#compute/trainer/error.ts'

/** A dataset as the trainer takes it. */
export interface PreparedDataset {
  examples: number
  /** Once through, prompts counted. */
  tokens: number
  /** Rows that they fill, several examples in each. */
  rows: number
}

/** What the thread is asked. */
export type PrepareRequest =
  | { kind: 'inspect'; path: string; recipe: Record<string, unknown>; own: boolean }
  | {
      kind: 'prepare'
      basePath: string
      from: string
      to: string
      maxBytes: number
      rowTokens?: number | undefined
      own: boolean
    }

/** What it answers. */
export type PrepareAnswer =
  | { ok: true; value: PreparedDataset | null }
  | { ok: false; code: string; message: string; fix?: string | undefined; details: Record<string, unknown> }

/** Reads a base model once, in a thread whose memory goes back. @throws TrainerError */
export async function inspectBase(parameters: {
  path: string
  recipe: Record<string, unknown>
  /** Whether the own trainer will train it; another may take more. */
  own: boolean
  limitMs: number
}): Promise<void> {
  const { limitMs, ...rest } = parameters
  await ask({ kind: 'inspect', ...rest }, { limitMs })
}

/**
 * Checks a dataset, writes it in the trainer's form (`instruction` lines become conversations) and counts its tokens, in a
 * thread of its own.
 *
 * @throws TrainerError `TRAINER_DATASET_LINE`, `TRAINER_DATASET_EMPTY`, `TRAINER_DATASET_SIZE`, `TRAINER_TOKENIZER`,
 * `TRAINER_STALLED` beyond the limit
 */
export async function prepareDataset(parameters: {
  basePath: string
  from: string
  to: string
  maxBytes: number
  /** Length of a row; default as the trainer chooses it. */
  rowTokens?: number | undefined
  /** Whether the own trainer will train on it. */
  own: boolean
  limitMs: number
  signal?: AbortSignal | undefined
}): Promise<PreparedDataset> {
  const { limitMs, signal, ...rest } = parameters
  const value = await ask({ kind: 'prepare', ...rest }, { limitMs, signal })
  return value ?? { examples: 0, tokens: 0, rows: 0 }
}

function ask(
  request: PrepareRequest,
  { limitMs, signal }: { limitMs: number; signal?: AbortSignal | undefined },
): Promise<PreparedDataset | null> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./prepare-thread.ts', import.meta.url), { workerData: request })
    const timer = setTimeout(() => {
      fail('TRAINER_STALLED', `the dataset was not read within ${Math.round(limitMs / 1000)} s`, 'send a smaller one')
    }, limitMs)
    const onAbort = () => end(() => reject(signal?.reason))
    signal?.addEventListener('abort', onAbort, { once: true })
    function end(settle: () => void): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      settle()
      void worker.terminate()
    }
    function fail(code: TrainerErrorCode, message: string, fix?: string, details?: Record<string, unknown>): void {
      end(() => reject(new TrainerError({ code, message, fix, details })))
    }
    worker.on('message', (answer: PrepareAnswer) => {
      if (answer.ok) return end(() => resolve(answer.value))
      const known = (trainerErrorCodes as readonly string[]).includes(answer.code)
      const code = known ? (answer.code as TrainerErrorCode) : 'TRAINER_BASE'
      fail(code, answer.message, answer.fix, answer.details)
    })
    worker.on('error', (error) => {
      fail('TRAINER_CRASHED', error instanceof Error ? error.message : 'the reader ended', 'try again')
    })
    worker.on('exit', (code) => fail('TRAINER_CRASHED', `the reader ended with code ${code}`, 'try again'))
    if (signal?.aborted) onAbort()
  })
}
