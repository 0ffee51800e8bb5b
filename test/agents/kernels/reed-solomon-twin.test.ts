import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { FIELD_SIZE, invert, multiply } from '#kernels/gf16-twin.ts'
import { combineTwin, decodeTwin, encodeLeopardTwin, encodeTwin, readSymbol } from '#kernels/reed-solomon-twin.ts'

const sha256 = (...parts: Uint8Array[]): Uint8Array => createHash('sha256').update(Buffer.concat(parts)).digest()
const le32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)

/** RFC 6962 tree over a power of two of leaves. */
function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  let level = leaves.map((leaf) => sha256(Uint8Array.of(0), leaf))
  while (level.length > 1) {
    const next: Uint8Array[] = []
    for (let i = 0; i < level.length; i += 2) {
      next.push(sha256(Uint8Array.of(1), level[i] ?? new Uint8Array(), level[i + 1] ?? new Uint8Array()))
    }
    level = next
  }
  return level[0] ?? new Uint8Array()
}

/** Commitment of rsema1d (celestia-app specification), over rows that are zero but for their last byte, i + 1. */
function publishedCommitment(k: number, n: number, rowBytes: number): string {
  const data = Array.from({ length: k }, (_, i) => {
    const row = new Uint8Array(rowBytes)
    row[rowBytes - 1] = i + 1
    return row
  })
  const rowRoot = merkleRoot([...data, ...encodeLeopardTwin(data, n)])
  const seed = sha256(rowRoot, le32(k), le32(n), le32(rowBytes))
  const coefficients = new Uint16Array((rowBytes / 2) * 8)
  for (let j = 0; j < rowBytes / 2; j++) {
    const digest = new DataView(new Uint8Array(sha256(seed, le32(j))).buffer)
    for (let i = 0; i < 8; i++) {
      coefficients[8 * j + i] = digest.getUint16(2 * i, true) ^ digest.getUint16(16 + 2 * i, true)
    }
  }
  const rlcRoot = merkleRoot(data.map((row) => new Uint8Array(combineTwin(row, coefficients).buffer)))
  return Buffer.from(sha256(rowRoot, rlcRoot)).toString('hex')
}

/** Value at point x of the polynomial of degree < K through the data rows, by Lagrange's formula. */
function lagrange(values: readonly number[], x: number): number {
  return values.reduce((sum, value, i) => {
    let term = value
    for (let j = 0; j < values.length; j++) if (j !== i) term = multiply(term, multiply(x ^ j, invert(i ^ j)))
    return sum ^ term
  }, 0)
}

const rowsOf = (count: number, bytes: number) =>
  fc.array(fc.uint8Array({ minLength: bytes, maxLength: bytes }), { minLength: count, maxLength: count })

describe('the Reed–Solomon oracle', () => {
  it('is a field: products are associative, distribute over XOR and have inverses', () => {
    const element = fc.integer({ min: 0, max: FIELD_SIZE - 1 })
    fc.assert(
      fc.property(element, element, element, (a, b, c) => {
        assert.equal(multiply(a, multiply(b, c)), multiply(multiply(a, b), c))
        assert.equal(multiply(a, b ^ c), multiply(a, b) ^ multiply(a, c))
        if (a !== 0) assert.equal(multiply(a, invert(a)), 1)
      }),
    )
  })

  it('reproduces the published rsema1d commitments', () => {
    assert.equal(publishedCommitment(4, 4, 64), 'f57fdff87d54f71bc0c860808b046356c8d4850e67b923e08411208df08cb5ab')
    assert.equal(publishedCommitment(4, 12, 256), '8ac46440862f280346635eee5075f81ff04b659fb7a86c1e25a28f5f71c3f97e')
  })

  it('extends as Lagrange interpolation does', () => {
    fc.assert(
      fc.property(rowsOf(8, 64), (data) => {
        const rows = [...data, ...encodeTwin(data, 3)]
        for (const symbol of [0, 7, 31]) {
          const values = data.map((row) => readSymbol(row, symbol))
          rows.forEach((row, x) => {
            assert.equal(readSymbol(row, symbol), lagrange(values, x), `row ${x}`)
          })
        }
      }),
      { numRuns: 10 },
    )
  })

  it('decodes from any K of the rows', () => {
    const erasures = fc.shuffledSubarray(
      Array.from({ length: 24 }, (_, i) => i),
      { minLength: 8, maxLength: 8 },
    )
    fc.assert(
      fc.property(rowsOf(8, 64), erasures, (data, kept) => {
        const all = [...data, ...encodeTwin(data, 3)]
        const received = all.map((row, i) => (kept.includes(i) ? row : undefined))
        assert.deepEqual(decodeTwin(received, 8), data)
      }),
      { numRuns: 50 },
    )
  })

  // The combination is linear, so extending the combinations of the data rows with the same code gives those of the
  // parity rows: this is what lets anyone check a single row.
  it('combines rows so that combination and extension commute', () => {
    const coefficients = Uint16Array.from({ length: 8 * 32 }, (_, i) => (i * 40_503 + 17) % FIELD_SIZE)
    fc.assert(
      fc.property(rowsOf(4, 64), (data) => {
        const combined = data.map((row) => combineTwin(row, coefficients))
        encodeTwin(data, 3).forEach((row, i) => {
          const expected = combined[0]?.map((_, word) =>
            lagrange(
              combined.map((value) => value[word] ?? 0),
              4 + i,
            ),
          )
          assert.deepEqual(combineTwin(row, coefficients), expected)
        })
      }),
      { numRuns: 20 },
    )
  })
})
