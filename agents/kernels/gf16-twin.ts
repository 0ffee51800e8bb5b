/**
 * GF(2^16) and its additive FFT in plain TypeScript: the oracle of the Reed–Solomon kernels, written for reading.
 *
 * The field is GF(2)[x] / (x^16 + x^5 + x^3 + x^2 + 1), x primitive. Elements are named by their coordinates in a Cantor
 * basis (β_0 = 1, β_i² + β_i = β_{i−1}), called labels: addition is XOR of labels, and the subspace polynomial
 * s_r(X) = Π_{v < 2^r} (X − v) maps label v to v ≫ r. Point number i of a code is the element with label i.
 *
 * Sources: Lin, Chung, Han, "Novel Polynomial Basis and Its Application to Reed–Solomon Erasure Codes" (FOCS 2014);
 * Gao and Mateer, "Additive Fast Fourier Transforms over Finite Fields" (2010) for the Cantor basis.
 */

const POLYNOMIAL = 0x1002d
const ORDER = 65_535
const CANTOR_BASIS = [
  ...[0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012],
  ...[0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e],
]

/** Number of elements. */
export const FIELD_SIZE = 65_536

const labelToPolynomial = new Uint16Array(FIELD_SIZE)
const polynomialToLabel = new Uint16Array(FIELD_SIZE)
const logOfLabel = new Uint16Array(FIELD_SIZE)
const labelOfLog = new Uint16Array(ORDER)
buildTables()

/** Product of two labels. */
export function multiply(a: number, b: number): number {
  if (a === 0 || b === 0) return 0
  return at(labelOfLog, (at(logOfLabel, a) + at(logOfLabel, b)) % ORDER)
}

/** Multiplicative inverse of a label that is not 0. */
export function invert(a: number): number {
  return at(labelOfLog, (ORDER - at(logOfLabel, a)) % ORDER)
}

/** Discrete logarithm of a label to base x; 0 for 0 by convention. */
export function logarithm(a: number): number {
  return at(logOfLabel, a)
}

/** Label of x to the power of `exponent` (any integer). */
export function power(exponent: number): number {
  return at(labelOfLog, ((exponent % ORDER) + ORDER) % ORDER)
}

/**
 * Coefficients in the novel basis to values at points `offset … offset + n − 1`, in place. `n = values.length` is a power
 * of two, `offset` a multiple of it.
 */
export function fft(values: Uint16Array, offset: number): void {
  for (let half = values.length / 2; half >= 1; half /= 2) {
    for (let start = 0; start < values.length; start += 2 * half) {
      const twiddle = twiddleOf(offset + start, half)
      for (let i = start; i < start + half; i++) {
        const u = at(values, i) ^ multiply(twiddle, at(values, i + half))
        values[i + half] = at(values, i + half) ^ u
        values[i] = u
      }
    }
  }
}

/** Inverse of {@link fft}. */
export function inverseFft(values: Uint16Array, offset: number): void {
  for (let half = 1; half < values.length; half *= 2) {
    for (let start = 0; start < values.length; start += 2 * half) {
      const twiddle = twiddleOf(offset + start, half)
      for (let i = start; i < start + half; i++) {
        const v = at(values, i + half) ^ at(values, i)
        values[i + half] = v
        values[i] = at(values, i) ^ multiply(twiddle, v)
      }
    }
  }
}

/** The value of s_r at the block's first point, where 2^r = half: its label shifted right by r. */
function twiddleOf(point: number, half: number): number {
  return point >> Math.log2(half)
}

function buildTables(): void {
  for (let label = 1; label < FIELD_SIZE; label++) {
    const lowest = 31 - Math.clz32(label & -label)
    labelToPolynomial[label] = at(labelToPolynomial, label & (label - 1)) ^ (CANTOR_BASIS[lowest] ?? 0)
    polynomialToLabel[at(labelToPolynomial, label)] = label
  }
  for (let exponent = 0, element = 1; exponent < ORDER; exponent++) {
    const label = at(polynomialToLabel, element)
    logOfLabel[label] = exponent
    labelOfLog[exponent] = label
    element <<= 1
    if (element & FIELD_SIZE) element ^= POLYNOMIAL
  }
}

function at(array: Uint16Array, index: number): number {
  const value = array[index]
  if (value === undefined) throw new RangeError(`index ${index} is outside an array of ${array.length}`)
  return value
}
