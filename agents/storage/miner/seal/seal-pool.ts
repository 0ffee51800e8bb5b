import { Worker } from 'node:worker_threads'
import { MinerError } from '../error.ts'
import type { FromSealWorker, SealJob, SealWorkerStart, ToSealWorker } from './seal-job.ts'

interface Lane {
  worker: Worker
  jobs: Map<number, PromiseWithResolvers<void>>
}

/** Threads that verify, seal and write. A thread that dies fails its jobs and is replaced. */
export class SealPool {
  readonly threads: number
  readonly #start: SealWorkerStart
  readonly #lanes = new Set<Lane>()
  #nextId = 0
  #closed = false

  constructor({ threads, sealedDir }: { threads: number; sealedDir: string }) {
    this.threads = threads
    this.#start = { sealedDir }
  }

  /**
   * Seals one chunk into the sealed copy; the segment's data is given away. Not durable yet when it resolves.
   *
   * @throws MinerError `MINER_SEGMENT` for false data, `MINER_SEALED` when it cannot be written, `MINER_WORKER`
   */
  async seal(job: SealJob): Promise<void> {
    if (this.#closed) throw new MinerError({ code: 'MINER_WORKER', message: 'the miner is stopping' })
    const lane = this.#freest()
    const id = this.#nextId++
    const result = Promise.withResolvers<void>()
    lane.jobs.set(id, result)
    const message: ToSealWorker = { id, job }
    lane.worker.postMessage(message, [job.segment.data.buffer as ArrayBuffer])
    return result.promise
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#lanes].map(({ worker }) => worker.terminate()))
  }

  #freest(): Lane {
    const idle = [...this.#lanes].sort((a, b) => a.jobs.size - b.jobs.size)[0]
    if (idle && (idle.jobs.size === 0 || this.#lanes.size >= this.threads)) return idle
    return this.#startLane()
  }

  #startLane(): Lane {
    const worker = new Worker(new URL('./seal-worker.ts', import.meta.url), { workerData: this.#start })
    const lane: Lane = { worker, jobs: new Map() }
    this.#lanes.add(lane)
    worker.on('message', (message: FromSealWorker) => {
      if (message.type === 'ready') return
      const job = lane.jobs.get(message.id)
      lane.jobs.delete(message.id)
      if (message.type === 'sealed') job?.resolve()
      else job?.reject(new MinerError({ code: message.code, message: message.message }))
    })
    let cause: unknown
    worker.on('error', (error) => {
      cause = error
    })
    worker.on('exit', () => {
      this.#lanes.delete(lane)
      for (const job of lane.jobs.values()) {
        job.reject(new MinerError({ code: 'MINER_WORKER', message: 'a sealing thread ended', cause }))
      }
    })
    return lane
  }
}
