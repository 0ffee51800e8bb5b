import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '#kit/log.ts'
import { mayWriteSomething, NO_PERMISSION, replayTransaction } from '#protocol/kv/replay.ts'
import type { StreamReader } from '#protocol/kv/stream-data.ts'
import { KvError } from './error.ts'
import { LATEST, stateAt } from './state.ts'
import type { KvStore, LoggedSubmission } from './store.ts'
import type { ValueLog } from './value-log.ts'

/** Result of a submission whose data could not be had in time. It is tried again later. */
export const DOWNLOAD_FAILED = 'DownloadFailed'

/** The data of a submission, verified and decrypted, readable until disposed. */
export interface StreamFile extends StreamReader, AsyncDisposable {}

/** Brings the data of a submission; rejects when it cannot be had now. */
export type FetchStream = (submission: LoggedSubmission, signal: AbortSignal) => Promise<StreamFile>

export interface ReplayerParameters {
  store: KvStore
  values: ValueLog
  fetchStream: FetchStream
  log: Logger
  /** Tries for the data of one submission before it is passed over as `DownloadFailed`. */
  maxDownloadTries: number
  downloadTimeoutMs: number
  retryIntervalMs: number
  /** How often a passed-over submission is tried again. */
  repairIntervalMs: number
  /** Called when everything logged is replayed. */
  onIdle?: (() => void) | undefined
}

/**
 * Replays stream submissions in order. One at a time, because each is judged on the state the one before left. A
 * submission whose data cannot be had is passed over after bounded tries, says so, and is tried again later: once its
 * data are there, replay goes back to it, so that the state ends up the same as everywhere.
 */
export class Replayer {
  readonly #parameters: ReplayerParameters
  #wake: () => void = () => {}
  #generation = 0
  #lastError: string | undefined

  constructor(parameters: ReplayerParameters) {
    this.#parameters = parameters
  }

  /** What the last failed download said; undefined when all is well. */
  get lastError(): string | undefined {
    return this.#lastError
  }

  /** Tells that there may be something to replay, or that the history changed. */
  notify(): void {
    this.#generation += 1
    this.#wake()
  }

  /** Runs until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { store, repairIntervalMs } = this.#parameters
    let repairAt = performance.now() + repairIntervalMs
    while (!signal.aborted) {
      const submission = store.nextSubmission()
      if (submission !== undefined) {
        await this.#replay(submission, signal)
        continue
      }
      this.#parameters.onIdle?.()
      await this.#idle(Math.max(0, repairAt - performance.now()), signal)
      if (signal.aborted) return
      if (performance.now() >= repairAt) {
        await this.#repair(signal)
        repairAt = performance.now() + repairIntervalMs
      }
    }
  }

  async #replay(submission: LoggedSubmission, signal: AbortSignal): Promise<void> {
    const { store, values, log } = this.#parameters
    const { seq } = submission
    const generation = this.#generation
    const valueEnd = store.valueEnd()
    // The tables hold nothing from this submission on, so the newest state is the state before it.
    const state = stateAt(store, LATEST)
    if (!mayWriteSomething(state, submission)) {
      store.settle({ seq, result: NO_PERMISSION, valueEnd })
      return
    }
    const file = await this.#fetch(submission, signal)
    if (signal.aborted || this.#historyChanged(generation, submission)) {
      await file?.[Symbol.asyncDispose]()
      return
    }
    if (file === undefined) {
      store.settle({ seq, result: DOWNLOAD_FAILED, valueEnd })
      return
    }
    await using reader = file
    const outcome = await replayTransaction({ transaction: submission, reader, state })
    if (outcome.writes === undefined) {
      if (!this.#historyChanged(generation, submission)) store.settle({ seq, result: outcome.result, valueEnd })
      log.info({ seq, result: outcome.result }, 'submission replayed')
      return
    }
    const { offsets, end } = await values.append({ source: reader, ranges: outcome.writes, end: valueEnd })
    if (this.#historyChanged(generation, submission)) return
    const placed = outcome.writes.map(({ streamId, key, length }, i) => ({
      ...{ streamId, key, length },
      offset: offsets[i] ?? end,
    }))
    store.settle({ seq, result: outcome.result, values: placed, rights: outcome.rights, valueEnd: end })
    log.debug({ seq, writes: placed.length }, 'submission replayed')
  }

  /** A reorganisation or a new stream may have come while this waited: then the submission is looked up again. */
  #historyChanged(generation: number, { seq, root }: LoggedSubmission): boolean {
    if (generation === this.#generation) return false
    const next = this.#parameters.store.nextSubmission()
    return next === undefined || next.seq !== seq || next.root !== root
  }

  async #fetch(submission: LoggedSubmission, signal: AbortSignal): Promise<StreamFile | undefined> {
    const { fetchStream, log, maxDownloadTries, downloadTimeoutMs, retryIntervalMs } = this.#parameters
    const generation = this.#generation
    const { seq, root } = submission
    for (let tries = 1; tries <= maxDownloadTries; tries++) {
      try {
        const file = await fetchStream(submission, AbortSignal.any([signal, AbortSignal.timeout(downloadTimeoutMs)]))
        this.#lastError = undefined
        return file
      } catch (error) {
        if (signal.aborted || this.#historyChanged(generation, submission)) return undefined
        this.#lastError = failureText(submission, error)
        log.warn({ seq, root, tries, of: maxDownloadTries, err: error }, 'the data of a submission could not be had')
      }
      if (tries < maxDownloadTries) await this.#pause(retryIntervalMs, signal)
    }
    return undefined
  }

  /** Tries the first submission that was passed over; with its data at hand replay goes back to it. */
  async #repair(signal: AbortSignal): Promise<void> {
    const { store, fetchStream, downloadTimeoutMs, log } = this.#parameters
    const submission = store.firstWithResult(DOWNLOAD_FAILED)
    if (submission === undefined) return
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(downloadTimeoutMs)])
      await (await fetchStream(submission, limit))[Symbol.asyncDispose]()
    } catch (error) {
      this.#lastError = failureText(submission, error)
      return
    }
    if (store.result(submission.seq) !== DOWNLOAD_FAILED) return
    log.info({ seq: submission.seq }, 'the data of a passed-over submission are there: replaying from it')
    store.rewind(submission.seq)
  }

  async #idle(limitMs: number, signal: AbortSignal): Promise<void> {
    if (limitMs <= 0) return
    const stop = new AbortController()
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    const limit = this.#pause(limitMs, AbortSignal.any([signal, stop.signal]))
    await Promise.race([woken, limit])
    stop.abort()
  }

  async #pause(timeMs: number, signal: AbortSignal): Promise<void> {
    try {
      await delay(timeMs, undefined, { signal })
    } catch (cause) {
      if (!signal.aborted) throw new KvError({ code: 'KV_DOWNLOAD', message: 'waiting failed', cause })
    }
  }
}

function failureText({ seq, root }: LoggedSubmission, error: unknown): string {
  return `submission ${seq} (${root}): ${error instanceof Error ? error.message : String(error)}`
}
