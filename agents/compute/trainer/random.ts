/** A seeded source of randomness (the 32-bit generator sfc32). Not for keys. */
export interface SeededRandom {
  /** Uniform in [0, 1), 32 bits. */
  uniform(): number
  /** Uniform integer in [0, below). */
  below(limit: number): number
  /** Standard normal (Box–Muller). */
  normal(): number
  /** Shuffles in place and returns the array. */
  shuffle<T>(items: T[]): T[]
}

/** The same seed gives the same sequence everywhere. */
export function seededRandom(seed: number): SeededRandom {
  let a = seed >>> 0
  let b = Math.floor(seed / 2 ** 32) >>> 0
  let c = 0x9e3779b9
  let d = 1
  let spare: number | undefined

  function next(): number {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return t >>> 0
  }
  for (let i = 0; i < 12; i++) next() // the first outputs still show the seed

  const uniform = (): number => next() / 2 ** 32
  const below = (limit: number): number => Math.floor(uniform() * limit)
  return {
    uniform,
    below,
    normal() {
      if (spare !== undefined) {
        const value = spare
        spare = undefined
        return value
      }
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()))
      const angle = 2 * Math.PI * uniform()
      spare = radius * Math.sin(angle)
      return radius * Math.cos(angle)
    },
    shuffle(items) {
      for (let i = items.length - 1; i > 0; i--) {
        const j = below(i + 1)
        const held = items[i] as (typeof items)[number]
        items[i] = items[j] as (typeof items)[number]
        items[j] = held
      }
      return items
    },
  }
}
