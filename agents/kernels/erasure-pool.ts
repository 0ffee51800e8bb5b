import { type ErasureKernelName, erasureModules } from './erasure-kernels.ts'
import { KernelError } from './error.ts'
import { power } from './gf16-twin.ts'
import { DEFAULT_WORKERS, KernelPool } from './kernel-pool.ts'
import { locatorLogarithms } from './locator.ts'
import { FIRST_FREE_ADDRESS, kernelMemory } from './memory.ts'
import { type AllocateParameters, type Region, SharedArena } from './shared-arena.ts'

export type { Region } from './shared-arena.ts'

const KIB = 1024
const MIB = KIB * KIB

/** Memory of a pool unless told otherwise: three blobs of 32 MiB, with their parity, at a time. */
const DEFAULT_MEMORY_BYTES = 320 * MIB

/** Points a code may have: one for each multiplication table. */
const MAX_POINTS = 4096
const TABLE_BYTES = 128

/** Columns that are encoded or decoded together: their scratch fits the second-level cache. */
const ENCODE_WIDTH = 512
const DECODE_WIDTH = 256

/** Scratch of a worker: decoding needs most, 4096 + 1024 slots. */
const WORK_BYTES = (MAX_POINTS + MAX_POINTS / 4) * DECODE_WIDTH

/** Addresses every worker reads. */
const FIELD = FIRST_FREE_ADDRESS
const TABLES = FIELD + 256 * KIB
const BITS = TABLES + MAX_POINTS * TABLE_BYTES
const WORKS = BITS + 16 * TABLE_BYTES

/** Below this a hand-off costs more than it brings. */
const MIN_PIECE_BYTES = 128 * KIB

/** Above this one job would keep a worker too long from others' jobs: about 20 ms. */
const MAX_PIECE_BYTES = 4 * MIB

/** Bytes of the combination of a row. */
export const COMBINATION_BYTES = 16

/** Longest row: the hashes of its sub-lines, eight rows at a time, have their place in the scratch of a worker. */
const MAX_ROW_BYTES = 32 * KIB

const HASH_BYTES = 32
const GROUP_BYTES = 64

/** Addresses and lengths of rows in the memory of the pool. */
export interface Rows {
  /** Address of the first row; the others follow. */
  address: number
  /** Bytes of a row: a multiple of 64. */
  rowBytes: number
  count: number
}

/** Data rows followed by their parity rows. */
export interface CodedRows {
  address: number
  rowBytes: number
  /** K = 2^log2Data data rows. */
  log2Data: number
  /** All rows are `cosets` times K, 4096 at most. */
  cosets: number
  signal?: AbortSignal | undefined
}

/**
 * Erasure coding, row combinations and SHA-256 trees on worker threads that share one memory of fixed size. Callers
 * allocate regions of it, put their data there and name addresses; nothing is copied or sent. Who finds no room waits.
 *
 * Workers start when they are first needed and do not keep the process alive while idle.
 */
export class ErasurePool {
  readonly #pool: KernelPool<ErasureKernelName>
  readonly #arena: SharedArena
  readonly #bytes: Uint8Array

  /**
   * Compiles the kernels and fills the tables (10 ms, on a worker).
   *
   * @param workers threads, 1 to 256; one for each core up to 16 unless given
   * @param memoryBytes for regions; 320 MiB unless given. Pages are taken from the system when first used
   * @throws KernelError `KERNELS_NOT_BUILT`, `KERNEL_INPUT`, `KERNEL_WORKER_DIED`
   */
  static async create({ workers, memoryBytes }: ErasurePoolParameters = {}): Promise<ErasurePool> {
    const pool = new ErasurePool({ workers, memoryBytes })
    try {
      await pool.#run('initErasure', () => [FIELD, TABLES, MAX_POINTS, BITS])
    } catch (error) {
      await pool.close()
      throw error
    }
    return pool
  }

  private constructor({ workers = DEFAULT_WORKERS, memoryBytes = DEFAULT_MEMORY_BYTES }: ErasurePoolParameters) {
    const works = Array.from({ length: Math.max(0, Math.min(workers, 256)) }, (_, i) => WORKS + i * WORK_BYTES)
    const start = WORKS + works.length * WORK_BYTES
    const memory = kernelMemory({ freeBytes: start - FIRST_FREE_ADDRESS + memoryBytes })
    this.#arena = new SharedArena({ memory, start })
    this.#bytes = new Uint8Array(memory.buffer)
    this.#pool = new KernelPool<ErasureKernelName>({
      modules: erasureModules(),
      shared: { memory, works },
      workers,
      slotBytes: 0,
      resultBytes: 0,
      workBytes: 0,
    })
  }

  /** Threads the pool may have. */
  get workers(): number {
    return this.#pool.workers
  }

  /** Bytes of the memory that nobody holds. */
  get freeBytes(): number {
    return this.#arena.freeBytes
  }

  /** A region of the memory. @throws KernelError, the reason of `signal`: see {@link SharedArena.allocate} */
  allocate(parameters: AllocateParameters): Promise<Region> {
    return this.#arena.allocate(parameters)
  }

  /** Writes the parity rows behind the data rows. */
  async encode({ address, rowBytes, log2Data, cosets, signal }: CodedRows): Promise<void> {
    checkRows({ rowBytes, count: cosets << log2Data })
    const parity = address + (rowBytes << log2Data)
    const width = Math.min(ENCODE_WIDTH, rowBytes)
    await this.#split({ units: Math.ceil(rowBytes / width), bytes: rowBytes << log2Data, signal }, (from, to) => ({
      name: 'encodeColumns',
      values: (work) => [
        ...[address, parity, log2Data, cosets, rowBytes],
        ...[from * width, Math.min(to * width, rowBytes), width, work, TABLES],
      ],
    }))
  }

  /**
   * Writes the missing data rows into their places. `present[i]` tells whether row i is there; at least K must be, and
   * exactly K of them should be marked, for speed. At `scratch`, {@link decodeScratchBytes} are needed.
   *
   * @throws KernelError `KERNEL_INPUT` for too few rows
   */
  async decode({ address, rowBytes, log2Data, cosets, present, scratch, signal }: DecodeParameters): Promise<void> {
    checkRows({ rowBytes, count: cosets << log2Data })
    const dataRows = 1 << log2Data
    const points = cosets * dataRows
    const log2Points = Math.ceil(Math.log2(points))
    const missing = new Uint8Array(1 << log2Points).fill(1)
    for (let point = 0; point < points; point++) if (present[point] === true) missing[point] = 0
    const count = missing.reduce((sum, isMissing) => sum + 1 - isMissing, 0)
    if (count < dataRows) {
      throw new KernelError({
        code: 'KERNEL_INPUT',
        message: `${count} rows do not decode`,
        fix: `give ${dataRows} rows`,
        details: { count, limit: dataRows },
      })
    }
    const layout = decodeLayout({ dataRows, points })
    const buffer = this.#bytes.buffer
    const rowAddresses = new Uint32Array(buffer, scratch + layout.rows, points)
    const outAddresses = new Uint32Array(buffer, scratch + layout.out, dataRows)
    const labels = new Uint16Array(buffer, scratch + layout.labels, points)
    const locator = locatorLogarithms(missing)
    for (let point = 0; point < points; point++) {
      const log = locator[point] ?? 0
      const isMissing = missing[point] === 1
      const row = address + point * rowBytes
      rowAddresses[point] = isMissing ? 0 : row
      labels[point] = power(isMissing ? -log : log)
      if (point < dataRows) outAddresses[point] = isMissing ? row : 0
    }
    const weights = scratch + layout.weights
    await this.#run('buildTablesOf', () => [FIELD, scratch + layout.labels, points, weights], signal)
    const width = Math.min(DECODE_WIDTH, rowBytes)
    await this.#split({ units: Math.ceil(rowBytes / width), bytes: rowBytes << log2Data, signal }, (from, to) => ({
      name: 'decodeColumns',
      values: (work) => [
        ...[scratch + layout.rows, scratch + layout.out, log2Data, points, log2Points],
        ...[from * width, Math.min(to * width, rowBytes), width, weights, work, TABLES],
      ],
    }))
  }

  /** Writes the hash of every row, the root over its sub-lines of 1 KiB, to `leaves` (32 bytes each). */
  async hashRows({ address, rowBytes, count, leaves, signal }: HashRowsParameters): Promise<void> {
    checkRows({ rowBytes, count })
    await this.#split({ units: Math.ceil(count / 8), bytes: count * rowBytes, signal }, (from, to) => ({
      name: 'hashRows',
      values: (work) => [
        ...[address + 8 * from * rowBytes, rowBytes, Math.min(8 * to, count) - 8 * from],
        ...[leaves + 8 * from * HASH_BYTES, work],
      ],
    }))
  }

  /** Writes all levels above `count` hashes, each behind the one below, and returns the address of the last, the root. */
  async foldTree({ level, count, signal }: FoldTreeParameters): Promise<number> {
    await this.#run('foldTree', (work) => [level, count, work], signal)
    return level + HASH_BYTES * (treeHashes(count) - 1)
  }

  /** Hashes combinations as leaves, to `leaves`. */
  async hashCombinations({ address, count, leaves, signal }: HashCombinationsParameters): Promise<void> {
    await this.#run('hashCombinations', (work) => [address, count, leaves, work], signal)
  }

  /** Replaces hashes at `nodes` by the roots their paths lead to; see the kernel for `turns`. */
  async climb({ nodes, count, paths, pathBytes, turns, signal }: ClimbParameters): Promise<void> {
    await this.#split({ units: Math.ceil(count / 8), bytes: count * pathBytes * 4, signal }, (from, to) => ({
      name: 'climb',
      values: (work) => [
        ...[nodes + 8 * from * HASH_BYTES, Math.min(8 * to, count) - 8 * from],
        ...[paths + 8 * from * pathBytes, pathBytes, turns + 4 * 8 * from, work],
      ],
    }))
  }

  /**
   * The combinations of rows, 16 bytes each, to `sums`: there {@link combinationScratchBytes} are needed. `coefficients`
   * is the address of 16 bytes for every symbol of a row.
   */
  async combine({ address, rowBytes, count, coefficients, sums, signal }: CombineParameters): Promise<void> {
    checkRows({ rowBytes, count })
    const groups = rowBytes / GROUP_BYTES
    const sumBytes = count * COMBINATION_BYTES
    const units = Math.min(MAX_COMBINE_PIECES, Math.ceil(groups / 8))
    const unit = Math.ceil(groups / units / 8) * 8
    const parts: number[] = []
    await this.#split({ units, bytes: count * rowBytes, signal }, (from, to) => {
      const part = sums + parts.length * sumBytes
      parts.push(part)
      const [first, last] = [Math.min(from * unit, groups), Math.min(to * unit, groups)]
      return {
        name: 'combineRows',
        values: (work) => [BITS, coefficients, address, rowBytes, count, first, last, part, work],
      }
    })
    const total = new Uint32Array(this.#bytes.buffer, sums, sumBytes / 4)
    for (const part of parts.slice(1)) {
      const words = new Uint32Array(this.#bytes.buffer, part, sumBytes / 4)
      for (let i = 0; i < total.length; i++) total[i] = (total[i] ?? 0) ^ (words[i] ?? 0)
    }
  }

  /** Refuses new work, lets running jobs end, then stops the workers. */
  async close(): Promise<void> {
    this.#arena.close()
    await this.#pool.close()
  }

  async #run(name: ErasureKernelName, values: (work: number) => number[], signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const slot = await this.#pool.claim()
    try {
      signal?.throwIfAborted()
      await slot.run(name, ...values(slot.workAddress))
    } finally {
      slot.release()
    }
  }

  /**
   * Runs `units` of work in several jobs and waits for all of them, also when one fails: their memory must not be given
   * back while others still write to it.
   */
  async #split({ units, bytes, signal }: SplitParameters, job: (from: number, to: number) => Job): Promise<void> {
    signal?.throwIfAborted()
    const wanted = Math.max(this.workers * 4, bytes / MAX_PIECE_BYTES)
    const pieces = Math.max(1, Math.min(units, Math.floor(Math.min(wanted, bytes / MIN_PIECE_BYTES))))
    const jobs = Array.from({ length: pieces }, (_, i) => {
      return job(Math.floor((units * i) / pieces), Math.floor((units * (i + 1)) / pieces))
    })
    const ends = await Promise.allSettled(jobs.map(({ name, values }) => this.#run(name, values, signal)))
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }
}

/** Refuses rows for which a worker's scratch does not suffice. */
function checkRows({ rowBytes, count }: { rowBytes: number; count: number }): void {
  const fits = rowBytes % GROUP_BYTES === 0 && rowBytes > 0 && rowBytes <= MAX_ROW_BYTES
  if (fits && Number.isInteger(count) && count > 0 && count <= MAX_POINTS) return
  throw new KernelError({
    code: 'KERNEL_INPUT',
    message: `${count} rows of ${rowBytes} bytes cannot be worked on`,
    fix: `give 1 to ${MAX_POINTS} rows, each a multiple of ${GROUP_BYTES} bytes up to ${MAX_ROW_BYTES}`,
    details: { rowBytes, count, limitRowBytes: MAX_ROW_BYTES, limitCount: MAX_POINTS },
  })
}

/** Partial sums of {@link ErasurePool.combine}, at most. */
const MAX_COMBINE_PIECES = 16

/** Bytes that {@link ErasurePool.combine} needs at `sums` for `count` rows. */
export function combinationScratchBytes({ count, rowBytes }: { count: number; rowBytes: number }): number {
  const pieces = Math.min(MAX_COMBINE_PIECES, Math.ceil(rowBytes / GROUP_BYTES / 8))
  return pieces * count * COMBINATION_BYTES
}

/** Bytes that {@link ErasurePool.decode} needs at `scratch`. */
export function decodeScratchBytes({ log2Data, cosets }: { log2Data: number; cosets: number }): number {
  return decodeLayout({ dataRows: 1 << log2Data, points: cosets << log2Data }).bytes
}

/** Offsets of the addresses of all rows, of the missing data rows, of the weights' labels and of their tables. */
function decodeLayout({ dataRows, points }: { dataRows: number; points: number }) {
  const out = 4 * points
  const labels = out + 4 * dataRows
  const weights = Math.ceil((labels + 2 * points) / 64) * 64
  return { rows: 0, out, labels, weights, bytes: weights + points * TABLE_BYTES }
}

/** Hashes in all levels of a tree over `count` leaves, the leaves among them. */
export function treeHashes(count: number): number {
  let sum = count
  for (let width = count; width > 1; ) {
    width = Math.ceil(width / 2)
    sum += width
  }
  return sum
}

export interface ErasurePoolParameters {
  workers?: number | undefined
  memoryBytes?: number | undefined
}

export interface DecodeParameters extends CodedRows {
  present: readonly boolean[]
  /** Address of room for {@link decodeScratchBytes}. */
  scratch: number
}

export interface HashRowsParameters extends Rows {
  leaves: number
  signal?: AbortSignal | undefined
}

export interface FoldTreeParameters {
  level: number
  count: number
  signal?: AbortSignal | undefined
}

export interface HashCombinationsParameters {
  address: number
  count: number
  leaves: number
  signal?: AbortSignal | undefined
}

export interface ClimbParameters {
  nodes: number
  count: number
  paths: number
  /** Bytes from one path to the next. */
  pathBytes: number
  turns: number
  signal?: AbortSignal | undefined
}

export interface CombineParameters extends Rows {
  coefficients: number
  sums: number
  signal?: AbortSignal | undefined
}

interface SplitParameters {
  units: number
  bytes: number
  signal?: AbortSignal | undefined
}

interface Job {
  name: ErasureKernelName
  values: (work: number) => number[]
}
