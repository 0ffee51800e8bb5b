import type { Hash } from '#protocol/hex.ts'
import { SECTOR_BYTES } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'
import { NodeError } from '../error.ts'
import type { NodeStore } from '../store/node-store.ts'
import { ownsSegment } from '../store/own-segments.ts'
import type { FileTransaction } from '../store/transaction-record.ts'
import { type CheckedSegment, checkSegment, type SegmentHasher } from './segment-check.ts'

/** A segment somebody sent. */
export interface IncomingSegment {
  /** File root. */
  root: Hash
  data: Uint8Array
  /** Index in the file, from 0. */
  index: number
  proof: SegmentProof
  /** Bytes of the file, not padded. */
  sizeBytes: number
}

/**
 * `foreign`: of another shard; `duplicate`: was here already; `cached`: was here already, before its submission. None
 * of these was stored anew.
 */
export type IntakeResult = 'stored' | 'duplicate' | 'cached' | 'foreign'

/** A segment that passed all checks, and where it goes. */
export interface AcceptedSegment {
  /** Writes it; resolves when it is durable. */
  store(): Promise<IntakeResult>
}

export interface IntakeParameters {
  store: NodeStore
  hasher: SegmentHasher
  /** Largest file taken before its submission is known. */
  maxCachedFileBytes: number
  /** All such files together. */
  maxCachedBytes: number
  /** Why nothing is taken at present, if so. */
  refusal: () => NodeError | undefined
}

/** Takes segments in: the checks of storage-node §4.4 in their order, then the durable write. */
export class Intake {
  readonly #store: NodeStore
  readonly #hasher: SegmentHasher
  readonly #maxCachedFileBytes: number
  readonly #maxCachedBytes: number
  readonly #refusal: () => NodeError | undefined
  #cachingBytes = 0

  constructor(parameters: IntakeParameters) {
    this.#store = parameters.store
    this.#hasher = parameters.hasher
    this.#maxCachedFileBytes = parameters.maxCachedFileBytes
    this.#maxCachedBytes = parameters.maxCachedBytes
    this.#refusal = parameters.refusal
  }

  /**
   * Checks a segment sent for a root, or for the submission `seq`.
   *
   * @throws NodeError, InvalidSegmentError, SizeError
   */
  async accept(segment: IncomingSegment, seq?: number): Promise<AcceptedSegment> {
    const refused = this.#refusal()
    if (refused) throw refused
    checkData(segment.data)
    const tx = seq === undefined ? this.#submissionOf(segment.root) : this.#store.transactions.get(seq)
    if (tx && tx.root !== segment.root) {
      throw new NodeError({
        code: 'ROOT_MISMATCH',
        message: 'data root and tx seq not match',
        fix: 'send the segments of the file that this submission names',
        details: { seq: tx.seq, root: segment.root, txRoot: tx.root },
      })
    }
    const cached = this.#store.contents.findCached(segment.root)
    if (tx && !cached) return this.#acceptForTransaction(segment, tx)
    return this.#acceptBeforeTransaction(segment)
  }

  /** Checks and stores a segment of a known file: for frames, of clients and of peers. */
  async take(segment: IncomingSegment, tx: FileTransaction): Promise<IntakeResult> {
    const refused = this.#refusal()
    if (refused) throw refused
    if (tx.objectId === undefined) throw notAFile(tx)
    // What would not be stored anyway is not worth hashing.
    if (segment.index < segmentCount(tx.sizeBytes)) {
      if (!ownsSegment(this.#store.shard, tx, segment.index)) return 'foreign'
      if (this.#store.objects.presence(tx.objectId, tx.sizeBytes).has(segment.index)) return 'duplicate'
    }
    const checked = await checkSegment(segment, this.#hasher)
    return this.#storeForTransaction(segment, checked, tx)
  }

  async #acceptForTransaction(segment: IncomingSegment, tx: FileTransaction): Promise<AcceptedSegment> {
    if (tx.sizeBytes !== segment.sizeBytes) {
      throw new NodeError({
        code: 'FILE_SIZE_MISMATCH',
        message: 'segment file size not matched with tx file size',
        fix: `the submission declares ${tx.sizeBytes} bytes`,
        details: { seq: tx.seq, sizeBytes: segment.sizeBytes, txSizeBytes: tx.sizeBytes },
      })
    }
    if (tx.objectId === undefined) throw notAFile(tx)
    if (tx.status === 'finalized') throw alreadyFinalized(tx)
    if (tx.status === 'pruned') throw alreadyPruned(tx)
    const checked = await checkSegment(segment, this.#hasher)
    return { store: () => this.#storeForTransaction(segment, checked, tx) }
  }

  async #storeForTransaction(
    { index, data }: IncomingSegment,
    { root, siblings }: CheckedSegment,
    tx: FileTransaction,
  ): Promise<IntakeResult> {
    const store = this.#store
    const { objectId } = tx
    if (objectId === undefined) throw notAFile(tx)
    if (!ownsSegment(store.shard, tx, index)) return 'foreign'
    if (store.objects.presence(objectId, tx.sizeBytes).has(index)) return 'duplicate'
    const completed: number[] = []
    const result = await store.objects.putPiece({
      objectId,
      index,
      data,
      root,
      siblings,
      wanted: () => {
        const now = store.transactions.get(tx.seq)
        return now?.objectId === objectId && now.status !== 'pruned' && ownsSegment(store.shard, now, index)
      },
      onStored: () => store.pieceStored(objectId, index, completed),
    })
    store.announceFinalized(completed)
    if (result !== 'gone') return result
    const now = store.transactions.get(tx.seq)
    if (now?.status === 'pruned') throw alreadyPruned(now)
    if (now?.objectId === objectId) return 'foreign'
    throw txReverted(tx, now !== undefined)
  }

  async #acceptBeforeTransaction(segment: IncomingSegment): Promise<AcceptedSegment> {
    if (segment.sizeBytes > this.#maxCachedFileBytes) {
      throw new NodeError({
        code: 'CACHE_FILE_TOO_LARGE',
        message: 'caching of large file when tx is unavailable is not supported',
        fix: `wait until the submission is logged, or send files of at most ${this.#maxCachedFileBytes} bytes`,
        details: { sizeBytes: segment.sizeBytes, limit: this.#maxCachedFileBytes },
      })
    }
    const checked = await checkSegment(segment, this.#hasher)
    return { store: () => this.#storeBeforeTransaction(segment, checked) }
  }

  async #storeBeforeTransaction(segment: IncomingSegment, checked: CheckedSegment): Promise<IntakeResult> {
    const { objects, contents } = this.#store
    const { root, index, data, sizeBytes } = segment
    const cached = contents.findCached(root)
    if (cached && cached.sizeBytes !== sizeBytes) {
      throw new NodeError({
        code: 'CACHE_SIZE_CONFLICT',
        message: `file size in segment doesn't match with file size declared in previous segment. Previous file size ${cached.sizeBytes}, current file size ${sizeBytes}`,
        fix: 'send the size of the file as it will be submitted',
        details: { root, sizeBytes, previousSizeBytes: cached.sizeBytes },
      })
    }
    // The submission may have been logged while the segment was hashed.
    const claimed = this.#submissionOf(root)
    if (!cached && claimed) {
      if (claimed.status === 'finalized') throw alreadyFinalized(claimed)
      if (claimed.status === 'pruned') throw alreadyPruned(claimed)
      if (claimed.sizeBytes === sizeBytes) return this.#storeForTransaction(segment, checked, claimed)
    }
    // What is on its way to the disk counts as well.
    if (contents.cachedBytes + this.#cachingBytes + data.length > this.#maxCachedBytes) throw this.#cacheFull()
    // Left over from a reverted submission, it is completed where it lies.
    const objectId = (cached ?? contents.find(root, sizeBytes))?.id ?? contents.openCached(root, sizeBytes)
    const completed: number[] = []
    this.#cachingBytes += data.length
    const result = await objects
      .putPiece({
        objectId,
        index,
        data,
        root: checked.root,
        siblings: checked.siblings,
        wanted: () => this.#stillWanted(objectId, index),
        onStored: () => this.#store.pieceStored(objectId, index, completed),
      })
      .finally(() => {
        this.#cachingBytes -= data.length
      })
    this.#store.announceFinalized(completed)
    if (result === 'duplicate') return 'cached'
    if (result === 'stored') return 'stored'
    if (contents.find(root, sizeBytes)?.id === objectId) return 'foreign'
    throw txReverted({ seq: undefined, root }, false)
  }

  /** The submission a root stands for: one that is finalized, else one that waits for data, else a pruned one. */
  #submissionOf(root: Hash): FileTransaction | undefined {
    const { transactions } = this.#store
    return transactions.choose(root, true) ?? transactions.choose(root, false)
  }

  /** Content that was claimed meanwhile is wanted only as far as the shard goes. */
  #stillWanted(objectId: number, index: number): boolean {
    const claims = this.#store.transactions.byObject(objectId)
    return claims.length === 0 || claims.some((tx) => ownsSegment(this.#store.shard, tx, index))
  }

  #cacheFull(): NodeError {
    const chunks = Math.floor(this.#maxCachedBytes / SECTOR_BYTES)
    return new NodeError({
      code: 'CACHE_FULL',
      message: `exceeds the maximum cached chunks of whole pool: ${chunks}`,
      fix: 'send the segments once the submission is logged',
      details: { limitBytes: this.#maxCachedBytes },
    })
  }
}

function checkData(data: Uint8Array): void {
  if (data.length === 0) throw new NodeError({ code: 'DATA_EMPTY', message: 'data is empty', fix: 'send the segment' })
  if (data.length % SECTOR_BYTES === 0) return
  throw new NodeError({
    code: 'DATA_LENGTH',
    message: 'invalid data length',
    fix: `fill the last sector with zeros: ${data.length} bytes are no multiple of ${SECTOR_BYTES}`,
    details: { bytes: data.length, unit: SECTOR_BYTES },
  })
}

function alreadyFinalized(tx: FileTransaction): NodeError {
  return new NodeError({
    code: 'ALREADY_FINALIZED',
    message: 'already uploaded and finalized',
    fix: 'nothing is left to do',
    details: { seq: tx.seq, root: tx.root },
  })
}

function alreadyPruned(tx: FileTransaction): NodeError {
  return new NodeError({
    code: 'ALREADY_PRUNED',
    message: 'already pruned',
    fix: 'submit the file again, or use another node',
    details: { seq: tx.seq, root: tx.root },
  })
}

function notAFile(tx: FileTransaction): NodeError {
  return new NodeError({
    code: 'NOT_A_FILE',
    message: `submission ${tx.seq} is not the submission of a file: its nodes do not fit ${tx.sizeBytes} bytes`,
    fix: 'submit the nodes of the file as its tree gives them',
    details: { seq: tx.seq, sizeBytes: tx.sizeBytes },
  })
}

function txReverted({ seq, root }: { seq: number | undefined; root: Hash }, replaced: boolean): NodeError {
  return new NodeError({
    code: 'TX_REVERTED',
    message: replaced
      ? 'Transaction reverted when uploading segments, please try again'
      : 'Transaction reverted, please upload again',
    fix: 'wait until the submission is logged again, then send the segments once more',
    details: { seq, root },
  })
}
