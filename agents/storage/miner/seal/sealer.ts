import { freeDiskBytes } from '#kit/files.ts'
import type { Logger } from '#kit/log.ts'
import { fromHex, type Hash } from '#protocol/hex.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { ALL_SEALS, type FlowSegment } from '#storage/node/http/flow-frame.ts'
import { MinerError, reasonOf } from '../error.ts'
import type { FlowSource } from '../fetch/flow-source.ts'
import { ExtentFiles } from '../store/extent-files.ts'
import { chunkOf, chunksWithin, placeOf, segmentOf } from '../store/layout.ts'
import type { MinerStore, SealedChunk } from '../store/miner-store.ts'
import { SealPool } from './seal-pool.ts'

export interface SealerParameters {
  store: MinerStore
  source: FlowSource
  threads: number
  minerId: Hash
  maxSealedBytes: number | undefined
  minFreeBytes: number
  retryIntervalMs: number
  refreshIntervalMs: number
  log: Logger
  signal: AbortSignal
  /** A context of the chain that was made: data up to its length can be verified. */
  context: () => { flowRoot: Hash; flowLength: number } | undefined
  onSealed?: ((bytes: number) => void) | undefined
  now?: (() => number) | undefined
}

/** How sealing stands. */
export interface SealingStatus {
  /** Chunks with at least one sealed seal. */
  sealed: number
  /** Chunks of the shard that could be sealed now. */
  sealable: number
  /** Bytes sealed since the start. */
  bytes: number
  /** Chunks that no storage node had anything of at the last look. */
  missing: number
  /** What keeps sealing from going on, if anything. */
  problem: string | undefined
}

/** Chunks asked for in one request. */
const REQUEST_CHUNKS = 64
/** Segments a request may span, of all shards. */
const REQUEST_SEGMENTS = 65_536
/** Chunks written and not durable yet, at most; and for how long, at most. */
const COMMIT_CHUNKS = 64
const COMMIT_MS = 1_000

/**
 * Seals, in the background, every chunk of the shard whose epochs are recorded: fetched from a storage node, verified
 * against the flow root, sealed, made durable, then entered. May be stopped anywhere and goes on where it was.
 */
export class Sealer {
  readonly #parameters: SealerParameters
  readonly #pool: SealPool
  readonly #files: ExtentFiles
  readonly #minerId: Uint8Array
  #uncommitted: (SealedChunk & { generation: number })[] = []
  #oldestUncommitted = 0
  #wake: (() => void) | undefined
  #woken = false
  #bytes = 0
  #problem: string | undefined
  #missing = 0
  #refreshedAt: number

  constructor(parameters: SealerParameters) {
    const { store, threads, minerId } = parameters
    this.#parameters = parameters
    this.#pool = new SealPool({ threads, sealedDir: store.sealedDir })
    this.#files = new ExtentFiles({ dir: store.sealedDir, writable: true })
    this.#minerId = fromHex(minerId)
    this.#refreshedAt = this.#now()
  }

  status(): SealingStatus {
    const { map } = this.#parameters.store
    return {
      sealed: map.sealed,
      sealable: this.#sealable(),
      bytes: this.#bytes,
      missing: this.#missing,
      problem: this.#problem,
    }
  }

  /** There may be something new to seal. */
  wake(): void {
    this.#woken = true
    this.#wake?.()
  }

  /** Seals until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { signal, retryIntervalMs, refreshIntervalMs, log } = this.#parameters
    try {
      // Data that nobody has (paid for and never uploaded) is asked for less and less often.
      for (let idle = 0; !signal.aborted; idle++) {
        if (this.#woken) idle = 0
        this.#woken = false
        const before = this.#bytes
        try {
          await this.#pass()
          if (this.#bytes > before) idle = 0
        } catch (error) {
          if (signal.aborted) break
          this.#problem = reasonOf(error)
          // A node or a disk that failed may be back soon.
          idle = Math.min(idle, 1)
          log.warn({ err: error }, 'sealing was interrupted')
        }
        await this.#rest(Math.min(retryIntervalMs * 2 ** Math.min(idle, 20), refreshIntervalMs))
      }
      await this.#commit()
    } catch (error) {
      log.error({ err: error }, 'the last sealed chunks could not be entered: they are sealed again')
    } finally {
      await this.#pool.close()
      this.#files.close()
    }
  }

  /** Goes over all chunks once and seals those that are not sealed and can be had. */
  async #pass(): Promise<void> {
    const { store, refreshIntervalMs, signal } = this.#parameters
    const refresh = this.#now() - this.#refreshedAt >= refreshIntervalMs
    if (refresh) this.#refreshedAt = this.#now()
    if (!refresh && store.map.sealed >= this.#sealable()) {
      this.#missing = 0
      this.#problem = undefined
      return
    }
    // The end is looked at anew each time: data may come while older data is sealed.
    for (let chunk = 0; chunk < this.#sealable() && !signal.aborted; ) {
      const range = this.#nextRange(chunk, refresh)
      if (!range) break
      await this.#checkDisk()
      await this.#sealRange(range)
      this.#problem = undefined
      chunk = range.to
    }
    await this.#commit()
    this.#missing = Math.max(0, this.#sealable() - store.map.sealed)
    this.#problem = undefined
  }

  /** Chunks `[from, to)`, the next ones that are to be sealed. */
  #nextRange(start: number, refresh: boolean): { from: number; to: number } | undefined {
    const { store } = this.#parameters
    const end = this.#sealable()
    const wanted = (chunk: number): boolean => {
      const held = store.map.held(chunk)
      return held === 0n || (refresh && held !== allSeals(segmentOf(chunk, store.shard)))
    }
    let from = start
    while (from < end && !wanted(from)) from += 1
    if (from >= end) return undefined
    const most = Math.min(REQUEST_CHUNKS, Math.max(1, Math.floor(REQUEST_SEGMENTS / store.shard.numShard)))
    let to = from + 1
    while (to < end && to - from < most && wanted(to)) to += 1
    return { from, to }
  }

  async #sealRange({ from, to }: { from: number; to: number }): Promise<void> {
    const { store, source, signal, context } = this.#parameters
    const given = context()
    if (!given) return
    const { shard } = store
    const jobs = new Set<Promise<void>>()
    const range = {
      from: segmentOf(from, shard),
      to: segmentOf(to - 1, shard) + 1,
      flowRoot: given.flowRoot,
      signal,
    }
    let failure: { error: unknown } | undefined
    const finish = async (): Promise<void> => {
      await Promise.all(jobs)
      const found = failure
      failure = undefined
      if (found) throw found.error
    }
    const take = async (segment: FlowSegment): Promise<void> => {
      while (jobs.size >= 2 * this.#pool.threads) await Promise.race(jobs)
      if (failure) return finish()
      const job = this.#seal(segment, given.flowRoot)
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => jobs.delete(job))
      jobs.add(job)
    }
    try {
      await source.read(range, { take, finish })
    } finally {
      await Promise.all(jobs)
    }
  }

  async #seal(segment: FlowSegment, flowRoot: Hash): Promise<void> {
    const { store, onSealed } = this.#parameters
    const chunk = chunkOf(segment.segment, store.shard)
    const { held } = segment
    // A segment sealed in part is only worth the work when there is more of it now.
    if (!Number.isInteger(chunk) || (store.map.held(chunk) | held) === store.map.held(chunk)) return
    const generation = store.generation
    const runs = store.sealRuns(chunk)
    if (!runs) return
    await this.#pool.seal({ chunk, segment, flowRoot, minerId: this.#minerId, runs })
    this.#bytes += SEGMENT_BYTES
    onSealed?.(SEGMENT_BYTES)
    if (this.#uncommitted.length === 0) this.#oldestUncommitted = this.#now()
    this.#uncommitted.push({ chunk, held, generation })
    const due = this.#now() - this.#oldestUncommitted >= COMMIT_MS
    if (due || this.#uncommitted.length >= COMMIT_CHUNKS) await this.#commit()
  }

  /** Makes what was written durable, then enters it: in this order, so that what is entered is there. */
  async #commit(): Promise<void> {
    const { store } = this.#parameters
    const written = this.#uncommitted
    this.#uncommitted = []
    if (written.length === 0) return
    for (const extent of new Set(written.map(({ chunk }) => placeOf(chunk).extent))) this.#files.sync(extent)
    // What was sealed before a reorganisation is void.
    store.markSealed(written.filter(({ generation }) => generation === store.generation))
  }

  #sealable(): number {
    const { store, context, maxSealedBytes = Number.POSITIVE_INFINITY } = this.#parameters
    const recorded = store.lastEpoch()?.end ?? 0
    const provable = context()?.flowLength ?? 0
    const most = Math.floor(maxSealedBytes / SEGMENT_BYTES)
    return Math.min(chunksWithin(Math.min(recorded, provable), store.shard), most)
  }

  async #checkDisk(): Promise<void> {
    const { store, minFreeBytes } = this.#parameters
    const free = await freeDiskBytes(store.sealedDir)
    if (free >= minFreeBytes + REQUEST_CHUNKS * SEGMENT_BYTES) return
    throw new MinerError({
      code: 'MINER_SEALED',
      message: `the disk has ${free} bytes left, and ${minFreeBytes} are to stay free`,
      fix: 'free some space, or set data.maxSealedBytes',
      details: { freeBytes: free, minFreeBytes },
    })
  }

  async #rest(ms: number): Promise<void> {
    const { signal } = this.#parameters
    if (signal.aborted || this.#woken) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', done)
      this.#wake = done
    })
  }

  #now(): number {
    return this.#parameters.now?.() ?? Date.now()
  }
}

/** What of a segment can be sealed: all but the seal with the reserved sector. */
function allSeals(segment: number): bigint {
  return segment === 0 ? ALL_SEALS - 1n : ALL_SEALS
}
