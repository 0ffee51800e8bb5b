import type { Logger } from '#kit/log.ts'
import type { QueueBackendKind } from './backend.ts'

/** What may be stored as a job's data, result or progress: JSON. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** A durable job queue. Each job is handled at least once: a handler must bear being repeated after a crash. */
export interface Queue<Data extends JsonValue = JsonValue, Result extends JsonValue = JsonValue> {
  readonly name: string
  readonly backend: QueueBackendKind
  /** Adds a job, durably. Returns its id. */
  add(job: NewJob<Data>): Promise<string>
  /** Begins to handle jobs in this process. */
  process(parameters: ProcessParameters<Data, Result>): JobWorker
  get(id: string): Promise<JobInfo<Data, Result> | undefined>
  /**
   * Waits for a job's end, whichever process handles it.
   *
   * @throws {@link JobFailedError}; {@link QueueError} `QUEUE_WAIT_TIMEOUT`, `QUEUE_JOB` when there is no such job.
   */
  wait(id: string, options?: { timeoutMs?: number; signal?: AbortSignal }): Promise<Result>
  counts(): Promise<JobCounts>
  /** Stops all processes from beginning jobs; those under way go on. Outlives restarts. */
  pause(): Promise<void>
  resume(): Promise<void>
  isPaused(): Promise<boolean>
  /** Gives a failed job all its attempts again. */
  retry(id: string): Promise<void>
  /** Forgets a job; false when it is being handled, or unknown. */
  remove(id: string): Promise<boolean>
  /** Waits for jobs under way (see {@link ProcessParameters.closeTimeoutMs}), then disconnects. */
  close(): Promise<void>
}

export interface NewJob<Data> {
  data: Data
  /** A second job with the id of one that is still known is ignored. Left out: a fresh id. At most 200 characters. */
  id?: string | undefined
  /** Begin no sooner than in so many milliseconds. */
  delayMs?: number | undefined
  /** Tries in all. Default 1. */
  attempts?: number | undefined
  /** Pause between tries. Default none; `exponential` doubles it each time. */
  backoff?: { type: 'fixed' | 'exponential'; delayMs: number } | undefined
  /** 1 (first) to 2 097 152; jobs without one go before all that have one. */
  priority?: number | undefined
}

export interface ProcessParameters<Data, Result> {
  /** Its return value is stored. What it throws costs an attempt; {@link PermanentJobError} costs all of them. */
  handler: (job: RunningJob<Data>) => Promise<Result>
  /** Jobs at once in this process. Default 1. */
  concurrency?: number | undefined
  /** Checks stored data before the handler sees it (a zod schema's `parse`, say): a job may be older than the code. */
  parse?: ((data: unknown) => Data) | undefined
  /**
   * A process that has not been heard of for so long has died, and its jobs begin again; those of the embedded queue as
   * soon as it is opened. Default 30 000.
   */
  lockMs?: number | undefined
  /** How long `close` lets jobs go on after their signal was aborted; then they begin again elsewhere. Default 10 000. */
  closeTimeoutMs?: number | undefined
}

/** A job in the hands of a handler. */
export interface RunningJob<Data> {
  readonly id: string
  readonly data: Data
  /** 1 on the first try. */
  readonly attempt: number
  /** Aborted when the worker is closed. */
  readonly signal: AbortSignal
  /** Stores how far it is; seen by {@link Queue.get}. */
  progress(value: JsonValue): Promise<void>
}

export interface JobWorker {
  /** Jobs being handled here. */
  readonly active: number
  close(): Promise<void>
}

export type JobState = 'waiting' | 'delayed' | 'active' | 'completed' | 'failed'

export interface JobInfo<Data, Result> {
  readonly id: string
  readonly state: JobState
  readonly data: Data
  readonly progress: JsonValue
  readonly attemptsMade: number
  readonly result: Result | undefined
  /** What the last failed try said. */
  readonly failedReason: string | undefined
}

export interface JobCounts {
  readonly waiting: number
  readonly delayed: number
  readonly active: number
  readonly completed: number
  readonly failed: number
}

export interface OpenQueueParameters {
  /** `redis://…` or `postgres://…`; left out, the embedded queue in `dataDir`. */
  url?: string | undefined
  dataDir?: string | undefined
  /** The queue's name, shared by those who add and those who handle. Letters, digits, `-`, `_` and `.`. */
  name: string
  log: Logger
  /** Ended jobs kept (their ids stay taken so long). Default 10 000 completed for a day, 10 000 failed for a month. */
  keep?: { completed?: Retention; failed?: Retention } | undefined
}

export interface Retention {
  count: number
  ageSeconds: number
}
