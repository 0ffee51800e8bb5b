import { decodeUploadHead, UPLOAD_HEAD_BYTES, type UploadHead } from '#client/da/signer-wire.ts'
import type { Logger } from '#kit/log.ts'
import type { BlobCodec } from '#protocol/da/blob-codec.ts'
import { type BlobCommitment, type BlobHeader, blobCommitment, blobHeader } from '#protocol/da/commitment.ts'
import { MAX_BLOB_BYTES, RLC_BYTES, TOTAL_ROWS } from '#protocol/da/constants.ts'
import { type RowSlice, SliceDecoder, sliceBytes } from '#protocol/da/slice.ts'
import { SignerError } from '../error.ts'
import type { BlobKey } from '../store/blob-key.ts'
import type { DiskSpace } from '../store/disk-space.ts'
import { type RowFiles, rowFileBytes } from '../store/row-files.ts'
import type { SignerStore, Submission } from '../store/signer-store.ts'
import { CONFIRM_EPOCHS } from '../work/pruner.ts'
import type { UploadBody } from './upload-body.ts'

/** This signer's rows in one epoch: contiguous. */
export interface OwnRows {
  firstRow: number
  rowCount: number
}

export interface IntakeParameters {
  store: SignerStore
  files: RowFiles
  space: DiskSpace
  codec: BlobCodec
  /** This signer's rows; undefined when it has none in that epoch. @throws SignerError `EPOCH_UNKNOWN` */
  ownRows: (epoch: number, quorumId: number) => Promise<OwnRows | undefined>
  /** The epoch now, as far as is known. */
  currentEpoch: () => number
  /** The signature that says: these rows are here. 64 bytes. */
  sign: (blob: BlobKey & { rowRoot: BlobCommitment['rowRoot']; rlcRoot: BlobCommitment['rlcRoot'] }) => Uint8Array
  nowMs: () => number
  log: Logger
}

/** Rows verified and written at once, in bytes. */
const BATCH_BYTES = 2 * 2 ** 20
const MAX_BATCH_ROWS = 512

/** Largest upload: all rows of the largest blob. */
export const MAX_UPLOAD_BYTES =
  UPLOAD_HEAD_BYTES + uploadSliceBytes({ firstRow: 0, rowCount: TOTAL_ROWS }, blobHeader(MAX_BLOB_BYTES))

/**
 * Takes rows: each is checked against the paid commitment before it is written, all are durable before the signature is
 * made, and the signature is durable before it leaves.
 */
export class Intake {
  readonly #parts: IntakeParameters

  constructor(parts: IntakeParameters) {
    this.#parts = parts
  }

  /**
   * The rows of a blob as a request brings them. Gives the signature; the one given before when the rows are here.
   *
   * @throws SignerError; InvalidRowError for a row that is not the commitment's; FileError `FILE_WRITE`
   */
  async take(key: BlobKey, body: UploadBody): Promise<Uint8Array> {
    const { store, log } = this.#parts
    const held = store.held.get(key)
    if (held !== undefined && !held.damaged) return held.signature
    const submission = this.#paid(key)
    const own = await this.#assigned(key)
    const head = decodeUploadHead(await body.take(UPLOAD_HEAD_BYTES))
    const commitment = checkHead(key, submission, head)
    checkLength(body.lengthBytes, UPLOAD_HEAD_BYTES + uploadSliceBytes(own, commitment.header))
    const decoder = new SliceDecoder({ header: commitment.header, maxSlices: own.rowCount })
    const slices = slicesOf(body, decoder)
    const done = (rows: readonly RowSlice[]) => decoder.recycle(rows)
    const signature = await this.#store({ key, commitment, rlc: head.rlc, own, slices, done })
    log.info({ dataRoot: key.dataRoot, epoch: key.epoch, ...own }, 'rows stored and signed')
    return signature
  }

  /** Rows that were made here, for repair: the same checks, the same writing. */
  async put(
    key: BlobKey,
    rows: { commitment: BlobCommitment; rlc: Uint8Array; slices: AsyncIterable<RowSlice[]> },
  ): Promise<void> {
    this.#paid(key)
    const own = await this.#assigned(key)
    await this.#store({ key, own, ...rows })
  }

  async #store(parameters: {
    key: BlobKey
    commitment: BlobCommitment
    rlc: Uint8Array
    own: OwnRows
    slices: AsyncIterable<RowSlice[]>
    /** Told of rows that are not needed any more. */
    done?: (rows: readonly RowSlice[]) => void
  }): Promise<Uint8Array> {
    const { store, files, space, codec, sign, nowMs } = this.#parts
    const { key, commitment, rlc, own, slices, done } = parameters
    const { rowRoot, rlcRoot, header } = commitment
    const extent = { ...own, rowBytes: header.rowBytes }
    const fileBytes = rowFileBytes(extent)
    const unreserve = await space.reserve(fileBytes)
    try {
      const verifier = await codec.verifier({ commitment, rlc })
      try {
        const writer = await files.create(key, extent, rlc)
        try {
          const take = async (rows: readonly RowSlice[]): Promise<void> => {
            await verifier.verify(rows)
            await writer.append(rows)
            done?.(rows)
          }
          await copyRows({ slices, own, rowBytes: header.rowBytes, take })
          await writer.commit()
        } finally {
          await writer.discard()
        }
      } finally {
        verifier.release()
      }
      // A reorganisation may have taken the payment away while the rows came.
      this.#paid(key)
      const signature = sign({ ...key, rowRoot, rlcRoot })
      store.held.put({ ...key, ...own, sizeBytes: header.sizeBytes, rowRoot, rlcRoot, fileBytes, signature }, nowMs())
      return signature
    } finally {
      unreserve()
    }
  }

  #paid(key: BlobKey): Submission {
    const submission = this.#parts.store.submission(key)
    if (submission === undefined) {
      throw new SignerError({
        code: 'BLOB_NOT_PAID',
        message: `no paid submission of ${key.dataRoot} in epoch ${key.epoch} is deep enough on the chain`,
        fix: 'submit the blob first, and wait until this signer has read the block (GET /v1/status says how far it is)',
        details: { ...key, block: this.#parts.store.tip()?.number },
      })
    }
    const currentEpoch = this.#parts.currentEpoch()
    if (key.epoch + CONFIRM_EPOCHS < currentEpoch && !this.#parts.store.isRecorded(key)) {
      throw new SignerError({
        code: 'EPOCH_STALE',
        message: `${key.dataRoot} was submitted in epoch ${key.epoch} and not confirmed in time: it is epoch ${currentEpoch}`,
        fix: 'move it to the current epoch with resubmit, which is free',
        details: { ...key, currentEpoch },
      })
    }
    if (currentEpoch <= submission.expiryEpoch) return submission
    throw new SignerError({
      code: 'BLOB_EXPIRED',
      message: `${key.dataRoot} was to be kept until epoch ${submission.expiryEpoch}, it is epoch ${currentEpoch}`,
      fix: 'submit it again',
      details: { ...key, expiryEpoch: submission.expiryEpoch, currentEpoch },
    })
  }

  async #assigned(key: BlobKey): Promise<OwnRows> {
    const own = await this.#parts.ownRows(key.epoch, key.quorumId)
    if (own !== undefined && own.rowCount > 0) return own
    throw new SignerError({
      code: 'ROWS_NOT_ASSIGNED',
      message: `this signer has no rows in epoch ${key.epoch}`,
      fix: 'send the rows to the signers of the submission’s epoch',
      details: { ...key },
    })
  }
}

/** Bytes of the slices of so many rows. */
export function uploadSliceBytes({ firstRow, rowCount }: OwnRows, header: BlobHeader): number {
  let bytes = 0
  for (let index = firstRow; index < firstRow + rowCount; index++) bytes += sliceBytes({ header, index })
  return bytes
}

async function copyRows({
  slices,
  own,
  rowBytes,
  take,
}: {
  slices: AsyncIterable<RowSlice[]>
  own: OwnRows
  rowBytes: number
  take: (rows: readonly RowSlice[]) => Promise<void>
}): Promise<void> {
  const batchRows = Math.min(MAX_BATCH_ROWS, Math.max(1, Math.floor(BATCH_BYTES / rowBytes)))
  let batch: RowSlice[] = []
  let next = own.firstRow
  const flush = async (): Promise<void> => {
    const rows = batch
    batch = []
    if (rows.length > 0) await take(rows)
  }
  for await (const group of slices) {
    for (const slice of group) {
      if (slice.index !== next || next >= own.firstRow + own.rowCount) throw wrongIndex(slice.index, own)
      next += 1
      batch.push(slice)
      if (batch.length >= batchRows) await flush()
    }
  }
  if (next !== own.firstRow + own.rowCount) throw wrongIndex(undefined, own)
  await flush()
}

async function* slicesOf(body: UploadBody, decoder: SliceDecoder): AsyncGenerator<RowSlice[], void, undefined> {
  for await (const piece of body.pieces()) {
    const slices = decoder.push(piece)
    if (slices.length > 0) yield slices
  }
  decoder.end()
}

function checkHead(key: BlobKey, submission: Submission, head: UploadHead): BlobCommitment {
  const { sizeBytes, rowRoot, rlcRoot, rlc } = head
  if (sizeBytes < 1 || sizeBytes > MAX_BLOB_BYTES || sizeBytes !== submission.sizeBytes) {
    throw new SignerError({
      code: 'BLOB_SIZE',
      message: `the upload is of a blob of ${sizeBytes} bytes, ${submission.sizeBytes} bytes were paid for`,
      fix: 'send the blob that was submitted',
      details: { sizeBytes, paidBytes: submission.sizeBytes, limitBytes: MAX_BLOB_BYTES },
    })
  }
  const commitment = blobCommitment({ sizeBytes, rowRoot, rlcRoot })
  if (commitment.dataRoot === key.dataRoot && rlc.length === RLC_BYTES) return commitment
  throw new SignerError({
    code: 'BLOB_ROOT',
    message: `size and roots of the upload make ${commitment.dataRoot}, not ${key.dataRoot}`,
    fix: 'send the commitment of the blob that was submitted',
    details: { dataRoot: key.dataRoot, computed: commitment.dataRoot },
  })
}

function checkLength(lengthBytes: number, wanted: number): void {
  if (lengthBytes === wanted) return
  throw new SignerError({
    code: 'BODY_INVALID',
    message: `the upload has ${lengthBytes} bytes, this signer’s rows of this blob make ${wanted}`,
    fix: 'send exactly the rows that belong to this signer in the submission’s epoch',
    details: { lengthBytes, wantedBytes: wanted },
  })
}

function wrongIndex(index: number | undefined, { firstRow, rowCount }: OwnRows): SignerError {
  const got = index === undefined ? 'the rows end early' : `row ${index} is out of place`
  return new SignerError({
    code: 'ROW_INDEX',
    message: `${got}: this signer’s are ${firstRow} to ${firstRow + rowCount - 1}, in ascending order`,
    fix: 'send exactly these rows',
    details: { index, firstRow, rowCount },
  })
}
