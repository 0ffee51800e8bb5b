import { KernelError } from './error.ts'
import { type LocalKernels, localKernels } from './local.ts'

/** Bytes of a piece, the unit of sealing: 16 sectors. */
export const PIECE_BYTES = 4096

const HASH_BYTES = 32
const KEY_BYTES = 72

/** Bytes sealed in one call of the kernel: a mining chunk. */
const BATCH_BYTES = 256 * 1024

export interface SealParameters {
  /** Whole pieces of 4 096 bytes, any number of them. */
  data: Uint8Array
  /** 32 bytes. */
  minerId: Uint8Array
  /** Digest of the mining context that covers the data, 32 bytes. */
  contextDigest: Uint8Array
  /** Sector of the flow where the data begins, a multiple of 16. */
  positionSectors: number
  /** Where the result goes; may be `data` itself. New bytes unless given. */
  target?: Uint8Array | undefined
}

/**
 * Seals data for a miner: a 32-byte word at a time is masked with the hash of the sealed word before it, so that only
 * who has spent the hashing can answer from sealed data (storage-contracts §5.3). About 300 MB/s a core.
 *
 * @throws KernelError `KERNEL_INPUT`
 */
export function seal(parameters: SealParameters): Uint8Array {
  return run(parameters, 0)
}

/**
 * The data that was sealed. Costs as much as sealing.
 *
 * @throws KernelError `KERNEL_INPUT`
 */
export function unseal(parameters: SealParameters): Uint8Array {
  return run(parameters, 1)
}

function run({ data, minerId, contextDigest, positionSectors, target }: SealParameters, undo: 0 | 1): Uint8Array {
  const result = target ?? new Uint8Array(data.length)
  check({ data, minerId, contextDigest, positionSectors, target: result })
  const kernels = localKernels()
  const { exports, input, inputAddress, output, outputAddress } = kernels
  output.set(minerId)
  output.set(contextDigest, HASH_BYTES)
  for (let at = 0; at < data.length; at += BATCH_BYTES) {
    const part = data.subarray(at, at + BATCH_BYTES)
    setPosition(kernels, positionSectors + at / 256)
    input.set(part)
    exports.seal(inputAddress, inputAddress, part.length / PIECE_BYTES, outputAddress, undo)
    result.set(input.subarray(0, part.length), at)
  }
  output.fill(0, 0, KEY_BYTES)
  return result
}

function setPosition({ output }: LocalKernels, positionSectors: number): void {
  new DataView(output.buffer, output.byteOffset).setBigUint64(2 * HASH_BYTES, BigInt(positionSectors), true)
}

function check({ data, minerId, contextDigest, positionSectors, target }: Required<SealParameters>): void {
  const sizes = data.length % PIECE_BYTES === 0 && target !== undefined && target.length === data.length
  const keys = minerId.length === HASH_BYTES && contextDigest.length === HASH_BYTES
  const place = Number.isSafeInteger(positionSectors) && positionSectors >= 0 && positionSectors % 16 === 0
  if (sizes && keys && place) return
  throw new KernelError({
    code: 'KERNEL_INPUT',
    message: 'sealing takes whole pieces of 4096 bytes at a multiple of 16 sectors, and keys of 32 bytes',
    details: {
      dataBytes: data.length,
      targetBytes: target?.length,
      minerIdBytes: minerId.length,
      contextDigestBytes: contextDigest.length,
      positionSectors,
    },
  })
}
