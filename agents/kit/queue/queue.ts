import { setTimeout as delay } from 'node:timers/promises'
import { Queue as BullQueue, type Job, UnrecoverableError, Worker } from 'bullmq'
import type { Logger } from '#kit/log.ts'
import { WeightlessError } from '#protocol/error.ts'
import { openBackend, type QueueBackend, type QueueBackendKind } from './backend.ts'
import type {
  JobCounts,
  JobInfo,
  JobState,
  JobWorker,
  JsonValue,
  NewJob,
  OpenQueueParameters,
  ProcessParameters,
  Queue,
  Retention,
} from './job.ts'
import { decodeJobId, encodeJobId } from './job-id.ts'
import { JobFailedError, PermanentJobError, QueueError } from './queue-error.ts'

export type { QueueBackendKind } from './backend.ts'
export type {
  JobCounts,
  JobInfo,
  JobState,
  JobWorker,
  JsonValue,
  NewJob,
  OpenQueueParameters,
  ProcessParameters,
  Queue,
  Retention,
  RunningJob,
} from './job.ts'
export { JobFailedError, PermanentJobError, QueueError } from './queue-error.ts'

const DAY_SECONDS = 86_400
const MAX_DATA_BYTES = 2 ** 20
const MAX_ID_CHARS = 200
/** Crashes a job may take part in before it is given up: it may be what crashes. */
const MAX_STALLED = 5
const WAIT_POLL_MS = [20, 50, 100, 250, 500]

/**
 * Opens a durable job queue on BullMQ: Redis or PostgreSQL by URL, else an embedded PostgreSQL (PGlite) in the data
 * folder, which only one process at a time can open.
 *
 * @throws {@link QueueError}
 * @example
 * const queue = await openQueue<{ blobId: string }, { rows: number }>({ dataDir, name: 'disperse', log })
 * queue.process({ concurrency: 4, handler: async (job) => ({ rows: await disperse(job.data.blobId, job.signal) }) })
 * const id = await queue.add({ id: blobId, data: { blobId }, attempts: 5, backoff: { type: 'exponential', delayMs: 500 } })
 * const { rows } = await queue.wait(id)
 */
export async function openQueue<Data extends JsonValue = JsonValue, Result extends JsonValue = JsonValue>(
  parameters: OpenQueueParameters,
): Promise<Queue<Data, Result>> {
  const { url, dataDir, name, log } = parameters
  if (!/^[a-z0-9][\w.-]{0,99}$/i.test(name)) {
    throw new QueueError({
      code: 'QUEUE_JOB',
      message: `a queue cannot be called ${JSON.stringify(name.slice(0, 100))}`,
      fix: 'use up to 100 letters, digits, -, _ and .',
    })
  }
  const onError = (error: Error) => log.warn({ err: error, queue: name }, 'job queue connection')
  const backend = await openBackend({ url, dataDir, onError })
  try {
    const { connection, factory } = backend
    const queue = new BullQueue(name, { connection, prefix: 'weightless' }, factory) as unknown as BullQueue
    queue.on('error', onError)
    await queue.waitUntilReady()
    return new DurableQueue<Data, Result>({ ...parameters, backend, queue, onError })
  } catch (error) {
    await backend.close()
    throw error
  }
}

class DurableQueue<Data extends JsonValue, Result extends JsonValue> implements Queue<Data, Result> {
  readonly name: string
  readonly backend: QueueBackendKind
  readonly #queue: BullQueue
  readonly #backend: QueueBackend
  readonly #log: Logger
  readonly #onError: (error: Error) => void
  readonly #keep: { completed: Retention; failed: Retention }
  readonly #workers = new Set<JobWorker>()
  readonly #closed = new AbortController()
  #closing: Promise<void> | undefined

  constructor(
    parameters: OpenQueueParameters & { backend: QueueBackend; queue: BullQueue; onError: (error: Error) => void },
  ) {
    const { name, backend, queue, log, onError, keep } = parameters
    this.name = name
    this.backend = backend.kind
    this.#backend = backend
    this.#queue = queue
    this.#log = log
    this.#onError = onError
    this.#keep = {
      completed: keep?.completed ?? { count: 10_000, ageSeconds: DAY_SECONDS },
      failed: keep?.failed ?? { count: 10_000, ageSeconds: 30 * DAY_SECONDS },
    }
  }

  async add(job: NewJob<Data>): Promise<string> {
    this.#checkOpen()
    const { data, id, delayMs, attempts = 1, backoff, priority } = job
    const sizeBytes = Buffer.byteLength(JSON.stringify(data) ?? '')
    if (sizeBytes === 0 || sizeBytes > MAX_DATA_BYTES) {
      throw badJob(`its data has ${sizeBytes} bytes as JSON, at most ${MAX_DATA_BYTES} are allowed`)
    }
    if (id !== undefined && (id === '' || id.length > MAX_ID_CHARS || !id.isWellFormed())) {
      throw badJob(`its id has ${id.length} characters, 1 to ${MAX_ID_CHARS} of well-formed text are allowed`)
    }
    if (!Number.isSafeInteger(attempts) || attempts < 1) throw badJob(`attempts is ${attempts}`)
    const { completed, failed } = this.#keep
    const added = await this.#queue.add(
      'job',
      { data },
      {
        jobId: encodeJobId(id ?? crypto.randomUUID()),
        attempts,
        ...(delayMs === undefined ? {} : { delay: delayMs }),
        ...(backoff === undefined ? {} : { backoff: { type: backoff.type, delay: backoff.delayMs } }),
        ...(priority === undefined ? {} : { priority }),
        removeOnComplete: { count: completed.count, age: completed.ageSeconds },
        removeOnFail: { count: failed.count, age: failed.ageSeconds },
      },
    )
    return decodeJobId(added.id ?? '')
  }

  process(parameters: ProcessParameters<Data, Result>): JobWorker {
    this.#checkOpen()
    const { handler, parse, concurrency = 1, lockMs = 30_000, closeTimeoutMs = 10_000 } = parameters
    const abort = new AbortController()
    const { connection, factory } = this.#backend
    let active = 0
    const run = async (job: Job): Promise<Result> => {
      active++
      try {
        const stored: unknown = job.data.data
        return await handler({
          id: decodeJobId(job.id ?? ''),
          data: parse === undefined ? (stored as Data) : parseData(parse, stored),
          attempt: job.attemptsMade + 1,
          signal: abort.signal,
          progress: (value) => job.updateProgress({ value }),
        })
      } catch (error) {
        const last = error instanceof PermanentJobError || job.attemptsMade + 1 >= (job.opts.attempts ?? 1)
        this.#log[last ? 'warn' : 'debug']({ err: error, queue: this.name, job: job.id }, 'a job failed')
        if (error instanceof PermanentJobError) throw new UnrecoverableError(error.message)
        throw error
      } finally {
        active--
      }
    }
    const options = {
      connection,
      prefix: 'weightless',
      concurrency,
      lockDuration: lockMs,
      // Its first run is at once: what a crashed process left behind is found when its lock has run out.
      stalledInterval: Math.max(1_000, Math.floor(lockMs / 2)),
      maxStalledCount: MAX_STALLED,
    }
    const worker = new Worker(this.name, run, options, factory)
    worker.on('error', this.#onError)
    let closing: Promise<void> | undefined
    const handle: JobWorker = {
      get active() {
        return active
      },
      close: () => {
        closing ??= closeWorker({ worker, abort, closeTimeoutMs }).finally(() => this.#workers.delete(handle))
        return closing
      },
    }
    this.#workers.add(handle)
    return handle
  }

  async get(id: string): Promise<JobInfo<Data, Result> | undefined> {
    this.#checkOpen()
    // The state first: what is read of a job after it was seen completed holds its result.
    const state = asState(await this.#queue.getJobState(encodeJobId(id)))
    const job = await this.#queue.getJob(encodeJobId(id))
    if (state === undefined || job === undefined || job === null) return undefined
    const progress: unknown = job.progress
    return {
      id,
      state,
      data: job.data.data,
      progress:
        typeof progress === 'object' && progress !== null && 'value' in progress ? asJson(progress.value) : null,
      attemptsMade: job.attemptsMade,
      result: state === 'completed' ? job.returnvalue : undefined,
      failedReason: job.failedReason,
    }
  }

  async wait(id: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<Result> {
    const { timeoutMs = 600_000, signal } = options
    const limit = AbortSignal.timeout(timeoutMs)
    const stop = AbortSignal.any([limit, this.#closed.signal, ...(signal === undefined ? [] : [signal])])
    const stopped = new Promise<'stopped'>((resolve) => {
      stop.addEventListener('abort', () => resolve('stopped'), { once: true })
    })
    for (let look = 0; !stop.aborted; look++) {
      // A question that is under way when its connection is closed may never be answered.
      const job = await Promise.race([this.get(id), stopped])
      if (job === 'stopped') break
      if (job === undefined) throw badJob(`there is no job ${id}`)
      if (job.state === 'completed') return job.result as Result
      if (job.state === 'failed') {
        throw new JobFailedError({
          code: 'JOB_FAILED',
          message: job.failedReason ?? 'no reason given',
          details: { queue: this.name, id, attemptsMade: job.attemptsMade },
        })
      }
      const ms = WAIT_POLL_MS[Math.min(look >> 2, WAIT_POLL_MS.length - 1)] ?? 500
      await delay(ms, undefined, { signal: stop }).catch(() => undefined)
    }
    signal?.throwIfAborted()
    this.#checkOpen()
    throw new QueueError({
      code: 'QUEUE_WAIT_TIMEOUT',
      message: `job ${id} of ${this.name} has not ended within ${timeoutMs} ms`,
      fix: 'check that a process handles this queue, and that it is not paused',
      details: { queue: this.name, id, timeoutMs },
    })
  }

  async counts(): Promise<JobCounts> {
    this.#checkOpen()
    const types = ['waiting', 'prioritized', 'delayed', 'active', 'completed', 'failed'] as const
    const counts: Record<string, number> = await this.#queue.getJobCounts(...types)
    const of = (type: (typeof types)[number]) => counts[type] ?? 0
    return {
      waiting: of('waiting') + of('prioritized'),
      delayed: of('delayed'),
      active: of('active'),
      completed: of('completed'),
      failed: of('failed'),
    }
  }

  async pause(): Promise<void> {
    this.#checkOpen()
    await this.#queue.pause()
  }

  async resume(): Promise<void> {
    this.#checkOpen()
    await this.#queue.resume()
  }

  async isPaused(): Promise<boolean> {
    this.#checkOpen()
    return await this.#queue.isPaused()
  }

  async retry(id: string): Promise<void> {
    this.#checkOpen()
    const job = await this.#queue.getJob(encodeJobId(id))
    if (job === undefined || job === null || (await job.getState()) !== 'failed') {
      throw badJob(`${id} is not a failed job`)
    }
    await job.retry('failed', { resetAttemptsMade: true })
  }

  async remove(id: string): Promise<boolean> {
    this.#checkOpen()
    return (await this.#queue.remove(encodeJobId(id))) === 1
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#closed.abort()
      await Promise.all([...this.#workers].map((worker) => worker.close()))
      await this.#queue.close()
      await this.#backend.close()
    })()
    return this.#closing
  }

  #checkOpen(): void {
    if (!this.#closed.signal.aborted) return
    throw new QueueError({ code: 'QUEUE_CLOSED', message: `the queue ${this.name} has been closed` })
  }
}

/** Tells the handlers, waits a while for them, then lets go of their jobs: their locks run out and they begin again. */
async function closeWorker(parameters: {
  worker: { pause(): Promise<void>; close(force?: boolean): Promise<void> }
  abort: AbortController
  closeTimeoutMs: number
}): Promise<void> {
  const { worker, abort, closeTimeoutMs } = parameters
  abort.abort(new WeightlessError({ code: 'QUEUE_CLOSED', message: 'the worker is being closed' }))
  const timer = new AbortController()
  // Paused before it is closed, because a close that has begun to wait for jobs cannot be told to wait no longer.
  const idle = worker.pause().then(
    () => 'done' as const,
    () => 'late' as const,
  )
  const late = delay(closeTimeoutMs, 'late' as const, { signal: timer.signal }).catch(() => 'done' as const)
  const outcome = await Promise.race([idle, late])
  timer.abort()
  await worker.close(outcome === 'late')
}

function parseData<Data>(parse: (data: unknown) => Data, stored: unknown): Data {
  try {
    return parse(stored)
  } catch (cause) {
    throw new PermanentJobError({
      code: 'QUEUE_JOB',
      message: `the stored job is not understood: ${cause instanceof Error ? cause.message : String(cause)}`,
      fix: 'it was added by another version of the program: remove it and add it again',
      cause,
    })
  }
}

function asState(state: string): JobState | undefined {
  switch (state) {
    case 'waiting':
    case 'paused':
    case 'prioritized':
    case 'waiting-children':
      return 'waiting'
    case 'delayed':
    case 'active':
    case 'completed':
    case 'failed':
      return state
    default:
      return undefined
  }
}

function asJson(value: unknown): JsonValue {
  return value as JsonValue
}

function badJob(reason: string): QueueError {
  return new QueueError({ code: 'QUEUE_JOB', message: `the job cannot be used: ${reason}` })
}
