/** What a task costs, before it begins and after (compute.md §4.5). Wei. */
export function taskFeeWei(parameters: {
  /** Of the dataset, once through. */
  tokens: number
  epochs: number
  pricePerTokenWei: bigint
  /** For the storage of the result. */
  storageFeeWei: bigint
  /** Of the base model, in thousandths. Default 1,000. */
  coefficientMilli?: number | undefined
}): bigint {
  const { tokens, epochs, pricePerTokenWei, storageFeeWei, coefficientMilli = 1_000 } = parameters
  const training = BigInt(tokens) * BigInt(epochs) * pricePerTokenWei * BigInt(coefficientMilli)
  return (training + 999n) / 1_000n + storageFeeWei
}
