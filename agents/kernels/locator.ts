import { logarithm } from './gf16-twin.ts'

/** Order of the multiplicative group of GF(2^16). */
const ORDER = 65_535

const logTransforms = new Map<number, Int32Array>()

/**
 * Logarithms of the error locator at every point: entry x is Σ log(x − e) modulo 65535 over the missing points e ≠ x.
 * That is a convolution under XOR, so Walsh–Hadamard transforms give it in n · log n steps (Lin, Chung, Han 2014). The
 * inverse of n = 2^k modulo 65535 is 2^(16 − k), since 2^16 is 1.
 *
 * @param missing 1 for a missing point, 0 for a present one; its length is a power of two up to 4096
 */
export function locatorLogarithms(missing: Uint8Array): Int32Array {
  const n = missing.length
  let logs = logTransforms.get(n)
  if (!logs) {
    logs = Int32Array.from({ length: n }, (_, x) => logarithm(x))
    transform(logs)
    logTransforms.set(n, logs)
  }
  const values = Int32Array.from(missing)
  transform(values)
  // Below 2^16 both, so that the product is exact.
  for (let i = 0; i < n; i++) values[i] = ((values[i] ?? 0) * (logs[i] ?? 0)) % ORDER
  transform(values)
  const inverse = 65_536 / n
  return values.map((value) => (value * inverse) % ORDER)
}

/** Walsh–Hadamard transform modulo {@link ORDER}, in place; values from 0 to ORDER − 1. */
function transform(values: Int32Array): void {
  for (let half = 1; half < values.length; half *= 2) {
    for (let start = 0; start < values.length; start += 2 * half) {
      for (let i = start; i < start + half; i++) {
        const a = values[i] ?? 0
        const b = values[i + half] ?? 0
        values[i] = (a + b) % ORDER
        values[i + half] = (a - b + ORDER) % ORDER
      }
    }
  }
}
