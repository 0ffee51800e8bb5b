import { WeightlessError } from '#protocol/error.ts'

/** What was encoded or decoded was not right, so that no figure means anything (code `BENCH_MISMATCH`). */
export class DaBenchError extends WeightlessError {}

/** Bytes of the largest blob. */
export const BLOB_BYTES = 32 * 1024 * 1024

/** Best times of a job that runs alone, in milliseconds. */
export interface BestTimes {
  /** By the clock. */
  wallMs: number
  /** Processor time of all threads of this process: what other work on the machine does to it least. */
  cpuMs: number
}

/** Runs a job `rounds` times and takes the best of both times, which need not be of the same round. */
export async function bestTimes({ rounds, signal, job }: BestTimesParameters): Promise<BestTimes> {
  const best = { wallMs: Number.POSITIVE_INFINITY, cpuMs: Number.POSITIVE_INFINITY }
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    const cpu = process.cpuUsage()
    const start = performance.now()
    await job()
    best.wallMs = Math.min(best.wallMs, performance.now() - start)
    const { user, system } = process.cpuUsage(cpu)
    best.cpuMs = Math.min(best.cpuMs, (user + system) / 1000)
  }
  return best
}

export interface BestTimesParameters {
  rounds: number
  signal: AbortSignal
  job: () => Promise<unknown> | unknown
}

/** MB/s (10^6 bytes). */
export function megabytesPerSecond(bytes: number, ms: number): number {
  return bytes / 1e6 / (ms / 1000)
}

/** MB per second of processor time, rounded, for the details of a figure. */
export function perCpuSecond(bytes: number, { cpuMs }: BestTimes): number {
  return Math.round(megabytesPerSecond(bytes, cpuMs))
}

/** Row numbers 0 to 3071 in an order that the seed decides. */
export function shuffledRows(seed: number): number[] {
  let state = seed
  const keyed = Array.from({ length: 3072 }, (_, index) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0
    return { index, key: state }
  })
  return keyed.sort((a, b) => a.key - b.key).map(({ index }) => index)
}
