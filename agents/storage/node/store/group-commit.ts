import type { Database } from '#kit/sqlite.ts'
import { NodeError, reasonOf } from '../error.ts'
import { diskFull, type SlotFiles, type SlotRef } from './slot-files.ts'

interface Waiting {
  ref: SlotRef
  bytes: number
  apply: () => void
  /** After the commit: what must follow at once, and the promise. */
  resolve: () => void
  reject: (error: unknown) => void
}

interface AddParameters<T> {
  ref: SlotRef
  bytes: number
  apply: () => T
  committed: (result: T) => void
}

/** What one commit carried, for metrics. */
export interface CommitReport {
  pieces: number
  bytes: number
  syncMs: number
  transactionMs: number
}

const SQLITE_FULL = 13

/**
 * Joins writes that arrive while a sync is running into the next one: data files first, then one database transaction
 * for all of them. A promise is resolved only when data and row are both durable.
 */
export class GroupCommit {
  readonly #database: Database
  readonly #files: SlotFiles
  readonly #onCommit: ((report: CommitReport) => void) | undefined
  #waiting: Waiting[] = []
  #running: Promise<void> | undefined

  constructor(parts: { database: Database; files: SlotFiles; onCommit?: (report: CommitReport) => void }) {
    this.#database = parts.database
    this.#files = parts.files
    this.#onCommit = parts.onCommit
  }

  /**
   * Waits until the written slot is durable, then runs `apply` inside a transaction; done when that is durable.
   * `committed` runs in the same step as the commit, before anything else can.
   */
  add<T>({ ref, bytes, apply, committed }: AddParameters<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: { value: T } | undefined
      this.#waiting.push({
        ref,
        bytes,
        apply: () => {
          result = { value: apply() }
        },
        resolve: () => {
          if (!result) return
          committed(result.value)
          resolve(result.value)
        },
        reject,
      })
      this.#running ??= this.#run()
    })
  }

  /** Waits for what is under way. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running
  }

  async #run(): Promise<void> {
    for (let batch = this.#take(); batch.length > 0; batch = this.#take()) await this.#commit(batch)
    // In the same step as the last look: a write that comes now starts a new run.
    this.#running = undefined
  }

  #take(): Waiting[] {
    const batch = this.#waiting
    this.#waiting = []
    return batch
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    try {
      const start = performance.now()
      await this.#files.sync(batch.map(({ ref }) => ref))
      const synced = performance.now()
      this.#database.transaction(() => {
        for (const { apply } of batch) apply()
      })
      const transactionMs = performance.now() - synced
      for (const { resolve } of batch) resolve()
      const bytes = batch.reduce((sum, item) => sum + item.bytes, 0)
      this.#onCommit?.({ pieces: batch.length, bytes, syncMs: synced - start, transactionMs })
    } catch (error) {
      const described = databaseError(error)
      for (const { reject } of batch) reject(described)
    }
  }
}

/** Gives a failed database step the codes of the disk. */
export function databaseError(error: unknown): unknown {
  const result: unknown = error instanceof Error ? Reflect.get(error, 'errcode') : undefined
  if (typeof result !== 'number') return error
  if ((result & 0xff) === SQLITE_FULL) return diskFull({ cause: error })
  return new NodeError({
    code: 'DISK_FAILURE',
    message: `the database failed: ${reasonOf(error)}`,
    fix: 'check the disk that holds the data folder',
    details: { sqliteCode: result },
    cause: error,
  })
}
