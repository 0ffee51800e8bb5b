import { TrainerError } from './error.ts'
import { seededRandom } from './random.ts'
import type { HostBatch } from './session.ts'

/** An example in tokens. `weights[i]` says how much the model is to learn to produce `tokens[i]`; 0 for prompts. */
export interface TokenExample {
  tokens: Int32Array
  weights: Float32Array
}

/** Rows of one length, each holding whole examples side by side that do not see each other. */
export interface PackedRows {
  rowTokens: number
  count: number
  /** Positions that carry weight, over all rows. */
  learnedTokens: number
  /** Copies rows `indices` into one batch. */
  batch(indices: readonly number[]): HostBatch
}

/** Rows open at a time while packing; more packs tighter and costs time. */
const OPEN_ROWS = 64

/** The next multiple of 32 that holds the longest example, at least 32. */
export function rowTokensFor(examples: readonly TokenExample[]): number {
  const longest = examples.reduce((max, { tokens }) => Math.max(max, tokens.length - 1), 1)
  return Math.ceil(longest / 32) * 32
}

/**
 * Packs examples into rows, first fit in an order drawn from `seed`. An example of n tokens takes n - 1 positions: each
 * is asked for the token after it.
 *
 * @throws TrainerError `TRAINER_DATASET_EMPTY` without anything to learn, `TRAINER_DATASET_SIZE` for an example longer
 * than a row.
 */
export function packRows({
  examples,
  rowTokens,
  seed,
}: {
  examples: readonly TokenExample[]
  rowTokens: number
  seed: number
}): PackedRows {
  const order = seededRandom(seed).shuffle(examples.map((_, i) => i))
  const rows: { used: number; examples: TokenExample[] }[] = []
  let open: typeof rows = []
  let learnedTokens = 0
  for (const index of order) {
    const example = examples[index]
    if (example === undefined || example.tokens.length < 2) continue
    const length = example.tokens.length - 1
    if (length > rowTokens) {
      throw new TrainerError({
        code: 'TRAINER_DATASET_SIZE',
        message: `example ${index + 1} has ${length + 1} tokens, a row holds ${rowTokens + 1}`,
        fix: 'shorten the example, or raise rowTokens up to the context of the model',
        details: { example: index + 1, tokens: length + 1, limit: rowTokens + 1 },
      })
    }
    for (const weight of example.weights.subarray(1)) if (weight > 0) learnedTokens += 1
    let row = open.find(({ used }) => used + length <= rowTokens)
    if (row === undefined) {
      row = { used: 0, examples: [] }
      rows.push(row)
      open.push(row)
    }
    row.used += length
    row.examples.push(example)
    open = open.filter(({ used }) => rowTokens - used >= 4).slice(-OPEN_ROWS)
  }
  if (learnedTokens === 0) {
    throw new TrainerError({
      code: 'TRAINER_DATASET_EMPTY',
      message: 'there is nothing to learn in the dataset',
      fix: 'give examples with an assistant message or with text',
    })
  }
  return {
    rowTokens,
    count: rows.length,
    learnedTokens,
    batch(indices) {
      const size = indices.length * rowTokens
      const batch: HostBatch = {
        rows: indices.length,
        rowTokens,
        ids: new Int32Array(size),
        targets: new Int32Array(size),
        weights: new Float32Array(size),
        segments: new Int32Array(size),
      }
      for (const [slot, index] of indices.entries()) {
        let at = slot * rowTokens
        for (const [segment, { tokens, weights }] of (rows[index]?.examples ?? []).entries()) {
          const length = tokens.length - 1
          batch.ids.set(tokens.subarray(0, length), at)
          batch.targets.set(tokens.subarray(1), at)
          batch.weights.set(weights.subarray(1), at)
          batch.segments.fill(segment + 1, at, at + length)
          at += length
        }
      }
      return batch
    },
  }
}

/**
 * Which rows a batch takes: an endless sequence of passes over `count` rows, each in its own order drawn from the seed.
 * It is a function of the index alone, so that a resumed job sees what it would have seen.
 */
export function rowSequence({ count, seed }: { count: number; seed: number }): (index: number) => number {
  let pass = -1
  let order: number[] = []
  return (index) => {
    const wanted = Math.floor(index / count)
    if (wanted !== pass) {
      pass = wanted
      order = seededRandom(seed + 2 ** 32 * (pass + 1)).shuffle(Array.from({ length: count }, (_, i) => i))
    }
    return order[index % count] ?? 0
  }
}
