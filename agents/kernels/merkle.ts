import { KernelError } from './error.ts'
import { INPUT_BYTES, localKernels } from './local.ts'
import { zeroRootsTwin } from './merkle-twin.ts'

/** Merkle hashing on this thread, about 400 MiB/s of file data a core. `merkle-pool.ts` has the same on threads. */

const HASH_BYTES = 32
const SECTOR_BYTES = 256
const SEGMENT_SECTORS = 1024
const SEGMENT_BYTES = SEGMENT_SECTORS * SECTOR_BYTES

/** Hashes folded in one call: a power of two, so that blocks of them are subtrees. */
const BLOCK_BYTES = INPUT_BYTES

/** `ZERO_ROOTS[h]` is the root of a subtree of 2^h zero sectors, h = 0..63. Do not write to them. */
export const ZERO_ROOTS: readonly Uint8Array[] = zeroRootsTwin()

/**
 * keccak256 of each 256-byte sector of `data` (at most 256 KiB, any length, zero-filled), then zero sectors up to
 * `paddedSectors` (at most 1 024). 32 bytes each.
 *
 * @throws KernelError `KERNEL_INPUT`
 */
export function leafHashes(data: Uint8Array, paddedSectors: number): Uint8Array {
  const sectors = checkSegment(data, paddedSectors)
  const { exports, input, inputAddress, output, outputAddress } = localKernels()
  putSectors(input, data)
  exports.leafHashes(inputAddress, outputAddress, sectors)
  for (let i = sectors; i < paddedSectors; i++) output.set(zeroSector(), i * HASH_BYTES)
  return copyOut(output, paddedSectors * HASH_BYTES)
}

/**
 * The root of one segment: `data` (at most 256 KiB, any length) zero-filled to `paddedSectors` (1 to 1 024) sectors.
 *
 * @throws KernelError `KERNEL_INPUT`
 */
export function segmentRoot(data: Uint8Array, paddedSectors: number): Uint8Array {
  const sectors = checkSegment(data, paddedSectors)
  const { exports, input, inputAddress, output, outputAddress } = localKernels()
  putSectors(input, data)
  const work = outputAddress + HASH_BYTES
  exports.segmentRoots(inputAddress, sectors, paddedSectors, work, outputAddress)
  return copyOut(output, HASH_BYTES)
}

/**
 * The root of the left-full tree over hashes of 32 bytes each, any number of them; an odd last one moves up.
 *
 * @throws KernelError `KERNEL_INPUT` when there are none
 */
export function foldRoots(hashes: Uint8Array): Uint8Array {
  checkHashes(hashes)
  const { exports, input, inputAddress } = localKernels()
  let level = hashes
  for (;;) {
    const above = new Uint8Array(Math.ceil(level.length / BLOCK_BYTES) * HASH_BYTES)
    for (let at = 0, root = 0; at < level.length; at += BLOCK_BYTES, root += HASH_BYTES) {
      const block = level.subarray(at, at + BLOCK_BYTES)
      input.set(block)
      exports.fold(inputAddress, block.length / HASH_BYTES)
      above.set(input.subarray(0, HASH_BYTES), root)
    }
    if (above.length === HASH_BYTES) return above
    level = above
  }
}

/**
 * One level of the tree: n hashes become ceil(n / 2); an odd last one moves up.
 *
 * @throws KernelError `KERNEL_INPUT` when there are none
 */
export function foldLevel(hashes: Uint8Array): Uint8Array {
  checkHashes(hashes)
  const { exports, input, inputAddress } = localKernels()
  const above = new Uint8Array(Math.ceil(hashes.length / HASH_BYTES / 2) * HASH_BYTES)
  for (let at = 0; at < hashes.length; at += BLOCK_BYTES) {
    const block = hashes.subarray(at, at + BLOCK_BYTES)
    const count = block.length / HASH_BYTES
    input.set(block)
    exports.foldLevel(inputAddress, count)
    above.set(input.subarray(0, Math.ceil(count / 2) * HASH_BYTES), at / 2)
  }
  return above
}

/** keccak256(left ‖ right) of two hashes of 32 bytes. */
export function hashPair(left: Uint8Array, right: Uint8Array): Uint8Array {
  if (left.length !== HASH_BYTES || right.length !== HASH_BYTES)
    throw inputError('a hash is not 32 bytes', { left, right })
  const { exports, input, inputAddress } = localKernels()
  input.set(left)
  input.set(right, HASH_BYTES)
  exports.nodeHashes(inputAddress, inputAddress, 1)
  return copyOut(input, HASH_BYTES)
}

/** Copies data into a region and zero-fills its last sector. */
function putSectors(region: Uint8Array, data: Uint8Array): void {
  region.set(data)
  region.fill(0, data.length, Math.ceil(data.length / SECTOR_BYTES) * SECTOR_BYTES)
}

/** A copy in memory that is not shared with the kernels. */
function copyOut(region: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  bytes.set(region.subarray(0, length))
  return bytes
}

function zeroSector(): Uint8Array {
  return ZERO_ROOTS[0] ?? new Uint8Array(HASH_BYTES)
}

/** Sectors that hold data. */
function checkSegment(data: Uint8Array, paddedSectors: number): number {
  const sectors = Math.ceil(data.length / SECTOR_BYTES)
  const fits = data.length <= SEGMENT_BYTES && sectors <= paddedSectors && paddedSectors <= SEGMENT_SECTORS
  if (fits && Number.isInteger(paddedSectors) && paddedSectors > 0) return sectors
  throw inputError(`${data.length} bytes padded to ${paddedSectors} sectors are no segment`, {
    dataBytes: data.length,
    paddedSectors,
    limitBytes: SEGMENT_BYTES,
    limitSectors: SEGMENT_SECTORS,
  })
}

function checkHashes(hashes: Uint8Array): void {
  if (hashes.length > 0 && hashes.length % HASH_BYTES === 0) return
  throw inputError(`${hashes.length} bytes are no list of hashes`, { bytes: hashes.length })
}

function inputError(message: string, details: Record<string, unknown>): KernelError {
  return new KernelError({ code: 'KERNEL_INPUT', message, details })
}
