import type { Logger } from '#kit/log.ts'
import { blobHeader } from '#protocol/da/commitment.ts'
import { SUBLINE_BYTES } from '#protocol/da/constants.ts'
import { rowLeaf, sublineProof, verifyRowPath } from '#protocol/da/row-proof.ts'
import { encodeSlice, type RowSlice } from '#protocol/da/slice.ts'
import { SignerError } from '../error.ts'
import type { BlobKey } from '../store/blob-key.ts'
import type { HeldRows } from '../store/held-table.ts'
import { damaged, type RowFileReader, type RowFiles } from '../store/row-files.ts'
import type { SignerStore } from '../store/signer-store.ts'

/** Rows read, checked and sent at once. */
const GROUP_BYTES = 512 * 1024
const MAX_GROUP_ROWS = 256

/** Hands out what is held. Each row is checked against its root when it leaves the disk: a damaged one never goes out. */
export class RowServer {
  readonly #store: SignerStore
  readonly #files: RowFiles
  readonly #log: Logger
  readonly #nowMs: () => number

  constructor(parts: { store: SignerStore; files: RowFiles; log: Logger; nowMs: () => number }) {
    this.#store = parts.store
    this.#files = parts.files
    this.#log = parts.log
    this.#nowMs = parts.nowMs
  }

  /** @throws SignerError `ROWS_MISSING` */
  held(key: BlobKey): HeldRows {
    const held = this.#store.held.get(key)
    if (held !== undefined) return held
    throw new SignerError({
      code: 'ROWS_MISSING',
      message: `this signer holds no rows of ${key.dataRoot} of epoch ${key.epoch}`,
      fix: 'ask the other signers of that epoch',
      details: { ...key },
    })
  }

  /**
   * The rows among `from` to `to` (not included) that are held, as slices on the wire. Damaged ones are left out.
   *
   * @throws SignerError `ROWS_MISSING` when none is held, `ROWS_DAMAGED` when the file is gone; both before the first byte
   */
  async rows(key: BlobKey, range: { from: number; to: number }): Promise<AsyncGenerator<Uint8Array, void, undefined>> {
    const held = this.held(key)
    const from = Math.max(range.from, held.firstRow)
    const to = Math.min(range.to, held.firstRow + held.rowCount)
    if (from >= to) {
      throw new SignerError({
        code: 'ROWS_MISSING',
        message: `this signer holds rows ${held.firstRow} to ${held.firstRow + held.rowCount - 1}`,
        fix: 'ask for some of these',
        details: { ...key, firstRow: held.firstRow, rowCount: held.rowCount },
      })
    }
    const reader = await this.#open(held)
    return this.#stream(held, reader, { from, to })
  }

  /** The blob's random linear combinations, 16 bytes for each data row. */
  async rlc(key: BlobKey): Promise<Uint8Array> {
    const held = this.held(key)
    const reader = await this.#open(held)
    try {
      return await reader.rlc()
    } finally {
      await reader.close()
    }
  }

  /** One row, checked. @throws SignerError `ROWS_MISSING`, `ROWS_DAMAGED` */
  async row(key: BlobKey, index: number): Promise<RowSlice> {
    const held = this.held(key)
    if (index < held.firstRow || index >= held.firstRow + held.rowCount) {
      throw new SignerError({
        code: 'ROWS_MISSING',
        message: `row ${index} is not among those held here`,
        fix: `ask for rows ${held.firstRow} to ${held.firstRow + held.rowCount - 1}`,
        details: { ...key, index },
      })
    }
    const reader = await this.#open(held)
    try {
      return await this.#checked(held, reader, index)
    } finally {
      await reader.close()
    }
  }

  /** A sub-line of a row with its whole path to the row root. */
  async subline(
    key: BlobKey,
    index: number,
    subline: number,
  ): Promise<{ data: Uint8Array; path: Uint8Array; row: RowSlice }> {
    const row = await this.row(key, index)
    if (subline * SUBLINE_BYTES >= row.data.length) throw noSubline(index, subline, row.data.length)
    const proof = sublineProof({ row: row.data, subline })
    return { data: proof.data, path: Buffer.concat([proof.path, row.path]), row }
  }

  async *#stream(
    held: HeldRows,
    reader: RowFileReader,
    { from, to }: { from: number; to: number },
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const groupRows = Math.max(1, Math.min(MAX_GROUP_ROWS, Math.floor(GROUP_BYTES / rowBytesOf(held))))
    try {
      for (let index = from; index < to; index += groupRows) {
        const slices = await this.#group(held, reader, index, Math.min(groupRows, to - index))
        if (slices.length > 0) yield Buffer.concat(slices.flatMap(encodeSlice))
      }
    } finally {
      await reader.close()
    }
  }

  /** The sound ones of some rows that follow each other. */
  async #group(held: HeldRows, reader: RowFileReader, first: number, count: number): Promise<RowSlice[]> {
    try {
      return (await reader.rows(first, count)).filter((slice) => this.#isSound(held, slice))
    } catch (error) {
      if (!(error instanceof SignerError)) throw error
      // The file ends early: what is before its end may still be had.
      this.#noteDamage(held, error)
      if (count === 1) return []
      const half = count >> 1
      const front = await this.#group(held, reader, first, half)
      return [...front, ...(await this.#group(held, reader, first + half, count - half))]
    }
  }

  async #open(held: HeldRows): Promise<RowFileReader> {
    try {
      return await this.#files.open(held, { ...held, rowBytes: rowBytesOf(held) })
    } catch (error) {
      this.#noteDamage(held, error)
      throw error
    }
  }

  async #checked(held: HeldRows, reader: RowFileReader, index: number): Promise<RowSlice> {
    try {
      const [slice] = await reader.rows(index, 1)
      if (slice !== undefined && this.#isSound(held, slice)) return slice
      throw unsound(held, index)
    } catch (error) {
      this.#noteDamage(held, error)
      throw error
    }
  }

  #isSound(held: HeldRows, { index, data, path }: RowSlice): boolean {
    if (verifyRowPath({ rowRoot: held.rowRoot, index, leaf: rowLeaf(data), path })) return true
    this.#noteDamage(held, unsound(held, index))
    return false
  }

  #noteDamage(held: HeldRows, error: unknown): void {
    if (!(error instanceof SignerError) || error.code !== 'ROWS_DAMAGED' || held.damaged) return
    this.#log.error({ dataRoot: held.dataRoot, epoch: held.epoch, err: error }, 'stored rows are damaged')
    held.damaged = true
    this.#store.held.markDamaged(held, this.#nowMs())
  }
}

function noSubline(row: number, subline: number, rowBytes: number): SignerError {
  return new SignerError({
    code: 'REQUEST_INVALID',
    message: `row ${row} has ${rowBytes} bytes: there is no sub-line ${subline}`,
    fix: `ask for sub-lines below ${Math.ceil(rowBytes / SUBLINE_BYTES)}`,
    details: { row, subline, rowBytes },
  })
}

function rowBytesOf({ sizeBytes }: HeldRows): number {
  return blobHeader(sizeBytes).rowBytes
}

function unsound(held: HeldRows, index: number): SignerError {
  return damaged(held, `row ${index} does not match its root`)
}
