import { createHash, randomInt } from 'node:crypto'

/** A seed for this run: `WEIGHTLESS_TEST_SEED` repeats one. It is printed by whoever uses it. */
export function testSeed(): number {
  const given = Number(process.env.WEIGHTLESS_TEST_SEED)
  return Number.isSafeInteger(given) && given > 0 ? given : randomInt(1, 2 ** 31)
}

/** Bytes that do not repeat, from a seed. */
export function seededBytes({ seed, length }: { seed: number | string; length: number }): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(length / 32) * 32)
  for (let at = 0; at < bytes.length; at += 32) {
    bytes.set(createHash('sha256').update(`${seed}/${at}`).digest(), at)
  }
  return bytes.subarray(0, length)
}

/** Numbers in [0, limit) from a seed. */
export function seededRandom(seed: number): (limit: number) => number {
  let drawn = 0
  return (limit) => {
    drawn += 1
    return createHash('sha256').update(`${seed}#${drawn}`).digest().readUInt32BE(0) % limit
  }
}
