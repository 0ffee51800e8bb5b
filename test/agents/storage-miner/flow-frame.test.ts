import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { decodeFlowSegments, encodeFlowSegment, type FlowSegment } from '#storage/node/http/flow-frame.ts'
import { pseudoRandomBytes } from '../storage-node/harness.ts'

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 })
const cover = fc.integer({ min: 0, max: 9 }).chain((height) => {
  const sector = fc.integer({ min: 0, max: 2 ** (10 - height) - 1 }).map((at) => at * 2 ** height)
  return fc.record({ sector, height: fc.constant(height), hash }, { noNullPrototype: true })
})

/** Data as a seed: a failure that prints a whole segment helps nobody. */
const frame = fc.record(
  {
    segment: fc.maxSafeNat(),
    held: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    covers: fc.array(cover, { maxLength: 8 }),
    siblings: fc.array(hash, { maxLength: 8 }),
    seed: fc.nat(),
  },
  { noNullPrototype: true },
)

async function* pieces(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    yield bytes.subarray(at, at + size)
    at += size
  }
}

async function decode(bytes: Uint8Array, sizes: readonly number[] = [65_536]): Promise<FlowSegment[]> {
  const found: FlowSegment[] = []
  for await (const segment of decodeFlowSegments(pieces(bytes, sizes))) found.push(segment)
  return found
}

describe('frames of the flow', () => {
  // However the stream is cut, what was put in comes out.
  it('come out as they went in', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { maxLength: 2 }), sizes, async (seeded, cuts) => {
        const frames = seeded.map(({ seed, ...rest }) => ({ ...rest, data: pseudoRandomBytes(262_144, seed).slice() }))
        const bytes = Buffer.concat(frames.flatMap(encodeFlowSegment))
        // Cuts of a few bytes would take minutes for whole segments.
        const coarse = cuts.map((cut) => Math.max(cut, 1_000))
        const decoded = await decode(bytes, coarse)
        assert.equal(decoded.length, frames.length)
        for (const [i, { data, ...rest }] of decoded.entries()) {
          const { data: wanted, ...wantedRest } = frames[i] ?? {}
          assert.deepEqual(rest, wantedRest)
          assert.ok(wanted && Buffer.compare(data, wanted) === 0)
        }
      }),
      { numRuns: 25 },
    )
  })

  // A stream that ends early, or is none, fails with a typed error: it neither hangs nor gives half a segment.
  it('refuse what is cut off or garbled', async () => {
    const good = Buffer.concat(
      encodeFlowSegment({
        segment: 3,
        held: 1n,
        covers: [],
        siblings: [new Uint8Array(32)],
        data: new Uint8Array(262_144),
      }),
    )
    for (const length of [1, 18, 19, 40, good.length - 1]) {
      await assert.rejects(decode(good.subarray(0, length)), { code: 'FLOW_FRAME' })
    }
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 19, maxLength: 500 }), async (noise) => {
        await assert.rejects(decode(noise, [7]), { code: 'FLOW_FRAME' })
      }),
    )
  })
})
