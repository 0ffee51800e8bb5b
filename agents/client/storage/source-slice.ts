import { type ByteSource, readFully } from '#protocol/storage/byte-source.ts'

/** A part of a source as a source of its own, `length` bytes from `offset`. */
export function sourceSlice({
  source,
  offset,
  length,
}: {
  source: ByteSource
  offset: number
  length: number
}): ByteSource {
  const sizeBytes = Math.max(0, Math.min(length, source.sizeBytes - offset))
  return {
    sizeBytes,
    read: (range) =>
      source.read({ offset: offset + range.offset, length: Math.min(range.length, sizeBytes - range.offset) }),
    readInto: async (range) => {
      const target = range.target.subarray(0, sizeBytes - range.offset)
      await readFully(source, { offset: offset + range.offset, target })
      return target.length
    },
  }
}
