/** Prices of a service, in wei per token. */
export interface TokenPrices {
  readonly inputPriceWei: bigint
  readonly outputPriceWei: bigint
}

/** Tokens an answer has at most where the request says nothing. Clients write the number into the request. */
export const DEFAULT_MAX_TOKENS = 4_096
/** Tokens that a chat template may add around the messages: default system prompts, dates, markers. */
const TEMPLATE_TOKENS = 256

/** Tokens counted for one request. */
export interface TokenUsage {
  readonly promptTokens: number
  readonly completionTokens: number
  /** Prompt tokens that were found in a cache; part of `promptTokens`. */
  readonly cachedTokens?: number | undefined
}

/**
 * What a request costs, in wei: prompt × input price + answer × output price. Cached prompt tokens cost the input
 * price divided by `cacheDivisor` (default 1: full price), rounded up for their sum.
 */
export function usageFee({
  promptTokens,
  completionTokens,
  cachedTokens = 0,
  inputPriceWei,
  outputPriceWei,
  cacheDivisor = 1,
}: TokenUsage & TokenPrices & { cacheDivisor?: number | undefined }): bigint {
  const cached = BigInt(Math.min(cachedTokens, promptTokens))
  const divisor = BigInt(cacheDivisor)
  const cachedFee = (cached * inputPriceWei + divisor - 1n) / divisor
  return (BigInt(promptTokens) - cached) * inputPriceWei + cachedFee + BigInt(completionTokens) * outputPriceWei
}

/**
 * More prompt tokens than the request can have: each covers at least one byte of the body, and what a template adds is
 * outweighed by the JSON around the texts, except for a default system prompt. Both sides reserve by this number.
 */
export function promptTokenBound(bodyBytes: number): number {
  return bodyBytes + TEMPLATE_TOKENS
}

/**
 * The most a request can cost, in wei: {@link promptTokenBound} × input price + `maxTokens` × `choices` × output price.
 * A voucher must cover this on top of what was billed before.
 */
export function maximumFee({
  bodyBytes,
  maxTokens,
  choices = 1,
  inputPriceWei,
  outputPriceWei,
}: TokenPrices & {
  /** Length of the request body as sent. */
  bodyBytes: number
  /** `max_completion_tokens` or `max_tokens`; 0 for embeddings. */
  maxTokens: number
  /** `n` of the request. */
  choices?: number | undefined
}): bigint {
  return BigInt(promptTokenBound(bodyBytes)) * inputPriceWei + BigInt(maxTokens * choices) * outputPriceWei
}

/**
 * What a usual request costs, for showing beforehand: about four bytes of text per token.
 */
export function estimatedFee({
  promptBytes,
  completionTokens,
  inputPriceWei,
  outputPriceWei,
}: TokenPrices & { promptBytes: number; completionTokens: number }): bigint {
  return BigInt(Math.ceil(promptBytes / 4) + 16) * inputPriceWei + BigInt(completionTokens) * outputPriceWei
}
