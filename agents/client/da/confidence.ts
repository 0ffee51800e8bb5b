import { DATA_ROWS, TOTAL_ROWS } from '#protocol/da/constants.ts'

/**
 * The largest part of rows that can pass verification without the blob being decodable for sure: (1 + ρ)/2 with code
 * rate ρ = 1/3, in the regime of unique decoding. If more rows than that pass, all of them lie on one codeword.
 */
export const PASSING_SHARE = (1 + DATA_ROWS / TOTAL_ROWS) / 2

/** The largest part of rows that can be there without the blob being recoverable, where the coding itself is trusted. */
export const AVAILABLE_SHARE = (DATA_ROWS - 1) / TOTAL_ROWS

/**
 * Probability that at least `passed` of `samples` random rows pass although only a share `share` of all rows would: the
 * chance of being misled. Rows are drawn without repetition, which only makes it smaller.
 *
 * @example
 * misledProbability({ samples: 69, passed: 69, share: 2 / 3 }) // 7.1e-13 < 2^-40
 */
export function misledProbability({
  samples,
  passed,
  share,
}: {
  samples: number
  passed: number
  share: number
}): number {
  let sum = 0
  let logChoose = 0
  for (let failed = 0; failed <= samples - passed; failed++) {
    if (failed > 0) logChoose += Math.log((samples - failed + 1) / failed)
    sum += Math.exp(logChoose + (samples - failed) * Math.log(share) + failed * Math.log1p(-share))
  }
  return Math.min(1, sum)
}

/** A probability as a power of two, for people: `2^-40.4`. */
export function asPowerOfTwo(probability: number): string {
  return probability >= 1 ? '1' : `2^${Math.log2(probability).toFixed(1)}`
}
