import { setTimeout as delay } from 'node:timers/promises'
import type { RowVerifier } from '#protocol/da/blob-codec.ts'
import type { BlobHeader } from '#protocol/da/commitment.ts'
import { BlobUnavailableError, codeOf, reasonOf, type SignerFailure } from './errors.ts'
import type { DaListener } from './events.ts'
import { RowPlan, type RowTask } from './row-plan.ts'
import { verifiedRows } from './row-stream.ts'
import type { BlobAddress, SignerHttp } from './signer-http.ts'

/** A signer that may hold rows. */
export interface RowSource {
  address: `0x${string}`
  url: string
  http: SignerHttp
  firstRow: number
  rowCount: number
  /** Its signature is on the chain: it said that it holds its rows. */
  signed: boolean
}

export interface CollectRowsParameters {
  blob: BlobAddress
  header: BlobHeader
  verifier: RowVerifier
  sources: readonly RowSource[]
  /** Distinct rows wanted. */
  needRows: number
  hedgeMs: number
  attempts: number
  width: number
  signal: AbortSignal
  onEvent?: DaListener | undefined
}

/** Verified rows by index, who gave them, and who failed. */
export interface CollectedRows {
  rows: Map<number, Uint8Array>
  /** Rows by signer's address. */
  servedBy: Map<string, number>
  failures: SignerFailure[]
}

interface Running {
  task: RowTask
  /** Rows of it that have come. */
  got: number
  movedAt: number
  done: boolean
}

/** Failures that may pass, so that a second try makes sense. */
export const PASSING_FAILURES: ReadonlySet<string> = new Set([
  'SIGNER_UNREACHABLE',
  'SIGNER_TIMEOUT',
  'SIGNER_BUSY',
  'HTTP_RATE_LIMIT',
  'SIGNER_REFUSED',
])
const RETRY_PAUSE_MS = 200

/**
 * Gathers so many distinct verified rows. All holders of data rows are asked at once; where one fails, lags or lies,
 * others are asked for as many parity rows, and whoever is first counts.
 *
 * @throws BlobUnavailableError when nobody is left to ask; the signal's reason
 */
export async function collectRows(parameters: CollectRowsParameters): Promise<CollectedRows> {
  return new Collector(parameters).run()
}

class Collector {
  readonly #options: CollectRowsParameters
  readonly #plan: RowPlan
  readonly #rows = new Map<number, Uint8Array>()
  readonly #servedBy = new Map<string, number>()
  readonly #failures = new Map<number, SignerFailure>()
  /** Failed tries by source; a source with as many as allowed is given up. */
  readonly #tries: number[]
  readonly #queue: RowTask[] = []
  readonly #running = new Set<Running>()
  readonly #stop = new AbortController()
  #wake: () => void = () => {}

  constructor(options: CollectRowsParameters) {
    this.#options = options
    this.#plan = new RowPlan({ holders: options.sources, needRows: options.needRows })
    this.#tries = options.sources.map(() => 0)
  }

  async run(): Promise<CollectedRows> {
    const { signal, needRows, sources, blob } = this.#options
    const onAbort = (): void => this.#wake()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      this.#queue.push(...this.#plan.dataTasks((holder) => sources[holder]?.signed === true))
      while (this.#rows.size < needRows) {
        signal.throwIfAborted()
        this.#fill()
        if (this.#running.size === 0 && this.#queue.length === 0) {
          const failures = [...this.#failures.values()]
          throw new BlobUnavailableError({ dataRoot: blob.dataRoot, haveRows: this.#rows.size, needRows, failures })
        }
        await this.#news()
      }
      return { rows: this.#rows, servedBy: this.#servedBy, failures: [...this.#failures.values()] }
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#stop.abort(new DOMException('enough rows are here', 'AbortError'))
      await Promise.allSettled([...this.#running].map((running) => this.#ended.get(running)))
    }
  }

  readonly #ended = new Map<Running, Promise<void>>()

  /** Starts what is queued, and asks for more where what is under way will not do. */
  #fill(): void {
    const { needRows, hedgeMs, width, sources } = this.#options
    const now = performance.now()
    let expected = this.#rows.size + this.#queue.reduce((sum, { from, to }) => sum + to - from, 0)
    for (const { task, got, movedAt } of this.#running) {
      if (now - movedAt < hedgeMs) expected += Math.max(0, task.to - task.from - got)
    }
    const isUsable = (holder: number): boolean => {
      if ((this.#tries[holder] ?? 0) > 0) return false
      return ![...this.#running].some(({ task, movedAt }) => task.holder === holder && now - movedAt >= hedgeMs)
    }
    let missing = needRows - expected
    // First those that have signed, then the others, then those that failed before in a way that may pass.
    for (const choose of [
      (holder: number) => isUsable(holder) && sources[holder]?.signed === true,
      isUsable,
      (holder: number) => this.#mayTryAgain(holder),
    ]) {
      if (missing <= 0) break
      const tasks = this.#plan.moreTasks(missing, choose)
      missing -= tasks.reduce((sum, { from, to }) => sum + to - from, 0)
      this.#queue.push(...tasks)
    }
    // A transfer that does not move takes nobody's place.
    let moving = [...this.#running].filter(({ movedAt }) => now - movedAt < hedgeMs).length
    while (moving < width) {
      const task = this.#queue.shift()
      if (task === undefined) break
      this.#start(task)
      moving += 1
    }
  }

  #mayTryAgain(holder: number): boolean {
    const tries = this.#tries[holder] ?? 0
    return tries > 0 && tries < this.#options.attempts && PASSING_FAILURES.has(this.#failures.get(holder)?.code ?? '')
  }

  #start(task: RowTask): void {
    const running: Running = { task, got: 0, movedAt: performance.now(), done: false }
    this.#running.add(running)
    const ended = this.#fetch(running).finally(() => {
      running.done = true
      this.#running.delete(running)
      this.#ended.delete(running)
      this.#wake()
    })
    this.#ended.set(running, ended)
  }

  async #fetch(running: Running): Promise<void> {
    const { blob, header, verifier, sources, needRows, signal, onEvent } = this.#options
    const { holder, from, to } = running.task
    const source = sources[holder]
    if (source === undefined) return
    const limit = AbortSignal.any([signal, this.#stop.signal])
    let next = from
    try {
      const tries = this.#tries[holder] ?? 0
      if (tries > 0) await delay(RETRY_PAUSE_MS * 2 ** tries, undefined, { signal: limit })
      for await (const rows of verifiedRows({ http: source.http, blob, header, verifier, from, to, signal: limit })) {
        running.movedAt = performance.now()
        for (const { index, data } of rows) {
          running.got += 1
          next = index + 1
          if (this.#rows.size >= needRows || this.#rows.has(index)) continue
          this.#rows.set(index, data)
          this.#servedBy.set(source.address, (this.#servedBy.get(source.address) ?? 0) + 1)
        }
        onEvent?.({ type: 'receiving', doneRows: this.#rows.size, totalRows: needRows })
        this.#wake()
      }
      if (running.got < to - from) {
        throw Object.assign(new Error(`it left out ${to - from - running.got} of ${to - from} rows`), {
          code: 'ROWS_MISSING',
        })
      }
    } catch (error) {
      if (limit.aborted) return
      this.#fail({ holder, source, error })
      this.#plan.reopen(next, to)
    }
  }

  #fail({ holder, source, error }: { holder: number; source: RowSource; error: unknown }): void {
    this.#tries[holder] = (this.#tries[holder] ?? 0) + 1
    const failure = { signer: source.address, url: source.url, code: codeOf(error), reason: reasonOf(error) }
    this.#failures.set(holder, failure)
    const final = !this.#mayTryAgain(holder)
    this.#options.onEvent?.({ type: 'signer-failed', ...failure, final })
  }

  /** Until something comes, or a signer has been silent for long. */
  async #news(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(20, this.#options.hedgeMs / 4))
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
