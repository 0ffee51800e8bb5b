import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { blobHeader } from '#protocol/da/commitment.ts'
import { rowPathHashes, sublineProof, verifyRowPath, verifySubline } from '#protocol/da/row-proof.ts'
import { decodeSlices, encodeSlice, type RowSlice, SliceDecoder, sliceBytes, writeSlice } from '#protocol/da/slice.ts'
import { toHex } from '#protocol/hex.ts'
import { auditPath, rowHash, tree } from './blob-twin.ts'

const header = blobHeader(70_000)

function sliceOf(index: number): RowSlice {
  const data = Uint8Array.from({ length: header.rowBytes }, (_, i) => index + 3 * i)
  const path = Uint8Array.from({ length: 32 * rowPathHashes(index) }, (_, i) => 7 * i + index)
  return { index, data, path }
}

const join = (slices: readonly RowSlice[]): Uint8Array => new Uint8Array(Buffer.concat(slices.flatMap(encodeSlice)))

const indexes = fc.array(fc.integer({ min: 0, max: 3071 }), { maxLength: 12 })

describe('slices on the wire', () => {
  it('come back as they were sent, in whatever pieces they arrive', () => {
    fc.assert(
      fc.property(indexes, fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1 }), (list, cuts) => {
        const slices = list.map(sliceOf)
        const bytes = join(slices)
        assert.equal(
          bytes.length,
          list.reduce((sum, index) => sum + sliceBytes({ header, index }), 0),
        )
        assert.deepEqual(decodeSlices(bytes, { header }), slices)
        const decoder = new SliceDecoder({ header })
        const got: RowSlice[] = []
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const piece = bytes.slice(at, at + (cuts[i % cuts.length] ?? 1))
          got.push(...decoder.push(piece))
          at += piece.length
          piece.fill(0) // the decoder may not keep the caller's bytes
        }
        decoder.end()
        assert.deepEqual(got, slices)
      }),
      { numRuns: 50 },
    )
  })

  it('are the same bytes when they are written in place', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3071 }), fc.nat(100), (index, before) => {
        const slice = sliceOf(index)
        const target = new Uint8Array(before + sliceBytes({ header, index }) + 1)
        const length = writeSlice({ slice, target: target.subarray(before) })
        assert.deepEqual(target.subarray(before, before + length), join([slice]))
        assert.equal(target.at(-1), 0)
      }),
    )
  })

  // Memory that is given back holds the next slices, never one that somebody still has.
  it('may be given back once they are done with', () => {
    const slices = Array.from({ length: 400 }, (_, i) => sliceOf((i * 977) % 3072))
    const bytes = join(slices)
    const decoder = new SliceDecoder({ header })
    const memories = new Set<ArrayBufferLike>()
    let at = 0
    for (let from = 0; from < slices.length; from += 8) {
      const end = at + slices.slice(from, from + 8).reduce((sum, { index }) => sum + sliceBytes({ header, index }), 0)
      const got = decoder.push(bytes.subarray(at, end))
      assert.deepEqual(got, slices.slice(from, from + 8))
      for (const { data } of got) memories.add(data.buffer)
      decoder.recycle(got)
      at = end
    }
    decoder.end()
    assert.equal(memories.size, 8)
  })

  it('are refused with a code for each thing that can be wrong, before anything is kept for them', () => {
    const bytes = join([sliceOf(5)])
    const put = (at: number, value: number): Uint8Array => {
      const copy = bytes.slice()
      copy[at] = value
      return copy
    }
    const decode = (wrong: Uint8Array) => () => decodeSlices(wrong, { header })
    assert.throws(decode(put(0, 2)), { code: 'SLICE_VERSION' })
    assert.throws(decode(put(1, 255)), { code: 'SLICE_INDEX' })
    assert.throws(decode(put(3, 12)), { code: 'SLICE_INDEX' })
    assert.throws(decode(put(5, 127)), { code: 'SLICE_LENGTH' }) // two gigabytes
    assert.throws(decode(put(8, 64)), { code: 'SLICE_LENGTH' })
    assert.throws(decode(put(9 + header.rowBytes, 11)), { code: 'SLICE_PATH' })
    for (const length of [1, 8, 9, 100, bytes.length - 1]) {
      assert.throws(decode(bytes.subarray(0, length)), { code: 'SLICE_TRUNCATED' })
    }
  })

  it('are read up to the number that is wanted', () => {
    const decoder = new SliceDecoder({ header, maxSlices: 2 })
    assert.equal(decoder.push(join([sliceOf(1), sliceOf(2)])).length, 2)
    assert.throws(() => decoder.push(join([sliceOf(3)])), { code: 'SLICE_COUNT' })
  })

  it('survive any bytes: an error with a code, or slices that encode to the same bytes', () => {
    fc.assert(
      fc.property(indexes, fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 3 }), (list, changes) => {
        const bytes = join(list.map(sliceOf))
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
        try {
          assert.deepEqual(join(decodeSlices(bytes, { header })), bytes)
        } catch (error) {
          assert.match(String((error as { code?: unknown }).code), /^SLICE_/)
        }
      }),
      { numRuns: 100 },
    )
  })
})

describe('paths and sub-lines', () => {
  const leaves = Array.from({ length: 3072 }, (_, i) =>
    Uint8Array.from({ length: 32 }, (_, k) => i * 31 + k * (i >> 8)),
  )

  it('of rows lead to the root of RFC 6962 and nowhere else', () => {
    const rowRoot = toHex(tree(leaves))
    for (const index of [0, 1023, 1024, 2047, 2048, 3071]) {
      const leaf = leaves[index] ?? new Uint8Array()
      const path = new Uint8Array(Buffer.concat(auditPath(leaves, index)))
      assert.equal(path.length, 32 * rowPathHashes(index))
      assert.equal(verifyRowPath({ rowRoot, index, leaf, path }), true)
      for (const other of [index ^ 1, index + 1024, -1, 3072, 0.5, Number.NaN]) {
        assert.equal(verifyRowPath({ rowRoot, index: other, leaf, path }), false)
      }
      assert.equal(verifyRowPath({ rowRoot, index, leaf: path.subarray(0, 32), path }), false)
      assert.equal(verifyRowPath({ rowRoot, index, leaf, path: path.subarray(32) }), false)
    }
  })

  it('prove each sub-line of a row, also a short last one', () => {
    for (const sizeBytes of [1000, 1 << 20, 1_200_000, 7_000_000, 1 << 25]) {
      const shape = blobHeader(sizeBytes)
      const row = Uint8Array.from({ length: shape.rowBytes }, (_, i) => i * 7 + (i >> 8))
      const index = 2051
      const all = leaves.map((leaf, i) => (i === index ? rowHash(row) : leaf))
      const rowRoot = toHex(tree(all))
      const rowPath = Buffer.concat(auditPath(all, index))
      const count = Math.ceil(shape.rowBytes / 1024)
      for (const subline of [0, count >> 1, count - 1]) {
        const { data, path } = sublineProof({ row, subline })
        const proof = { rowRoot, header: shape, row: index, subline, data, path: Buffer.concat([path, rowPath]) }
        assert.equal(verifySubline(proof), true)
        const bad = data.slice()
        bad[0] = (bad[0] ?? 0) ^ 1
        assert.equal(verifySubline({ ...proof, data: bad }), false)
        assert.equal(verifySubline({ ...proof, row: index + 1 }), false)
        assert.equal(verifySubline({ ...proof, subline: subline + 1 }), false)
        assert.equal(verifySubline({ ...proof, data: data.subarray(1) }), false)
        assert.equal(verifySubline({ ...proof, path: rowPath.subarray(32) }), false)
      }
      assert.throws(() => sublineProof({ row, subline: count }), RangeError)
    }
  })
})
