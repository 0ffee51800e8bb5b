import { WeightlessError } from '../error.ts'
import { MAX_FILE_BYTES, SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS } from './constants.ts'

/** A size or index outside its range. `details` carries the field, the value and the limit. */
export class SizeError extends WeightlessError {}

/**
 * Sectors that hold the data: ceil(size / 256).
 *
 * @throws SizeError `FILE_EMPTY`, `FILE_TOO_LARGE` (above 8 TiB) or `FILE_SIZE` (not a whole number of bytes)
 */
export function sectorCount(sizeBytes: number): number {
  checkFileSize(sizeBytes)
  return Math.ceil(sizeBytes / SECTOR_BYTES)
}

/**
 * Sectors a file occupies in the flow: the sector count rounded up to a multiple of 1/16 of the next power of two, so
 * that it is a sum of at most four distinct powers of two (storage-contracts §2.1).
 */
export function paddedSectors(sizeBytes: number): number {
  const sectors = sectorCount(sizeBytes)
  const unit = Math.max(1, nextPowerOfTwo(sectors) / 16)
  return Math.ceil(sectors / unit) * unit
}

/** Segments that hold data; only these are transferred. */
export function segmentCount(sizeBytes: number): number {
  return Math.ceil(sectorCount(sizeBytes) / SEGMENT_SECTORS)
}

/** Segments of the padded file: the leaves of the segment tree. The last may be short. */
export function paddedSegmentCount(sizeBytes: number): number {
  return Math.ceil(paddedSectors(sizeBytes) / SEGMENT_SECTORS)
}

/** Sectors of padded segment `index`: 1 024, or what is left in the last one. */
export function segmentPaddedSectors(sizeBytes: number, index: number): number {
  const padded = paddedSectors(sizeBytes)
  checkIndex(index, Math.ceil(padded / SEGMENT_SECTORS))
  return Math.min(SEGMENT_SECTORS, padded - index * SEGMENT_SECTORS)
}

/**
 * Bytes of segment `index` on the wire: 262 144, and for the last one what is left, rounded up to whole sectors.
 *
 * @throws SizeError `SEGMENT_INDEX` when the file has no such segment
 */
export function segmentDataBytes(sizeBytes: number, index: number): number {
  const sectors = sectorCount(sizeBytes)
  checkIndex(index, Math.ceil(sectors / SEGMENT_SECTORS))
  return Math.min(SEGMENT_BYTES, sectors * SECTOR_BYTES - index * SEGMENT_BYTES)
}

/** The smallest power of two that is not below `value` (1 ≤ value ≤ 2^52). */
export function nextPowerOfTwo(value: number): number {
  let power = 1
  while (power < value) power *= 2
  return power
}

function checkFileSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw new SizeError({
      code: 'FILE_SIZE',
      message: `a file size must be a whole number of bytes, not ${sizeBytes}`,
      details: { field: 'sizeBytes', value: sizeBytes },
    })
  }
  if (sizeBytes === 0) {
    throw new SizeError({
      code: 'FILE_EMPTY',
      message: 'an empty file cannot be stored',
      fix: 'give at least one byte',
      details: { field: 'sizeBytes', value: 0 },
    })
  }
  if (sizeBytes > MAX_FILE_BYTES) {
    throw new SizeError({
      code: 'FILE_TOO_LARGE',
      message: `a file of ${sizeBytes} bytes is larger than the limit of ${MAX_FILE_BYTES} bytes`,
      fix: 'split it into several files',
      details: { field: 'sizeBytes', value: sizeBytes, limit: MAX_FILE_BYTES },
    })
  }
}

function checkIndex(index: number, count: number): void {
  if (Number.isSafeInteger(index) && index >= 0 && index < count) return
  throw new SizeError({
    code: 'SEGMENT_INDEX',
    message: `segment index ${index} is out of bound: the file has ${count} segments`,
    fix: `give an index from 0 to ${count - 1}`,
    details: { field: 'index', value: index, limit: count },
  })
}
