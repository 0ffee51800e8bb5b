import { WeightlessError } from '../error.ts'

/** Random-access bytes of known size: a file, memory, or another source wrapped (encrypted, say). */
export interface ByteSource {
  readonly sizeBytes: number
  /** The bytes from `offset`: exactly `length` of them unless the source ends before. */
  read(range: { offset: number; length: number }): Promise<Uint8Array>
  /** Fills `target` from `offset` and gives the number of bytes written: all of `target` unless the source ends before. */
  readInto?(range: { offset: number; target: Uint8Array }): Promise<number>
}

/** The source gave fewer bytes than its size promised: it was cut off or changed while it was read. */
export class SourceShortError extends WeightlessError {}

/** Bytes in memory as a source. The bytes are not copied: do not change them while they are in use. */
export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    sizeBytes: bytes.length,
    read: async ({ offset, length }) => bytes.subarray(offset, offset + length),
    readInto: async ({ offset, target }) => {
      const part = bytes.subarray(offset, offset + target.length)
      target.set(part)
      return part.length
    },
  }
}

/**
 * Fills the whole of `target` from `offset`.
 *
 * @throws SourceShortError `SOURCE_SHORT`
 */
export async function readFully(source: ByteSource, { offset, target }: ReadFullyParameters): Promise<void> {
  let filled = 0
  if (source.readInto) {
    filled = await source.readInto({ offset, target })
  } else {
    const bytes = await source.read({ offset, length: target.length })
    filled = Math.min(bytes.length, target.length)
    target.set(bytes.subarray(0, filled))
  }
  if (filled === target.length) return
  throw new SourceShortError({
    code: 'SOURCE_SHORT',
    message: `wanted ${target.length} bytes at offset ${offset} and got ${filled}`,
    fix: 'leave the file alone while it is read, then start again',
    details: { offset, wantedBytes: target.length, gotBytes: filled, sizeBytes: source.sizeBytes },
  })
}

export interface ReadFullyParameters {
  offset: number
  target: Uint8Array
}
