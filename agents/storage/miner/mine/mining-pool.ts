import { Worker } from 'node:worker_threads'
import type { Logger } from '#kit/log.ts'
import type { ChunkMap } from '../store/chunk-map.ts'
import {
  COUNTERS,
  type FromMiningWorker,
  type Hit,
  type MiningCounts,
  type MiningTask,
  type MiningWorkerStart,
  type ToMiningWorker,
} from './mining-task.ts'

export interface MiningPoolParameters {
  threads: number
  sealedDir: string
  map: ChunkMap
  cpuPercent: number
  log: Logger
  onHit: (hit: Hit) => void
  onUnreadable: (chunk: number, reason: string) => void
}

/** Pause before a thread that died is started again; doubles up to the second. */
const RESTART_MIN_MS = 500
const RESTART_MAX_MS = 60_000

/** The threads that mine. All work on the same task with nonces of their own. */
export class MiningPool {
  readonly #parameters: MiningPoolParameters
  readonly #workers = new Map<number, Worker>()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #counters: SharedArrayBuffer[]
  #task: MiningTask | undefined
  #closed = false

  constructor(parameters: MiningPoolParameters) {
    this.#parameters = parameters
    const bytes = COUNTERS.length * BigUint64Array.BYTES_PER_ELEMENT
    this.#counters = Array.from({ length: parameters.threads }, () => new SharedArrayBuffer(bytes))
    for (let i = 0; i < parameters.threads; i++) this.#start(i, RESTART_MIN_MS)
  }

  /** Threads that run now. */
  get running(): number {
    return this.#workers.size
  }

  get task(): MiningTask | undefined {
    return this.#task
  }

  /** Gives all threads something else to do, or nothing; they change over between two batches. */
  setTask(task: MiningTask | undefined): void {
    if (task === undefined && this.#task === undefined) return
    this.#task = task
    for (const worker of this.#workers.values()) this.#tell(worker, { type: 'task', task })
  }

  counts(): MiningCounts {
    const views = this.#counters.map((buffer) => new BigUint64Array(buffer))
    const sums = COUNTERS.map((name, i) => [name, views.reduce((sum, view) => sum + Number(Atomics.load(view, i)), 0)])
    return Object.fromEntries(sums) as MiningCounts
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all([...this.#workers.values()].map((worker) => worker.terminate()))
  }

  #tell(worker: Worker, message: ToMiningWorker): void {
    worker.postMessage(message)
  }

  #start(index: number, pauseMs: number): void {
    const { sealedDir, map, cpuPercent, log, onHit, onUnreadable } = this.#parameters
    const counters = this.#counters[index]
    if (this.#closed || !counters) return
    const start: MiningWorkerStart = { sealedDir, map: map.buffer, counters, cpuPercent }
    const worker = new Worker(new URL('./mining-worker.ts', import.meta.url), { workerData: start })
    this.#workers.set(index, worker)
    let ready = false
    worker.on('message', (message: FromMiningWorker) => {
      if (message.type === 'ready') {
        ready = true
        if (this.#task) this.#tell(worker, { type: 'task', task: this.#task })
      } else if (message.type === 'hit') onHit(message.hit)
      else onUnreadable(message.chunk, message.reason)
    })
    worker.on('error', (error) => log.error({ err: error, thread: index }, 'a mining thread failed'))
    worker.on('exit', () => {
      this.#workers.delete(index)
      if (this.#closed) return
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        this.#start(index, Math.min(ready ? RESTART_MIN_MS : 2 * pauseMs, RESTART_MAX_MS))
      }, pauseMs)
      this.#timers.add(timer)
    })
  }
}
