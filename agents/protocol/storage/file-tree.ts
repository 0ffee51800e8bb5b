import { foldLevel, foldRoots, leafHashes, segmentRoot } from '#kernels/merkle.ts'
import { type MerklePool, sharedMerklePool } from '#kernels/merkle-pool.ts'
import { WeightlessError } from '../error.ts'
import { type Hash, toHex } from '../hex.ts'
import { type ByteSource, readFully } from './byte-source.ts'
import { HASH_BYTES, SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS } from './constants.ts'
import { paddedSectors, paddedSegmentCount, sectorCount } from './padding.ts'
import type { SegmentProof } from './segment-proof.ts'
import { nodeHeights, type SubmissionNode } from './submission.ts'

export { type ByteSource, memorySource, SourceShortError } from './byte-source.ts'
export type { SegmentProof } from './segment-proof.ts'
export type { SubmissionNode } from './submission.ts'

/** Bytes read and hashed at a time. */
const BLOCK_BYTES = 1 << 20

/** From this size on hashing goes to threads, for the sake of the event loop: 2.5 ms of work a block. */
const POOL_BYTES = 512 * 1024

/** From this size on it pays to start threads that are not running yet. */
const SHARED_POOL_BYTES = 4 << 20

/** Parts of a {@link FileTree} that do not agree. */
export class InvalidFileTreeError extends WeightlessError {}

/** The Merkle tree of a file down to its segments: 32 bytes kept for each 256 KiB. */
export class FileTree {
  readonly root: Hash
  /** Bytes of the file, not padded. */
  readonly sizeBytes: number
  readonly paddedSectors: number
  /** Roots of the padded segments, 32 bytes each. */
  readonly segmentRoots: Uint8Array
  /** What `Flow.submit` takes. */
  readonly nodes: SubmissionNode[]
  #levels: Uint8Array[] | undefined

  constructor({ sizeBytes, segmentRoots, nodes }: FileTreeParameters) {
    const wantedBytes = paddedSegmentCount(sizeBytes) * HASH_BYTES
    if (segmentRoots.length !== wantedBytes) {
      throw new InvalidFileTreeError({
        code: 'FILE_TREE',
        message: `a file of ${sizeBytes} bytes has ${wantedBytes} bytes of segment roots, not ${segmentRoots.length}`,
        details: { sizeBytes, wantedBytes, gotBytes: segmentRoots.length },
      })
    }
    this.sizeBytes = sizeBytes
    this.paddedSectors = paddedSectors(sizeBytes)
    this.segmentRoots = segmentRoots
    this.nodes = nodes
    this.root = toHex(foldRoots(segmentRoots))
  }

  /**
   * The proof of padded segment `index`. The first call folds the inner levels and keeps them: as much memory again as
   * the segment roots.
   *
   * @throws InvalidFileTreeError `SEGMENT_INDEX`
   */
  proof(index: number): SegmentProof {
    const count = this.segmentRoots.length / HASH_BYTES
    if (!Number.isInteger(index) || index < 0 || index >= count) {
      throw new InvalidFileTreeError({
        code: 'SEGMENT_INDEX',
        message: `segment index ${index} is out of bound: the padded file has ${count} segments`,
        details: { index, limit: count },
      })
    }
    if (count === 1) return { lemma: [this.root], path: [] }
    this.#levels ??= foldAllLevels(this.segmentRoots)
    const lemma = [toHex(hashAt(this.segmentRoots, index))]
    const path: boolean[] = []
    let position = index
    for (const level of this.#levels) {
      const sibling = position ^ 1
      if (sibling * HASH_BYTES < level.length) {
        lemma.push(toHex(hashAt(level, sibling)))
        path.push(position % 2 === 0)
      }
      position = Math.floor(position / 2)
    }
    lemma.push(this.root)
    return { lemma, path }
  }
}

export interface FileTreeParameters {
  sizeBytes: number
  /** Roots of the padded segments, 32 bytes each. */
  segmentRoots: Uint8Array
  nodes: SubmissionNode[]
}

/**
 * Reads a source once and builds its tree. Memory stays flat: 1 MiB on this thread, or the pool's own slots, plus 32
 * bytes for each segment.
 *
 * Where the hashing runs: small files on this thread; from 512 KiB on the pool given as `hasher`; without one, a pool
 * shared by the process from 4 MiB on. `hasher: 'this-thread'` never leaves this thread (it still yields between blocks).
 *
 * @throws SizeError for an empty or too large source, SourceShortError when it ends early, the signal's reason on abort
 * @example
 * const tree = await buildFileTree({ source: memorySource(bytes) })
 * tree.root // what the network calls the file
 */
export async function buildFileTree({
  source,
  hasher,
  signal,
  onProgress,
}: BuildFileTreeParameters): Promise<FileTree> {
  const { sizeBytes } = source
  const padded = paddedSectors(sizeBytes)
  const segmentRoots = new Uint8Array(paddedSegmentCount(sizeBytes) * HASH_BYTES)
  signal?.throwIfAborted()
  const pool = await choosePool({ sizeBytes, hasher })
  let hashedBytes = 0
  const job: TreeJob = {
    source,
    padded,
    segmentRoots,
    signal,
    hashed: (bytes) => {
      hashedBytes += bytes
      onProgress?.({ hashedBytes, sizeBytes })
    },
  }
  if (pool) await hashOnPool(job, pool)
  else await hashHere(job)
  fillPadding(job)
  const tail = await tailHashes(job)
  return new FileTree({ sizeBytes, segmentRoots, nodes: submissionNodes({ sizeBytes, segmentRoots, tail }) })
}

export interface BuildFileTreeParameters {
  source: ByteSource
  hasher?: MerklePool | 'this-thread' | undefined
  signal?: AbortSignal | undefined
  /** Called after each block of at most 1 MiB, with growing numbers. */
  onProgress?: ((progress: { hashedBytes: number; sizeBytes: number }) => void) | undefined
}

interface TreeJob {
  source: ByteSource
  /** Sectors of the padded file. */
  padded: number
  segmentRoots: Uint8Array
  signal: AbortSignal | undefined
  hashed: (bytes: number) => void
}

async function choosePool({ sizeBytes, hasher }: Pick<BuildFileTreeParameters, 'hasher'> & { sizeBytes: number }) {
  if (hasher === 'this-thread') return undefined
  if (hasher) return sizeBytes >= POOL_BYTES ? hasher : undefined
  return sizeBytes >= SHARED_POOL_BYTES ? sharedMerklePool() : undefined
}

async function hashHere(job: TreeJob): Promise<void> {
  const block = new Uint8Array(Math.min(BLOCK_BYTES, job.source.sizeBytes))
  for (let offset = 0; offset < job.source.sizeBytes; offset += BLOCK_BYTES) {
    job.signal?.throwIfAborted()
    const data = block.subarray(0, Math.min(BLOCK_BYTES, job.source.sizeBytes - offset))
    await readFully(job.source, { offset, target: data })
    for (let at = 0; at < data.length; at += SEGMENT_BYTES) {
      const index = (offset + at) / SEGMENT_BYTES
      const sectors = Math.min(SEGMENT_SECTORS, job.padded - index * SEGMENT_SECTORS)
      const root = segmentRoot(data.subarray(at, at + SEGMENT_BYTES), sectors)
      job.segmentRoots.set(root, index * HASH_BYTES)
    }
    job.hashed(data.length)
  }
}

/** Keeps every slot of the pool busy: the next blocks are read while workers hash the ones before. */
async function hashOnPool(job: TreeJob, pool: MerklePool): Promise<void> {
  const running = new Set<Promise<void>>()
  let failure: { reason: unknown } | undefined
  const failed = (reason: unknown) => {
    failure ??= { reason }
  }
  for (let offset = 0; offset < job.source.sizeBytes && !failure && !job.signal?.aborted; offset += BLOCK_BYTES) {
    const slot = await pool.claim().catch(failed)
    if (!slot) break
    const block: Promise<void> = hashBlock(job, slot, offset)
      .catch(failed)
      .finally(() => running.delete(block))
    running.add(block)
  }
  await Promise.all(running)
  if (failure) throw failure.reason
  job.signal?.throwIfAborted()
}

async function hashBlock(job: TreeJob, slot: Awaited<ReturnType<MerklePool['claim']>>, offset: number): Promise<void> {
  try {
    if (job.signal?.aborted) return
    const dataBytes = Math.min(BLOCK_BYTES, job.source.sizeBytes - offset)
    await readFully(job.source, { offset, target: slot.input.subarray(0, dataBytes) })
    const dataSegments = Math.ceil(dataBytes / SEGMENT_BYTES)
    const sectors = Math.min(dataSegments * SEGMENT_SECTORS, job.padded - offset / SECTOR_BYTES)
    const roots = await slot.segmentRoots({ dataBytes, paddedSectors: sectors })
    job.segmentRoots.set(roots, (offset / SEGMENT_BYTES) * HASH_BYTES)
    job.hashed(dataBytes)
  } finally {
    slot.release()
  }
}

/** Segments that hold nothing but padding. */
function fillPadding({ source, padded, segmentRoots }: TreeJob): void {
  const nothing = new Uint8Array(0)
  let index = Math.ceil(sectorCount(source.sizeBytes) / SEGMENT_SECTORS)
  for (; index * SEGMENT_SECTORS < padded; index++) {
    const sectors = Math.min(SEGMENT_SECTORS, padded - index * SEGMENT_SECTORS)
    segmentRoots.set(segmentRoot(nothing, sectors), index * HASH_BYTES)
  }
}

/** Leaf hashes of a short last segment: a submission node may begin inside it. */
async function tailHashes({ source, padded, signal }: TreeJob): Promise<Uint8Array> {
  const sectors = padded % SEGMENT_SECTORS
  signal?.throwIfAborted()
  const offset = (padded - sectors) * SECTOR_BYTES
  const data = new Uint8Array(Math.max(0, Math.min(SEGMENT_BYTES, source.sizeBytes - offset)))
  if (sectors === 0) return new Uint8Array(0)
  await readFully(source, { offset, target: data })
  return leafHashes(data, sectors)
}

interface SubmissionNodesParameters {
  sizeBytes: number
  segmentRoots: Uint8Array
  tail: Uint8Array
}

function submissionNodes({ sizeBytes, segmentRoots, tail }: SubmissionNodesParameters): SubmissionNode[] {
  let sector = 0
  return nodeHeights(sizeBytes).map((height) => {
    const sectors = 2 ** height
    const whole = height >= SEGMENT_HEIGHT
    const from = whole ? sector / SEGMENT_SECTORS : sector % SEGMENT_SECTORS
    const count = whole ? sectors / SEGMENT_SECTORS : sectors
    const hashes = (whole ? segmentRoots : tail).subarray(from * HASH_BYTES, (from + count) * HASH_BYTES)
    sector += sectors
    return { root: toHex(foldRoots(hashes)), height }
  })
}

function foldAllLevels(segmentRoots: Uint8Array): Uint8Array[] {
  const levels = [segmentRoots]
  for (let level = segmentRoots; level.length > HASH_BYTES; ) {
    level = foldLevel(level)
    levels.push(level)
  }
  return levels
}

function hashAt(hashes: Uint8Array, index: number): Uint8Array {
  return hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
}
