import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { blsKeyFromSecret } from '#protocol/da/bls.ts'
import {
  assignRows,
  encodeBitmap,
  indexesOf,
  MAX_SIGNERS,
  meetsQuorum,
  type Quorum,
  signedStakeWei,
  signerOfRow,
} from '#protocol/da/quorum.ts'

const stakes = fc.array(fc.bigInt({ min: 1n, max: 2n ** 96n - 1n }), { minLength: 1, maxLength: MAX_SIGNERS })

describe('rows of an epoch', () => {
  // Every row has exactly one owner, in the order of the signers.
  it('are all assigned, without gaps', () => {
    fc.assert(
      fc.property(stakes, (list) => {
        let next = 0
        for (const { firstRow, rowCount } of assignRows(list)) {
          assert.equal(firstRow, next)
          assert.ok(rowCount >= 0)
          next += rowCount
        }
        assert.equal(next, 3072)
      }),
    )
  })

  // Nobody has a row more or less than its part of the stake, rounded either way.
  it('follow the stakes', () => {
    fc.assert(
      fc.property(stakes, (list) => {
        const total = list.reduce((sum, stake) => sum + stake, 0n)
        for (const [i, { rowCount }] of assignRows(list).entries()) {
          const exact = Number(((list[i] ?? 0n) * 3072n * 1000n) / total) / 1000
          assert.ok(Math.abs(rowCount - exact) <= 1.001, `${rowCount} rows for ${exact}`)
        }
      }),
    )
  })

  // A row belongs to the signer at its point on the line of stakes: said in another way than it is computed.
  it('belong to the signer at their point', () => {
    fc.assert(
      fc.property(stakes, fc.integer({ min: 0, max: 3071 }), (list, row) => {
        const total = list.reduce((sum, stake) => sum + stake, 0n)
        let below = 0n
        const owner = list.findIndex((stake) => {
          below += stake
          return below * 6144n > BigInt(2 * row + 1) * total
        })
        const ranges = assignRows(list)
        const found = ranges.findIndex(({ firstRow, rowCount }) => row >= firstRow && row < firstRow + rowCount)
        assert.equal(found, owner)
      }),
    )
  })

  it('are 12 each for 256 equal stakes, and none without stake', () => {
    const equal = assignRows(Array.from({ length: 256 }, () => 10n ** 18n))
    assert.deepEqual(equal[255], { firstRow: 3060, rowCount: 12 })
    assert.ok(equal.every(({ rowCount }) => rowCount === 12))
    assert.deepEqual(assignRows([]), [])
    assert.deepEqual(
      assignRows([1n, 10n ** 9n, 1n]).map(({ rowCount }) => rowCount),
      [0, 3072, 0],
    )
  })
})

describe('a quorum', () => {
  it('is two thirds of the stake, to the wei', () => {
    const quorum = quorumOf([3n, 3n, 3n])
    assert.equal(meetsQuorum({ quorum, signed: [0, 2] }), true)
    assert.equal(meetsQuorum({ quorum, signed: [1] }), false)
    assert.equal(meetsQuorum({ quorum: quorumOf([3n, 3n, 4n]), signed: [0, 1] }), false)
    assert.equal(meetsQuorum({ quorum: quorumOf([3n, 3n, 4n]), signed: [1, 2] }), true)
    assert.equal(meetsQuorum({ quorum: quorumOf([]), signed: [] }), false)
  })

  // Naming a signer twice, or one that is not there, adds nothing.
  it('counts everybody once', () => {
    const quorum = quorumOf([5n, 3n, 1n])
    assert.equal(signedStakeWei({ quorum, signed: [2, 2, 2, 9, -1] }), 1n)
    assert.equal(signerOfRow(quorum, 0), 0)
    assert.equal(signerOfRow(quorum, 3071), 2)
    assert.equal(signerOfRow(quorum, 3072), -1)
  })
})

describe('a bitmap', () => {
  it('has bit i in byte i / 8, lowest first', () => {
    assert.deepEqual([...encodeBitmap({ count: 20, signed: [0, 9, 19] })], [1, 2, 8])
    assert.deepEqual([...encodeBitmap({ count: 0, signed: [] })], [])
    assert.throws(() => encodeBitmap({ count: 20, signed: [20] }), RangeError)
    assert.throws(() => encodeBitmap({ count: 20, signed: [1.5] }), RangeError)
  })

  // What the contract returns, bit i of a number, names the same signers.
  it('comes back as the indexes that it was made of', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 255 })), (indexes) => {
        const signed = indexes.toSorted((a, b) => a - b)
        const number = signed.reduce((sum, index) => sum | (1n << BigInt(index)), 0n)
        assert.deepEqual(indexesOf(number), signed)
        const bytes = encodeBitmap({ count: 256, signed })
        assert.equal(
          bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n),
          number,
        )
      }),
    )
  })
})

function quorumOf(list: readonly bigint[]): Quorum {
  const ranges = assignRows(list)
  const { pk1, pk2 } = blsKeyFromSecret(new Uint8Array(32).fill(1))
  return {
    epoch: 1,
    totalStakeWei: list.reduce((sum, stake) => sum + stake, 0n),
    signers: list.map((stakeWei, index) => ({
      ...{
        address: `0x${index.toString(16).padStart(40, '0')}` as const,
        index,
        stakeWei,
        socket: 'http://127.0.0.1:1',
      },
      ...{ pk1, pk2, firstRow: 0, rowCount: 0, ...ranges[index] },
    })),
  }
}
