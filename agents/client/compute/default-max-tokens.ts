import { DEFAULT_MAX_TOKENS } from '#protocol/compute/fees.ts'
import type { OfferedModel } from './health.ts'

/** An answer is given room for so many tokens at least, whatever the prompt. */
const LEAST_TOKENS = 16

/**
 * Tokens that a request without a limit is given: as usual, but no more than the model offers, nor than its context
 * leaves beside the prompt (two bytes for a token: few texts have shorter ones). Engines refuse what does not fit.
 */
export function defaultMaxTokens({ offer, bodyBytes }: { offer: OfferedModel | undefined; bodyBytes: number }): number {
  const { maxCompletionTokens = DEFAULT_MAX_TOKENS, contextTokens = Number.POSITIVE_INFINITY } = offer ?? {}
  const room = Math.max(LEAST_TOKENS, Math.floor(contextTokens - bodyBytes / 2))
  return Math.min(DEFAULT_MAX_TOKENS, maxCompletionTokens, room)
}
