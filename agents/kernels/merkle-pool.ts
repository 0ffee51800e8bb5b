import { KernelError } from './error.ts'
import { KernelPool, type KernelSlot } from './kernel-pool.ts'
import { segmentRoot } from './merkle.ts'

const HASH_BYTES = 32
const SECTOR_BYTES = 256
const SEGMENT_SECTORS = 1024

/** Bytes of a slot: four segments, 2.5 ms of hashing a job. */
const SLOT_BYTES = 1 << 20

/** A segment's leaf hashes. */
const WORK_BYTES = SEGMENT_SECTORS * HASH_BYTES

/** Up to here (40 µs of hashing) a hand-off to a worker costs more than it brings. */
const THREAD_BYTES = 16 * 1024

/** A piece of a worker's memory, to be filled in place and hashed there. */
export interface Slot {
  /** 1 MiB to be filled with file data from the front, also by `fs.read`. */
  readonly input: Uint8Array
  /**
   * Roots of the segments in `input[0..dataBytes)`, zero-filled to `paddedSectors`; 32 bytes each.
   *
   * @throws KernelError `KERNEL_INPUT`, `KERNEL_WORKER_DIED`
   */
  segmentRoots(parameters: SegmentRootsParameters): Promise<Uint8Array>
  /** Gives the slot back. To be called in a `finally`; further calls do nothing. */
  release(): void
}

export interface SegmentRootsParameters {
  dataBytes: number
  paddedSectors: number
}

/**
 * Merkle hashing on worker threads, about 400 MiB/s for each core. Workers start when they are first needed and do not
 * keep the process alive while idle.
 *
 * @example
 * const pool = await MerklePool.create()
 * const root = await pool.segmentRoot(bytes, 1024)
 * await pool.close()
 */
export class MerklePool {
  readonly #pool: KernelPool

  /** @param workers threads, 1 to 256; one for each core up to 16 unless given */
  static async create({ workers }: { workers?: number | undefined } = {}): Promise<MerklePool> {
    return new MerklePool(workers)
  }

  private constructor(workers: number | undefined) {
    this.#pool = new KernelPool({
      workers,
      slotBytes: SLOT_BYTES,
      resultBytes: 4096,
      workBytes: WORK_BYTES,
      // Sixty-four sectors fifty times: enough calls for the optimising compiler, in a few milliseconds.
      warmUp: ({ inputs, outputs, work }) => [
        { name: 'segmentRoots', arguments: [inputs[0] ?? 0, 64, 64, work, outputs[0] ?? 0], times: 50 },
      ],
    })
  }

  /** Threads the pool may have. */
  get workers(): number {
    return this.#pool.workers
  }

  /** Starts every worker now, so that the first file does not wait for them: 50 to 100 ms. */
  warm(): Promise<void> {
    return this.#pool.warm()
  }

  /**
   * The root of one segment: `data` (at most 256 KiB, any length) zero-filled to `paddedSectors` (1 to 1 024) sectors.
   * Up to 16 KiB it is hashed on this thread. The data is copied before the call returns its promise's value, and must
   * not change until then.
   *
   * @throws KernelError `KERNEL_INPUT`, `KERNEL_WORKER_DIED`, `KERNEL_POOL_CLOSED`
   */
  async segmentRoot(data: Uint8Array, paddedSectors: number): Promise<Uint8Array> {
    if (data.length <= THREAD_BYTES) return segmentRoot(data, paddedSectors)
    const slot = await this.claim()
    try {
      checkSize({ dataBytes: data.length, paddedSectors, limitSectors: SEGMENT_SECTORS })
      slot.input.set(data)
      return await slot.segmentRoots({ dataBytes: data.length, paddedSectors })
    } finally {
      slot.release()
    }
  }

  /**
   * A slot, in the order of asking.
   *
   * @throws KernelError `KERNEL_POOL_CLOSED`, `KERNEL_WORKER_DIED` when workers died too often
   */
  async claim(): Promise<Slot> {
    const slot = await this.#pool.claim()
    return { input: slot.input, segmentRoots: (parameters) => runSegmentRoots(slot, parameters), release: slot.release }
  }

  /** Refuses new work, lets running jobs end, then stops the workers. */
  close(): Promise<void> {
    return this.#pool.close()
  }
}

let shared: MerklePool | undefined

/** The pool of this process, made on first use. It need not be closed: its idle workers do not keep the process alive. */
export async function sharedMerklePool(): Promise<MerklePool> {
  shared ??= await MerklePool.create()
  return shared
}

async function runSegmentRoots(slot: KernelSlot, { dataBytes, paddedSectors }: SegmentRootsParameters) {
  checkSize({ dataBytes, paddedSectors, limitSectors: SLOT_BYTES / SECTOR_BYTES })
  const sectors = Math.ceil(dataBytes / SECTOR_BYTES)
  slot.input.fill(0, dataBytes, sectors * SECTOR_BYTES)
  await slot.run('segmentRoots', slot.inputAddress, sectors, paddedSectors, slot.workAddress, slot.outputAddress)
  const roots = new Uint8Array(Math.ceil(paddedSectors / SEGMENT_SECTORS) * HASH_BYTES)
  roots.set(slot.output.subarray(0, roots.length))
  return roots
}

function checkSize({
  dataBytes,
  paddedSectors,
  limitSectors,
}: SegmentRootsParameters & { limitSectors: number }): void {
  const fits = dataBytes <= paddedSectors * SECTOR_BYTES && paddedSectors <= limitSectors && paddedSectors > 0
  if (fits && Number.isInteger(dataBytes) && Number.isInteger(paddedSectors) && dataBytes >= 0) return
  throw new KernelError({
    code: 'KERNEL_INPUT',
    message: `${dataBytes} bytes padded to ${paddedSectors} sectors do not fit`,
    details: { dataBytes, paddedSectors, limitSectors },
  })
}
