import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type Hash, toHex } from '#protocol/hex.ts'
import {
  decodeSegmentFrames,
  encodeSegmentFrame,
  MAX_FRAME_BYTES,
  type SegmentFrame,
  SegmentFrameDecoder,
  SegmentFrameError,
} from '#protocol/storage/segment-frame.ts'
import { seededBytes } from '../vectors.ts'

const frame = fc
  .record({
    index: fc.nat({ max: 2 ** 32 - 1 }),
    path: fc.array(fc.boolean(), { maxLength: 32 }),
    sectors: fc.integer({ min: 1, max: 12 }),
    seed: fc.nat(),
  })
  .map(({ index, path, sectors, seed }): SegmentFrame => {
    const lemma = Array.from({ length: path.length === 0 ? 1 : path.length + 2 }, (_, i) =>
      toHex(seededBytes(32, seed + i)),
    )
    return { index, proof: { lemma, path }, data: seededBytes(sectors * 256, seed) }
  })
const encodeAll = (frames: SegmentFrame[]) => Buffer.concat(frames.flatMap(encodeSegmentFrame))

describe('segment frames', () => {
  it('come back as they were sent', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 4 }), (frames) => {
        assert.deepEqual(decodeSegmentFrames(encodeAll(frames)), frames)
      }),
    )
  })

  // The network may cut the stream anywhere.
  it('come back from pieces of any size', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { minLength: 1, maxLength: 3 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }),
        (frames, cuts) => {
          const bytes = encodeAll(frames)
          const decoder = new SegmentFrameDecoder()
          const decoded: SegmentFrame[] = []
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const length = cuts[i % cuts.length] ?? 1
            decoded.push(...decoder.push(bytes.subarray(at, at + length)))
            at += length
          }
          decoder.end()
          assert.deepEqual(decoded, frames)
        },
      ),
    )
  })

  // Whatever a stranger sends: frames or a typed error, never anything else.
  it('never crash on random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), fc.array(frame, { maxLength: 1 }), (noise, frames) => {
        try {
          decodeSegmentFrames(Buffer.concat([encodeAll(frames), noise]))
        } catch (error) {
          assert.ok(error instanceof SegmentFrameError)
        }
      }),
      { numRuns: 300 },
    )
  })

  // A length from a stranger allocates nothing above one segment.
  it('keep to their caps', () => {
    const good = encodeAll([
      { index: 1, proof: { lemma: [toHex(seededBytes(32))], path: [] }, data: new Uint8Array(256) },
    ])
    const patched = (at: number, value: number) => {
      const bytes = Buffer.from(good)
      bytes.writeUInt32BE(value, at)
      return bytes
    }
    for (const dataBytes of [0, 255, 262144 + 256, 0xffffffff]) {
      assert.throws(() => decodeSegmentFrames(patched(41, dataBytes)), { code: 'FRAME_LENGTH' })
    }
    assert.throws(() => decodeSegmentFrames(patched(5, 1)), { code: 'FRAME_PROOF' }, 'path bits past the path')
    const long = Buffer.from(good)
    long[4] = 33
    assert.throws(() => decodeSegmentFrames(long.subarray(0, 5)), { code: 'FRAME_PROOF' }, 'before the proof is read')
    assert.ok(MAX_FRAME_BYTES < 270_000)
  })

  it('report a stream that ends inside a frame', () => {
    const bytes = encodeAll([
      { index: 0, proof: { lemma: [toHex(seededBytes(32))], path: [] }, data: new Uint8Array(256) },
    ])
    for (const end of [1, 5, 9, 44, 45, bytes.length - 1]) {
      assert.throws(() => decodeSegmentFrames(bytes.subarray(0, end)), {
        code: 'FRAME_CUT_OFF',
        details: { offset: end },
      })
    }
    assert.deepEqual(decodeSegmentFrames(new Uint8Array(0)), [])
  })

  it('are not made of what fits none', () => {
    const data = new Uint8Array(256)
    const root: Hash = toHex(seededBytes(32))
    const proof = { lemma: [root], path: [] }
    assert.throws(() => encodeSegmentFrame({ index: -1, proof, data }), { code: 'FRAME_INDEX' })
    assert.throws(() => encodeSegmentFrame({ index: 2 ** 32, proof, data }), { code: 'FRAME_INDEX' })
    assert.throws(() => encodeSegmentFrame({ index: 0, proof: { lemma: [], path: [] }, data }), { code: 'FRAME_PROOF' })
    assert.throws(() => encodeSegmentFrame({ index: 0, proof: { lemma: ['0x1'], path: [] }, data }), {
      code: 'INVALID_HEX',
    })
    assert.throws(() => encodeSegmentFrame({ index: 0, proof, data: new Uint8Array(100) }), { code: 'FRAME_LENGTH' })
  })

  it('do not copy the data', () => {
    const data = seededBytes(512)
    assert.equal(encodeSegmentFrame({ index: 0, proof: { lemma: [toHex(seededBytes(32))], path: [] }, data })[1], data)
  })
})
