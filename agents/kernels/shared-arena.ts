import { KernelError } from './error.ts'

/** Regions begin at multiples of this, so that vectors and cache lines are aligned. */
const ALIGNMENT = 64

/** A part of the memory, held by one caller. */
export interface Region {
  readonly address: number
  /** The bytes themselves, not cleared. Not to be touched after {@link Region.release}. */
  readonly bytes: Uint8Array
  /** Gives the region back. Further calls do nothing. */
  release(): void
}

export interface AllocateParameters {
  bytes: number
  signal?: AbortSignal | undefined
}

interface Gap {
  start: number
  end: number
}

interface Waiter {
  bytes: number
  grant: (region: Region) => void
  refuse: (reason: unknown) => void
}

/**
 * Hands out regions of one memory, and lets those wait, in the order of asking, for whom there is no room: what is in
 * flight is bounded by the memory. First fit from the bottom, so that pages never needed are never touched.
 *
 * Who holds a region while asking for another may wait for ever: ask for all at once.
 */
export class SharedArena {
  readonly #memory: WebAssembly.Memory
  readonly #capacity: number
  readonly #waiters: Waiter[] = []
  #gaps: Gap[]
  #closed = false

  /** @param start first address of the arena, which reaches to the end of the memory */
  constructor({ memory, start }: { memory: WebAssembly.Memory; start: number }) {
    this.#memory = memory
    const first = roundUp(start)
    this.#capacity = memory.buffer.byteLength - first
    this.#gaps = [{ start: first, end: memory.buffer.byteLength }]
  }

  /** Bytes that nobody holds. */
  get freeBytes(): number {
    return this.#gaps.reduce((sum, { start, end }) => sum + end - start, 0)
  }

  /** How many wait for room. */
  get waiting(): number {
    return this.#waiters.length
  }

  /**
   * A region, when there is room.
   *
   * @throws KernelError `KERNEL_INPUT` for more than the whole memory, `KERNEL_POOL_CLOSED`; the reason of `signal`
   */
  async allocate({ bytes, signal }: AllocateParameters): Promise<Region> {
    signal?.throwIfAborted()
    if (this.#closed) throw closedError()
    const size = roundUp(bytes)
    if (!Number.isSafeInteger(bytes) || bytes < 1 || size > this.#capacity) {
      throw new KernelError({
        code: 'KERNEL_INPUT',
        message: `${bytes} bytes can never fit into a memory of ${this.#capacity}`,
        fix: 'give the pool more memory, or work in smaller pieces',
        details: { bytes, limit: this.#capacity },
      })
    }
    const region = this.#waiters.length === 0 ? this.#take(size) : undefined
    if (region) return region
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        reject(signal?.reason)
        this.#serve() // those behind may need less
      }
      const waiter: Waiter = {
        bytes: size,
        grant: (granted) => {
          signal?.removeEventListener('abort', onAbort)
          resolve(granted)
        },
        refuse: (reason) => {
          signal?.removeEventListener('abort', onAbort)
          reject(reason)
        },
      }
      this.#waiters.push(waiter)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Refuses all who wait or ask. Regions stay good until released. */
  close(): void {
    this.#closed = true
    for (const { refuse } of this.#waiters.splice(0)) refuse(closedError())
  }

  #take(size: number): Region | undefined {
    const gap = this.#gaps.find(({ start, end }) => end - start >= size)
    if (!gap) return undefined
    const address = gap.start
    gap.start += size
    if (gap.start === gap.end) this.#gaps.splice(this.#gaps.indexOf(gap), 1)
    let held = true
    const release = () => {
      if (!held) return
      held = false
      this.#giveBack({ start: address, end: address + size })
    }
    return { address, bytes: new Uint8Array(this.#memory.buffer, address, size), release }
  }

  #giveBack(freed: Gap): void {
    const joined: Gap[] = []
    for (const gap of [...this.#gaps, freed].sort((a, b) => a.start - b.start)) {
      const last = joined[joined.length - 1]
      if (last && last.end === gap.start) last.end = gap.end
      else joined.push({ ...gap })
    }
    this.#gaps = joined
    this.#serve()
  }

  #serve(): void {
    for (let first = this.#waiters[0]; first; first = this.#waiters[0]) {
      const region = this.#take(first.bytes)
      if (!region) return
      this.#waiters.shift()
      first.grant(region)
    }
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}

function closedError(): KernelError {
  return new KernelError({ code: 'KERNEL_POOL_CLOSED', message: 'the erasure pool is closed' })
}
