/**
 * Tokens that a task trains on, prompts and repetitions counted: its passes over the dataset, or where it names a number of
 * steps, as many as those steps take on average, up to the next whole one.
 */
export function trainedTokens(parameters: {
  /** Of the dataset, once through. */
  tokens: number
  /** Rows that the dataset fills, several examples in each. */
  rows: number
  epochs: number
  /** -1 or less than 1 for none. */
  maxSteps: number
  /** Rows that one step takes. */
  rowsPerStep: number
}): number {
  const { tokens, rows, epochs, maxSteps, rowsPerStep } = parameters
  if (maxSteps < 1) return tokens * epochs
  return Math.ceil((maxSteps * rowsPerStep * tokens) / rows)
}

/** What a task costs, before it begins and after (compute.md §4.5). Wei. */
export function taskFeeWei(parameters: {
  /** See {@link trainedTokens}. */
  trainedTokens: number
  pricePerTokenWei: bigint
  /** For the storage of the result. */
  storageFeeWei: bigint
  /** Of the base model, in thousandths. Default 1,000. */
  coefficientMilli?: number | undefined
}): bigint {
  const { pricePerTokenWei, storageFeeWei, coefficientMilli = 1_000 } = parameters
  const training = BigInt(parameters.trainedTokens) * pricePerTokenWei * BigInt(coefficientMilli)
  return (training + 999n) / 1_000n + storageFeeWei
}
