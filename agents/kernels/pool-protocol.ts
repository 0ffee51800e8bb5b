/**
 * How a pool and its workers talk, by Atomics on one Int32Array (about 5 µs a round trip; postMessage takes 18). The
 * pool writes job records into a ring and rings the bell; the worker works through them and counts what is done.
 */

/** Index of the doorbell: jobs given so far, modulo 2^32. */
export const RUNG = 0

/** Index of the completion counter: jobs finished so far, modulo 2^32. */
export const DONE = 1

/** Index of the first job record. */
export const RECORDS = 16

/** Words of a job record: index of the kernel, arguments, status. */
export const RECORD_WORDS = 16

/** Arguments of a kernel, at most. */
export const MAX_ARGUMENTS = RECORD_WORDS - 2

/** Word of the status in a record: 0 returned, 1 trapped. */
export const STATUS = RECORD_WORDS - 1

/** Index of the record of job number `job`; `ring` is a power of two, so that the counters may wrap. */
export function recordIndex(job: number, ring: number): number {
  return RECORDS + ((job >>> 0) % ring) * RECORD_WORDS
}

/** What a worker is given to begin with. */
export interface WorkerStart {
  modules: WebAssembly.Module[]
  memory: WebAssembly.Memory
  control: Int32Array
  ring: number
  /** Run before the worker reports ready, so that the optimising compiler has met the kernel. */
  warmUp: { name: string; arguments: number[]; times: number }[]
}
