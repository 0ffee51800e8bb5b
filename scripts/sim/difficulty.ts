import { EPOCH } from './assumptions.ts'

const MAX_TARGET = 2 ** 256

/** One epoch of a simulated history. */
export interface EpochRecord {
  epoch: number
  /** Attempts an answer takes on average. */
  difficulty: number
  answers: number
}

export interface DifficultyParameters {
  epochs: number
  /** Seals hashed in an epoch by all miners together. */
  hashesPerEpoch: (epoch: number) => number
  difficulty: number
  /** Draws the answers of an epoch from their mean. */
  random: () => number
  /** Whether the target doubles in epochs without an answer, as here, or stands still, as in the reference. */
  easeWhenSilent: boolean
  /** Whether doublings that prove wrong are taken back at once, as here, or at the rule's own pace. Default true. */
  takeBack?: boolean
  wanted?: number
  ratio?: number
}

/**
 * The rule of `contracts/storage/Difficulty.sol` in floating point: after an epoch with n answers the target moves a
 * `1 / ratio`-th of the way to `target · wanted / n`, at most by a factor of two; a silent epoch doubles it. After
 * doublings, epochs with more answers than wanted move it all of that way, once for each doubling.
 */
export function simulateDifficulty({
  epochs,
  hashesPerEpoch,
  difficulty,
  random,
  easeWhenSilent,
  takeBack = true,
  wanted = EPOCH.wanted,
  ratio = EPOCH.ratio,
}: DifficultyParameters): EpochRecord[] {
  const history: EpochRecord[] = []
  let target = MAX_TARGET / difficulty
  let doublings = 0
  for (let epoch = 0; epoch < epochs; epoch++) {
    const mean = (hashesPerEpoch(epoch) * target) / MAX_TARGET
    // The contract takes no more than twice the wanted answers in an epoch.
    const answers = Math.min(2 * wanted, drawPoisson(mean, random))
    history.push({ epoch, difficulty: MAX_TARGET / target, answers })
    const before = target
    if (answers > 0) {
      const moved = (target * (ratio - 1) + (target * wanted) / answers) / ratio
      target = Math.min(MAX_TARGET, Math.max(target / 2, Math.min(2 * target, moved)))
    } else if (easeWhenSilent) target = Math.min(MAX_TARGET, 2 * target)
    if (target === 2 * before) doublings += 1
    else if (answers <= wanted) doublings = Math.max(0, doublings - (2 * answers >= wanted ? 1 : 0))
    else if (doublings > 0 && takeBack) {
      target = Math.min(target, Math.max(before / 2, (before * wanted) / answers))
      doublings -= 1
    }
  }
  return history
}

/** Poisson draw: by counting for small means, by the normal approximation for large ones. */
function drawPoisson(mean: number, random: () => number): number {
  if (mean > 500) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
    return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal))
  }
  let count = 0
  for (let product = random(); product > Math.exp(-mean); product *= random()) count += 1
  return count
}

/** mulberry32: small, seeded, good enough for drawing answers. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
