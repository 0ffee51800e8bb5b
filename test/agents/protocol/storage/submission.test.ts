import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Hash } from '#protocol/hex.ts'
import { MAX_FILE_BYTES } from '#protocol/storage/constants.ts'
import { paddedSectors, sectorCount, segmentDataBytes, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import { nodeHeights, submissionIsFile, submissionSectors, validateSubmission } from '#protocol/storage/submission.ts'

const ROOT: Hash = `0x${'11'.repeat(32)}`
const submission = (sizeBytes: number, heights: number[]) => ({
  sizeBytes,
  tags: '0x' as const,
  nodes: heights.map((height) => ({ root: ROOT, height })),
})
const anySize = fc.oneof(
  fc.integer({ min: 1, max: 10_000_000 }),
  fc.maxSafeInteger().map((n) => 1 + (Math.abs(n) % MAX_FILE_BYTES)),
  fc.integer({ min: 0, max: 43 }).chain((bit) => fc.constantFrom(2 ** bit, Math.max(1, 2 ** bit - 1))),
)

describe('submission', () => {
  // What a file of any size becomes is always accepted by the flow contract, in at most four nodes.
  it('of any file is valid and is a file', () => {
    fc.assert(
      fc.property(anySize, (sizeBytes) => {
        const heights = nodeHeights(sizeBytes)
        const { nodes } = submission(sizeBytes, heights)
        assert.ok(heights.length <= 4)
        assert.equal(submissionSectors(nodes), paddedSectors(sizeBytes))
        assert.ok(paddedSectors(sizeBytes) * 8 < sectorCount(sizeBytes) * 9, 'padding is below an eighth')
        validateSubmission(submission(sizeBytes, heights))
        assert.equal(submissionIsFile({ sizeBytes, nodes }), true)
      }),
      { numRuns: 500 },
    )
  })

  // One byte too many for the nodes, or one sector too few to need them, is refused (storage-contracts §2.4).
  it('is refused when its size does not fit its nodes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000_000 }), (sizeBytes) => {
        const heights = nodeHeights(sizeBytes)
        const capacity = paddedSectors(sizeBytes) * 256
        validateSubmission(submission(capacity, heights))
        assert.throws(() => validateSubmission(submission(capacity + 1, heights)), {
          details: { rule: 'size', sizeBytes: capacity + 1, heights },
        })
        const unit = capacity / 256 < 16 ? 1 : heights.length === 1 ? capacity / 4096 : 2 ** ((heights[0] ?? 0) - 3)
        const least = capacity - unit * 256 + 1
        validateSubmission(submission(least, heights))
        if (least > 1)
          assert.throws(() => validateSubmission(submission(least - 1, heights)), { code: 'INVALID_SUBMISSION' })
      }),
      { numRuns: 200 },
    )
  })

  it('is refused for each rule of the contract', () => {
    const broken: [number, number[], string][] = [
      [1, [], 'nodes'],
      [1, [64], 'height'],
      [1, [-1], 'height'],
      [1, [0.5], 'height'],
      [1000, [1, 1], 'order'],
      [1000, [1, 2], 'order'],
      [256 * 17, [4, 0], 'span'],
      [0, [0], 'padding'],
      [257, [0], 'size'],
      [1.5, [0], 'size'],
    ]
    for (const [sizeBytes, heights, rule] of broken) {
      assert.throws(() => validateSubmission(submission(sizeBytes, heights)), {
        code: 'INVALID_SUBMISSION',
        details: { rule, sizeBytes, heights },
      })
    }
    assert.throws(() => validateSubmission({ ...submission(1, [0]), tags: '0x1' }), { code: 'INVALID_HEX' })
    assert.throws(() => validateSubmission({ ...submission(1, [0]), nodes: [{ root: '0x12', height: 0 }] }), {
      code: 'INVALID_HEX',
    })
  })

  // The contract takes some node lists that no file has; a node must not expect data for them.
  it('that no file has is not a file', () => {
    const odd = submission(256 * 3000, [11, 9, 8, 7]) // valid, but a file would have 11, 10
    assert.equal(submissionIsFile(odd), false)
    assert.equal(submissionIsFile(submission(0, [])), false)
    assert.equal(submissionIsFile(submission(MAX_FILE_BYTES * 2, [36])), false)
    assert.equal(submissionIsFile(submission(262145, [10, 7])), true)
    assert.equal(submissionIsFile(submission(262145, [11])), false)
  })
})

describe('padding', () => {
  it('refuses sizes and indexes out of range', () => {
    assert.throws(() => paddedSectors(0), { code: 'FILE_EMPTY' })
    assert.throws(() => paddedSectors(-1), { code: 'FILE_SIZE' })
    assert.throws(() => paddedSectors(1.5), { code: 'FILE_SIZE' })
    assert.throws(() => paddedSectors(Number.NaN), { code: 'FILE_SIZE' })
    assert.throws(() => paddedSectors(MAX_FILE_BYTES + 1), { code: 'FILE_TOO_LARGE' })
    assert.throws(() => segmentDataBytes(262144, 1), { code: 'SEGMENT_INDEX' })
    assert.throws(() => segmentPaddedSectors(262144, 1), { code: 'SEGMENT_INDEX' })
  })

  it('gives the segment lengths of the specification', () => {
    assert.deepEqual(
      [0, 1].map((i) => segmentDataBytes(262145, i)),
      [262144, 256],
    )
    assert.deepEqual(
      [0, 1, 2].map((i) => segmentDataBytes(700_000, i)),
      [262144, 262144, 175872],
    )
    assert.equal(segmentDataBytes(5_000_000, 19), 19456)
    assert.equal(segmentPaddedSectors(700_000, 2), 768)
  })
})
