import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { type KernelName, kernelNames } from './bind.ts'
import { KernelError } from './error.ts'
import { FIRST_FREE_ADDRESS, kernelMemory } from './memory.ts'
import {
  DONE,
  MAX_ARGUMENTS,
  RECORD_WORDS,
  RECORDS,
  RUNG,
  recordIndex,
  STATUS,
  type WorkerStart,
} from './pool-protocol.ts'
import { kernelModules } from './wasm.ts'

/** Workers a pool has unless told otherwise: one for each core, up to 16. */
export const DEFAULT_WORKERS = Math.min(availableParallelism(), 16)

/** Workers that may die before a pool gives up replacing them. */
const MAX_DEATHS = 8

/** A call to be repeated in a worker before it takes jobs; addresses as in its {@link PoolLayout}. */
export interface WarmUp {
  name: string
  arguments: number[]
  times: number
}

/** Addresses in a worker's memory. */
export interface PoolLayout {
  inputs: number[]
  outputs: number[]
  /** Scratch of the worker, shared by its slots because it runs one job at a time. */
  work: number
}

/** One memory for all workers, for kernels that keep nothing at fixed addresses. */
export interface SharedKernelMemory {
  memory: WebAssembly.Memory
  /** Address of the scratch of each worker: as many as there are workers. */
  works: readonly number[]
}

export interface KernelPoolParameters {
  /** The storage kernels unless others are given. */
  modules?: WebAssembly.Module[] | undefined
  /** Instead of a memory for each worker, with no bytes for slots, results and work. */
  shared?: SharedKernelMemory | undefined
  workers?: number | undefined
  /** Slots of each worker: two let one be filled while the other is computed. */
  slots?: number | undefined
  slotBytes: number
  resultBytes: number
  workBytes: number
  warmUp?: ((layout: PoolLayout) => WarmUp[]) | undefined
}

/** A piece of one worker's memory, held by one caller at a time. */
export interface KernelSlot<Name extends string = KernelName> {
  /** To be filled in place, also by `fs.read`: the worker computes on these very bytes. */
  readonly input: Uint8Array
  readonly inputAddress: number
  readonly output: Uint8Array
  readonly outputAddress: number
  readonly workAddress: number
  /**
   * Runs a kernel in the slot's worker, one job of a slot at a time.
   *
   * @throws KernelError `KERNEL_TRAP` for a bad address, `KERNEL_WORKER_DIED`
   */
  run(name: Name, ...values: number[]): Promise<void>
  /** Gives the slot back, once it does not run. Further calls do nothing. */
  release(): void
}

interface Job {
  at: number
  resolve: () => void
  reject: (reason: KernelError) => void
}

interface Lane {
  worker: Worker
  control: Int32Array
  bytes: Uint8Array
  /** Address of its scratch. */
  work: number
  rung: number
  done: number
  jobs: Job[]
  /** Numbers of the free slots. */
  free: number[]
  dead: KernelError | undefined
}

interface Waiter<Name extends string> {
  resolve: (slot: KernelSlot<Name>) => void
  reject: (reason: unknown) => void
}

/**
 * Kernels on worker threads. Each worker has one shared `WebAssembly.Memory`: callers put data straight into its slots
 * and it computes there, so that nothing is copied or sent. (One memory for all workers is only for kernels without
 * scratch at fixed addresses, which the storage kernels have.)
 *
 * Workers start when they are first needed and do not keep the process alive while idle. A worker that dies fails its
 * jobs and is replaced, up to eight times in the life of the pool.
 */
export class KernelPool<Name extends string = KernelName> {
  readonly workers: number
  readonly #slots: number
  readonly #slotBytes: number
  readonly #resultBytes: number
  readonly #layout: PoolLayout
  readonly #warmUp: WarmUp[]
  readonly #memoryBytes: number
  readonly #modules: WebAssembly.Module[]
  readonly #names: string[]
  readonly #shared: WebAssembly.Memory | undefined
  /** Scratch that no worker has, where the memory is shared. */
  readonly #works: number[]
  readonly #lanes = new Set<Lane>()
  readonly #starting = new Set<Worker>()
  readonly #waiters: Waiter<Name>[] = []
  #deaths = 0
  #lastDeath: KernelError | undefined
  #closed = false

  constructor({
    modules = kernelModules(),
    shared,
    workers = DEFAULT_WORKERS,
    slots = 2,
    slotBytes,
    resultBytes,
    workBytes,
    warmUp,
  }: KernelPoolParameters) {
    if (!Number.isInteger(workers) || workers < 1 || workers > 256) {
      throw new KernelError({
        code: 'KERNEL_INPUT',
        message: `a pool cannot have ${workers} workers`,
        fix: 'give a whole number from 1 to 256',
        details: { workers },
      })
    }
    this.workers = workers
    this.#slots = slots
    this.#slotBytes = slotBytes
    this.#resultBytes = resultBytes
    this.#layout = layOut({ slots, slotBytes, resultBytes })
    this.#memoryBytes = slots * (slotBytes + resultBytes) + workBytes
    this.#warmUp = warmUp?.(this.#layout) ?? []
    this.#modules = modules
    this.#names = kernelNames(modules)
    this.#shared = shared?.memory
    this.#works = [...(shared?.works ?? [])]
  }

  /** Workers that run now. */
  get running(): number {
    return this.#lanes.size
  }

  /**
   * A slot of the least busy worker, in the order of asking. To be released in a `finally`.
   *
   * @throws KernelError `KERNEL_POOL_CLOSED`, or `KERNEL_WORKER_DIED` when workers died too often
   */
  async claim(): Promise<KernelSlot<Name>> {
    const unusable = this.#unusable()
    if (unusable) throw unusable
    const lane = this.#freest()
    if (!lane || lane.free.length < this.#slots) void this.#startLane()
    if (lane && this.#waiters.length === 0) return this.#take(lane)
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  /** Starts every worker now; resolves when they are ready. */
  async warm(): Promise<void> {
    const starts: Promise<void>[] = []
    while (this.#lanes.size + this.#starting.size < this.workers) starts.push(this.#startLane() ?? Promise.resolve())
    await Promise.all(starts)
  }

  /** Refuses new claims, lets running jobs end, then stops the workers. Never fails. */
  async close(): Promise<void> {
    this.#closed = true
    for (const { reject } of this.#waiters.splice(0)) reject(closedError())
    const lanes = [...this.#lanes]
    const ends = lanes.flatMap(({ jobs }) =>
      jobs.map((job) => new Promise<void>((end) => Object.assign(job, endingWith(job, end)))),
    )
    await Promise.all(ends)
    const workers = [...this.#starting, ...lanes.map(({ worker }) => worker)]
    await Promise.all(workers.map((worker) => worker.terminate()))
  }

  #unusable(): KernelError | undefined {
    if (this.#closed) return closedError()
    return this.#deaths >= MAX_DEATHS ? this.#lastDeath : undefined
  }

  #freest(): Lane | undefined {
    let best: Lane | undefined
    for (const lane of this.#lanes) if (lane.free.length > (best?.free.length ?? 0)) best = lane
    return best
  }

  #take(lane: Lane): KernelSlot<Name> {
    const slot = lane.free.pop() ?? 0
    const inputAddress = this.#layout.inputs[slot] ?? 0
    const outputAddress = this.#layout.outputs[slot] ?? 0
    let held = true
    let busy = false
    return {
      input: lane.bytes.subarray(inputAddress, inputAddress + this.#slotBytes),
      inputAddress,
      output: lane.bytes.subarray(outputAddress, outputAddress + this.#resultBytes),
      outputAddress,
      workAddress: lane.work,
      run: async (name, ...values) => {
        if (!held || busy) {
          throw new KernelError({
            code: 'KERNEL_INPUT',
            message: 'a slot runs one job at a time, and only while it is held',
          })
        }
        busy = true
        try {
          await this.#run(lane, name, values)
        } finally {
          busy = false
        }
      },
      release: () => {
        if (!held) return
        held = false
        lane.free.push(slot)
        this.#serve()
      },
    }
  }

  #run(lane: Lane, name: Name, values: number[]): Promise<void> {
    if (lane.dead) return Promise.reject(lane.dead)
    if (this.#closed) return Promise.reject(closedError())
    const index = this.#names.indexOf(name)
    if (index < 0 || values.length > MAX_ARGUMENTS) {
      throw new KernelError({
        code: 'KERNEL_INPUT',
        message: `there is no kernel ${name} of ${values.length} arguments`,
      })
    }
    const { control, worker, jobs } = lane
    const at = recordIndex(lane.rung, ringSize(this.#slots))
    control.fill(0, at, at + RECORD_WORDS)
    control.set([index, ...values], at)
    if (jobs.length === 0) worker.ref()
    return new Promise((resolve, reject) => {
      jobs.push({ at, resolve, reject })
      lane.rung = (lane.rung + 1) | 0
      Atomics.store(control, RUNG, lane.rung) // publishes the record
      Atomics.notify(control, RUNG)
    })
  }

  /** Hands free slots to those who wait, oldest first. */
  #serve(): void {
    while (this.#waiters.length > 0) {
      const lane = this.#freest()
      if (!lane) return
      this.#waiters.shift()?.resolve(this.#take(lane))
    }
  }

  /** Starts one more worker if there may be more. */
  #startLane(): Promise<void> | undefined {
    if (this.#lanes.size + this.#starting.size >= this.workers || this.#unusable()) return undefined
    const memory = this.#shared ?? kernelMemory({ freeBytes: this.#memoryBytes })
    const ring = ringSize(this.#slots)
    const control = new Int32Array(new SharedArrayBuffer(4 * (RECORDS + ring * RECORD_WORDS)))
    const start: WorkerStart = { modules: this.#modules, memory, control, ring, warmUp: this.#warmUp }
    // A worker's own flags and environment would only be in the way: it does nothing but compute.
    const worker = new Worker(new URL('pool-worker.ts', import.meta.url), { workerData: start, execArgv: [], env: {} })
    this.#starting.add(worker)
    const lane: Lane = {
      worker,
      control,
      bytes: new Uint8Array(memory.buffer),
      work: this.#works.pop() ?? this.#layout.work,
      rung: 0,
      done: 0,
      jobs: [],
      free: Array.from({ length: this.#slots }, (_, i) => i),
      dead: undefined,
    }
    return new Promise((resolve) => {
      const started = () => {
        this.#starting.delete(worker)
        resolve()
      }
      worker.once('message', () => {
        started()
        if (this.#closed) return // close() stops it
        this.#lanes.add(lane)
        worker.unref()
        void this.#drain(lane)
        this.#serve()
      })
      worker.on('error', (cause) => {
        started()
        this.#bury(lane, cause)
      })
      worker.on('exit', () => {
        started()
        this.#bury(lane)
      })
    })
  }

  /** A worker has ended: fail its jobs, and start another for those who wait. */
  #bury(lane: Lane, cause?: unknown): void {
    if (lane.dead) return
    lane.dead = this.#closed
      ? closedError()
      : new KernelError({
          code: 'KERNEL_WORKER_DIED',
          message: 'a kernel worker stopped unexpectedly',
          fix: 'try again; if it happens again, look for memory limits on the process',
          details: { deaths: this.#deaths + 1, limit: MAX_DEATHS },
          cause,
        })
    this.#lanes.delete(lane)
    if (this.#shared) this.#works.push(lane.work)
    lane.free.length = 0
    for (const { reject } of lane.jobs.splice(0)) reject(lane.dead)
    if (this.#closed) return
    this.#deaths++
    this.#lastDeath = lane.dead
    const unusable = this.#unusable()
    if (unusable) for (const { reject } of this.#waiters.splice(0)) reject(unusable)
    else if (this.#waiters.length > 0) this.#startLane()
  }

  /** Settles jobs as their worker counts them done. */
  async #drain(lane: Lane): Promise<void> {
    const { control, worker, jobs } = lane
    while (!lane.dead) {
      const wait = Atomics.waitAsync(control, DONE, lane.done)
      if (wait.async) await wait.value // alone this would not keep the process alive: a worker with jobs does
      for (const done = Atomics.load(control, DONE); lane.done !== done; lane.done = (lane.done + 1) | 0) {
        const job = jobs.shift()
        if (!job) continue
        if (jobs.length === 0) worker.unref()
        if (control[job.at + STATUS] === 0) job.resolve()
        else job.reject(new KernelError({ code: 'KERNEL_TRAP', message: 'a kernel was given a bad address' }))
      }
    }
  }
}

function layOut({
  slots,
  slotBytes,
  resultBytes,
}: {
  slots: number
  slotBytes: number
  resultBytes: number
}): PoolLayout {
  const inputs = Array.from({ length: slots }, (_, i) => FIRST_FREE_ADDRESS + i * slotBytes)
  const first = FIRST_FREE_ADDRESS + slots * slotBytes
  const outputs = Array.from({ length: slots }, (_, i) => first + i * resultBytes)
  return { inputs, outputs, work: first + slots * resultBytes }
}

/** A power of two, so that job numbers may wrap at 2^32. */
function ringSize(slots: number): number {
  return 2 ** Math.ceil(Math.log2(slots))
}

/** Lets `end` know when the job is settled, either way. */
function endingWith({ resolve, reject }: Job, end: () => void): Pick<Job, 'resolve' | 'reject'> {
  return {
    resolve: () => {
      resolve()
      end()
    },
    reject: (reason) => {
      reject(reason)
      end()
    },
  }
}

function closedError(): KernelError {
  return new KernelError({ code: 'KERNEL_POOL_CLOSED', message: 'the kernel pool is closed' })
}
