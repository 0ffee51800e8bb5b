/** A 64-bit key as two words, low half first. */
export type PhiloxKey = readonly [low: number, high: number]

/** The key of a 64-bit seed: low half, high half, as Random123 and cuRAND split it. */
export function philoxKey(seed: bigint): PhiloxKey {
  return [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)]
}

/**
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four 32-bit words for a 128-bit
 * counter and a 64-bit key. A pure function, so both sides of an audit have the same noise without talking.
 */
export function philox4x32(counter: PhiloxCounter, [key0, key1]: PhiloxKey): PhiloxBlock {
  let [x0, x1, x2, x3] = counter
  let k0 = key0
  let k1 = key1
  for (let round = 0; round < 10; round++) {
    const low0 = Math.imul(0xd2511f53, x0) >>> 0
    const low1 = Math.imul(0xcd9e8d57, x2) >>> 0
    const high0 = multiplyHigh(0xd2511f53, x0)
    const high1 = multiplyHigh(0xcd9e8d57, x2)
    x0 = (high1 ^ x1 ^ k0) >>> 0
    x1 = low1
    x2 = (high0 ^ x3 ^ k1) >>> 0
    x3 = low0
    k0 = (k0 + 0x9e3779b9) >>> 0
    k1 = (k1 + 0xbb67ae85) >>> 0
  }
  return [x0, x1, x2, x3]
}

export type PhiloxCounter = readonly [number, number, number, number]
export type PhiloxBlock = [number, number, number, number]

/** Upper 32 bits of a 32 × 32 bit product; every intermediate stays below 2^53. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const first = aLow * bHigh + Math.floor((aLow * bLow) / 65_536)
  const second = aHigh * bLow + (first & 0xffff)
  return (aHigh * bHigh + Math.floor(first / 65_536) + Math.floor(second / 65_536)) >>> 0
}
